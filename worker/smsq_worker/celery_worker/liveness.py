"""Whether the threads that take and send go on: without that the worker gives no heartbeat."""

from __future__ import annotations

import logging
import time
from typing import Final

from smsq_worker.infra.heartbeat import Heartbeat
from smsq_worker.sending.consumer_gate import ConsumerGate
from smsq_worker.sending.sender import Sender

log = logging.getLogger(__name__)

STUCK_S: Final = 60.0
"""No round takes so long, whatever Redis does: each of its commands has a deadline."""


class Liveness:
    """A worker's heartbeat, given while its scheduler, its sender and Celery's loop go on."""

    def __init__(self, heartbeat: Heartbeat, sender: Sender, gate: ConsumerGate) -> None:
        self._heartbeat = heartbeat
        self._sender = sender
        self._gate = gate
        self._asked_at = time.monotonic()
        self._has_told = False

    def beat(self) -> None:
        """Write a heartbeat unless a thread is stuck; log the first time that one is."""
        now = time.monotonic()
        # As long as this thread did, all may have stood still: the process was stopped.
        stopped_s, self._asked_at = now - self._asked_at, now
        rounds = self._sender.longest_round(), ("taking of messages", now - self._gate.loop_at)
        name, seconds = max(rounds, key=lambda one: one[1])
        if seconds < STUCK_S + stopped_s:
            self._has_told = False
            self._heartbeat.beat()
        elif not self._has_told:
            self._has_told = True
            log.critical(
                "%s has stood still for %d s, so this worker gives no heartbeat until it goes on",
                name,
                seconds,
            )
