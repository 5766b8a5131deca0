"""The rates of the relay's callers, each shared by all API processes."""

from __future__ import annotations

from smsq import keys
from smsq_worker.ledger.acts import Acts


class RelayRate(Acts):
    """Counts the requests of callers."""

    def wait_s(self, caller: str, rate_per_s: float) -> float:
        """Count a request and return 0, or return the seconds to wait. Raises LedgerUnavailable."""
        wait_us, _ = self._run_plain("client_rate", rate_per_s, keys=[keys.RELAY + caller])
        return int(wait_us) / 1_000_000
