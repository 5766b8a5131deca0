"""The rates of the relay's callers, each shared by all API processes."""

from __future__ import annotations

from smsq import keys
from smsq.connection import Client, mapped_errors, run
from smsq_worker.config.rules import Rules
from smsq_worker.ledger.scripts import Scripts


class RelayRate:
    """Counts the requests of callers."""

    def __init__(self, client: Client, rules: Rules) -> None:
        self._client = client
        self._url = rules.url
        self._act = Scripts(rules).act("client_rate")

    def wait_s(self, caller: str, rate_per_s: float) -> float:
        """Count a request and return 0, or return the seconds to wait. Raises LedgerUnavailable."""
        with mapped_errors(self._url):
            wait_us = run(self._client, self._act, [rate_per_s], keys=[keys.RELAY + caller])
        return int(wait_us) / 1_000_000
