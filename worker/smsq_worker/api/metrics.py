"""Prometheus metrics, read from the ledger: they cover all workers, whichever process is scraped.

docs/operate/metrics.md describes each. A scrape is about 50 commands of Redis in 15 round trips,
and at most 1000 wake-ups of each queue where its head holds only those of ended messages. What
stands in the broker is left out where that does not answer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from heapq import nlargest
from itertools import chain
from math import inf
from typing import Any, Final, get_args

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
from smsq_worker.domain.scopes import read_scope
from smsq_worker.domain.states import Outcome
from smsq_worker.inspection.accounts import AccountState, AccountView
from smsq_worker.inspection.snapshot import Inspector, total
from smsq_worker.ledger.admin import ACCOUNT, BREAKER
from smsq_worker.ledger.histograms import BOUNDS_MS
from smsq_worker.ledger.message_view import KINDS
from smsq_worker.ledger.quality import Delivery

__all__ = ["CONTENT_TYPE", "FAMILIES", "render"]

FAMILIES: Final = {
    "messages": ("Messages that came to a state.", ["lane", "state"]),
    "test_messages": ("Messages to test numbers that came to a state.", ["lane", "state"]),
    "reports": ("Delivery reports.", ["stat", "class"]),
    "calls": ("Attempts at the gateway.", ["outcome"]),
    "possible_duplicates": ("Resends after doubt.", []),
    "doubts_resolved": ("Attempts in doubt that were resolved later.", ["as"]),
    "notices": ("Callbacks, by what became of them.", ["kind", "result"]),
    "set_aside": ("Items that could not be interpreted.", ["what"]),
    "reports_dropped": ("Parked reports dropped in a flood of mids.", []),
    "reports_refused": ("Refused requests with the token.", ["why"]),
    "mids_reused": ("Mids that the gateway used again.", []),
    "verifications": ("Verification codes, by what became of them.", ["template", "result"]),
}
"""By the first word of the ledger's counter, and its own behind smsq_: (help, labels)."""

DURATIONS: Final = {
    "accept": "From the entry, or send_at, to the first mid.",
    "delivery": "From the mid to the report that ends a message.",
}
"""The same: smsq_..._seconds."""

_BOUND: Final = re.compile(r"[0-9]{1,12}|inf")
"""What follows the name of a bucket's counter. Whoever may count may make up others."""

SET_ASIDE: Final = ("message", "report", "notice", "pause", "task", "result", "spooled_report")
"""Tasks were in another queue than theirs; the last two are in a spool, others in the ledger."""

MAX_SERIES: Final = 300
"""Of a family, beside those that are always there: the codes of reports come from outside."""
MAX_NAME: Final = 128

ZEROS: Final = (
    *(f"messages:{lane}:{state}" for lane in Lane for state in State),
    *(f"test_messages:{lane}:{state}" for lane in Lane for state in State),
    *(f"calls:{outcome}" for outcome in Outcome),
    *(f"doubts_resolved:{outcome}" for outcome in Outcome if outcome != Outcome.MAYBE_SENT),
    *(f"notices:{kind}:{result}" for kind in KINDS for result in ("told", "failed", "dead")),
    *(f"set_aside:{what}" for what in SET_ASIDE),
    *("reports:other:unknown", "possible_duplicates", "reports_dropped", "mids_reused"),
    *(f"reports_refused:{why}" for why in WHYS),
    *(f"verifications:other:{result}" for result in ("started", "right")),
)
"""Counters present from the start: Prometheus sees no increase in one that appears as 1."""

CAUSES: Final = {
    ACCOUNT: ("operator", "report", "refusals"),
    BREAKER: ("outage",),
    "template": ("operator", "report"),
}
"""What can pause each scope."""


class _Collector:
    def __init__(self, inspector: Inspector) -> None:
        self._inspector = inspector

    def collect(self) -> Iterator[Metric]:
        ledger, control = self._inspector.ledger, self._inspector.control
        counters = ledger.counters()
        yield from _counters(counters)
        yield from _histograms(counters)
        held, parked, inbox = ledger.waiting()
        yield _gauge("held", "Messages in doubt that wait for an operator.", held)
        yield _gauge("parked", "Unknown mids that were reported.", parked)
        yield _gauge("inbox", "Reports that wait to be reconciled.", inbox)
        yield from self._pauses()
        yield from self._campaigns()
        accounts = self._inspector.account_views()
        rate = sum(one.rate.now for one in accounts) if accounts else control.rate().now
        yield _gauge("rate_limit", "Attempts a second allowed at present.", rate)
        if accounts:
            yield from _accounts(accounts)
            yield from _deliveries(accounts, self._inspector.deliveries())
        live = control.live()
        yield _gauge("inflight", "Attempts under way.", total(live, State.SENDING))
        yield _gauge("deferred", "Messages that wait for a time.", total(live, State.DEFERRED))
        pending = self._inspector.callbacks.counts()
        yield _gauges("notices_pending", "Callbacks that wait, and dead ones.", ["state"], pending)
        yield _gauge("clock_lag_seconds", "How overdue the most overdue timer is.", control.lag_s())
        if memory := control.memory():
            used, limit = memory
            yield _gauge("redis_memory_bytes", "Memory that the ledger's Redis uses.", used)
            yield _gauge("redis_memory_max_bytes", "Its limit, maxmemory; 0 for none.", limit)
        depths = self._inspector.waiting() or {}
        yield _gauges("queue_depth", "Wake-ups that wait.", ["queue"], depths)
        ages = self._inspector.waits_s(depths) if depths else {}
        yield _gauges("oldest_seconds", "How long the oldest wake-up has waited.", ["lane"], ages)

    def _pauses(self) -> Iterator[Metric]:
        pauses = [
            (read_scope(pause.scope).kind, pause.cause)
            for pause in self._inspector.control.pauses()
        ]
        scopes, causes = Counter(scope for scope, _ in pauses), Counter(pauses)
        by_scope = {scope: scopes[scope] for scope in CAUSES}
        by_cause = {(scope, why): causes[scope, why] for scope, of in CAUSES.items() for why in of}
        yield _gauges("paused", "Pauses; of templates, how many.", ["scope"], by_scope)
        yield _gauges("pause_cause", "The same, by cause.", ["scope", "cause"], by_cause)

    def _campaigns(self) -> Iterator[Metric]:
        found = self._inspector.campaigns.waiting()
        campaigns = {standing: n for standing, (n, _) in found.items()}
        messages = {standing: n for standing, (_, n) in found.items()}
        words = "Campaigns with live messages, by what an operator decided."
        yield _gauges("campaigns", words, ["standing"], campaigns)
        words = "Their messages that wait, or in a cancelled one are still to be ended."
        yield _gauges("campaign_messages", words, ["standing"], messages)


