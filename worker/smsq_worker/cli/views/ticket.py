"""What one pastes into the vendor's support form, so that they can find a message."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from smsq.tracking import Attempt, Status
from smsq_worker.domain.codes import Catalogue, Catalogues, Code
from smsq_worker.domain.states import Outcome
from smsq_worker.i18n import _
from smsq_worker.inspection.code_text import meaning
from smsq_worker.inspection.formatting import clean, local


def of_a_message(status: Status, number: str, catalogues: Catalogues) -> list[str] | None:
    """Return the block of a message; None where the gateway took no call of it.

    `number` is the unmasked number, "" to leave it masked.
    """
    calls = [attempt for attempt in status.attempts if attempt.outcome != Outcome.NOT_SENT]
    if not calls:
        return None
    lines = [
        _("Question about an SMS"),
        _("number: {phone}", phone=number or _masked(status)),
        _("template: {template}", template=clean(status.template or "?")),
    ]
    for call in calls:
        lines += _call(call, catalogues.of(call.account))
    return [*lines, _("our id: {id}", id=status.id)]


def of_a_mid(mid: str, codes: Iterable[Code]) -> list[str]:
    """Return the block of a mid that no message is known to have."""
    lines = [_("Question about an SMS"), _("mid: {mid}", mid=mid)]
    return [*lines, *map(_stat, codes)]


def _masked(status: Status) -> str:
    phone = status.phone or "?"
    if status.final:
        return _("{phone} (the whole number is not kept once a message has ended)", phone=phone)
    return _("{phone} (masked; --show-number shows it)", phone=phone)


def _call(call: Attempt, catalogue: Catalogue) -> Iterator[str]:
    yield _("submitted: {time} (call {n})", time=local(call.started_at), n=call.n)
    yield "  " + _("mid: {mid}", mid=call.mid or _("none, as no response came"))
    if call.detail:
        yield "  " + _("response: {text}", text=clean(call.detail.removeprefix("gateway:")))
    said = call.stat and _stat(catalogue.classify(call.stat))
    yield "  " + (said or _("stat: none, no report came"))


def _stat(code: Code) -> str:
    return _("stat: {stat} ({meaning})", stat=code.stat, meaning=meaning(code))
