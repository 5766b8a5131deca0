"""The wake-ups of one lane that wait in this process, and the thread that sends them."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable
from threading import Condition, Event, Thread

from smsq.contract import Lane
from smsq.errors import LedgerUnavailable
from smsq.failpoints import reached
from smsq_worker.infra.failure_log import FailureLog
from smsq_worker.sending.consumer_gate import ConsumerGate, RequeueLater
from smsq_worker.sending.waiting import Waiting
from smsq_worker.sending.wakeup import WakeUp

log = logging.getLogger(__name__)


class LaneQueue:
    """What waits of one lane. All but `put`, `wake` and `stop` belongs to the lane's thread."""

    def __init__(self, lane: Lane, gate: ConsumerGate, send: Callable[[LaneQueue], None]) -> None:
        """`send` sends what is due. It may raise LedgerUnavailable, and RequeueLater."""
        self.lane = lane
        self.waiting = Waiting(lane)
        self.bare: list[WakeUp] = []
        """Bare messages that are to be entered first."""
        self.enter_at = 0.0
        """When the ledger is to be asked again to take them."""
        self.entering = FailureLog(log, f"entering of bare messages of lane {lane}")
        self._gate = gate
        self._send = send
        self._wakeups: dict[str, WakeUp] = {}
        """By the ids that wait."""
        self._changed = Condition()
        self._new: deque[WakeUp] = deque()
        self._is_awake = self._has_thread = self.is_stopped = False
        self._is_given_back = Event()
        self.round_began = math.inf
        """By time.monotonic(); math.inf while the thread waits for something to do."""

    def put(self, wakeup: WakeUp) -> None:
        """Add a wake-up."""
        self._gate.add(self.lane, len(wakeup.waiting))
        with self._changed:
            self._new.append(wakeup)
            self._changed.notify()
            if not self._has_thread:
                name = f"smsq-{self.lane}"
                Thread(target=self._run, name=name, daemon=True).start()
                self._has_thread = True

    def wake(self) -> None:
        """Check again: attempts may begin that could not before."""
        if self.waiting:
            with self._changed:
                self._is_awake = True
                self._changed.notify()

    def stop(self) -> None:
        """Take nothing new; give back what waits."""
        with self._changed:
            self.is_stopped = True
            self._changed.notify()

    def wait_until_given_back(self, timeout_s: float) -> None:
        """Wait, after `stop`, until nothing waits here; not for ever, as Redis may be silent."""
        if self._has_thread:
            self._is_given_back.wait(timeout_s)

    def take_new(self) -> list[WakeUp]:
        """Return the wake-ups that have come since, without waiting."""
        with self._changed:
            new, self._new = self._new, deque()
        return list(new)

    def wait_for_slots(self, wakeup: WakeUp) -> list[str]:
        """Add a wake-up's messages; return those that wait by another wake-up already."""
        twice = [one for one in wakeup.waiting if one in self._wakeups]
        for message_id in twice:
            self.pass_by(wakeup, message_id)
        self._wakeups.update(dict.fromkeys(wakeup.waiting, wakeup))
        self.waiting.add(wakeup.waiting, first=wakeup.first is not None)
        return twice

    def leave(self, message_id: str) -> WakeUp:
        """Return the wake-up of a message that waits no longer."""
        wakeup = self._wakeups.pop(message_id)
        self.pass_by(wakeup, message_id)
        return wakeup

    def pass_by(self, wakeup: WakeUp, message_id: str) -> None:
        """Note that a message of a wake-up need not wait, or no longer."""
        self._gate.remove(self.lane, 1)
        wakeup.begins(message_id)

    def _run(self) -> None:
        failures = FailureLog(log, f"sending of lane {self.lane}")
        while True:
            try:
                self.round_began = math.inf
                self._sleep()
                self.round_began = time.monotonic()
                if self.is_stopped:
                    self._gate.wait_for_poll()
                    self._give_back()
                    continue
                self._send(self)
            except RequeueLater:
                self._give_back()
            except LedgerUnavailable as error:
                # They wait here; if this process dies, their timers wake them up.
                self.waiting.rest(failures.waits(error))
            except Exception as error:  # noqa: BLE001 - the lane must go on
                self._give_back()
                time.sleep(failures.fails(error))
            else:
                failures.over()

    def _sleep(self) -> None:
        if self.waiting:
            reached("while waiting")
        with self._changed:
            while not (self._new or self._is_awake):
                if self.is_stopped and not (self._wakeups or self.bare):
                    self._is_given_back.set()
                    self._changed.wait()
                    continue
                at = min(self.waiting.next_at(), self.enter_at if self.bare else math.inf)
                left = (-math.inf if self.is_stopped else at) - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(None if left == math.inf else left)
            self._is_awake = False

    def _give_back(self) -> None:
        """Return everything to the queue, in the same order."""
        new = self.take_new()
        waiting = [*dict.fromkeys([*self._wakeups.values(), *self.bare, *new])]
        self._wakeups.clear()
        self.bare.clear()
        self.waiting.clear()
        for wakeup in waiting:
            self._gate.remove(self.lane, len(wakeup.waiting))
        WakeUp.give_back(waiting)
