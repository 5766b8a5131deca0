"""The composition root: everything that runs in a worker, built once from settings."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from typing import Final

from smsq.cipher import FernetCipher, Opener
from smsq.connection import connect, connect_impatiently
from smsq.ledger_writer import LedgerWriter
from smsq_worker.callbacks.channels import channels
from smsq_worker.callbacks.dispatcher import Dispatcher
from smsq_worker.config.rules import Rules
from smsq_worker.config.settings import Settings
from smsq_worker.delivery_reports.reconciler import Reconciler
from smsq_worker.domain import testnumbers
from smsq_worker.domain.backoff import Backoff
from smsq_worker.domain.codes import Catalogue
from smsq_worker.infra import redis_fitness
from smsq_worker.infra.spool import Spool
from smsq_worker.ledger import Ledger, accounts, migrations
from smsq_worker.ledger.callbacks import Callbacks
from smsq_worker.ledger.key_rotation import renew
from smsq_worker.sending.consumer_gate import ConsumerGate
from smsq_worker.sending.own_faults import OwnFaults
from smsq_worker.sending.result_spool import ResultSpool
from smsq_worker.sending.sender import Sender
from smsq_worker.vendors.client import Gateway
from smsq_worker.vendors.of_accounts import catalogues_of, vendors_of

MAX_ATTEMPTS: Final = 160
"""Default per process: 1,280 attempts a second at 100 ms each."""
BROKER_S: Final = 3.0
"""For a broker that is not the ledger, where it is only looked at."""


class Runtime:
    """The parts of a worker process. Threads share them."""

    def __init__(self, settings: Settings, gate: ConsumerGate | None = None) -> None:
        """Build them; nothing is connected yet. Raises SettingsError.

        `gate` is the one of this process' consumers.
        """
        vendors = vendors_of(settings)
        catalogues = catalogues_of(settings, vendors)
        self.settings = settings
        self.client = connect(settings.redis_url, idle_s=settings.idle_timeout_s)
        self.cipher = Opener(self.client, settings, strict=True)
        rules = _rules(settings, catalogues.values())
        self.ledger = Ledger(self.client, rules, self.cipher)
        self.gateways = {
            one.account.key: Gateway(one.address, vendors[one.account.key])
            for one in settings.accounts
        }
        """By the keys of their accounts."""
        self.backoff = Backoff(settings.retry_first_s, settings.retry_max_s)
        self.result_spool = ResultSpool(self.ledger, Spool(settings.home / "spool", "calls"))
        gate = gate or ConsumerGate()
        # Until the scheduler knows better.
        gate.set("open", sum(one.account.rate_per_s for one in settings.accounts))
        self.sender = Sender(
            self.ledger,
            self.gateways,
            self.result_spool,
            ledger_writer=LedgerWriter(self.client, settings, self.cipher),
            backoff=self.backoff,
            gate=gate,
            own_faults=OwnFaults(
                self.ledger, gate, rules.probe_s, has_several=len(self.gateways) > 1
            ),
            max_attempts=MAX_ATTEMPTS,
        )
        self.reconciler = Reconciler(self.ledger, catalogues)
        self.callbacks = Callbacks(self.client, settings.rules)
        self.dispatcher = Dispatcher(
            self.callbacks,
            channels(settings),
            self.backoff,
            give_up_s=settings.notify_for_s,
            room=gate.callbacks_at_once,
        )

    def check(self) -> None:
        """Check that this process knows the ledger's server, schema and accounts, and has its keys.

        Raises LedgerUnavailable, and SettingsError if it does not.
        """
        redis_fitness.check_version(self.client, self.settings.redis_url)
        migrations.check(self.client, self.settings.redis_url)
        accounts.check(self.client, self.settings.rules)
        self.cipher()

    def unlock(self) -> None:
        """Migrate the ledger to this release's schema, and to the first of SMSQ_PAYLOAD_KEYS.

        Releases that know nothing of several accounts are shut out where there are. Raises as
        `check` does.
        """
        redis_fitness.check_version(self.client, self.settings.redis_url)
        accounts.check(self.client, self.settings.rules)
        migrations.migrate(self.client, self.settings.rules)
        accounts.introduce(self.client, self.settings.rules)
        cipher = self.cipher()
        if isinstance(cipher, FernetCipher):
            renew(self.client, self.settings.rules, cipher)

    def warn_of_servers(self) -> None:
        """Log what makes the ledger's Redis, or the broker's, lose messages.

        Raises LedgerUnavailable.
        """
        one = self.settings
        redis_fitness.warn(self.client, one.redis_url, allow_eviction=one.allow_eviction)
        if not one.is_one_redis:
            with closing(connect_impatiently(one.broker_url, BROKER_S)) as broker:
                redis_fitness.warn(broker, one.broker_url, allow_eviction=True, is_ledger=False)

    def close(self) -> None:
        """Close all connections."""
        for gateway in self.gateways.values():
            gateway.close()
        self.client.close()


def _rules(settings: Settings, catalogues: Iterable[Catalogue]) -> Rules:
    """Return the ledger's rules, with what the catalogues say is reported of test numbers."""
    # Of one that several files name, the first that does counts.
    test_codes = ChainMap(*(dict(one.test_codes) for one in catalogues))
    numbers = testnumbers.reported(settings.test_numbers, test_codes)
    return replace(settings.rules, test_numbers=numbers)
