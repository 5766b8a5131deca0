"""A message's way to the gateway: admit, call, record. It knows no Celery."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smsq.contract import Lane, State, parse
from smsq.enqueue import Entrance
from smsq.errors import InvalidMessage
from smsq.killpoint import reached
from smsq_worker.gateway.answer import Call
from smsq_worker.gateway.client import Gateway
from smsq_worker.ledger import Go, Stay
from smsq_worker.recorder import Recorder
from smsq_worker.states import Outcome
from smsq_worker.turnstile import Turnstile

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential waiting with jitter, so that what failed together does not return together."""

    first_s: float
    max_s: float

    def wait_s(self, attempt: int) -> float:
        """Give the wait after an attempt, counted from 1."""
        full = min(self.first_s * 2.0 ** min(attempt - 1, 32), self.max_s)
        return full * random.uniform(0.5, 1.0)  # noqa: S311 - no secret depends on it


class Delivery:
    """Sends messages that the ledger holds."""

    def __init__(
        self,
        turnstile: Turnstile,
        gateway: Gateway,
        entrance: Entrance,
        recorder: Recorder,
        backoff: Backoff,
    ) -> None:
        self._turnstile = turnstile
        self._gateway = gateway
        self._entrance = entrance
        self._recorder = recorder
        self._backoff = backoff
        self._in_flight: set[tuple[str, int]] = set()

    def deliver(
        self, message_id: str, lane: Lane, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> str:
        """Send a message in its turn, if it may go; say in a word or two what came of it.

        Raises NotNow where its wake-up is to be given back. `args` and `kwargs` count only where
        the ledger does not know the id: then this is a bare Celery message of another language,
        and it is entered here.
        """
        reached("before admit")
        admission = self._turnstile.admit(message_id, lane)
        if isinstance(admission, Stay) and admission.why == "unknown" and (args or kwargs):
            if self._enter(message_id, args, kwargs) is not State.QUEUED:
                return "entered"
            admission = self._turnstile.admit(message_id, lane)
        if isinstance(admission, Go):
            return self._send(message_id, admission)
        if admission.why == "unknown":
            log.warning("%s was woken up, but the ledger does not know it", message_id)
        return f"{admission.why} {admission.state or ''}".strip()

    def _enter(self, message_id: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> State:
        try:
            message = parse(args, kwargs)
        except InvalidMessage as error:
            log.warning("%s breaks the rules and failed: %s", message_id, error)
            return self._entrance.refuse(message_id, str(error))
        return self._entrance.enter(message_id, message)

    def _send(self, message_id: str, go: Go) -> str:
        reached("after admit")
        self._in_flight.add((message_id, go.attempt))
        try:
            call = self._gateway.send(
                go.phone,
                go.template,
                go.code,
                depart=lambda: self._turnstile.depart(message_id, go),
            )
            reached("after call")
            return self._record(message_id, go.attempt, call)
        finally:
            self._in_flight.discard((message_id, go.attempt))

    def _record(self, message_id: str, attempt: int, call: Call) -> str:
        wait_s = max(self._backoff.wait_s(attempt), call.retry_after_s)
        state = self._recorder.record(message_id, attempt, call, wait_s)
        reached("after record")
        log.log(
            logging.INFO if call.outcome is Outcome.ACCEPTED else logging.WARNING,
            "%s attempt %d: %s%s, now %s",
            message_id,
            attempt,
            call.outcome,
            f" ({call.detail})" if call.detail else "",
            state or "not recorded yet",
        )
        return str(state or "not recorded yet")

    def abandon(self) -> None:
        """Record the calls in flight as in doubt, because this process will not see their end."""
        for message_id, attempt in list(self._in_flight):
            self._record(message_id, attempt, Call(Outcome.MAYBE_SENT, "worker was stopped"))
