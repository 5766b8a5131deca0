"""Prometheus metrics, read from the ledger: true for all workers, whoever is asked.

ops/METRICS.md says what each means. A scrape is some 50 commands of Redis, in 15 round trips; the
most it can be is where queues begin with nothing but wake-ups of ended messages, of which it looks
at 1000 in each. What stands in the broker is left out where that does not answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from math import inf
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST as CONTENT_TYPE
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from smsq.contract import Lane, State
from smsq_worker.api.refusals import WHYS
from smsq_worker.domain.states import Outcome
from smsq_worker.inspection.snapshot import Inspector, total
from smsq_worker.ledger.admin import ACCOUNT, BREAKER
from smsq_worker.ledger.histograms import BOUNDS_MS
from smsq_worker.ledger.message_view import KINDS

__all__ = ["CONTENT_TYPE", "FAMILIES", "render"]

FAMILIES: Final = {
    "messages": ("smsq_messages", "Messages that came to a state.", ["lane", "state"]),
    "reports": ("smsq_reports", "Delivery reports.", ["stat", "class"]),
    "calls": ("smsq_calls", "Calls of the gateway.", ["outcome"]),
    "possible_duplicates": ("smsq_possible_duplicates", "Resends after doubt.", []),
    "doubts_resolved": ("smsq_doubts_resolved", "Calls in doubt of which more was learnt.", ["as"]),
    "notices": ("smsq_notices", "Outcomes told to receivers.", ["kind", "result"]),
    "set_aside": ("smsq_set_aside", "What nothing can be made of.", ["what"]),
    "reports_dropped": ("smsq_reports_dropped", "Parked reports lost in a flood of mids.", []),
    "reports_refused": ("smsq_reports_refused", "Refused requests with the token.", ["why"]),
    "mids_reused": ("smsq_mids_reused", "Mids that the gateway gave out once more.", []),
}
"""By the first word of the ledger's counter."""

DURATIONS: Final = {
    "accept": ("smsq_accept_seconds", "From the entry, or send_at, to the first mid."),
    "delivery": ("smsq_delivery_seconds", "From the mid to the report that ends a message."),
}

SET_ASIDE: Final = ("message", "report", "notice", "pause", "result", "spooled_report")
"""The last two in a spool, the others in the ledger."""

ZEROS: Final = (
    *(f"messages:{lane}:{state}" for lane in Lane for state in State),
    *(f"calls:{outcome}" for outcome in Outcome),
    *(f"doubts_resolved:{outcome}" for outcome in Outcome if outcome != Outcome.MAYBE_SENT),
    *(f"notices:{kind}:{result}" for kind in KINDS for result in ("told", "failed", "dead")),
    *(f"set_aside:{what}" for what in SET_ASIDE),
    *("reports:other:unknown", "possible_duplicates", "reports_dropped", "mids_reused"),
    *(f"reports_refused:{why}" for why in WHYS),
)
"""Counters that are there from the start: of one that appears as 1 Prometheus sees no increase."""

CAUSES: Final = {
    ACCOUNT: ("operator", "report", "refusals"),
    BREAKER: ("outage",),
    "template": ("operator", "report"),
}
"""What can pause each scope."""


