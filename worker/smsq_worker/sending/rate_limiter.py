"""Waiting for a turn under the one rate of all workers. It knows no Celery.

Of each lane one thread asks the ledger at a time, until a turn is booked for each of its
messages; the others stand in line behind it. Whoever dies while it waits leaves nothing in
doubt: no call had begun.
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

WAIT_AT_MOST_S: Final = 20.0
"""Then the wake-up is given back: with a call it stays well within the visibility timeout."""
IN_HAND_S: Final = 5.0
"""A wake-up that waits here longer than this is not to be taken for lost."""
ASK_AGAIN_S: Final = 0.025
"""Asking more often would book no more turns: a lane may book further ahead than that."""
ASK_AT_LEAST_S: Final = 1.0
"""The rate may have been raised meanwhile."""
AT_ONCE: Final = 25
"""So many are asked for in one act: a long one would keep other calls from their departure."""
LATE_S: Final = 0.003
"""On a busy machine a thread may wake up late; later than that a call would crowd others."""
DEPARTURES: Final = 5
FAR_S: Final = 0.005
"""A ledger further away than that cannot help to be exact."""
CROWD_PER_S: Final = 500
"""At such a rate calls come so close that a few ms do not tell."""
PAUSED: Final = Rejected("paused", None)


class RateLimiter:
    """Lets messages go, each in its turn."""

    def __init__(self, ledger: Ledger, gate: ConsumerGate, stopping: Event) -> None:
        self._ledger = ledger
        self._gate = gate
        self._stopping = stopping
        self._heads = {lane: Lock() for lane in Lane}
        self._nearest_s = math.inf
        """The shortest way to the ledger and back."""

    def admit(self, message_id: str, lane: Lane) -> Admitted | Rejected:
        """Wait for a message's turn, if it may go at all.

        Raises RequeueLater where sending is paused, the worker is stopping or the wait is too long.
        """
        ((_, admission),) = self.admit_many([message_id], lane)
        return admission

    def admit_many(
        self,
        ids: Sequence[str],
        lane: Lane,
        *,
        room: Callable[[], int] = lambda: 1,
        sleep: Callable[[float], object] | None = None,
    ) -> Iterator[tuple[str, Admitted | Rejected]]:
        """Give messages as their turns come, each with Admitted or with why it stays.

        `room` says how many calls may begin now; `sleep` waits for so many seconds at the most.
        Raises RequeueLater as `admit` does: what was not given stays queued.
        """
        sleep = sleep or self._stopping.wait
        deadline = time.monotonic() + WAIT_AT_MOST_S
        turns = _Turns(ids)
        with self._gate.waiting(lane, len(ids)) as had_its_turn, ExitStack() as line:
            line.enter_context(self._head(lane, deadline, turns))
            while turns.left():
                self._in_hand(turns)
                asks = turns.to_ask(room())
                answers = self._ask(asks)
                is_paused = bool(answers) and answers[-1] == PAUSED
                # What stands before that has been admitted, and has to be called.
                for one in turns.understand(asks, answers[:-1] if is_paused else answers):
                    had_its_turn()
                    yield one
                if is_paused:
                    self._gate.close()
                    raise RequeueLater("sending is paused")
                if not turns.asking:
                    line.close()
                if turns.left():
                    self._sleep(sleep, turns.next_at() - time.monotonic(), deadline)

    def depart(self, message_id: str, go: Admitted) -> None:
        """Wait for the time of departure, a few ms; where that is missed, for another.

        The message is `sending` by now: who dies in these milliseconds leaves a doubt. So this is
        no place to insist. Raises LeaseExpired where its attempt no longer holds.
        """
        moment = go.departs_at
        for _ in range(DEPARTURES):
            if moment is None or _sleep_until(moment) <= LATE_S or self._nearest_s > FAR_S:
                return
            try:
                moment = self._ledger.depart(message_id, go)
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
        self._nearest_s = min(self._nearest_s, time.monotonic() - asked_at)
        return answers

    @contextmanager
    def _head(self, lane: Lane, deadline: float, turns: _Turns) -> Iterator[None]:
        """Stand in the lane's line until it is our turn to ask."""
        head = self._heads[lane]
        while not head.acquire(timeout=max(0.0, min(deadline - time.monotonic(), IN_HAND_S))):
            if time.monotonic() >= deadline:
                raise RequeueLater("the line is long")
            self._in_hand(turns)
        try:
            yield
        finally:
            head.release()

    def _in_hand(self, turns: _Turns) -> None:
        """Say now and then that the wake-ups are here, or they would be taken for lost."""
        if ids := turns.long_in_hand():
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
            raise RequeueLater("the rate leaves no turn soon")


class _Turns:
    """Messages that wait for their turns, and when to ask for them."""

    def __init__(self, ids: Sequence[str]) -> None:
        self.asking = deque(ids)
        """Those for which no turn is booked yet."""
        self._ask_at = 0.0
        self._say_at = time.monotonic() + IN_HAND_S
        self._booked: dict[str, tuple[float, str]] = {}
        """When to ask again, and with which turn."""

    def left(self) -> bool:
        """Tell whether any still wait."""
        return bool(self.asking or self._booked)

    def long_in_hand(self) -> list[str]:
        """Return the ids of all where it is time to say that they are here; otherwise none."""
        now = time.monotonic()
        if now < self._say_at:
            return []
        self._say_at = now + IN_HAND_S
        return [*self._booked, *self.asking]

    def next_at(self) -> float:
        """Give when to ask next, by time.monotonic()."""
        times = [at for at, _ in self._booked.values()]
        return min([*times, self._ask_at] if self.asking else times)

    def to_ask(self, room: int) -> list[tuple[str, str]]:
        """Give those to ask for now, and their turns; new ones as there is room."""
        now = time.monotonic()
        asks = [(one, turn) for one, (at, turn) in self._booked.items() if at <= now]
        if now >= self._ask_at:
            self._ask_at = now + ASK_AGAIN_S if room <= len(self._booked) else 0.0
            new = min(room - len(self._booked), AT_ONCE - len(asks), len(self.asking))
            asks += [(self.asking[n], "") for n in range(new)]
        return asks

    def understand(
        self, asks: Sequence[tuple[str, str]], answers: Sequence[Admitted | RetryLater | Rejected]
    ) -> Iterator[tuple[str, Admitted | Rejected]]:
        """Give those whose turn has come, and note when the others' will."""
        now = time.monotonic()
        for (message_id, turn), answer in zip(asks, answers, strict=False):
            if isinstance(answer, RetryLater) and not (turn or answer.booked):
                self._ask_at = now + min(max(answer.seconds, ASK_AGAIN_S), ASK_AT_LEAST_S)
                return
            if not turn:
                self.asking.popleft()
            if isinstance(answer, RetryLater):
                self._booked[message_id] = now + answer.seconds, answer.turn or turn
            else:
                self._booked.pop(message_id, None)
                yield message_id, answer


def keep_time(rate: float) -> None:
    """Have threads take turns often enough for the rate of all workers.

    One whose call departs now must not wait 5 ms, Python's default, for another's bytecode. To take
    turns so often costs a seventh of a batch, and is left where nobody could tell.
    """
    sys.setswitchinterval(0.001 if rate < CROWD_PER_S else 0.005)


def _sleep_until(moment: float) -> float:
    """Sleep; give how late it is then."""
    left = moment - time.monotonic()
    if left > 0:
        time.sleep(left)
    return time.monotonic() - moment
