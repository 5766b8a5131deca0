"""`smsq status`: an overview, or what is known of one message."""

from __future__ import annotations

import click

from smsq_worker.cli.helpers.options import command, json_option, watch_option
from smsq_worker.i18n import _


@command(
    "smsq status",
    "smsq status --json",
    "smsq status --watch           look again every 2 s, until Ctrl-C",
    "smsq status --watch 60 --json | tee -a status.jsonl",
    "smsq status 4dd2cb4e-3b39-4be9-93a2-1a7d1de3d2f5",
)
@click.argument("message_id", metavar="[ID]", required=False)
@json_option
@watch_option
def status(message_id: str | None, *, as_json: bool, every_s: int | None) -> None:
    """Show an overview; with ID, what is known of a message.

    The overview: the rate and what pauses sending, what waits in each lane and how old its oldest
    message is, and how long it takes to send what waits. What happened to a message is shown by
    `smsq explain ID`.

    With --watch the overview is updated in place on a terminal; elsewhere it is printed each time,
    as one line of JSON with --json. While Redis is away that is shown, and watching goes on. Ctrl-C
    exits with 0.

    Exits with 1 where nothing is known of ID, or where the broker does not answer and the counts
    of its queues are missing.
    """
    from smsq_worker.cli.views import status as view

    if message_id is not None:
        if every_s is not None:
            raise click.UsageError(_("--watch shows the overview, so it takes no ID"))
        view.show_message(message_id, as_json=as_json)
    elif every_s is None:
        view.show_overview(as_json=as_json)
    else:
        view.watch_overview(every_s, as_json=as_json)