class _Collector:
    def __init__(self, lookout: Inspector) -> None:
        self._lookout = lookout

    def collect(self) -> Iterator[Metric]:
        counters = self._lookout.ledger.counters()
        yield from _counters(counters)
        yield from _histograms(counters)
        held, parked = self._lookout.ledger.waiting()
        yield _gauge("held", "Messages in doubt that wait for you.", held)
        yield _gauge("parked", "Mids reported that nobody knows.", parked)
        yield from self._pauses()
        rate = self._lookout.control.rate()
        yield _gauge("rate_limit", "Calls a second that may be made now.", rate.now)
        live = self._lookout.control.live()
        yield _gauge("inflight", "Calls under way.", total(live, State.SENDING))
        yield _gauge("deferred", "Messages that wait for a time.", total(live, State.DEFERRED))
        yield self._notices()
        lag = self._lookout.control.lag_s()
        yield _gauge("clock_lag_seconds", "How overdue the most overdue timer is.", lag)
        yield from self._memory()
        yield from self._queues()

    def _pauses(self) -> Iterator[Metric]:
        pauses = [
            (pause.scope.partition(":")[0], pause.cause) for pause in self._lookout.control.pauses()
        ]
        scopes, causes = Counter(scope for scope, _ in pauses), Counter(pauses)
        paused = GaugeMetricFamily(
            "smsq_paused", "Pauses; of templates, how many.", labels=["scope"]
        )
        by_cause = GaugeMetricFamily(
            "smsq_pause_cause", "The same, by what paused.", labels=["scope", "cause"]
        )
        for scope, its_causes in CAUSES.items():
            paused.add_metric([scope], scopes[scope])
            for cause in its_causes:
                by_cause.add_metric([scope, cause], causes[scope, cause])
        yield from (paused, by_cause)

    def _notices(self) -> Metric:
        family = GaugeMetricFamily(
            "smsq_notices_pending", "Outcomes to be told, and dead ones.", labels=["state"]
        )
        for state, count in self._lookout.callbacks.counts().items():
            family.add_metric([state], count)
        return family

    def _memory(self) -> Iterator[Metric]:
        memory = self._lookout.control.memory()
        if memory:
            used, limit = memory
            yield _gauge("redis_memory_bytes", "Memory that the ledger's Redis uses.", used)
            yield _gauge("redis_memory_max_bytes", "Its limit, maxmemory; 0 for none.", limit)

    def _queues(self) -> Iterator[Metric]:
        depth = GaugeMetricFamily("smsq_queue_depth", "Wake-ups that wait.", labels=["queue"])
        oldest = GaugeMetricFamily(
            "smsq_oldest_seconds", "How long the oldest wake-up has waited.", labels=["lane"]
        )
        if waiting := self._lookout.waiting():
            for queue, count in waiting.items():
                depth.add_metric([queue], count)
            for lane, seconds in self._lookout.waits_s(waiting).items():
                oldest.add_metric([lane], seconds)
        yield from (depth, oldest)


def render(lookout: Inspector) -> bytes:
    """Write the metrics in Prometheus' text form. Raises LedgerUnavailable."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(lookout))
    return generate_latest(registry)


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(f"smsq_{name}", words, value=value)


def _counters(stored: Mapping[str, int]) -> Iterator[Metric]:
    families = {
        name: CounterMetricFamily(metric, words, labels=labels)
        for name, (metric, words, labels) in FAMILIES.items()
    }
    for counter, value in sorted((dict.fromkeys(ZEROS, 0) | dict(stored)).items()):
        name, _, rest = counter.partition(":")
        if name in families:  # others are durations, or of a newer worker
            families[name].add_metric(_labels(name, rest), value)
    yield from families.values()


def _labels(name: str, rest: str) -> list[str]:
    # A stat has a colon itself: "reports:MA:0001:permanent".
    count = len(FAMILIES[name][2])
    return rest.rsplit(":", count - 1) if count else []


def _histograms(stored: Mapping[str, int]) -> Iterator[Metric]:
    for name, (metric, words) in DURATIONS.items():
        family = HistogramMetricFamily(metric, words, labels=["lane"])
        for lane in Lane:
            own = f"{name}:{lane}:"
            counted = {
                float(field.removeprefix(own)): count
                for field, count in stored.items()
                if field.startswith(own) and not field.endswith(":sum")
            }
            buckets = [
                (_le(bound / 1000), sum(n for le, n in counted.items() if le <= bound))
                for bound in (*BOUNDS_MS[name], inf)
            ]
            family.add_metric([lane], buckets, stored.get(f"{own}sum", 0) / 1000)
        yield family


def _le(bound_s: float) -> str:
    return "+Inf" if bound_s == inf else str(bound_s)
