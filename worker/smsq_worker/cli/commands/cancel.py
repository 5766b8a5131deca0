"""`smsq cancel`: messages that are not to be sent."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from smsq_worker.cli.helpers.asking import ask, yes_option
from smsq_worker.cli.helpers.options import command, json_option
from smsq_worker.cli.helpers.output import echo, echo_json
from smsq_worker.i18n import _, ngettext
from smsq_worker.i18n.told import told

if TYPE_CHECKING:
    from smsq.cancelling import Cancellation


@command(
    "smsq cancel 4dd2cb4e-3b39-4be9-93a2-1a7d1de3d2f5",
    "xargs smsq cancel < ids.txt",
    "smsq cancel 4dd2cb4e-3b39-4be9-93a2-1a7d1de3d2f5 --json",
)
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@yes_option
@json_option
def cancel(ids: tuple[str, ...], *, yes: bool, as_json: bool) -> None:
    """Cancel messages: none of them is sent from the answer on.

    One that is under way is decided by its attempt, and not tried again. One that was sent, or may
    have been, stays what it is, and is not sent again.

    Exits with 1 where one was not cancelled: too late, under way, or unknown.
    """
    from smsq import audit, cancelling
    from smsq.ids import parse_id
    from smsq_worker.cli.helpers.ledger_client import open_ledger

    for one in ids:
        parse_id(one)
    settings, client = open_ledger(to_write=True)
    if len(ids) > 1:
        ask(ngettext("this cancels {n} message", "this cancels {n} messages", len(ids)), yes=yes)
    rows = []
    for start in range(0, len(ids), cancelling.AT_ONCE):
        some = ids[start : start + cancelling.AT_ONCE]
        act = audit.act("cancel", ids=" ".join(some))
        found = cancelling.cancel(client, settings, some, act)
        for one, answer in zip(some, found, strict=True):
            unknown = {"id": one, "answer": None, "state": None, "reason": None}
            rows.append(asdict(answer) if answer else unknown)
            if not as_json:
                echo(f"{one}  {_words(answer)}")
    if as_json:
        echo_json(rows)
    raise SystemExit(0 if all(row["answer"] == "cancelled" for row in rows) else 1)


def _words(found: Cancellation | None) -> str:
    from smsq_worker.inspection.formatting import state_name

    if found is None:
        return _("nothing is known of it")
    is_sent = found.state == "accepted" or found.reason == "local:cancelled"
    if is_sent or found.answer != "too_late":
        return told(found.words)
    if found.state == "duplicate" and found.reason:
        holder = found.reason.partition(":")[2]
        return _("a duplicate, which is never sent; the one to cancel: {id}", id=holder)
    return _("too late: it is {state}", state=state_name(found.state))
