"""Prometheus metrics, read from the ledger: true for all workers, whoever is asked."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CONTENT_TYPE_LATEST as CONTENT_TYPE
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from smsq_worker.ledger import Ledger

__all__ = ["CONTENT_TYPE", "FAMILIES", "render"]

FAMILIES = {
    "messages": ("smsq_messages", "Messages that came to a state.", ["lane", "state"]),
    "reports": ("smsq_reports", "Delivery reports.", ["stat", "class"]),
    "calls": ("smsq_calls", "Calls of the gateway.", ["outcome"]),
    "possible_duplicates": ("smsq_possible_duplicates", "Resends after doubt.", []),
    "reports_dropped": ("smsq_reports_dropped", "Parked reports lost in a flood of mids.", []),
}
"""By the first word of the ledger's counter."""


class _Collector:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def collect(self) -> Iterator[Metric]:
        families = {
            name: CounterMetricFamily(metric, words, labels=labels)
            for name, (metric, words, labels) in FAMILIES.items()
        }
        counters = {"possible_duplicates": 0, "reports_dropped": 0} | self._ledger.counters()
        for counter, value in sorted(counters.items()):
            name, _, rest = counter.partition(":")
            families[name].add_metric(_labels(name, rest), value)
        yield from families.values()
        held, parked = self._ledger.waiting()
        yield GaugeMetricFamily("smsq_held", "Messages in doubt that wait for you.", value=held)
        yield GaugeMetricFamily("smsq_parked", "Mids reported that nobody knows.", value=parked)


def render(ledger: Ledger) -> bytes:
    """Write the metrics in Prometheus' text form. Raises LedgerUnavailable."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(ledger))
    return generate_latest(registry)


def _labels(name: str, rest: str) -> list[str]:
    # A stat has a colon itself: "reports:MA:0001:permanent".
    count = len(FAMILIES[name][2])
    return rest.rsplit(":", count - 1) if count else []
