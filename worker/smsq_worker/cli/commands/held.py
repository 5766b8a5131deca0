"""`smsq held`: messages whose outcome nobody knows, and what the operator decides."""

from __future__ import annotations

import json
import os

import click

from smsq.contract import parse_id
from smsq.tracking import read_status
from smsq_worker.cli.helpers.groups import Group
from smsq_worker.cli.helpers.writing import to_read, to_write
from smsq_worker.config.settings import Settings
from smsq_worker.ledger import Decision, Ledger

AT_MOST = 1000

# What follows \b is printed as it stands.
_EXAMPLES = """\b
Examples:
  smsq held
  smsq held resend 4dd2cb4e-3b39-4be9-93a2-1a7d1de3d2f5
  smsq held drop --all
"""
_RESEND_EXAMPLES = """\b
Examples:
  smsq held resend 4dd2cb4e-3b39-4be9-93a2-1a7d1de3d2f5
  smsq held resend --all
"""
_DROP_EXAMPLES = """\b
Examples:
  smsq held drop 4dd2cb4e-3b39-4be9-93a2-1a7d1de3d2f5
  smsq held drop --all
"""


@click.group(cls=Group, invoke_without_command=True, epilog=_EXAMPLES)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def held(ctx: click.Context, *, as_json: bool) -> None:
    """List held messages: their call may or may not have reached the gateway.

    A late answer or report settles one by itself. The others are yours to decide: `resend` risks
    a duplicate, `drop` a message that never came.
    """
    if ctx.invoked_subcommand:
        return
    settings = Settings.load(os.environ)
    client = to_read(settings)
    rows = []
    for message_id, since in Ledger(client, settings.rules).held(AT_MOST):
        status = read_status(client, settings.redis_url, message_id)
        if status is not None:
            rows.append(
                {
                    "id": message_id,
                    "since": since.isoformat(timespec="seconds"),
                    "phone": status.phone,
                    "template": status.template,
                    "why": status.attempts[-1].detail or status.stat,
                }
            )
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    for row in rows:
        click.echo("  ".join(str(value) for value in row.values()))
    click.echo(f"{len(rows)} held")


@held.command(epilog=_RESEND_EXAMPLES)
@click.argument("ids", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that are held now.")
def resend(ids: tuple[str, ...], *, everything: bool) -> None:
    """Send held messages once more; each is counted as a possible duplicate.

    Exits with 1 where one of them is not held, or its ttl is over.
    """
    _decide(ids, "resend", everything=everything)


@held.command(epilog=_DROP_EXAMPLES)
@click.argument("ids", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that are held now.")
def drop(ids: tuple[str, ...], *, everything: bool) -> None:
    """Give held messages up: failed, local:dropped. A late report still makes them delivered.

    Exits with 1 where one of them is not held.
    """
    _decide(ids, "drop", everything=everything)


def _decide(ids: tuple[str, ...], decision: Decision, *, everything: bool) -> None:
    if bool(ids) == everything:
        raise click.UsageError("name the messages' ids, or say --all")
    for message_id in ids:
        parse_id(message_id)
    settings = Settings.load(os.environ)
    ledger = Ledger(to_write(settings), settings.rules)
    wrong = 0
    for message_id in ids or [message_id for message_id, _ in ledger.held(AT_MOST)]:
        told, state = ledger.decide(message_id, decision)
        wrong += told != "done"
        click.echo(f"{message_id}  {_words(told)}{f', now {state}' if state else ''}")
    raise SystemExit(1 if wrong else 0)


def _words(told: str) -> str:
    return "its ttl is over, it can only be dropped" if told == "too late" else told
