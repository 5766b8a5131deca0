"""Waiting for a slot under the one rate of all workers.

Of each lane one thread asks the ledger at a time, until a slot is booked for each of its messages;
the others wait in line behind it. A process that dies while it waits leaves nothing in doubt: no
attempt had begun.
"""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from threading import Event, Lock
from typing import Final

from smsq.contract import Lane
from smsq.errors import LedgerUnavailable
from smsq.failpoints import reached
from smsq_worker.ledger import Admitted, Ledger, Rejected, RetryLater
from smsq_worker.ledger.errors import SchemaTooNew
from smsq_worker.sending.consumer_gate import ConsumerGate, RequeueLater

MAX_WAIT_S: Final = 20.0
"""Then the wake-up is given back: with an attempt it stays well within the visibility timeout."""
IN_HAND_S: Final = 5.0
"""A wake-up that waits here longer than this is not to be taken for lost."""
MIN_ASK_S: Final = 0.025
"""Asking more often would book no more slots: a lane may book further ahead than that."""
MAX_ASK_S: Final = 1.0
"""The rate may have been raised meanwhile."""
MAX_ASKS: Final = 25
"""In one act: a long act would delay the send times of other messages."""
LATE_S: Final = 0.003
"""On a busy machine a thread may wake up late; a request later than this would crowd others."""
MAX_SEND_TIMES: Final = 5
FAR_S: Final = 0.005
"""A ledger further away than that cannot make a send time exact."""
CROWD_PER_S: Final = 500
"""At such a rate requests follow each other so closely that a few ms do not matter."""
PAUSED: Final = Rejected("paused", None)


class RateLimiter:
    """Admits messages, each in its slot. Threads share it."""

    def __init__(self, ledger: Ledger, gate: ConsumerGate, stopping: Event) -> None:
        self._ledger = ledger
        self._gate = gate
        self._stopping = stopping
        self._lines = {lane: Lock() for lane in Lane}
        self._round_trip_s = math.inf
        """The shortest one to the ledger so far."""

    def admit(self, message_id: str, lane: Lane) -> Admitted | Rejected:
        """Wait for a message's slot, if it may be sent at all.

        Raises RequeueLater where sending is paused, the worker is stopping or the wait is too long.
        """
        ((_, admission),) = self.admit_many([message_id], lane)
        return admission

    def admit_many(
        self,
        ids: Sequence[str],
        lane: Lane,
        *,
        free: Callable[[], int] = lambda: 1,
        sleep: Callable[[float], object] | None = None,
    ) -> Iterator[tuple[str, Admitted | Rejected]]:
        """Yield messages as their slots come, each with Admitted or with why it is rejected.

        `free` returns how many attempts may begin now; `sleep` waits for at most that many seconds.
        Raises RequeueLater as `admit` does: messages that were not yielded stay queued.
        """
        sleep = sleep or self._stopping.wait
        deadline = time.monotonic() + MAX_WAIT_S
        waiting = _Waiting(ids)
        with self._gate.waiting(lane, len(ids)) as done, ExitStack() as line:
            line.enter_context(self._head_of_line(lane, deadline, waiting))
            while waiting.left():
                self._note_in_hand(waiting)
                asks = waiting.to_ask(free())
                answers = self._ask(asks)
                is_paused = bool(answers) and answers[-1] == PAUSED
                # The ones before that have been admitted, and have to be submitted.
                for admission in waiting.answered(asks, answers[:-1] if is_paused else answers):
                    done()
                    yield admission
                if is_paused:
                    self._gate.close()
                    raise RequeueLater("sending is paused")
                if not waiting.unbooked:
                    line.close()
                if waiting.left():
                    self._sleep(sleep, waiting.next_at() - time.monotonic(), deadline)

    def wait_for_send_time(self, message_id: str, admitted: Admitted) -> None:
        """Wait for the send time, a few ms; if that is missed, for another.

        The message is `sending` by now: a process that dies in these milliseconds leaves a doubt,
        so an unreachable ledger ends the wait. Raises LeaseExpired if its attempt no longer holds.
        """
        send_at = admitted.departs_at
        for _ in range(MAX_SEND_TIMES):
            if send_at is None or _sleep_until(send_at) <= LATE_S or self._round_trip_s > FAR_S:
                return
            try:
                send_at = self._ledger.depart(message_id, admitted)
            except LedgerUnavailable:
                return

    def _ask(self, asks: Sequence[tuple[str, str]]) -> list[Admitted | RetryLater | Rejected]:
        if not asks:
            return []
        asked_at = time.monotonic()
        try:
            answers = self._ledger.admit_many(asks)
        except SchemaTooNew as error:
            self._gate.shut()
            raise RequeueLater(str(error)) from None
        self._round_trip_s = min(self._round_trip_s, time.monotonic() - asked_at)
        return answers

    @contextmanager
    def _head_of_line(self, lane: Lane, deadline: float, waiting: _Waiting) -> Iterator[None]:
        """Wait until these messages are the next of their lane to ask for slots."""
        line = self._lines[lane]
        while not line.acquire(timeout=max(0.0, min(deadline - time.monotonic(), IN_HAND_S))):
            if time.monotonic() >= deadline:
                raise RequeueLater("the line is long")
            self._note_in_hand(waiting)
        try:
            yield
        finally:
            line.release()

    def _note_in_hand(self, waiting: _Waiting) -> None:
        """Note in the ledger, now and then, that the wake-ups are here and not lost."""
        if ids := waiting.long_in_hand():
            with suppress(LedgerUnavailable):
                self._ledger.in_hand(ids)

    def _sleep(self, sleep: Callable[[float], object], seconds: float, deadline: float) -> None:
        reached("while waiting")
        left = deadline - time.monotonic()
        if seconds > 0:
            sleep(max(0.0, min(seconds, left)))
        if self._stopping.is_set():
            raise RequeueLater("the worker is stopping")
        if seconds > left:
            raise RequeueLater("the rate leaves no slot soon")


