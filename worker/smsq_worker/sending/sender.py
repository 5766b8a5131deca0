"""A message's way to the gateway: enter, admit, send. `Sender.send` is the act.

The ledger holds each message before and after; this process only carries it from one state to the
next. Of each lane one thread admits what waits, many at a time; others submit, one attempt each;
one records the results that have come, in one act. Nobody waits for company: whatever is there is
taken together. If the process dies, each message is recovered on its own, by its timer; while it
waits for its slot nothing of it is in doubt.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, InitVar, dataclass, replace
from functools import partial
from typing import Final, TypeAlias

from smsq.contract import Lane, State
from smsq.errors import LedgerUnavailable
from smsq.failpoints import reached
from smsq.ledger_writer import LedgerWriter
from smsq_worker.domain.accounts import qualified
from smsq_worker.domain.backoff import Backoff
from smsq_worker.domain.states import Outcome
from smsq_worker.domain.testnumbers import new_mid
from smsq_worker.infra.logs import about
from smsq_worker.ledger import Admission, Admitted, AttemptResult, Ledger, Rejected
from smsq_worker.ledger.errors import SchemaTooNew
from smsq_worker.sending import own_faults
from smsq_worker.sending.attempt_log import NOT_RECORDED, log_result, trace, word_of
from smsq_worker.sending.attempts import Attempts, Ended
from smsq_worker.sending.bare import entered
from smsq_worker.sending.consumer_gate import ConsumerGate, RequeueLater
from smsq_worker.sending.lane import LaneQueue
from smsq_worker.sending.result_spool import ResultSpool
from smsq_worker.sending.send_times import SendTimes
from smsq_worker.sending.wakeup import InHand, WakeUp
from smsq_worker.vendors.client import Gateway
from smsq_worker.vendors.vendor import GatewayResult

log = logging.getLogger(__name__)

_NOT_BY_US: Final = partial(GatewayResult, Outcome.NOT_SENT, scope="worker")
# It waits, within its ttl, until a worker has the key.
UNREADABLE: Final = _NOT_BY_US(own_faults.UNREADABLE)
# A failover would undo its admission, and it would silently be sent again.
UNSAFE: Final = _NOT_BY_US("too few replicas had its admission in time")
UNKNOWN_ACCOUNT: Final = _NOT_BY_US("this worker does not know its account")
TEST_NUMBER: Final = GatewayResult(Outcome.ACCEPTED, "test number, not sent")
STOPPED: Final = GatewayResult(Outcome.MAYBE_SENT, "worker was stopped")
PAUSED: Final = Rejected("paused", None)
GIVEN_BACK_S: Final = 10.0


Attempt: TypeAlias = tuple[str, int, int, str]
"""Message, number, when it began, and the key of its account."""


@dataclass(eq=False, repr=False)
class Sender:
    """Sends messages that the ledger holds. Threads share it.

    A message's walk is `take`, `_admit` by its lane's thread, and `send` by one of its own.
    """

    ledger: Ledger
    gateways: Mapping[str, Gateway]
    """By the keys of their accounts."""
    result_spool: ResultSpool
    _: KW_ONLY
    ledger_writer: LedgerWriter
    backoff: Backoff
    gate: ConsumerGate
    own_faults: own_faults.OwnFaults
    max_attempts: InitVar[int]

    def __post_init__(self, max_attempts: int) -> None:
        self._send_times = SendTimes(self.ledger)
        self._attempts = Attempts(self.send, self._record_and_complete, max_attempts)
        self._lanes = {lane: LaneQueue(lane, self.gate, self._admit) for lane in Lane}
        self._in_flight: set[Attempt] = set()

    def limit(self, max_attempts: int) -> None:
        """Set the number of attempts that may run at once."""
        self._attempts.limit = max_attempts

    def take(self, wakeup: WakeUp) -> None:
        """Send a wake-up's messages, each in its slot; return at once."""
        self._attempts.start()
        self._lanes[wakeup.lane].put(wakeup)

    def _admit(self, lane: LaneQueue) -> None:
        """Admit what is due of a lane, and begin its attempts, by the lane's thread.

        Raises LedgerUnavailable, after which all that waits can be tried again, and RequeueLater:
        what waits belongs back in its queue.
        """
        if self.gate.is_resting:
            raise RequeueLater("others are to send it")
        some_rejected = self._take_in(lane)
        reached("before admit")
        if ids := lane.waiting.long_in_hand():
            with suppress(LedgerUnavailable):
                self.ledger.in_hand(ids)
        free = self._attempts.free(lane.lane)
        asks = lane.waiting.to_ask(min(free, 1) if self.own_faults.is_suspect else free)
        answers, is_paused = self._ask(asks)
        for message_id, admission in lane.waiting.answered(asks, answers):
            wakeup = lane.leave(message_id)
            if isinstance(admission, Rejected):
                self._attempts.reject(wakeup, message_id, admission)
            else:
                reached("after admit")
                self.own_faults.admitted()
                self._attempts.begin(wakeup, message_id, admission)
        if is_paused:
            self.gate.close()
            raise RequeueLater("sending is paused")
        is_over = answers or (some_rejected and not (lane.waiting or lane.bare))
        if is_over and all(isinstance(one, Rejected) for one in answers):
            self.gate.was_no_probe()

    def _take_in(self, lane: LaneQueue) -> bool:
        """Queue what has come for its slots; bare messages, once they are entered.

        Returns whether any of it is not to be sent.
        """
        some_rejected = False
        for wakeup in lane.take_new():
            if wakeup.content:
                lane.bare.append(wakeup)
            else:
                some_rejected |= self._let_wait(lane, wakeup)
        for wakeup, rejected in entered(lane, self.ledger_writer):
            if rejected:
                some_rejected = True
                (message_id,) = wakeup.waiting
                lane.pass_by(wakeup, message_id)
                self._attempts.reject(wakeup, message_id, rejected)
            else:
                some_rejected |= self._let_wait(lane, wakeup)
        return some_rejected

    def _let_wait(self, lane: LaneQueue, wakeup: WakeUp) -> bool:
        copies = lane.wait_for_slots(wakeup)
        for message_id in copies:
            self._attempts.reject(wakeup, message_id, Rejected("copy", State.QUEUED))
        return bool(copies)

    def _ask(self, asks: Sequence[tuple[str, str]]) -> tuple[list[Admission], bool]:
        """Return the ledger's answers, and whether there are no more as sending is paused."""
        if not asks:
            return [], False
        asked_at = time.monotonic()
        try:
            answers = self.ledger.admit_many(asks)
        except SchemaTooNew as error:
            self.gate.shut()
            raise RequeueLater(str(error)) from None
        self._send_times.note_round_trip(time.monotonic() - asked_at)
        # What comes before that has been admitted, and has to be submitted.
        is_paused = answers[-1:] == [PAUSED]
        return (answers[:-1] if is_paused else answers), is_paused

    def send(self, wakeup: WakeUp, message_id: str, admitted: Admitted) -> None:
        """Send an admitted message: check, submit, record, complete. By a thread of its own."""
        attempt = (message_id, admitted.attempt, admitted.begun, admitted.account)
        result = self._check(attempt, wakeup.lane, admitted)
        result = result or self._submit(attempt, wakeup.lane, admitted)
        ended = Ended(wakeup, message_id, self._result(attempt, result))
        # With whatever else has ended, in one act.
        self._attempts.record_and_complete(ended)

    def _check(self, attempt: Attempt, lane: Lane, admitted: Admitted) -> GatewayResult | None:
        """Return the result of what is not submitted; None for what is."""
        if not admitted.phone:
            log.error(
                "%s cannot be sent: no key of SMSQ_PAYLOAD_KEYS here opens it",
                attempt[0],
                extra=about(id=attempt[0], attempt=admitted.attempt, lane=lane),
            )
            return UNREADABLE
        if not admitted.is_safe:
            return UNSAFE
        if admitted.is_test:
            # Of nothing else of the process can it be in doubt, so it is not in flight.
            return replace(TEST_NUMBER, mid=new_mid())
        return None if admitted.account in self.gateways else UNKNOWN_ACCOUNT

    def _submit(self, attempt: Attempt, lane: Lane, admitted: Admitted) -> GatewayResult:
        message_id = attempt[0]
        self._in_flight.add(attempt)
        since_ns = time.time_ns()
        result = self.gateways[admitted.account].submit(
            admitted.phone,
            admitted.template_there or admitted.template,
            admitted.code,
            wait=lambda: self._send_times.wait(message_id, admitted),
            lease_ends=admitted.lease_ends,
        )
        reached("after call")
        result = self.own_faults.excused(result)
        if admitted.trace:
            trace(message_id, lane, admitted, result, since_ns)
        return result

    def _record_and_complete(self, ended: Sequence[Ended]) -> None:
        """Record what has ended in one act, then complete each; by one thread at a time."""
        results = [one.result for one in ended if isinstance(one.result, AttemptResult)]
        try:
            states = self._record(results) if results else ()
            self.own_faults.note(results, states)
            self._complete(ended, states)
        finally:
            for lane in self._lanes.values():
                lane.wake()

    def _record(self, results: Sequence[AttemptResult]) -> list[State | None]:
        try:
            states = self.ledger.record_many(results)
        except LedgerUnavailable as error:
            states = self.result_spool.keep(results, error)
        finally:
            self._in_flight.difference_update(
                (result.message_id, result.attempt, result.begun, result.account)
                for result in results
            )
        reached("after record")
        return states

    def _complete(self, ended: Sequence[Ended], states: Sequence[State | None]) -> None:
        """Notify the wake-ups; let go on what another account is to send."""
        following = iter(states)
        for one in ended:
            wakeup, result = one.wakeup.first or one.wakeup, one.result
            if isinstance(result, AttemptResult):
                state, detail = next(following), result.detail
                log_result(result, state, wakeup.lane, is_quiet=wakeup.is_batch)
                if result.in_hand and state is State.QUEUED:
                    self._go_on(wakeup, one.message_id)
                    continue
                word = str(state or NOT_RECORDED)
            else:
                word, detail = word_of(one), ""
            summary = wakeup.ended(word, detail)
            if summary and wakeup.is_batch:
                level = logging.WARNING if "unknown" in summary else logging.INFO
                log.log(level, "batch: %s", summary, extra=about(lane=wakeup.lane))

    def _go_on(self, first: WakeUp, message_id: str) -> None:
        """Admit again at once a message that an account certainly did not take."""
        reached("before another account")

        def leave() -> None:
            first.ended(State.QUEUED)
            with suppress(LedgerUnavailable):
                self.ledger_writer.unpublished(message_id)

        lane = self._lanes[first.lane]
        if lane.is_stopped:  # What it had is given back, and nobody waits for it any more.
            leave()
        else:
            lane.put(WakeUp(first.lane, [message_id], InHand(leave), first=first))

    def stop(self) -> None:
        """Begin nothing new; give the wake-ups back whose messages wait."""
        for lane in self._lanes.values():
            lane.stop()

    def wait_for_attempts(self) -> None:
        """Wait, after `stop`, until what waited is given back and all results are recorded."""
        # In this order: a lane that is asking the ledger may yet begin attempts.
        self.wait_until_given_back()
        self._attempts.wait_for_all()

    def wait_until_given_back(self) -> None:
        """Wait, after `stop`, until what waited is given back."""
        for lane in self._lanes.values():
            lane.wait_until_given_back(GIVEN_BACK_S)

    def longest_round(self) -> tuple[str, float]:
        """Return which thread has been at one thing for longest, and the seconds; below 0 if none.

        A result that waits for the disk does not count.
        """
        began = {f"sending of lane {lane}": each.round_began for lane, each in self._lanes.items()}
        if not self.result_spool.waits_for_disk:
            began["recording results"] = self._attempts.round_began
        name = min(began, key=began.__getitem__)
        return name, time.monotonic() - began[name]

    def abandon(self) -> None:
        """Record the attempts in flight as in doubt: this process will not see their end."""
        results = [self._result(attempt, STOPPED) for attempt in list(self._in_flight)]
        for result, state in zip(results, self._record(results), strict=True):
            log_result(result, state)

    def _result(self, attempt: Attempt, result: GatewayResult) -> AttemptResult:
        message_id, number, begun, account = attempt
        return AttemptResult(
            message_id,
            number,
            result.outcome,
            result.detail,
            result.mid and qualified(result.mid, account),
            wait_s=max(self.backoff.wait_s(number), result.retry_after_s),
            trouble=result.trouble,
            too_fast=result.too_fast,
            begun=begun,
            account=account,
            scope=result.scope,
            in_hand=len(self.gateways) > 1,
        )
