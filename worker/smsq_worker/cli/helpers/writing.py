"""The ledger, for commands: each exchange with it ends in time."""

from __future__ import annotations

from smsq.connection import Client, connect
from smsq_worker.config.settings import Settings
from smsq_worker.ledger import migrations


def to_read(settings: Settings) -> Client:
    """Give a client of the ledger. It connects when it is first used."""
    return connect(
        settings.redis_url,
        idle_s=settings.idle_timeout_s,
        exchange_s=settings.enqueue_timeout_s,
    )


def to_write(settings: Settings) -> Client:
    """Give a client of the ledger, if this release may write there.

    Raises SettingsError where the ledger's schema is too new, and LedgerUnavailable.
    """
    client = to_read(settings)
    migrations.check(client, settings.redis_url)
    return client
