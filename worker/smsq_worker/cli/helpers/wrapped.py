"""Commands that are another program's, with its options."""

from __future__ import annotations

import click


def introduce(options: tuple[str, ...]) -> None:
    """Print our own help above that of the program, where it is asked for."""
    if "--help" in options:
        click.echo(f"{click.get_current_context().get_help()}\n")
