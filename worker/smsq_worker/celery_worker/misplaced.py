"""Tasks that are found in another queue than their own, which no worker runs.

Whoever may push to a lane must not be able to report a message as delivered by it: rights to
queues are all that Redis can give.
"""

from __future__ import annotations

import logging
from collections import Counter
from threading import Lock
from typing import Any, Final

from kombu.utils.json import dumps

from smsq.contract import (
    NOTIFY_OUTCOME,
    NOTIFY_QUEUE,
    RECONCILE_REPORT,
    REPORT_QUEUE,
    SEND_BATCH,
    SEND_SMS,
    Lane,
)
from smsq_worker.celery_worker.envelope import has_arguments
from smsq_worker.infra.quiet import QUIET_S, Quiet
from smsq_worker.ledger import Ledger

log = logging.getLogger(__name__)

_LANES: Final = frozenset(lane.queue for lane in Lane)
_OWN: Final = {
    SEND_SMS: _LANES,
    SEND_BATCH: _LANES,
    RECONCILE_REPORT: frozenset({REPORT_QUEUE}),
    NOTIFY_OUTCOME: frozenset({NOTIFY_QUEUE}),
}
"""In which queues a task may be; what is no task of smsq's is refused by Celery."""


class Misplaced:
    """Refuses and counts what a process finds. Threads share it."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._quiet = Quiet()
        self._lock = Lock()

    def admits(self, message: dict[str, Any], queue: str) -> bool:
        """Return whether a sanitized message may be taken from a queue.

        A bare SMS that was put elsewhere may: it is made to fail under its id, as it is nowhere
        else. What smsq itself publishes comes back by its timer.
        """
        task = message["headers"]["task"]
        if queue in _OWN.get(task, (queue,)):
            return True
        with self._lock:
            self._counts[task, queue] += 1
        if task != SEND_SMS or not has_arguments(message):
            return False
        message["body"] = dumps([["", ""], {"wrong_queue": queue}, {}])
        message["properties"]["body_encoding"] = None
        return True

    def tell(self, ledger: Ledger) -> None:
        """Set aside what was refused since the last time: count it, and log why."""
        if not self._counts:
            return
        with self._lock:
            counts, self._counts = self._counts, Counter()
        ledger.set_tasks_aside({f"{task} in {queue}": n for (task, queue), n in counts.items()})
        for (task, queue), count in counts.items():
            if self._quiet.is_over((task, queue)):
                log.critical(
                    "set aside %d of %s from %s: a task is taken from its own queue only, so "
                    "somebody who may push to that one has put it there; for %d s others are only "
                    "counted",
                    *(count, task, queue, QUIET_S),
                )


misplaced: Final = Misplaced()
"""This process'."""
