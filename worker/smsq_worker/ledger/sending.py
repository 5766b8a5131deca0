"""The acts of sending: may a message go, when, and what came of its attempt."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from itertools import chain, takewhile
from typing import Any, Final

from smsq import keys
from smsq.boottime import now_s
from smsq.cipher import FernetCipher, PlaintextCipher
from smsq.contract import State
from smsq.errors import LedgerUnavailable
from smsq.ledger_writer import FIRST_CHECK_S
from smsq_worker.domain.scopes import Scope
from smsq_worker.domain.states import LeaseExpired, Outcome
from smsq_worker.domain.testnumbers import stat_for
from smsq_worker.ledger.payloads import EncryptingActs, opened
from smsq_worker.ledger.types import Admission, Admitted, AttemptResult, Rejected, RetryLater

AGAIN_US: Final = -1_000_000
"""The send time of an admission that is answered again, see admit.lua."""


class SendingActs(EncryptingActs):
    """What a message passes between its queue and its result."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._names_there = {
            (account.key, own): there
            for account in self._rules.accounts
            for own, there in account.templates
        }
        self._unanswered: dict[str, tuple[str, float]] = {}
        """By ids for which no answer came: who asked, and until when their leases may be used.

        They may have been admitted. Whoever asks by the same name gets the answer.
        """

    def admit(self, message_id: str, *, turn: str = "") -> Admission:
        """Admit a message, if it may go. `turn` is the slot that was booked, once it has come."""
        (answer,) = self.admit_many([(message_id, turn)])
        return answer

    def admit_many(self, asks: Sequence[tuple[str, str]]) -> list[Admission]:
        """Admit messages (id, slot), those that may go, in order.

        There is no answer for those after one that must wait without a slot (but one that waits
        alone), or is paused.
        """
        # First of all: what this process cannot decrypt must not be admitted.
        cipher = self._cipher()
        answers: list[Admission] = []
        try:
            while len(answers) < len(asks):
                found, to_do, is_last = self._admit_some(cipher, asks[len(answers) :])
                answers += found
                if to_do:
                    asks = self._prepared(cipher, asks, len(answers), *to_do)
                elif is_last:
                    break
        except LedgerUnavailable:
            # Those that were admitted by now have to be sent.
            if not answers:
                raise
        return answers

    def _admit_some(
        self, cipher: PlaintextCipher, asks: Sequence[tuple[str, str]]
    ) -> tuple[list[Admission], tuple[str, str] | None, bool]:
        """Return answers for the first of them, and whether the next need not be asked for.

        Between them what is to be done first with the next message, and its payload.
        """
        encrypts = "1" if isinstance(cipher, FernetCipher) else ""
        asked_at, lease_ends = time.monotonic(), now_s() + self._rules.lease_s
        asked = self._asked_before(asks[0][0])
        asks = [*takewhile(lambda ask: self._asked_before(ask[0]) == asked, asks)]
        asker, first_ends = asked or (os.urandom(6).hex(), lease_ends)
        try:
            found, is_safe = self._run_safely(
                "admit",
                encrypts,
                asker,
                *chain.from_iterable(asks),
                replicas=self._rules.wait_replicas,
            )
        except LedgerUnavailable:
            self._unanswered.update((one, (asker, first_ends)) for one, _ in asks)
            raise
        to_do = tuple(found.pop()) if found[-1][0] in {"plain", "look"} else None
        is_last = len(found) < len(asks) or found[-1][0] in {"wait", "paused"}
        for message_id, _ in asks[: len(found)]:
            self._unanswered.pop(message_id, None)
        ends = lease_ends, first_ends
        return (
            [self._admission(cipher, asked_at, ends, is_safe, *one) for one in found],
            to_do,
            is_last,
        )

    def _admission(
        self,
        cipher: PlaintextCipher,
        asked_at: float,
        lease_ends: tuple[float, float],
        is_safe: bool,
        answer: str,
        *rest: Any,
    ) -> Admission:
        if answer in {"go", "test"}:
            attempt, payload, template, delay_us, begun, *more = rest
            trace, account, *_ = *more, "", ""
            phone, code = opened(cipher, payload)
            return Admitted(
                int(attempt),
                phone,
                template,
                code,
                departs_at=asked_at + int(delay_us) / 1_000_000 if delay_us else None,
                trace=trace or None,
                begun=int(begun),
                is_safe=is_safe,
                # One that was admitted before has its lease since then.
                lease_ends=lease_ends[int(delay_us) == AGAIN_US],
                is_test=answer == "test",
                account=account,
                template_there=self._names_there.get((account, template), ""),
            )
        if answer in {"wait", "later", "booked"}:
            seconds, *turn = rest
            return RetryLater(int(seconds) / 1_000_000, "".join(turn), answer == "later")
        return Rejected(answer, State(rest[0]) if rest else None)

    def _prepared(
        self,
        cipher: PlaintextCipher,
        asks: Sequence[tuple[str, str]],
        n: int,
        to_do: str,
        payload: str,
    ) -> Sequence[tuple[str, str]]:
        """Encrypt a message, or look at its number; return what to ask for now."""
        message_id, _ = asks[n]
        if to_do == "plain":
            self._warn_of_plain()
            if self._encrypt(cipher, message_id, payload):
                return asks
            # Asked for again it would be so for ever: it comes out as unreadable, as without keys.
        stat = stat_for(opened(cipher, payload)[0], self._rules.test_numbers)
        return [*asks[:n], (message_id, f"test {stat}" if stat else "real"), *asks[n + 1 :]]

    def _asked_before(self, message_id: str) -> tuple[str, float] | None:
        """Return who has asked for a message without an answer, while its lease may hold."""
        if not self._unanswered:
            return None
        now = now_s()
        for one, (_, ends) in [*self._unanswered.items()]:
            if ends <= now:
                self._unanswered.pop(one, None)
        return self._unanswered.get(message_id)

    def depart(self, message_id: str, go: Admitted) -> float:
        """Return another send time, by time.monotonic(), for an attempt that missed its own.

        Raises LeaseExpired where the attempt no longer holds.
        """
        asked_at = time.monotonic()
        (delay_us,) = self._run("depart", message_id, go.attempt, go.begun, go.account)
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

    def accepted_calls(self) -> int:
        """Count the calls that were accepted, of all workers."""
        return int(self._ask(self._client.hget, keys.COUNTERS, f"calls:{Outcome.ACCEPTED}") or 0)

    def was_paused(self, account: str, since: int) -> bool:
        """Return whether an account is paused, or a pause of it ended since a time in Unix ms."""
        scope = str(Scope("account", account))
        if self._ask(self._client.hexists, keys.PAUSES, scope):
            return True
        return int(self._ask(self._client.hget, keys.RESUMED, scope) or 0) >= since

    def answered_since(self, account: str, since: int) -> bool:
        """Return whether an account answered an attempt since a failure after a time in Unix ms.

        False where the breaker was resumed after it: what was noted before is gone.
        """
        recent = keys.at_account(keys.RECENT_ATTEMPTS, account)
        noted = [int(at) for at in self._ask(self._client.lrange, recent, 0, -1)]
        # The newest first: 0 of one that was answered, else when it failed.
        before_answer = noted[noted.index(0) :] if 0 in noted else []
        return any(at >= since for at in before_answer)


def _as_array(result: AttemptResult) -> tuple[str | int | bool, ...]:
    more = (result.account, result.scope, result.in_hand)
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
        *(more if any(more) else ()),
    )
