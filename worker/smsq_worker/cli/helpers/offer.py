"""What a shell may complete where any text is taken, and the contract says which is right."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import click

Offer: TypeAlias = Callable[[click.Context, click.Parameter, str], list[str]]


def offer(*words: str) -> Offer:
    """Offer words for a parameter, to be given to click as its `shell_complete`."""

    def complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return complete
