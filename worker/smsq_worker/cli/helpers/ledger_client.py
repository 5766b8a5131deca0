"""The ledger, for commands: each exchange with it has a deadline."""

from __future__ import annotations

import os

from smsq.connection import Client, connect
from smsq_worker.config.settings import Settings
from smsq_worker.ledger import migrations


def connect_ledger(settings: Settings) -> Client:
    """Return a client of the ledger, to read. It connects when it is first used."""
    return connect(
        settings.redis_url,
        idle_s=settings.idle_timeout_s,
        exchange_s=settings.enqueue_timeout_s,
        encoding_errors="replace",  # One unreadable value must not hide all others.
    )


def connect_ledger_to_write(settings: Settings) -> Client:
    """Return a client of the ledger, if this release may write there.

    Raises SettingsError where the ledger's schema is too new, and LedgerUnavailable.
    """
    client = connect_ledger(settings)
    migrations.check(client, settings.redis_url)
    return client


def open_ledger(*, to_write: bool = False) -> tuple[Settings, Client]:
    """Return the environment's settings, and a client of their ledger. Raises as above."""
    settings = Settings.load(os.environ)
    return settings, (connect_ledger_to_write if to_write else connect_ledger)(settings)
