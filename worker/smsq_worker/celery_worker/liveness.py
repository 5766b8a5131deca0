"""Whether the threads that send go on: without that the worker gives no heartbeat."""

from __future__ import annotations

import logging
from typing import Final

from smsq_worker.infra.heartbeat import Heartbeat
from smsq_worker.sending.sender import Sender

log = logging.getLogger(__name__)

STUCK_S: Final = 60.0
"""No round takes so long, whatever Redis does: each of its commands has a deadline."""


class Liveness:
    """A worker's heartbeat, given while neither its scheduler nor its sender stands still."""

    def __init__(self, heartbeat: Heartbeat, sender: Sender) -> None:
        self._heartbeat = heartbeat
        self._sender = sender
        self._has_told = False

    def beat(self) -> None:
        """Give a heartbeat unless a thread that sends is stuck; log the first time that it is."""
        name, seconds = self._sender.longest_round()
        if seconds < STUCK_S:
            self._has_told = False
            self._heartbeat.beat()
        elif not self._has_told:
            self._has_told = True
            log.critical(
                "%s has stood still for %d s, so this worker gives no heartbeat until it goes on",
                name,
                seconds,
            )