def _accounts(views: Sequence[AccountView]) -> Iterator[Metric]:
    """Yield the metrics of several accounts, each with its name."""
    named = {view.account.name: view for view in views}
    states = {
        (name, state): float(view.state == state)
        for name, view in named.items()
        for state in get_args(AccountState)
    }
    words = "1 of the state that an account is in."
    yield _gauges("account_state", words, ["account", "state"], states)
    for metric, words, value in _OF_ACCOUNTS:
        values = {name: value(view) for name, view in named.items()}
        yield _gauges(f"account_{metric}", words, ["account"], values)


def _deliveries(
    views: Sequence[AccountView], deliveries: Mapping[str, Delivery]
) -> Iterator[Metric]:
    """Yield what several accounts delivered; an account that accepted nothing has no ratio."""
    found = {one.account.name: deliveries.get(one.account.key, Delivery()) for one in views}
    accepted = {name: one.accepted for name, one in found.items()}
    words = "Accepted in the last whole hour that has been over for 15 minutes."
    yield _gauges("account_hour_accepted", words, ["account"], accepted)
    ratios = {name: one.rate for name, one in found.items() if one.rate is not None}
    words = "Share of those that was delivered within 15 minutes."
    yield _gauges("account_hour_delivered_ratio", words, ["account"], ratios)


_OF_ACCOUNTS: Final[Sequence[tuple[str, str, Callable[[AccountView], float]]]] = (
    ("rate_limit", "Attempts a second allowed at present.", lambda one: one.rate.now),
    ("inflight", "Attempts under way.", lambda one: one.counts.in_flight),
    (
        "awaiting_reports",
        "Accepted messages without a final report.",
        lambda one: one.counts.awaiting_reports,
    ),
    ("refusals", "Refusals in a row.", lambda one: one.counts.refusals),
)


def render(inspector: Inspector) -> bytes:
    """Return the metrics in Prometheus' text form. Raises LedgerUnavailable."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(inspector))
    return generate_latest(registry)


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(f"smsq_{name}", words, value=value)


def _gauges(name: str, words: str, labels: list[str], values: Mapping[Any, float]) -> Metric:
    family = GaugeMetricFamily(f"smsq_{name}", words, labels=labels)
    for of, value in values.items():
        family.add_metric([of] if isinstance(of, str) else of, value)
    return family


def _counters(stored: Mapping[str, int]) -> Iterator[Metric]:
    families = {
        name: CounterMetricFamily(f"smsq_{name}", words, labels=labels)
        for name, (words, labels) in FAMILIES.items()
    }
    for counter, value in sorted((dict.fromkeys(ZEROS, 0) | _shown(stored)).items()):
        name, _, rest = counter.partition(":")
        count = len(FAMILIES[name][1])
        # A stat has a colon itself: "reports:MA:0001:permanent".
        families[name].add_metric(rest.rsplit(":", count - 1) if count else [], value)
    yield from families.values()


def _shown(stored: Mapping[str, int]) -> dict[str, int]:
    """Return the counters of the families; only the largest where there are too many of one.

    Others are durations, or of a newer worker.
    """
    known = frozenset(ZEROS)
    by_family: dict[str, list[str]] = {name: [] for name in FAMILIES}
    for counter in stored:
        name = counter.partition(":")[0]
        if name in by_family and counter not in known and len(counter) <= MAX_NAME:
            by_family[name].append(counter)
    kept = [nlargest(MAX_SERIES, counters, stored.__getitem__) for counters in by_family.values()]
    return {counter: stored[counter] for counter in (*known & stored.keys(), *chain(*kept))}


def _histograms(stored: Mapping[str, int]) -> Iterator[Metric]:
    for name, words in DURATIONS.items():
        family = HistogramMetricFamily(f"smsq_{name}_seconds", words, labels=["lane"])
        for lane in Lane:
            own = f"{name}:{lane}:"
            counted = {
                float(field.removeprefix(own)): count
                for field, count in stored.items()
                if field.startswith(own) and _BOUND.fullmatch(field, len(own))
            }
            buckets = [
                (
                    "+Inf" if bound == inf else str(bound / 1000),
                    sum(n for le, n in counted.items() if le <= bound),
                )
                for bound in (*BOUNDS_MS[name], inf)
            ]
            family.add_metric([lane], buckets, stored.get(f"{own}sum", 0) / 1000)
        yield family
