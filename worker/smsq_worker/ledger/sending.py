"""The acts of sending: may a message go, when, and what came of its attempt."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from itertools import chain
from typing import Any

from smsq.boottime import now_s
from smsq.cipher import FernetCipher, PlaintextCipher
from smsq.contract import State
from smsq.errors import LedgerUnavailable
from smsq.ledger_writer import FIRST_CHECK_S
from smsq_worker.domain.leases import LeaseExpired
from smsq_worker.domain.states import Outcome
from smsq_worker.ledger.payloads import EncryptingActs, opened
from smsq_worker.ledger.types import Admission, Admitted, AttemptResult, Rejected, RetryLater


class SendingActs(EncryptingActs):
    """What a message passes between its queue and its result."""

    def admit(self, message_id: str, *, turn: str = "") -> Admission:
        """Admit a message, if it may go. `turn` is the slot that was booked, once it has come."""
        (answer,) = self.admit_many([(message_id, turn)])
        return answer

    def admit_many(self, asks: Sequence[tuple[str, str]]) -> list[Admission]:
        """Admit messages (id, slot), those that may go, in order.

        There is no answer for those after one that must wait without a slot, or is paused.
        """
        # First of all: what this process cannot decrypt must not be admitted.
        cipher = self._cipher()
        answers: list[Admission] = []
        try:
            while len(answers) < len(asks):
                found, plain = self._admit_some(cipher, asks[len(answers) :])
                answers += found
                if plain is None:
                    break
                self._warn_of_plain()
                self._encrypt(cipher, asks[len(answers)][0], plain)
        except LedgerUnavailable:
            # Those that were admitted by now have to be sent.
            if not answers:
                raise
        return answers

    def _admit_some(
        self, cipher: PlaintextCipher, asks: Sequence[tuple[str, str]]
    ) -> tuple[list[Admission], str | None]:
        """Return answers, and the payload of the next message if that is to be encrypted first."""
        encrypts = "1" if isinstance(cipher, FernetCipher) else ""
        asked_at, lease_ends = time.monotonic(), now_s() + self._rules.lease_s
        found, is_safe = self._run_safely(
            "admit",
            encrypts,
            os.urandom(6).hex(),
            *chain.from_iterable(asks),
            replicas=self._rules.wait_replicas,
        )
        plain = found.pop()[1] if found[-1][0] == "plain" else None
        return [_admission(cipher, asked_at, lease_ends, is_safe, *one) for one in found], plain

    def depart(self, message_id: str, go: Admitted) -> float:
        """Return another send time, by time.monotonic(), for an attempt that missed its own.

        Raises LeaseExpired where the attempt no longer holds.
        """
        asked_at = time.monotonic()
        (delay_us,) = self._run("depart", message_id, go.attempt, go.begun)
        if int(delay_us) < 0:
            raise LeaseExpired
        return asked_at + int(delay_us) / 1_000_000

    def in_hand(self, ids: Sequence[str]) -> None:
        """Note that this process has the wake-ups of messages: they are not lost."""
        self._run("in_hand", FIRST_CHECK_S * 1000, *ids)

    def record(self, message_id: str, attempt: int, outcome: Outcome, **more: Any) -> State | None:
        """Record the result of one attempt, as `record_many` does."""
        (state,) = self.record_many([AttemptResult(message_id, attempt, outcome, **more)])
        return state

    def record_many(self, results: Sequence[AttemptResult]) -> list[State | None]:
        """Record results of attempts; return the states that follow, None where unknown."""
        states = self._run("record", json.dumps([_as_array(result) for result in results]))
        return [None if state == "unknown" else State(state) for state in states]


def _admission(
    cipher: PlaintextCipher,
    asked_at: float,
    lease_ends: float,
    is_safe: bool,
    answer: str,
    *rest: Any,
) -> Admission:
    if answer == "go":
        attempt, payload, template, delay_us, begun, *trace = rest
        phone, code = opened(cipher, payload)
        return Admitted(
            int(attempt),
            phone,
            template,
            code,
            departs_at=asked_at + int(delay_us) / 1_000_000 if delay_us else None,
            trace=trace[0] if trace else None,
            begun=int(begun),
            is_safe=is_safe,
            lease_ends=lease_ends,
        )
    if answer in {"wait", "booked"}:
        return RetryLater(int(rest[0]) / 1_000_000, *rest[1:])
    return Rejected(answer, State(rest[0]) if rest else None)


def _as_array(result: AttemptResult) -> tuple[str | int | bool, ...]:
    return (
        result.message_id,
        result.attempt,
        result.outcome,
        result.detail,
        result.mid,
        round(result.wait_s * 1000),
        result.trouble,
        result.too_fast,
        result.begun,
    )
