"""`smsq list`: messages by state, reason, template, time and more."""

from __future__ import annotations

from typing import Any

import click

from smsq_worker.cli.helpers.options import command, json_option
from smsq_worker.cli.helpers.selecting import selection_options
from smsq_worker.i18n import _

MAX_LIMIT = 1_000_000


@command(
    "smsq list --state failed --since 10:00 --until 12:00",
    "smsq list --reason 'report:MO:*' --template SMS_1001",
    "smsq list --state queued,deferred --lane notice --limit 20",
    "smsq list --phone 13800138000 --since 'yesterday 10:00'",
    "smsq list --state failed --csv --limit 1000000 > failed.csv",
)
@selection_options
@click.option(
    "--limit", type=click.IntRange(1, MAX_LIMIT), default=50, show_default=True, help="At most."
)
@click.option("--after", metavar="PAGE", default="", help="Go on where a page says that it ended.")
@click.option("--scan", is_flag=True, help="Look through the whole ledger, not the index.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@json_option
def list_(limit: int, after: str, *, scan: bool, as_csv: bool, as_json: bool, **asked: Any) -> None:
    """List messages, the newest first.

    All conditions must be met. Times are this machine's (TZ). A number is compared exactly while
    the ledger has it, and then by its mask. The ledger has it until the message's end, and for
    SMSQ_REDO_S longer if the message may be sent again.

    Messages are found by an index of when they were enqueued. Those that release
    0.2.0 or a producer with SMSQ_INDEX=0 enqueued are not in it: --scan finds them, too, and takes
    longer.

    Exits with 2 where a condition means nothing.
    """
    from smsq_worker.cli.views import selected

    if as_csv and as_json:
        raise click.UsageError(_("either --csv or --json, not both"))
    selected.show_list(asked, limit, after, scan=scan, form="csv" if as_csv else as_json and "json")


globals()["list"] = list_  # by the command's name, as every command is found
