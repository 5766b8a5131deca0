"""`smsq status ID`: what is known of a message."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime

import click

import smsq


@click.command()
@click.argument("message_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(message_id: str, *, as_json: bool) -> None:
    """Show what is known of a message. Exits with 1 where nothing is.

    Example: smsq status 4dd2cb4e-3b39-4be9-93a2-1a7d1de3d2f5
    """
    # What is not printable is no id, and may not even be text.
    found = smsq.status(message_id) if message_id.isprintable() else None
    if found is None:
        click.echo(f"smsq: nothing is known of {message_id!r}", err=True)
        raise SystemExit(1)
    fields = dataclasses.asdict(found)
    if as_json:
        click.echo(json.dumps(fields, default=_isoformat, ensure_ascii=False, indent=2))
        return
    attempts = fields.pop("attempts")
    for name, value in fields.items():
        if value is not None:
            click.echo(f"{name:12} {_isoformat(value)}")
    for attempt in attempts:
        words = [
            str(attempt[name]) for name in ("outcome", "detail", "mid", "stat") if attempt[name]
        ]
        click.echo(
            f"attempt {attempt['n']:<4} {_isoformat(attempt['started_at'])} {' '.join(words)}"
        )


def _isoformat(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
