"""How commands print and how they fail."""

from __future__ import annotations

import json
from typing import Any, NoReturn

import click


def echo_json(value: Any) -> None:
    """Print a value as JSON."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def fail(why: str, code: int = 1) -> NoReturn:
    """Print the reason to stderr, and exit."""
    click.echo(why, err=True)
    raise SystemExit(code)
