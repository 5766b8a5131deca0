"""Entering bare Celery messages of other languages, which the ledger does not have yet."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from smsq.contract import State, parse
from smsq.errors import CampaignCancelled, InvalidMessage, KeyConflict, LedgerUnavailable
from smsq.failpoints import reached
from smsq.ledger_writer import LedgerWriter
from smsq_worker.infra.logs import about
from smsq_worker.ledger import Rejected
from smsq_worker.sending.lane import LaneQueue
from smsq_worker.sending.wakeup import WakeUp

log = logging.getLogger(__name__)


def entered(lane: LaneQueue, writer: LedgerWriter) -> Iterator[tuple[WakeUp, Rejected | None]]:
    """Enter a lane's bare messages; yield each, rejected unless it is to be sent.

    What the ledger does not take must not keep the others waiting: at its memory limit it takes
    nothing new, but admits what it has.
    """
    while lane.bare and time.monotonic() >= lane.enter_at:
        wakeup = lane.bare[0]
        reached("before a bare entry")
        (message_id,) = wakeup.waiting
        try:
            state, why = _enter(writer, message_id, *wakeup.content or ((), {}))
        except LedgerUnavailable as error:
            lane.bare.remove(wakeup)
            lane.bare.append(wakeup)
            lane.enter_at = time.monotonic() + lane.entering.waits(error)
            continue
        lane.bare.remove(wakeup)
        lane.entering.over()
        yield wakeup, None if state is State.QUEUED else Rejected(why, state)


def _enter(
    writer: LedgerWriter, message_id: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[State, str]:
    """Enter a message, unless the ledger has it already; return its state, and why."""
    try:
        return writer.enter(message_id, parse(args, kwargs)).state, "entered"
    except InvalidMessage as error:
        if isinstance(error, KeyConflict) and error.holder == message_id:
            return State.QUEUED, ""  # The ledger has it, and what it has counts.
        log.warning(
            "%s breaks the rules and failed: %s",
            message_id,
            error,
            extra=about(id=message_id, state=State.FAILED),
        )
        is_conflict = isinstance(error, KeyConflict)
        reason = "local:key-conflict" if is_conflict else "local:invalid"
        return writer.refuse(message_id, str(error), reason), reason
    except CampaignCancelled as error:
        reason = "local:campaign-cancelled"
        return writer.refuse(message_id, str(error), reason), reason
