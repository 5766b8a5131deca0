"""`smsq cancel`: messages that are not to be sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from smsq_worker.cli.helpers.asking import ask, yes_option
from smsq_worker.cli.helpers.options import examples, json_option
from smsq_worker.cli.helpers.output import echo, echo_json
from smsq_worker.i18n import _, ngettext

if TYPE_CHECKING:
    from smsq.cancelling import Cancellation


@click.command(
    epilog=examples(
        "smsq cancel 4dd2cb4e-3b39-4be9-93a2-1a7d1de3d2f5",
        "xargs smsq cancel < ids.txt",
        "smsq cancel 4dd2cb4e-3b39-4be9-93a2-1a7d1de3d2f5 --json",
    )
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
    from smsq.contract import parse_id
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
            rows.append(_row(one, answer))
            if not as_json:
                echo(f"{one}  {_words(answer)}")
    if as_json:
        echo_json(rows)
    raise SystemExit(0 if all(row["answer"] == "cancelled" for row in rows) else 1)


def _row(message_id: str, answer: Cancellation | None) -> dict[str, str | None]:
    return {
        "id": message_id,
        "answer": answer.answer if answer else None,
        "state": answer.state if answer else None,
        "reason": answer.reason if answer else None,
    }


def _words(found: Cancellation | None) -> str:
    from smsq_worker.inspection.formatting import state_name

    if found is None:
        return _("nothing is known of it")
    if found.answer != "too_late":
        return {
            "cancelled": _("cancelled: it certainly was not sent, and will not be"),
            "under_way": _("under way: the attempt that is being made decides, and is the last"),
        }[found.answer]
    if found.state == "accepted":
        return _("too late: the gateway has accepted it; it is not sent again")
    if found.reason == "local:cancelled":
        return _("too late: an earlier attempt may have been sent; it is not sent again")
    if found.state == "duplicate" and found.reason:
        holder = found.reason.partition(":")[2]
        return _("a duplicate, which is never sent; the one to cancel: {id}", id=holder)
    return _("too late: it is {state}", state=state_name(found.state))
