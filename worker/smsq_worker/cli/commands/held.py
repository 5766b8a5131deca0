"""`smsq held`: messages whose outcome nobody knows, for the operator to decide."""

from __future__ import annotations

from functools import partial
from typing import Literal

import click

from smsq_worker.cli.helpers.asking import decide_each, yes_option
from smsq_worker.cli.helpers.options import command, listing, named_or_all
from smsq_worker.cli.helpers.output import echo, echo_json, echo_lines
from smsq_worker.i18n import _, ngettext, pgettext

AT_MOST = 1000

_ids_or_all = named_or_all("ids", "All that are held now.")


@listing(
    "smsq held",
    "smsq held resend 4dd2cb4e-3b39-4be9-93a2-1a7d1de3d2f5",
    "smsq held drop --all",
)
def held(*, as_json: bool) -> None:
    """List held messages: their request may or may not have reached the gateway.

    A late response or report settles a message automatically. The others are yours to decide:
    `resend` risks a duplicate, `drop` a message that never arrived.
    """
    from smsq.ids import is_id
    from smsq.tracking import read_statuses
    from smsq_worker.cli.helpers.ledger_client import open_ledger
    from smsq_worker.inspection.formatting import local
    from smsq_worker.ledger import Ledger

    settings, client = open_ledger()
    rows = []
    ledger = Ledger(client, settings.rules)
    waiting = ledger.held(AT_MOST)
    statuses = read_statuses(client, settings.redis_url, (one for one, _since in waiting))
    for (message_id, since), status in zip(waiting, statuses, strict=True):
        if status is not None or not is_id(message_id):  # otherwise it was settled meanwhile
            last = status.attempts[-1] if status and status.attempts else None
            row = {
                "id": message_id,
                "since": since if as_json else local(since),
                "phone": status and status.phone,
                "template": status and status.template,
                "why": (last and last.detail) or (status and status.stat),
            }
            rows.append(row)
    if as_json:
        echo_json(rows)
        return
    echo_lines("  ".join(str(one or "?") for one in row.values()) for row in rows)
    count = len(rows)
    if len(waiting) == AT_MOST and (in_all := ledger.waiting().held) > count:
        count = in_all
        echo(_("these are the {n} that have been held for longest, of all:", n=len(rows)))
    echo(ngettext("{n} held", "{n} held", count))


@command("smsq held resend 4dd2cb4e-3b39-4be9-93a2-1a7d1de3d2f5", "smsq held resend --all", of=held)
@_ids_or_all
@yes_option
def resend(ids: tuple[str, ...], *, everything: bool, yes: bool) -> None:
    """Send held messages once more; each is counted as a possible duplicate.

    Exits with 1 where one of them is not held, or its ttl is over.
    """
    _decide(ids, "resend", everything=everything, yes=yes)


@command("smsq held drop 4dd2cb4e-3b39-4be9-93a2-1a7d1de3d2f5", "smsq held drop --all", of=held)
@_ids_or_all
@yes_option
def drop(ids: tuple[str, ...], *, everything: bool, yes: bool) -> None:
    """Drop held messages: failed, local:dropped. A late report still makes them delivered.

    Exits with 1 where one of them is not held.
    """
    _decide(ids, "drop", everything=everything, yes=yes)


def _decide(
    ids: tuple[str, ...], decision: Literal["resend", "drop"], *, everything: bool, yes: bool
) -> None:
    from smsq import audit
    from smsq.ids import parse_id
    from smsq_worker.cli.helpers.ledger_client import open_ledger
    from smsq_worker.inspection.formatting import state_name
    from smsq_worker.ledger import Ledger

    if bool(ids) == everything:
        raise click.UsageError(_("name the messages' ids, or pass --all"))
    for message_id in ids:
        parse_id(message_id)
    settings, client = open_ledger(to_write=True)
    ledger = Ledger(client, settings.rules)

    def decide(message_id: str) -> tuple[bool, str]:
        act = audit.act(f"held {decision}", id=message_id)
        result, state = ledger.decide(message_id, decision, act)
        words = _result(result)
        now = _("{words}, now {state}", words=words, state=state_name(state)) if state else words
        return result == "done", now

    decide_each(
        ids,
        lambda: [one for one, _since in ledger.held()],
        partial(_question, decision),
        decide,
        none=lambda: ngettext("{n} held", "{n} held", 0),
        yes=yes,
    )


def _question(decision: Literal["resend", "drop"], count: int) -> str:
    if decision == "resend":
        return ngettext(
            "this sends {n} held message again: a possible duplicate",
            "this sends {n} held messages again: each is a possible duplicate",
            count,
        )
    return ngettext("this gives up {n} held message", "this gives up {n} held messages", count)


def _result(result: str) -> str:
    names = {
        "done": _("done"),
        "unknown": pgettext("result", "unknown"),
        "not held": _("not held"),
        "too late": _("its ttl is over, it can only be dropped"),
    }
    return names.get(result, result)
