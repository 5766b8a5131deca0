"""The ledger: the truth about every message, kept in Redis.

Each act that must be atomic is one Lua file in `lua/`, called by one method; `lua/shared/` has what
acts share. After the entry (`smsq.ledger_writer`) nothing else writes these keys, and nothing else
in the worker reads them.
"""

from smsq_worker.domain.reports import Report
from smsq_worker.ledger.ledger import Ledger
from smsq_worker.ledger.types import (
    Admission,
    Admitted,
    AttemptResult,
    Rejected,
    RetryLater,
)

__all__ = [
    "Admission",
    "Admitted",
    "AttemptResult",
    "Ledger",
    "Rejected",
    "Report",
    "RetryLater",
]
