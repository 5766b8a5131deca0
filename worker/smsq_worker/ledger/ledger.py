"""The ledger's acts and readings in one class, by which the other rooms know it."""

from __future__ import annotations

from smsq_worker.ledger.counters import Counters
from smsq_worker.ledger.reports import ReportActs
from smsq_worker.ledger.sending import SendingActs
from smsq_worker.ledger.timers import TimerActs
from smsq_worker.ledger.weights import WeightActs


class Ledger(SendingActs, ReportActs, TimerActs, WeightActs, Counters):
    """All acts on messages. Every method raises LedgerUnavailable where Redis fails."""
