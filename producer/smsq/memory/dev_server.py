"""SMSQ_REDIS_URL=memory://: a dev server's ledger, which sends nothing and logs what it would."""

from __future__ import annotations

import heapq
import logging
import time
from collections.abc import Callable
from itertools import count
from threading import Thread
from typing import Final, TypeVar

from smsq.contract import KEY_TTL_S, Message, mask_phone
from smsq.entries import Entered
from smsq.memory import host_tasks
from smsq.memory.ledger import MemoryLedger
from smsq.memory.reports import report
from smsq.memory.rules import DELIVRD, Rules
from smsq.memory.sending import admit, record
from smsq.steps import Steps

log = logging.getLogger(__name__)

Found = TypeVar("Found")

MOMENT_S: Final = 1.0
"""How long a message takes to be delivered."""
LOOK_S: Final = 0.25
"""How often the thread looks that calls `notify` tasks."""
WHAT_IT_IS: Final = (
    "SMSQ_REDIS_URL is memory://: no SMS is sent, no worker and no other process sees messages, "
    "and they are gone when this process ends"
)


class DevLedger(MemoryLedger):
    """A memory ledger in which messages are delivered after a moment.

    That is found out, as of then, when somebody asks or sends another. Only for `notify` tasks
    there is a thread, while any is to be called.
    """

    def __init__(self, *, show_codes: bool, key_ttl_s: int = KEY_TTL_S) -> None:
        super().__init__(Rules(key_ttl_s=key_ttl_s))
        self._show_codes = show_codes
        self._due: list[tuple[int, int, str]] = []
        self._order = count()
        self._untold: set[str] = set()
        self._thread: Thread | None = None
        # A warning, as a dev server's logging shows no less.
        log.warning(WHAT_IT_IS)

    def _call(self, doubt: str, act: Callable[[], Found]) -> Steps[Found]:
        with self._lock:
            self.work()
            return super()._call(doubt, act)

    def work(self) -> None:
        """Deliver what is due, each at its time, as a worker and a gateway would."""
        with self._at_once() as book:
            while self._due and self._due[0][0] <= book.now:
                due, _, message_id = heapq.heappop(self._due)
                with self.clock.at(due):
                    self.advance()
                    self._deliver(message_id)
            self.advance()

    def _deliver(self, message_id: str) -> None:
        attempt = self.act(admit, message_id)
        if isinstance(attempt, int):
            mid = f"{message_id}.{attempt}"
            self.act(record, message_id, attempt, "accepted", mid=mid)
            self.act(report, mid, DELIVRD)
        status = self.look_up(message_id)
        if status and status.state == "deferred":
            timer = self._book.messages[message_id].timer
            self._put_off(message_id, (timer or self._book.now) + 1)
        elif status and status.state != "delivered":
            log.warning("memory:// %s is %s: %s", message_id, status.state, status.reason or "")

    def _put_off(self, message_id: str, until: int) -> None:
        heapq.heappush(self._due, (until, next(self._order), message_id))

    def _note(self, message_id: str, message: Message, entered: Entered) -> None:
        code = message.code if self._show_codes else "hidden: SMSQ_SHOW_CODES=1 shows it"
        log.warning(
            "memory:// %s %s to %s on lane %s, code %s (%s)",
            entered.state,
            message.template,
            mask_phone(message.phone),
            message.lane,
            code if message.code else "none",
            message_id,
        )
        if not entered.duplicate_of:
            begins = max(self._book.now, round((message.send_at or 0) * 1000))
            self._put_off(message_id, begins + round(MOMENT_S * 1000))
        if message.notify:
            self._untold.add(message_id)
            if self._thread is None or not self._thread.is_alive():
                self._thread = Thread(target=self._tell, name="smsq-memory", daemon=True)
                self._thread.start()

    def _tell(self) -> None:
        """Call `notify` tasks until none is to be called any more."""
        while True:
            time.sleep(LOOK_S)
            self.work()
            for ended in self.ended():
                try:
                    host_tasks.call(ended)
                except Exception as error:  # noqa: BLE001 - the host's task may raise anything
                    # Its text may hold what it was called with.
                    told = error if isinstance(error, LookupError) else type(error).__name__
                    log.warning("memory:// %s: its notify task: %s", ended["id"], told)
                self._untold.discard(ended["id"])
            with self._at_once():
                if not self._untold:
                    self._thread = None
                    return
