"""Count refused requests that carry a report token: the gateway may report them nowhere.

The first of a kind in a minute, of each account, is also logged, without its content. Only a client
that has the token can cause either. Counts are kept in memory, because Redis may be away, and the
thread that replays the spool writes them to the ledger.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from threading import Lock
from typing import Final

from smsq.errors import LedgerUnavailable
from smsq_worker.api.report_addresses import ReportAddresses
from smsq_worker.infra.quiet import QUIET_S, Quiet
from smsq_worker.ledger import Ledger

log = logging.getLogger(__name__)

WHY: Final = {
    400: ("malformed", "what came is no report, or not only reports; the good ones were kept"),
    404: ("address", "SMSQ_REPORT_ALLOW does not name the address, or the path is another"),
    405: ("method", "reports come by POST"),
    408: ("slow", "the request came too slowly"),
    413: ("size", "the body is too long"),
    415: ("encoding", "the body is compressed in a way that is not understood"),
    429: ("address", "SMSQ_REPORT_ALLOW does not name the address"),
    431: ("head", "the head is too long"),
    503: ("unavailable", "neither Redis nor the disk took it, or there are too many connections"),
}
SIGNATURE: Final = ("signature", "its signature is wrong, or made with another secret or URL")
FULL: Final = ("full", "too many reports wait whose mid no message has; or the spool is full")
OTHER: Final = ("other", "see the lines before this one")
WHYS: Final = sorted({why for why, _ in (*WHY.values(), SIGNATURE, FULL, OTHER)})


class RefusalCounter:
    """Counts the refusals of one API process."""

    def __init__(
        self, addresses: ReportAddresses, timer: Callable[[], float] = time.monotonic
    ) -> None:
        self.addresses = addresses
        self._quiet = Quiet(timer)
        self._counts: Counter[str] = Counter()
        self._lock = Lock()

    def note(
        self, path: str, status: int, source: object, of: tuple[str, str] | None = None
    ) -> None:
        """Count a refusal with this HTTP status if a token is a part of the path.

        `of` is its (label, words in the log) where the status does not tell them.
        """
        reporter = self.addresses.meant(path)
        if reporter is None:
            return
        why, words = of or WHY.get(status, OTHER)
        with self._lock:
            self._counts[f"reports_refused:{why}"] += 1
        if self._quiet.is_over((why, reporter.name)):
            log.warning(
                "a report%s from %s was refused with %d (%s): %s; for %d s others of this kind are "
                "only counted",
                *(reporter.name and f" of account {reporter.name}", source, status, why, words),
                QUIET_S,
            )

    def write(self, ledger: Ledger) -> None:
        """Add the counts to the ledger; keep them where it cannot be reached."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
        try:
            if counts:
                ledger.count(counts)
        except LedgerUnavailable:
            with self._lock:
                self._counts += counts
