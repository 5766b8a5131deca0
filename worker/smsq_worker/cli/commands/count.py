"""`smsq count`: how many messages there are, by reason, template, hour and more."""

from __future__ import annotations

from typing import Any

import click

from smsq_worker.cli.helpers.options import by_option, command, json_option
from smsq_worker.cli.helpers.selecting import selection_options

GROUPS = ("state", "reason", "template", "lane", "campaign", "caller", "stat", "hour", "day")


@command(
    "smsq count --since 10:00",
    "smsq count --state failed --since 2h --by reason,template",
    "smsq count --campaign spring --by hour,state",
)
@selection_options
@by_option(GROUPS, default="state")
@click.option("--scan", is_flag=True, help="Look through the whole ledger, not the index.")
@json_option
def count(by: tuple[str, ...], *, scan: bool, as_json: bool, **asked: Any) -> None:
    """Count messages. It takes the same conditions as `smsq list`, and some seconds a million.

    Exits with 2 where a condition means nothing.
    """
    from smsq_worker.cli.views import selected

    selected.show_counts(asked, by, scan=scan, as_json=as_json)
