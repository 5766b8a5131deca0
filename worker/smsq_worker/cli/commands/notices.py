"""`smsq notices`: outcomes that a receiver did not take for too long."""

from __future__ import annotations

import json
import os
from typing import Literal

import click

from smsq_worker.cli.helpers.groups import Group
from smsq_worker.cli.helpers.writing import to_write
from smsq_worker.config.settings import Settings
from smsq_worker.inspection.formatting import moment
from smsq_worker.ledger.callbacks import Callbacks

AT_MOST = 10_000

# What follows \b is printed as it stands.
_EXAMPLES = """\b
Examples:
  smsq notices
  smsq notices replay webhook:delivered:4dd2cb4e-3b39-4be9-93a2-1a7d1de3d2f5
  smsq notices replay --all
"""
_REPLAY_EXAMPLES = """\b
Examples:
  smsq notices replay webhook:delivered:4dd2cb4e-3b39-4be9-93a2-1a7d1de3d2f5
  smsq notices replay --all
"""
_DROP_EXAMPLES = """\b
Examples:
  smsq notices drop webhook:delivered:4dd2cb4e-3b39-4be9-93a2-1a7d1de3d2f5
  smsq notices drop --all
"""


@click.group(cls=Group, invoke_without_command=True, epilog=_EXAMPLES)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def notices(ctx: click.Context, *, as_json: bool) -> None:
    """List outcomes that were given up: their receiver failed for SMSQ_NOTIFY_FOR_S.

    KIND:STATE:ID is an outcome's name; KIND is task, returnurl or webhook.
    """
    if ctx.invoked_subcommand:
        return
    found = _notices()
    dead, counts = found.dead(AT_MOST), found.counts()
    if as_json:
        rows = [
            {
                "name": one.name,
                "given_up_at": moment(one.given_up_at),
                "tries": one.tries,
                "error": one.error,
            }
            for one in dead
        ]
        click.echo(json.dumps(counts | {"given_up": rows}, ensure_ascii=False, indent=2))
        return
    for one in dead:
        click.echo(f"{one.name}  {moment(one.given_up_at)}  {one.tries} tries  {one.error}")
    click.echo(f"{counts['dead']} given up, {counts['waiting']} still to be told")


@notices.command(epilog=_REPLAY_EXAMPLES)
@click.argument("names", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that were given up.")
def replay(names: tuple[str, ...], *, everything: bool) -> None:
    """Tell them again, from now on for SMSQ_NOTIFY_FOR_S.

    Exits with 1 where one is not among those given up.
    """
    _decide(names, "replay", everything=everything)


@notices.command(epilog=_DROP_EXAMPLES)
@click.argument("names", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that were given up.")
def drop(names: tuple[str, ...], *, everything: bool) -> None:
    """Forget them.

    Exits with 1 where one is not among those given up.
    """
    _decide(names, "drop", everything=everything)


def _decide(
    names: tuple[str, ...], decision: Literal["replay", "drop"], *, everything: bool
) -> None:
    if bool(names) == everything:
        raise click.UsageError("name the outcomes, or say --all")
    if not all(map(str.isprintable, names)):
        raise click.UsageError("an outcome's name is KIND:STATE:ID, in printable characters")
    found = _notices()
    wrong = 0
    for name in names or [one.name for one in found.dead(AT_MOST)]:
        done = found.revive(name, decision)
        wrong += not done
        click.echo(f"{name}  {'done' if done else 'is not among those given up'}")
    raise SystemExit(1 if wrong else 0)


def _notices() -> Callbacks:
    settings = Settings.load(os.environ)
    return Callbacks(to_write(settings), settings.rules)