class _Waiting:
    """Messages that wait for their slots, and when to ask for them."""

    def __init__(self, ids: Sequence[str]) -> None:
        self.unbooked = deque(ids)
        """Those for which no slot is booked yet."""
        self._ask_at = 0.0
        self._in_hand_at = time.monotonic() + IN_HAND_S
        self._booked: dict[str, tuple[float, str]] = {}
        """When to ask again, and with which slot."""

    def left(self) -> bool:
        """Return whether any still wait."""
        return bool(self.unbooked or self._booked)

    def long_in_hand(self) -> list[str]:
        """Return the ids of all if the ledger is due to be told of them; otherwise none."""
        now = time.monotonic()
        if now < self._in_hand_at:
            return []
        self._in_hand_at = now + IN_HAND_S
        return [*self._booked, *self.unbooked]

    def next_at(self) -> float:
        """Return when to ask next, by time.monotonic()."""
        times = [at for at, _ in self._booked.values()]
        return min([*times, self._ask_at] if self.unbooked else times)

    def to_ask(self, free: int) -> list[tuple[str, str]]:
        """Return the messages to ask for now, with their slots; new ones as attempts are free."""
        now = time.monotonic()
        asks = [(one, slot) for one, (at, slot) in self._booked.items() if at <= now]
        if now >= self._ask_at:
            self._ask_at = now + MIN_ASK_S if free <= len(self._booked) else 0.0
            new = min(free - len(self._booked), MAX_ASKS - len(asks), len(self.unbooked))
            asks += [(self.unbooked[n], "") for n in range(new)]
        return asks

    def answered(
        self, asks: Sequence[tuple[str, str]], answers: Sequence[Admitted | RetryLater | Rejected]
    ) -> Iterator[tuple[str, Admitted | Rejected]]:
        """Yield those that wait no longer, and note when to ask for the others."""
        now = time.monotonic()
        for (message_id, slot), answer in zip(asks, answers, strict=False):
            if isinstance(answer, RetryLater) and not (slot or answer.booked):
                self._ask_at = now + min(max(answer.seconds, MIN_ASK_S), MAX_ASK_S)
                return
            if not slot:
                self.unbooked.popleft()
            if isinstance(answer, RetryLater):
                self._booked[message_id] = now + answer.seconds, answer.turn or slot
            else:
                self._booked.pop(message_id, None)
                yield message_id, answer


def set_switch_interval(rate: float) -> None:
    """Switch between Python's threads often enough for the rate of all workers.

    A request whose send time has come must not wait 5 ms, the default, for another's bytecode. To
    switch more often costs a seventh of a batch, and is avoided where nobody could tell.
    """
    sys.setswitchinterval(0.001 if rate < CROWD_PER_S else 0.005)


def _sleep_until(moment: float) -> float:
    """Sleep until a time.monotonic(); return how late it is then."""
    left = moment - time.monotonic()
    if left > 0:
        time.sleep(left)
    return time.monotonic() - moment
