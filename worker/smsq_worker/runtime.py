"""The composition root: everything that runs, put together from settings once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Event

from smsq.cipher import FernetCipher, PlaintextCipher, opener
from smsq.connection import Client, connect
from smsq.ledger_writer import LedgerWriter
from smsq_worker.callbacks.channels import channels
from smsq_worker.callbacks.dispatcher import Dispatcher
from smsq_worker.config.settings import Settings
from smsq_worker.delivery_reports.reconciler import Reconciler
from smsq_worker.domain.backoff import Backoff
from smsq_worker.domain.codes import Catalogue
from smsq_worker.gateway.client import Gateway
from smsq_worker.infra.spool import Spool
from smsq_worker.ledger import Ledger, migrations
from smsq_worker.ledger.callbacks import Callbacks
from smsq_worker.ledger.key_rotation import renew
from smsq_worker.sending.batch_sender import BatchSender
from smsq_worker.sending.consumer_gate import GATE
from smsq_worker.sending.rate_limiter import RateLimiter
from smsq_worker.sending.result_recorder import ResultRecorder
from smsq_worker.sending.sender import Sender


@dataclass(frozen=True)
class Runtime:
    """What a worker process works with. Threads share it."""

    settings: Settings
    client: Client
    cipher: Callable[[], PlaintextCipher]
    ledger: Ledger
    gateway: Gateway
    recorder: ResultRecorder
    backoff: Backoff
    delivery: Sender
    batches: BatchSender
    reconciler: Reconciler
    callbacks: Callbacks
    dispatcher: Dispatcher

    @classmethod
    def build(cls, settings: Settings, stopping: Event | None = None) -> Runtime:
        """Put a worker together; nothing is connected yet. Raises SettingsError.

        `stopping` is set when nothing new may begin.
        """
        catalogue = Catalogue.load(settings.codes_file)
        client = connect(settings.redis_url, idle_s=settings.idle_timeout_s)
        cipher = opener(client, settings, strict=True)
        ledger = Ledger(client, settings.rules, cipher)
        gateway = Gateway(settings.address)
        backoff = Backoff(settings.retry_first_s, settings.retry_max_s)
        recorder = ResultRecorder(ledger, Spool(settings.home / "spool", "calls"))
        # Until the clock says how it is now.
        GATE.set("open", settings.rate_per_s)
        turnstile = RateLimiter(ledger, GATE, stopping or Event())
        delivery = Sender(
            turnstile, gateway, LedgerWriter(client, settings, cipher), recorder, backoff
        )
        callbacks = Callbacks(client, settings.rules)
        return cls(
            settings,
            client,
            cipher,
            ledger,
            gateway,
            recorder,
            backoff,
            delivery,
            BatchSender(turnstile, delivery),
            Reconciler(ledger, catalogue),
            callbacks,
            Dispatcher(callbacks, channels(settings), backoff, give_up_s=settings.notify_for_s),
        )

    def check(self) -> None:
        """See that this process may work in the ledger: it knows its schema, and has its keys.

        Raises LedgerUnavailable, and SettingsError where it may not.
        """
        migrations.check(self.client, self.settings.redis_url)
        self.cipher()

    def unlock(self) -> None:
        """Bring the ledger to this release's schema, and under the first of SMSQ_PAYLOAD_KEYS.

        Raises as `check` does.
        """
        migrations.migrate(self.client, self.settings.rules)
        cipher = self.cipher()
        if isinstance(cipher, FernetCipher):
            renew(self.client, self.settings.rules, cipher)

    def close(self) -> None:
        """Close all connections."""
        self.gateway.close()
        self.client.close()
