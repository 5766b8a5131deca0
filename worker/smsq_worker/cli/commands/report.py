"""`smsq report`: a day at a glance."""

from __future__ import annotations

import click

from smsq_worker.cli.helpers.options import by_option, command, json_option
from smsq_worker.i18n import _

GROUPS = ("template", "lane", "stat")
DAYS_KEPT = 40


@command(
    "smsq report",
    "smsq report --day yesterday --by template",
    "smsq report --days 7 --by lane",
    "smsq report --day 2025-07-06 --by stat --csv > day.csv",
)
@click.option("--day", metavar="DAY", default="today", help="Like yesterday or 2025-07-06.")
@click.option(
    "--days",
    type=click.IntRange(1, DAYS_KEPT),
    default=1,
    show_default=True,
    help="How many, of which --day is the last; each has its own rows.",
)
@by_option(GROUPS)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@json_option
def report(day: str, days: int, by: tuple[str, ...], *, as_csv: bool, as_json: bool) -> None:
    """Show what became of a day's messages: sent, delivered, failed, in doubt, how fast.

    A day is Asia/Shanghai's, and its messages are those that were enqueued on it. The rate is the
    share delivered of those that were sent and have come to an end. The median is the time from
    acceptance by the gateway to delivery, interpolated in the buckets of smsq_delivery_seconds.
    A message in doubt is counted in another column, too, or is still to be sent.

    Days are kept for 40 days. Of a day at most 1,000 templates are counted separately; others are
    "other". Test messages and duplicates are not counted, nor what workers of older releases do.

    Exits with 2 where a word means nothing.
    """
    from smsq_worker.cli.views import report as view

    if as_csv and as_json:
        raise click.UsageError(_("either --csv or --json, not both"))
    view.show(day, days, by, form="csv" if as_csv else as_json and "json")
