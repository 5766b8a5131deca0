"""The codes that came and that the catalogue does not know, as `smsq codes --seen` prints them."""

from __future__ import annotations

import os

import click

from smsq_worker.cli.helpers.ledger_client import connect_ledger
from smsq_worker.cli.helpers.output import echo_json
from smsq_worker.cli.views.codes import load_catalogue
from smsq_worker.config.settings import Settings
from smsq_worker.domain.codes import CodeClass
from smsq_worker.inspection.formatting import moment
from smsq_worker.ledger.codes_seen import codes_seen


def show(*, as_json: bool) -> None:
    """Print the list, the most frequent first."""
    _, catalogue = load_catalogue()
    settings = Settings.load(os.environ)
    rows = [
        {
            "stat": one.stat,
            "count": one.count,
            "first_at": moment(one.first_at),
            "last_at": moment(one.last_at),
            "mid": one.mid,
        }
        for one in codes_seen(connect_ledger(settings), settings.redis_url)
        # The workers may have had another override file when the code came.
        if catalogue.classify(one.stat).code_class is CodeClass.UNKNOWN
    ]
    if as_json:
        echo_json(rows)
        return
    for row in rows:
        click.echo(
            f"{row['stat']}  {row['count']} times  since {row['first_at']}  "
            f"last {row['last_at']}  mid {row['mid']}"
        )
    click.echo(f"{len(rows)} codes that the catalogue does not know")
