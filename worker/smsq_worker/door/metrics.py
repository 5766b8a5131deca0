"""Prometheus metrics, read from the ledger: true for all workers, whoever is asked."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CONTENT_TYPE_LATEST as CONTENT_TYPE
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from smsq.contract import State
from smsq_worker.ledger.control import ACCOUNT, BREAKER
from smsq_worker.overview import Lookout, total

__all__ = ["CONTENT_TYPE", "FAMILIES", "render"]

FAMILIES = {
    "messages": ("smsq_messages", "Messages that came to a state.", ["lane", "state"]),
    "reports": ("smsq_reports", "Delivery reports.", ["stat", "class"]),
    "calls": ("smsq_calls", "Calls of the gateway.", ["outcome"]),
    "possible_duplicates": ("smsq_possible_duplicates", "Resends after doubt.", []),
    "notices": ("smsq_notices", "Outcomes told to receivers.", ["kind", "result"]),
    "reports_dropped": ("smsq_reports_dropped", "Parked reports lost in a flood of mids.", []),
}
"""By the first word of the ledger's counter."""


class _Collector:
    def __init__(self, lookout: Lookout) -> None:
        self._lookout = lookout

    def collect(self) -> Iterator[Metric]:
        yield from self._counters()
        held, parked = self._lookout.ledger.waiting()
        yield GaugeMetricFamily("smsq_held", "Messages in doubt that wait for you.", value=held)
        yield GaugeMetricFamily("smsq_parked", "Mids reported that nobody knows.", value=parked)
        yield self._pauses()
        yield GaugeMetricFamily(
            "smsq_rate_limit",
            "Calls a second that may be made now.",
            value=self._lookout.control.rate().now,
        )
        live = self._lookout.control.live()
        yield GaugeMetricFamily(
            "smsq_inflight", "Calls under way.", value=total(live, State.SENDING)
        )
        yield GaugeMetricFamily(
            "smsq_deferred", "Messages that wait for a time.", value=total(live, State.DEFERRED)
        )
        yield self._notices()
        yield self._queues()

    def _counters(self) -> Iterator[Metric]:
        families = {
            name: CounterMetricFamily(metric, words, labels=labels)
            for name, (metric, words, labels) in FAMILIES.items()
        }
        counters = {"possible_duplicates": 0, "reports_dropped": 0}
        counters |= self._lookout.ledger.counters()
        for counter, value in sorted(counters.items()):
            name, _, rest = counter.partition(":")
            families[name].add_metric(_labels(name, rest), value)
        yield from families.values()

    def _pauses(self) -> Metric:
        scopes = [pause.scope for pause in self._lookout.control.pauses()]
        family = GaugeMetricFamily(
            "smsq_paused", "Pauses; of templates, how many.", labels=["scope"]
        )
        for scope in (ACCOUNT, BREAKER):
            family.add_metric([scope], scopes.count(scope))
        family.add_metric(["template"], sum(scope.startswith("template:") for scope in scopes))
        return family

    def _notices(self) -> Metric:
        family = GaugeMetricFamily(
            "smsq_notices_pending", "Outcomes to be told, and dead ones.", labels=["state"]
        )
        for state, count in self._lookout.notices.counts().items():
            family.add_metric([state], count)
        return family

    def _queues(self) -> Metric:
        """Give the queues' depths; none where the broker does not answer."""
        family = GaugeMetricFamily("smsq_queue_depth", "Wake-ups that wait.", labels=["queue"])
        for queue, depth in (self._lookout.waiting() or {}).items():
            family.add_metric([queue], depth)
        return family


def render(lookout: Lookout) -> bytes:
    """Write the metrics in Prometheus' text form. Raises LedgerUnavailable."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(lookout))
    return generate_latest(registry)


def _labels(name: str, rest: str) -> list[str]:
    # A stat has a colon itself: "reports:MA:0001:permanent".
    count = len(FAMILIES[name][2])
    return rest.rsplit(":", count - 1) if count else []
