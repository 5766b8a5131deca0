"""The ledger, for the commands that write there."""

from __future__ import annotations

from smsq.connection import Client, connect
from smsq_worker.ledger import schema
from smsq_worker.settings import Settings


def to_write(settings: Settings) -> Client:
    """Give a client of the ledger, if this release may write there.

    Raises SettingsError where the ledger's schema is too new, and LedgerUnavailable.
    """
    client = connect(settings.redis_url)
    schema.check(client, settings.redis_url)
    return client
