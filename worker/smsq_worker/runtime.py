"""The composition root: everything that runs, put together from settings once."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Event

from smsq.connection import Client, connect
from smsq.enqueue import Entrance
from smsq_worker.codes import Catalogue
from smsq_worker.delivery import Backoff, Delivery
from smsq_worker.gate import GATE
from smsq_worker.gateway.client import Gateway
from smsq_worker.ledger import Ledger
from smsq_worker.recorder import Recorder
from smsq_worker.reports import Reports
from smsq_worker.settings import Settings
from smsq_worker.spool import Spool
from smsq_worker.turnstile import Turnstile


@dataclass(frozen=True)
class Runtime:
    """What a worker process works with. Threads share it."""

    settings: Settings
    client: Client
    ledger: Ledger
    gateway: Gateway
    recorder: Recorder
    backoff: Backoff
    delivery: Delivery
    reports: Reports

    @classmethod
    def build(cls, settings: Settings, stopping: Event | None = None) -> Runtime:
        """Put a worker together; nothing is connected yet. Raises SettingsError.

        `stopping` is set when nothing new may begin.
        """
        catalogue = Catalogue.load(settings.codes_file)
        client = connect(settings.redis_url)
        ledger = Ledger(client, settings.rules)
        gateway = Gateway(settings.address)
        backoff = Backoff(settings.retry_first_s, settings.retry_max_s)
        recorder = Recorder(ledger, Spool(settings.home / "spool", "calls"))
        # Until the clock says how it is now.
        GATE.set("open", settings.rate_per_s)
        turnstile = Turnstile(ledger, GATE, stopping or Event())
        delivery = Delivery(turnstile, gateway, Entrance(client, settings), recorder, backoff)
        reports = Reports(ledger, catalogue)
        return cls(settings, client, ledger, gateway, recorder, backoff, delivery, reports)

    def close(self) -> None:
        """Close all connections."""
        self.gateway.close()
        self.client.close()
