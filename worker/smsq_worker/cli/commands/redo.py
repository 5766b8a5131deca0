"""`smsq redo`: find what failed, and send exactly that again."""

from __future__ import annotations

from typing import Any

import click

from smsq_worker.cli.helpers.asking import yes_option
from smsq_worker.cli.helpers.options import command, json_option, ttl_option
from smsq_worker.cli.helpers.selecting import selection_options


@command(
    "smsq redo --since 10:00 --until 12:00 --dry-run",
    "smsq redo --since 10:00 --until 12:00 --template SMS_1001",
    "smsq redo --campaign spring --reason 'report:MO:*' --name spring-2",
    "smsq redo --campaign spring --ttl 7200 --yes",
)
@selection_options
@click.option("--dry-run", is_flag=True, help="Show what would be sent, and how long that takes.")
@click.option("--also-doubtful", is_flag=True, help="Also what may have arrived.")
@click.option("--name", metavar="NAME", help="Of the campaign of the new messages.")
@ttl_option
@click.option("--scan", is_flag=True, help="Look through the whole ledger, not the index.")
@yes_option
@json_option
def redo(**given: Any) -> None:
    """Send again what certainly did not arrive, each message once.

    It takes the conditions of `smsq list`, and of the messages that meet them those of the lanes
    notice and bulk that failed, expired or are unreported, as long as SMSQ_REDO_S keeps their
    numbers. What may have arrived is counted, and only sent again with --also-doubtful; what was
    delivered never. What its backend has sent again with the same key is left out.

    The new messages are a campaign, with a ttl, limits and suppression as any other's. The same
    command again, also after a crash, sends nothing twice.

    Exits with 2 where there is no condition, or one that means nothing.
    """
    from smsq_worker.cli.views import redo as view

    view.redo(**given)
