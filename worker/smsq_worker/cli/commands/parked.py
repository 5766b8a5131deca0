"""`smsq parked`: reports for mids that lead to no message."""

from __future__ import annotations

import json
import os

import click

from smsq_worker.cli.helpers.writing import to_read
from smsq_worker.config.settings import Settings
from smsq_worker.ledger import Ledger

AT_MOST = 1000

# What follows \b is printed as it stands.
_EXAMPLES = """\b
Examples:
  smsq parked
  smsq parked --json
  smsq explain 1151894566D2EDD9
"""


@click.command(epilog=_EXAMPLES)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def parked(*, as_json: bool) -> None:
    """List reports whose mid belongs to no message known, or to several, the oldest first.

    They wait for SMSQ_REPORT_WAIT_S, in case the answer with their mid is recorded late. Many of
    them mean that answers were lost, or that somebody else sends over the same account.
    """
    settings = Settings.load(os.environ)
    ledger = Ledger(to_read(settings), settings.rules)
    rows = [
        {
            "mid": mid,
            "since": since.isoformat(timespec="seconds"),
            "stats": ledger.parked_stats(mid),
        }
        for mid, since in ledger.parked(AT_MOST)
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        click.echo(f"{row['mid']}  {row['since']}  {' '.join(row['stats'])}")
    click.echo(f"{len(rows)} mids")
