"""`smsq parked`: reports whose mid matches no message."""

from __future__ import annotations

import os

import click

from smsq_worker.cli.helpers.options import examples, json_option
from smsq_worker.cli.helpers.output import echo_json

AT_MOST = 1000


@click.command(
    epilog=examples("smsq parked", "smsq parked --json", "smsq explain 1151894566D2EDD9")
)
@json_option
def parked(*, as_json: bool) -> None:
    """List reports whose mid belongs to no known message, or to several, the oldest first.

    They wait for SMSQ_REPORT_WAIT_S, in case the response with their mid is recorded late. Many
    of them mean that responses were lost, or that somebody else sends over the same account.
    """
    from smsq_worker.cli.helpers.ledger_client import connect_ledger
    from smsq_worker.config.settings import Settings
    from smsq_worker.inspection.formatting import moment
    from smsq_worker.ledger import Ledger

    settings = Settings.load(os.environ)
    ledger = Ledger(connect_ledger(settings), settings.rules)
    rows = [
        {"mid": mid, "since": moment(since), "stats": ledger.parked_stats(mid)}
        for mid, since in ledger.parked(AT_MOST)
    ]
    if as_json:
        echo_json(rows)
        return
    for row in rows:
        click.echo(f"{row['mid']}  {row['since']}  {' '.join(row['stats'])}")
    click.echo(f"{len(rows)} mids")
