"""`smsq suppressed`: numbers to which nothing is sent."""

from __future__ import annotations

from typing import Any

import click

from smsq_worker.cli.helpers.asking import yes_option
from smsq_worker.cli.helpers.options import (
    check_reason,
    command,
    encoding_option,
    json_option,
    listing,
)

MAX_DAYS = 3650

lane_option = click.option(
    "--lane",
    "lanes",
    multiple=True,
    type=click.Choice(["otp", "notice", "bulk"]),
    help="Only in this lane; may be repeated. Without it: in all.",
)


@listing(
    "smsq suppressed",
    "smsq suppressed add 13800138000 --reason 'asked for it' --days 30",
    "smsq suppressed add 13800138000 --lane bulk --reason 'no advertisements'",
    "smsq suppressed remove 13800138000",
    "smsq suppressed export backup.csv",
    "smsq suppressed import backup.csv",
)
def suppressed(*, as_json: bool) -> None:
    """List the numbers to which nothing is sent, masked; the commands below change the list.

    Delivery reports that say a number is out of service or has opted out add it automatically, some
    of them in lane bulk alone; `smsq codes` shows which. A message to such a number in such a lane
    fails at once, with local:suppressed.
    """
    from smsq_worker.cli.views import suppressed as view

    view.show(as_json=as_json)


@command("smsq suppressed list", "smsq suppressed list --json", of=suppressed)
@json_option
@click.pass_context
def list_(ctx: click.Context, *, as_json: bool) -> None:
    """List the numbers, masked, in no order."""
    from smsq_worker.cli.views import suppressed as view

    before = ctx.parent is not None and ctx.parent.params["as_json"]
    view.show(as_json=as_json or before)


@command(
    "smsq suppressed add 13800138000 '+86 139-0013-9000'",
    "smsq suppressed add 13800138000 --reason 'asked for it' --until 2030-01-31",
    of=suppressed,
)
@click.argument("phones", metavar="PHONE...", nargs=-1, required=True)
@click.option("--reason", default="operator", callback=check_reason, show_default=True)
@lane_option
@click.option("--days", type=click.IntRange(1, MAX_DAYS), help="For this many days.")
@click.option("--until", metavar="ISO-DATE", help="Until this date (UTC) or time.")
@yes_option
def add(**given: Any) -> None:
    """Send nothing to these numbers; until they are removed, or for a time.

    Without a time that is for ten years at most. What is known of them in the same lanes is
    replaced.
    """
    from smsq_worker.cli.views import suppressed as view

    view.add(**given)


@command("smsq suppressed remove 13800138000", of=suppressed)
@click.argument("phones", metavar="PHONE...", nargs=-1, required=True)
@lane_option
@yes_option
def remove(phones: tuple[str, ...], lanes: tuple[str, ...], *, yes: bool) -> None:
    """Send to these numbers again. Exits with 1 where one was not suppressed."""
    from smsq_worker.cli.views import suppressed as view

    view.remove(phones, lanes, yes=yes)


@command(
    "smsq suppressed import numbers.csv",
    "smsq suppressed export | ssh elsewhere smsq suppressed import -",
    of=suppressed,
    file=(
        "phone,reason,since,until,lanes",
        "13800138000,asked for it,2026-01-31T08:00:00+08:00,2030-01-31,",
        "13900139000,,,,notice bulk",
    ),
)
@click.argument("file", type=click.Path(allow_dash=True))
@encoding_option
@yes_option
def import_(file: str, encoding: str | None, *, yes: bool) -> None:
    """Import the numbers of a file; - is stdin. What is known of them is replaced.

    Files are read as send-file reads them: CSV or JSON Lines, UTF-8 or GB18030 (GBK). The columns
    are phone, or 手机号, 电话, and reason, since, until.

    Without a time a number is suppressed until it is removed, for ten years at most, without lanes
    in all of them; a number may have several lines, of different lanes. If any line is wrong, all
    wrong lines are listed, nothing is imported, and the exit code is 1.
    """
    from smsq_worker.cli.views import suppressed as view

    view.import_list(file, encoding, yes=yes)


@command("smsq suppressed export backup.csv", "smsq suppressed export > backup.csv", of=suppressed)
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True), default="-")
def export(file: str) -> None:
    """Write the list as CSV to a file that nobody else may read, or to stdout.

    The numbers are NOT masked, so that the file can be imported again. A reason that a spreadsheet
    would take for a formula gets an apostrophe in front, which an import takes away.
    """
    from smsq_worker.cli.views import suppressed as view

    view.export_csv(file)
