"""The ledger on a real server against a plain model of it, in any order of events.

The model is written from ARCHITECTURE and the contract: it keeps what became of every call, and
concludes from that where the ledger keeps flags. Time never passes by waiting: a timer runs out
by being set to the past, a ttl by its end being set to the past. The waits below are far from
any of these ends, so that the seconds a run takes make no difference.

For a long run: SMSQ_MODEL_EXAMPLES=3000 pytest tests/ledger/test_ledger_model.py
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from typing import Any, Final

import pytest
import redis
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from harness.campaigns import is_swept
from harness.model import compare, examples
from smsq import keys
from smsq.cancelling import cancel
from smsq.compaction import unfolded
from smsq.contract import FINAL, Lane, State, parse
from smsq.errors import CampaignCancelled, KeyConflict
from smsq.ledger_writer import LedgerWriter
from smsq_worker.config.settings import Settings
from smsq_worker.domain.states import NEXT, Outcome
from smsq_worker.ledger import Admitted, Ledger, Rejected, Report
from smsq_worker.ledger.admin import ACCOUNT, Control
from smsq_worker.ledger.campaigns import Campaigns, counts_of
from smsq_worker.ledger.histograms import BOUNDS_MS
from smsq_worker.ledger.types import REPORTS_PER_MID, Decision

EXAMPLES: Final = examples(60)

AHEAD_S: Final = 3600
KEPT_ATTEMPTS: Final = 10
SLOW_MS: Final = 5000
PERHAPS_SENT: Final = frozenset({Outcome.ACCEPTED, Outcome.MAYBE_SENT})
DETAIL: Final = "gateway:400 said so"
NOT_STATES: Final = ("doubted:", "reason:")
FACTS: Final = frozenset({"enqueued", "lane", "template", "phone"})
REFUSALS_IN_A_ROW: Final = 20
PAST: Final = 1
"""A moment that is over, in Unix milliseconds."""


# The model


@dataclass
class Call:
    """An attempt: what is known of the one HTTP call that it made."""

    outcome: Outcome | None = None
    mid: str | None = None
    stat: str | None = None
    denied: bool = False
    """A report said that it certainly was not sent."""
    begun: int = 0
    """The server's time of it."""

    @property
    def perhaps_sent(self) -> bool:
        return self.outcome in PERHAPS_SENT and not self.denied


@dataclass
class Modelled:
    """A message as the model knows it."""

    lane: Lane
    hold: bool
    ttl_s: float
    """From the entry on, with the wait for send_at."""
    state: State
    reason: str | None = None
    stat: str | None = None
    calls: list[Call] = field(default_factory=list)
    resends: int = 0
    last_reason: str | None = None
    """Why it was last resent."""
    due: bool | None = None
    """Its timer has run out, or has not; None where it has none."""
    over: bool = False
    """Its ttl has ended."""
    doubted_anew: bool = False
    """A report took back, while it waits, that a call was denied."""
    published: int = 0
    """The server's time of its wake-up; 0 where the publication failed."""
    overtaken: bool = False
    was_accepted: bool = False
    template: str = ""
    """"" of one that was refused."""
    name: str = ""
    key: str | None = None
    campaign: str | None = None
    cancelled: bool = False
    """It or its campaign, while an attempt was under way, or accepted: there is no other."""
    parked: bool = False
    """It waits until its campaign goes on."""

    @property
    def certainly_not_sent(self) -> bool:
        return {call.outcome for call in self.calls} <= {Outcome.NOT_SENT, Outcome.REFUSED}

    @property
    def final(self) -> bool:
        return self.state in FINAL

    @property
    def waits(self) -> bool:
        return self.state in {State.QUEUED, State.DEFERRED}

    def fits(self, wait_s: float) -> bool:
        return not self.over and wait_s < self.ttl_s

    def is_last_sent(self, n: int) -> bool:
        """Tell whether no call after the nth can have been sent."""
        unsent = {Outcome.NOT_SENT, Outcome.REFUSED}
        return all(call.outcome in unsent for call in self.calls[n:])

    @property
    def is_known_accepted(self) -> bool:
        """Tell whether the last call that can have been sent was accepted, and not reported on."""
        unsent = {Outcome.NOT_SENT, Outcome.REFUSED}
        sent = [call for call in self.calls if call.outcome not in unsent]
        return bool(sent) and sent[-1].outcome is Outcome.ACCEPTED and not sent[-1].stat

    def set_timer(self, wait_s: float) -> None:
        self.due = wait_s == 0 or self.over


Oldest = dict[Lane, list[str]]
"""Ids of the oldest wake-up in queues: none where the queue is empty."""
Heads = dict[Lane, int | None]


@dataclass
class Paused:
    """The account's pause."""

    cause: str
    since: int
    probe_is_due: bool = False
    permit: bool = False


class Model:
    """What every act makes of the messages, and of the account."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.messages: dict[str, Modelled] = {}
        self.holders: dict[str, tuple[str, str]] = {}
        """Of each key the message that has it, and its template."""
        self.mids: dict[str, tuple[str, int]] = {}
        self.parked: dict[str, list[Report]] = {}
        self.counters: Counter[str] = Counter()
        self.campaigns: dict[str, str] = {}
        """What stops each."""
        self.paused: Paused | None = None
        self.resumed = 0
        self.refusals = 0
        self.moment = 0
        """The server's time of the act, where it pauses or resumes."""

    def enter(self, message_id: str, kind: Kind) -> State | None:
        """Enter a message; None where its key is that of another number or template."""
        if self.campaigns.get(kind.campaign or "") == "cancelled":
            return None
        if kind.campaign:
            self.campaigns.setdefault(kind.campaign, "")
        if message_id in self.messages:
            known = self.messages[message_id]
            return known.state if known.template in {"", kind.template} else None
        holder, template = self.holders.get(kind.key or "", (message_id, kind.template))
        if template != kind.template:
            return None
        m = Modelled(kind.lane, kind.hold, kind.lane.ttl_s + kind.ahead_s, State.QUEUED)
        m.template, m.campaign = kind.template, kind.campaign
        self.messages[message_id] = m
        if kind.key and holder == message_id:
            m.name, m.key = message_id, kind.key
            self.holders[kind.key] = message_id, kind.template
        if holder != message_id:
            m.state, m.reason = State.DUPLICATE, f"duplicate:{holder}"
        else:
            m.state = State.DEFERRED if kind.ahead_s else State.QUEUED
            m.due = False
        self._count_state(m)
        return m.state

    def refuse(self, message_id: str) -> State:
        if message_id not in self.messages:
            m = Modelled(Lane.NOTICE, False, 0, State.FAILED, reason="local:invalid")
            self.messages[message_id] = m
            self._count_state(m)
        return self.messages[message_id].state

    def unpublished(self, message_id: str) -> None:
        m = self.messages.get(message_id)
        if m and m.state is State.QUEUED:
            m.published, m.due = 0, True

    def admit(self, message_id: str) -> tuple[str, State | int | None]:
        m = self.messages.get(message_id)
        if m is None:
            return "unknown", None
        if m.state is not State.QUEUED:
            return "copy", m.state
        if m.over:
            self._end_of_ttl(m)
            return "expired", m.state
        if m.campaign and self.campaigns[m.campaign] == "paused":
            self._defer(m, 2 * m.ttl_s)
            m.parked = True
            return "deferred", m.state
        if self.paused and not self.paused.permit:
            return "paused", None
        if self.paused:
            self.paused.permit = False
        self._move(m, State.SENDING)
        in_doubt = m.doubted_anew or bool(m.calls and m.calls[-1].perhaps_sent)
        self.counters["possible_duplicates"] += in_doubt
        m.doubted_anew = False
        m.calls.append(Call())
        m.due = False
        return "go", len(m.calls)

    def record(
        self, message_id: str, n: int, outcome: Outcome, mid: str, wait_s: float
    ) -> State | None:
        m = self.messages.get(message_id)
        if m is None or n > len(m.calls):
            return None
        call = m.calls[n - 1]
        if call.outcome not in {None, Outcome.MAYBE_SENT}:
            return m.state
        excused = call.outcome is not outcome and self._heed_call(call, outcome)
        was_in_doubt = call.outcome is Outcome.MAYBE_SENT and outcome is not Outcome.MAYBE_SENT
        self._learn(call, outcome)
        if was_in_doubt:
            self._resolve(m, outcome)
        if m.is_known_accepted and m.state is not State.ACCEPTED and not m.final:
            self._follow(m, Outcome.ACCEPTED, wait_s, excused)
        elif n == len(m.calls) and not m.final:
            self._follow(m, outcome, wait_s, excused)
        if mid:
            call.mid = mid
            self.mids[mid] = message_id, n
            for report in self.parked.pop(mid, []):
                self._apply(m, n, report)
        return m.state

    def report(self, mid: str, report: Report) -> tuple[str, str | None]:
        self.counters[report.counted_as] += 1
        if mid not in self.mids:
            self.parked[mid] = [*self.parked.get(mid, []), report][-REPORTS_PER_MID:]
            return "parked", None
        message_id, n = self.mids[mid]
        self._apply(self.messages[message_id], n, report)
        return self.messages[message_id].state, message_id

    def claim(self, resend_wait_s: float, oldest: Oldest) -> set[tuple[str, Lane]]:
        """Run out every timer that is due; give the messages to wake up."""
        heads = {lane: self._head(ids) for lane, ids in oldest.items()}
        if self.paused and self.paused.probe_is_due:
            self.paused.probe_is_due, self.paused.permit = False, True
        goes_on = {(name, m.lane) for name, m in self.messages.items() if self._goes_on(m)}
        due = [(name, m) for name, m in self.messages.items() if m.due]
        woken = {(name, m.lane) for name, m in due if self._run_out(m, resend_wait_s, heads)}
        return goes_on | woken

    def _goes_on(self, m: Modelled) -> bool:
        if not m.parked or m.over or self.campaigns[m.campaign or ""]:
            return False
        self._move(m, State.QUEUED)
        return self._wake(m)

    def cancel_campaign(self, name: str) -> None:
        self.campaigns[name] = "cancelled"
        for m in self.messages.values():
            if m.campaign == name and m.state in {State.QUEUED, State.DEFERRED, State.HELD}:
                self._end_cancelled(m)
            m.cancelled |= m.campaign == name

    def _head(self, ids: list[str]) -> int | None:
        """Give when the oldest wake-up of a queue was published: None is unknown, 0 for none."""
        found = [self.messages[name] for name in ids if name in self.messages]
        times = [m.published for m in found if m.state is State.QUEUED and m.published]
        return min(times, default=None) if ids else 0

    def in_hand(self, names: list[str]) -> None:
        for m in map(self.messages.get, names):
            if m and m.state is State.QUEUED:
                m.overtaken, m.due = False, m.over

    def decide(self, message_id: str, decision: Decision) -> tuple[str, State | None]:
        m = self.messages.get(message_id)
        if m is None:
            return "unknown", None
        if m.state is not State.HELD:
            return "not held", m.state
        if decision == "drop":
            self._finish(m, State.FAILED, "local:dropped")
        elif m.over:
            return "too late", m.state
        else:
            m.last_reason = "local:resends"
            self._defer(m, 0)
        return "done", m.state

    def cancel(self, message_id: str) -> tuple[str | None, State | None]:
        m = self.messages.get(message_id)
        if m is None:
            return None, None
        if m.state in {State.QUEUED, State.DEFERRED, State.HELD}:
            self._end_cancelled(m)
        elif m.state in {State.SENDING, State.ACCEPTED}:
            m.cancelled = m.over = True
        answers = {State.CANCELLED: "cancelled", State.SENDING: "under_way"}
        return answers.get(m.state, "too_late"), m.state

    def _end_cancelled(self, m: Modelled) -> None:
        if m.certainly_not_sent:
            self._finish(m, State.CANCELLED)
        else:
            self._finish(m, State.FAILED, "local:cancelled")

    def pause(self) -> bool:
        if self.paused and self.paused.cause == "operator":
            return False
        self.paused = Paused("operator", self.moment)
        return True

    def resume(self) -> bool:
        was_paused = self.paused is not None
        if was_paused:
            self.paused, self.resumed, self.refusals = None, self.moment, 0
        return was_paused

    def probe_is_due(self) -> None:
        if self.paused:
            self.paused.probe_is_due = self.paused.cause != "operator"

    def _heed_call(self, call: Call, outcome: Outcome) -> bool:
        """Learn of the account from a call; tell whether a refusal is the account's fault."""
        if outcome is Outcome.ACCEPTED:
            self.refusals = 0
            self._heal("refusals", call)
        elif outcome is Outcome.REFUSED and self.paused:
            return True
        elif outcome is Outcome.REFUSED and call.begun >= self.resumed:
            self.refusals += 1
            if self.refusals == REFUSALS_IN_A_ROW:
                self.paused = Paused("refusals", self.moment)
        return False

    def _heed_report(self, call: Call, report: Report) -> None:
        if report.pause != "account":
            self._heal("report", call)
        elif not self.paused and call.begun >= self.resumed:
            self.paused = Paused("report", self.moment)

    def _heal(self, cause: str, call: Call) -> None:
        if self.paused and self.paused.cause == cause and call.begun >= self.paused.since:
            self.resume()

    def _run_out(self, m: Modelled, resend_wait_s: float, heads: Heads) -> bool:
        """Do what must happen if nothing else does; tell whether that is a wake-up."""
        if m.state is State.SENDING:
            self._learn(m.calls[-1], Outcome.MAYBE_SENT)
            self._doubt(m, resend_wait_s)
        elif m.state is State.ACCEPTED:
            self._finish(m, State.UNREPORTED)
        elif m.over:
            self._end_of_ttl(m)
        elif m.state is State.DEFERRED:
            self._move(m, State.QUEUED)
            return self._wake(m)
        else:
            return self._suspect(m, heads)
        return False

    def _suspect(self, m: Modelled, heads: Heads) -> bool:
        overtaken_before, head = m.overtaken, heads.get(m.lane)
        if m.published == 0 or head == 0:
            return self._wake(m)
        is_closed = self.paused is not None and not self.paused.permit
        m.overtaken = not is_closed and head is not None and m.published + SLOW_MS < head
        if overtaken_before and m.overtaken:
            return self._wake(m)
        m.due = False
        return False

    def _wake(self, m: Modelled) -> bool:
        m.due = m.overtaken = False
        return True

    def _learn(self, call: Call, outcome: Outcome) -> None:
        self.counters[f"calls:{outcome}"] += call.outcome is not outcome
        call.outcome = outcome

    def _resolve(self, m: Modelled, outcome: Outcome) -> None:
        self.counters[f"doubts_resolved:{outcome}"] += 1
        if m.final or outcome is Outcome.ACCEPTED:
            return
        m.resends = m.resends if m.hold else max(0, m.resends - 1)
        in_doubt = [call for call in m.calls if call.outcome in PERHAPS_SENT]
        if in_doubt and m.last_reason:
            last = in_doubt[-1]
            told = last.outcome is Outcome.ACCEPTED and last.stat
            m.last_reason = f"report:{last.stat}" if told else "local:resends"

    def _follow(self, m: Modelled, outcome: Outcome, wait_s: float, excused: bool) -> None:
        match outcome:
            case Outcome.ACCEPTED:
                self.counters[f"accept:{m.lane}"] += not m.was_accepted
                m.was_accepted = True
                self._move(m, State.ACCEPTED)
                m.due = False
            case Outcome.REFUSED | Outcome.NOT_SENT if m.cancelled and (
                excused or outcome is Outcome.NOT_SENT
            ):
                self._end_cancelled(m)
            case Outcome.REFUSED if excused:
                self._defer(m, wait_s)
            case Outcome.REFUSED:
                self._finish(m, State.FAILED, DETAIL.split()[0])
            case Outcome.NOT_SENT:
                self._defer(m, wait_s)
            case Outcome.MAYBE_SENT if m.state is State.SENDING:
                self._doubt(m, wait_s)

    def _apply(self, m: Modelled, n: int, report: Report) -> None:
        before = m.state
        self._follow_report(m, n, report)
        has_ended = m.state is not before and m.state in {State.DELIVERED, State.FAILED}
        self.counters[f"delivery:{m.lane}"] += has_ended

    def _follow_report(self, m: Modelled, n: int, report: Report) -> None:
        if m.calls[n - 1].stat != report.stat:
            self._heed_report(m.calls[n - 1], report)
        m.calls[n - 1].stat = report.stat
        taken_back = self._takes_back(m, n, report)
        reason = f"report:{report.stat}"
        if report.code_class == "delivered":
            m.stat = report.stat
            if m.state is not State.DELIVERED:
                self._finish(m, State.DELIVERED)
            return
        if not m.is_last_sent(n) or (m.final and m.state is not State.UNREPORTED):
            return
        m.stat = report.stat
        if report.code_class == "permanent" or (
            report.code_class == "transient" and m.state is State.UNREPORTED
        ):
            self._finish(m, State.FAILED, reason)
        elif taken_back and m.waits and m.hold and not m.cancelled:
            self._hold(m)
        elif report.code_class == "transient" and m.state is State.ACCEPTED:
            self._try_again(m, n, report, reason)

    def _takes_back(self, m: Modelled, n: int, report: Report) -> bool:
        """Tell whether a call of which a report said that it did not arrive may have arrived."""
        if not (m.calls[n - 1].denied and (report.code_class == "delivered" or report.maybe_sent)):
            return False
        m.calls[n - 1].denied = False
        m.doubted_anew = m.is_last_sent(n)
        self.counters["possible_duplicates"] += not m.is_last_sent(n)
        return True

    def _try_again(self, m: Modelled, n: int, report: Report, reason: str) -> None:
        if report.pause == "account" and not report.maybe_sent and not m.cancelled:
            m.calls[n - 1].denied, m.last_reason = True, reason
            self._defer(m, report.wait_ms / 1000)
        elif report.maybe_sent and m.hold and not m.cancelled:
            self._hold(m)
        else:
            self._resend(m, report.wait_ms / 1000, reason)
            m.calls[n - 1].denied = not (report.maybe_sent or m.final)

    def _doubt(self, m: Modelled, wait_s: float) -> None:
        if m.cancelled:
            self._end_cancelled(m)
        elif m.hold:
            self._hold(m)
        else:
            self._resend(m, wait_s, "local:resends")

    def _resend(self, m: Modelled, wait_s: float, reason: str) -> None:
        if m.cancelled or m.resends >= self.budget or not m.fits(wait_s):
            self._finish(m, State.FAILED, reason)
        else:
            m.resends += 1
            m.last_reason = reason
            self._defer(m, wait_s)

    def _end_of_ttl(self, m: Modelled) -> None:
        """Expired means that it certainly was not sent."""
        if any(call.outcome in PERHAPS_SENT for call in m.calls):
            self._finish(m, State.FAILED, m.last_reason)
        else:
            self._finish(m, State.EXPIRED)

    def _defer(self, m: Modelled, wait_s: float) -> None:
        if m.state is not State.DEFERRED:
            self._move(m, State.DEFERRED)
        m.set_timer(wait_s)

    def _hold(self, m: Modelled) -> None:
        self._move(m, State.HELD)
        m.due = None

    def _finish(self, m: Modelled, state: State, reason: str | None = None) -> None:
        self._move(m, state)
        m.reason, m.due = reason, None
        if m.key and m.certainly_not_sent and self.holders[m.key][0] == m.name:
            del self.holders[m.key]
        m.key = None

    def _move(self, m: Modelled, state: State) -> None:
        assert state in NEXT[m.state], f"no way from {m.state} to {state}"
        m.state, m.parked = state, False
        self._count_state(m)

    def _count_state(self, m: Modelled) -> None:
        self.counters[f"messages:{m.lane}:{m.state}"] += 1


# Looking at both


@dataclass(frozen=True)
class View:
    """What is compared of a message."""

    state: str
    reason: str | None
    stat: str | None
    attempts: dict[int, tuple[str | None, str | None, str | None]]
    """Outcome, mid and stat; without those that may have been forgotten."""
    resends: int
    timer: bool
    payload: bool
    held: bool


@dataclass(frozen=True)
class Found:
    """What the server holds of a message."""

    fields: dict[str, str]
    payload: bool
    expires_ms: int
    timer: float | None
    held: float | None

    @property
    def state(self) -> State:
        return State(self.fields["state"])

    @property
    def n(self) -> int:
        return int(self.fields.get("n", 0))

    def view(self) -> View:
        attempts = {
            i: (
                self.fields.get(f"{i}:outcome"),
                self.fields.get(f"{i}:mid"),
                self.fields.get(f"{i}:stat"),
            )
            for i in range(1, self.n + 1)
        }
        return View(
            state=self.fields["state"],
            reason=self.fields.get("reason"),
            stat=self.fields.get("stat"),
            attempts=remembered(attempts),
            resends=int(self.fields.get("resends", 0)),
            timer=self.timer is not None,
            payload=self.payload,
            held=self.held is not None,
        )


def expected(m: Modelled) -> View:
    calls = enumerate(m.calls, start=1)
    return View(
        state=m.state,
        reason=m.reason,
        stat=m.stat,
        attempts=remembered({n: (call.outcome, call.mid, call.stat) for n, call in calls}),
        resends=0 if m.final else m.resends,
        timer=m.due is not None,
        payload=not m.final,
        held=m.state is State.HELD,
    )


def remembered(attempts: dict[int, Any]) -> dict[int, Any]:
    """Leave out old attempts that were not sent: the ledger may have forgotten them."""
    newest = max(attempts, default=0)
    return {
        n: attempt
        for n, attempt in attempts.items()
        if n > newest - KEPT_ATTEMPTS or attempt[0] not in {None, "not_sent"}
    }


def find(client: redis.Redis, message_ids: list[str]) -> Iterator[Found]:
    with client.pipeline(transaction=False) as pipe:
        for name in message_ids:
            pipe.hgetall(keys.message(name))
            pipe.exists(keys.payload(name))
            pipe.pttl(keys.message(name))
            pipe.zscore(keys.TIMERS, name)
            pipe.zscore(keys.HELD, name)
        answers = pipe.execute()
    for i in range(0, len(answers), 5):
        fields, payload, *rest = answers[i : i + 5]
        if fields:
            yield Found(unfolded(fields), bool(payload), *rest)


# The machine


@dataclass(frozen=True)
class Kind:
    """A kind of message."""

    lane: Lane
    hold: bool = False
    key: str | None = None
    ahead_s: int = 0
    template: str = "SMS_1001"
    campaign: str | None = None


KINDS: Final = (
    Kind(Lane.NOTICE),
    Kind(Lane.OTP),
    Kind(Lane.NOTICE, hold=True),
    Kind(Lane.OTP, hold=True, key="login"),
    Kind(Lane.BULK, key="login"),
    Kind(Lane.NOTICE, key="login", template="SMS_2002"),
    Kind(Lane.BULK, ahead_s=AHEAD_S),
    Kind(Lane.NOTICE, hold=True, ahead_s=AHEAD_S, key="other"),
    Kind(Lane.OTP, key="other"),
    Kind(Lane.BULK, campaign="spring"),
    Kind(Lane.NOTICE, hold=True, key="login", campaign="spring"),
    Kind(Lane.BULK, ahead_s=AHEAD_S, campaign="autumn"),
)

KEYED: Final = tuple(kind for kind in KINDS if kind.key)

REPORTS: Final = tuple(
    Report(
        stat,
        code_class,
        wait_s * 1000,
        maybe_sent=maybe_sent,
        counted_as=f"reports:{stat}",
        pause="account" if stat == "MA:0015" else "",
    )
    for stat, code_class, wait_s, maybe_sent in (
        ("DELIVRD", "delivered", 0, False),
        ("MA:0001", "permanent", 0, False),
        ("MO:0254", "transient", 60, True),
        ("MA:0003", "transient", 60, False),
        ("MA:0015", "transient", 60, False),
        ("EXPIRED", "transient", 7200, True),
        ("MO:9999", "unknown", 0, False),
        ("ACCEPTD", "pending", 0, False),
    )
)

message_ids = st.sampled_from("abcd")
waits_s = st.sampled_from([0, 60, 7200])
oldest_wake_ups = st.dictionaries(
    st.sampled_from(Lane), st.lists(message_ids, max_size=2), max_size=2
)
"""At once; within every ttl; beyond that of an otp, as 300 s are."""
ages = st.sampled_from([0, 0, 0, 1, 1, 2, 3, -1])
"""How many attempts ago; -1 is one that has not begun."""


class LedgerMachine(RuleBasedStateMachine):
    """Does everything to both, and compares them after every rule."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        super().__init__()
        client.flushall()
        self.client = client
        self.settings = settings
        self.entrance = LedgerWriter(client, settings)
        self.ask_to_cancel = partial(cancel, client, settings)
        self.gone: set[tuple[str, int]] = set()
        self.states: dict[str, State] = {}
        self.facts: dict[str, dict[str, str]] = {}
        self.had_outage = self.had_cancellations = False

    @initialize(budget=st.integers(0, 2))
    def open(self, budget: int) -> None:
        self.model = Model(budget)
        # A number's limits are not what this is about; a probe is due when a rule says so.
        rules = replace(
            self.settings.rules, max_resends=budget, phone_limits=(), probe_s=float(AHEAD_S)
        )
        self.ledger, self.control = Ledger(self.client, rules), Control(self.client, rules)
        self.campaigns = Campaigns(self.client, rules)
        # The first act of a release moves timers to the end of the ttl, at the latest; `end_ttl`
        # brings that forward without the timer.
        self.ledger.claim(resend_wait_s=0)

    @rule(name=message_ids, kind=st.sampled_from(KINDS))
    def enter(self, name: str, kind: Kind) -> None:
        options = {
            "lane": str(kind.lane),
            "key": kind.key,
            "on_ambiguous": "hold" if kind.hold else "resend",
            "send_at": time.time() + kind.ahead_s if kind.ahead_s else None,
            "campaign": kind.campaign,
        }
        is_new = name not in self.model.messages
        state: State | None = None
        with suppress(KeyConflict, CampaignCancelled):
            message = parse(("13800138000", kind.template), options)
            state = self.entrance.enter(name, message).state
        assert state is self.model.enter(name, kind)
        if is_new and state and state not in FINAL:
            self.take_over_publication(name)

    @rule(name=st.sampled_from("cd"))
    def refuse(self, name: str) -> None:
        assert self.entrance.refuse(name, "it breaks a rule") is self.model.refuse(name)

    @rule(name=message_ids)
    def unpublished(self, name: str) -> None:
        self.entrance.unpublished(name)
        self.model.unpublished(name)

    @rule(name=message_ids)
    def admit(self, name: str) -> None:
        admission = self.ledger.admit(name)
        told: tuple[str, State | int | None]
        if isinstance(admission, Admitted):
            told = "go", admission.attempt
            assert (name, admission.attempt) not in self.gone
            self.gone.add((name, admission.attempt))
        else:
            assert isinstance(admission, Rejected)
            told = admission.why, admission.state
        assert told == self.model.admit(name)
        if isinstance(admission, Admitted):
            begun = self.client.hget(keys.message(name), f"{admission.attempt}:at")
            self.model.messages[name].calls[-1].begun = int(str(begun))

    @rule(
        name=message_ids,
        age=ages,
        outcome=st.sampled_from(Outcome),
        has_mid=st.booleans(),
        wait_s=waits_s,
    )
    def record(self, name: str, age: int, outcome: Outcome, has_mid: bool, wait_s: float) -> None:
        n = self.attempt(name, age)
        # The gateway's client gives a mid with `accepted` alone.
        mid = mid_of(name, n) if has_mid and outcome is Outcome.ACCEPTED else ""
        detail = "" if mid else DETAIL
        state = self.ledger.record(name, n, outcome, detail=detail, mid=mid, wait_s=wait_s)
        self.take_over_moment()
        assert state is self.model.record(name, n, outcome, mid, wait_s)

    @rule(name=message_ids, age=ages, report=st.sampled_from(REPORTS))
    def report(self, name: str, age: int, report: Report) -> None:
        """Also of calls whose answer is not recorded yet, or will never be."""
        mid = mid_of(name, self.attempt(name, age))
        told = self.ledger.report(mid, report.stat, report)
        self.take_over_moment()
        assert told == self.model.report(mid, report)

    @rule(name=message_ids)
    def end_ttl(self, name: str) -> None:
        m = self.model.messages.get(name)
        if m and not m.final:
            self.client.hset(keys.message(name), "expires", PAST)
            m.over = True

    @rule(resend_wait_s=waits_s, oldest=oldest_wake_ups)
    def claim(self, resend_wait_s: float, oldest: Oldest) -> None:
        self.client.hdel(keys.CLOCK, "campaigns")  # As if the last slice had been a while ago.
        woken = self.ledger.claim(resend_wait_s=resend_wait_s, oldest=oldest).wake
        assert len(woken) == len(set(woken))
        assert set(woken) == self.model.claim(resend_wait_s, oldest)
        for name, _ in woken:
            self.take_over_publication(name)

    @rule(name=message_ids, resend_wait_s=waits_s)
    def run_out(self, name: str, resend_wait_s: float) -> None:
        self.client.zadd(keys.TIMERS, {name: PAST}, xx=True)
        m = self.model.messages.get(name)
        if m and m.due is not None:
            m.due = True
        self.claim(resend_wait_s, {})

    @rule(name=message_ids)
    def was_published_long_ago(self, name: str) -> None:
        m = self.model.messages.get(name)
        if m and m.state is State.QUEUED and m.published:
            m.published = self.client.hincrby(keys.message(name), "published", -2 * SLOW_MS)

    @rule(names=st.lists(message_ids, max_size=3))
    def in_hand(self, names: list[str]) -> None:
        self.ledger.in_hand(names)
        self.model.in_hand(names)

    @rule(name=message_ids, decision=st.sampled_from(["resend", "drop"]))
    def decide(self, name: str, decision: Decision) -> None:
        assert self.ledger.decide(name, decision) == self.model.decide(name, decision)

    @rule(name=st.sampled_from(["spring", "autumn"]), deed=st.sampled_from(["pause", "resume"]))
    def stop_campaign(self, name: str, deed: Any) -> None:
        before = self.model.campaigns.get(name, "unknown")
        assert self.campaigns.do(deed, name) == before
        if before in {"", "paused"}:
            self.model.campaigns[name] = "paused" if deed == "pause" else ""

    @precondition(lambda self: "cancelled" not in self.model.campaigns.values())
    @rule(name=st.sampled_from(["spring", "autumn"]), kind=st.sampled_from(KEYED))
    def cancel_campaign(self, name: str, kind: Kind) -> None:
        """Cancel one, take its keys before the sweep, and let that come to its end."""
        before = self.campaigns.do("cancel", name)
        assert before == self.model.campaigns.get(name, "unknown")
        if before == "unknown":
            return
        self.model.cancel_campaign(name)
        self.enter("e", kind)
        while not is_swept(self.client):
            self.client.hset(keys.CAMPAIGN_SWEEP, "at", 0)
            self.claim(60, {})

    @rule(name=message_ids)
    def cancel(self, name: str) -> None:
        (found,) = self.ask_to_cancel([name])
        told = (found.answer, State(found.state)) if found else (None, None)
        assert told == self.model.cancel(name)

    @precondition(lambda self: not self.had_cancellations)
    @rule(report=st.sampled_from(REPORTS), is_later=st.booleans())
    def cancel_under_way(self, report: Report, is_later: bool) -> None:
        """Cancel messages while an attempt is under way or, if it comes to that, accepted."""
        self.had_cancellations = True
        self.resume()
        for outcome, hold in product(Outcome, (False, True)):
            name = f"{outcome}-{hold}"
            self.enter(name, Kind(Lane.NOTICE, hold=hold))
            self.hurry(name)
            if not is_later:
                self.cancel(name)
            self.record(name, 0, outcome, True, 60)
            self.cancel(name)
            self.report(name, 0, report)

    @rule()
    def pause(self) -> None:
        changed = self.control.pause(ACCOUNT, "by hand")
        self.take_over_moment()
        assert changed is self.model.pause()

    @rule()
    def resume(self) -> None:
        changed = self.control.resume(ACCOUNT, "by hand")
        self.take_over_moment()
        assert changed is self.model.resume()

    @rule()
    def probe(self) -> None:
        if stored := self.stored_pause():
            due = json.dumps(stored | {"probe_at": PAST})
            self.client.hset(keys.PAUSES, ACCOUNT, due)
        self.model.probe_is_due()
        self.claim(60, {})

    @rule()
    def refuse_many(self) -> None:
        """Have nearly as many refusals behind us as pause the account."""
        self.model.refusals = REFUSALS_IN_A_ROW - 1
        self.client.hset("smsq:health", "refusals", self.model.refusals)

    @rule(name=message_ids)
    def hurry(self, name: str) -> None:
        """Bring a message to its next call where it can go, to get further in a few steps."""
        self.run_out(name, 0)
        self.run_out(name, 0)
        self.admit(name)

    @rule(name=message_ids, kind=st.sampled_from(KEYED), outcome=st.sampled_from(Outcome))
    def use_key(self, name: str, kind: Kind, outcome: Outcome) -> None:
        """Bring a message with a key to its end, where it can go, and ask for its key again."""
        self.enter(name, kind)
        self.hurry(name)
        self.record(name, 0, outcome, False, 0)
        self.end_ttl(name)
        self.run_out(name, 0)
        self.enter("d", kind)

    @precondition(lambda self: not self.had_outage)
    @rule(name=message_ids)
    def outage(self, name: str) -> None:
        """Make more attempts that were not sent than the ledger remembers."""
        self.had_outage = True
        for _ in range(KEPT_ATTEMPTS + 2):
            self.hurry(name)
            self.record(name, 0, Outcome.NOT_SENT, False, 0)
        self.record(name, KEPT_ATTEMPTS + 1, Outcome.NOT_SENT, False, 0)

    def attempt(self, name: str, age: int) -> int:
        m = self.model.messages.get(name)
        return max(1, len(m.calls) - age) if m else 1

    def stored_pause(self) -> dict[str, Any]:
        text = self.client.hget(keys.PAUSES, ACCOUNT)
        return json.loads(str(text)) if text else {}

    def take_over_moment(self) -> None:
        """Tell the model when the last pause or resumption was: now, if there was one now."""
        resumed = self.client.hget("smsq:resumed", ACCOUNT)
        self.model.moment = max(int(str(resumed or 0)), self.stored_pause().get("since", 0))

    def take_over_publication(self, name: str) -> None:
        """Tell the model the server's time, which is the one thing that it cannot know."""
        published = self.client.hget(keys.message(name), "published")
        self.model.messages[name].published = int(str(published))

    @invariant()
    def compare(self) -> None:
        for key in ("login", "other"):
            holder = self.client.get(f"smsq:k:{keys.phone_hash(key)}")
            assert holder == self.model.holders.get(key, (None,))[0]
        names = list(self.model.messages)
        found = dict(zip(names, find(self.client, names), strict=True))
        for name, there in found.items():
            assert there.view() == expected(self.model.messages[name]), name
            check_message(there, self.model.budget)
            before = self.states.get(name, there.state)
            assert there.state in reachable(before), f"{name}: from {before} to {there.state}"
            self.states[name] = there.state
            self.check_facts(name, there)
        self.compare_the_rest(found)
        for name in self.model.campaigns:
            self.compare_campaign(name, found)
        self.check_duplicates(found)

    def check_facts(self, name: str, there: Found) -> None:
        """Hold what never changes to what it was, however the message is kept."""
        before = self.facts.setdefault(name, {})
        now = {k: v for k, v in there.fields.items() if k in FACTS or k.endswith(":at")}
        assert now.items() >= {k: v for k, v in before.items() if k in FACTS}.items()
        assert all(now[k] == before[k] for k in now.keys() & before.keys())
        before |= now

    def compare_campaign(self, name: str, found: Mapping[str, Found]) -> None:
        """Hold what is counted of a campaign to the messages themselves."""
        counted: Counter[str] = Counter()
        for message, there in found.items():
            m = self.model.messages[message]
            if m.campaign != name:
                continue
            counted[f"{m.lane}:{there.state}"] += 1
            if there.state in {State.QUEUED, State.DEFERRED}:
                counted[f"doubted:{m.lane}"] += not m.certainly_not_sent
            if there.state is State.FAILED:
                counted[f"reason:{there.fields['reason']}"] += 1
        record: Any = self.client.hgetall(keys.campaign(name))
        others = {field: int(n) for field, n in record.items() if field.startswith(NOT_STATES)}
        counts = counts_of(record) + Counter(others)
        assert counts == +counted
        assert min(counts_of(record).values(), default=0) >= 0
        room = self.client.zrange(keys.CAMPAIGN_ROOM + name, 0, -1)
        parked = {n for n, m in self.model.messages.items() if m.parked and m.campaign == name}
        assert set(room) == parked
        has_live = any(self.model.messages[n].campaign == name for n in found_live(found))
        assert ("ended" in record) is not has_live

    def compare_the_rest(self, found: Mapping[str, Found]) -> None:
        model = self.model
        mids = [*model.mids, *model.parked]
        with self.client.pipeline(transaction=False) as pipe:
            for key in (keys.TIMERS, keys.HELD, keys.PARKED):
                pipe.zrange(key, 0, -1)
            pipe.hgetall(keys.LIVE)
            for mid in mids:
                pipe.get(keys.mid(mid))
            for mid in mids:
                pipe.lrange(keys.early(mid), 0, -1)
            for name in ("leases", "otp", "notice"):
                pipe.zrange(f"{keys.TIMERS}:{name}", 0, -1)
            timers, held, parked, gauge, *of_mids, leases, otps, notices = pipe.execute()
        live = {name for name, there in found.items() if there.state not in FINAL}
        assert set(held) == {name for name in live if found[name].state is State.HELD}
        assert set(timers) == live - set(held)
        assert set(leases) == {name for name in live if found[name].state is State.SENDING}
        again = {name for name in live if found[name].state is State.DEFERRED}
        for lane, indexed in ((Lane.OTP, otps), (Lane.NOTICE, notices)):
            assert set(indexed) == {n for n in again if found[n].fields["lane"] == lane}
        assert set(parked) == set(model.parked)
        in_states = Counter(f"{there.fields['lane']}:{there.state}" for there in found.values())
        final = [name for name in in_states if name.split(":")[1] in FINAL]
        assert {name: int(n) for name, n in gauge.items() if n != "0"} == {
            name: n for name, n in in_states.items() if name not in final
        }
        cause = model.paused.cause if model.paused else None
        assert self.stored_pause().get("cause") == cause
        assert without_buckets(self.ledger.counters()) == +model.counters
        for mid, leads_to, early in zip(
            mids, of_mids[: len(mids)], of_mids[len(mids) :], strict=True
        ):
            name, n = model.mids.get(mid, (None, None))
            assert leads_to == (f"{n} {name}" if name else None)
            stats = [report.stat for report in model.parked.get(mid, [])]
            assert [json.loads(report)["stat"] for report in early] == stats

    def check_duplicates(self, found: Mapping[str, Found]) -> None:
        """Hold the counter to the calls themselves: none beyond the first goes uncounted."""
        counted = self.ledger.counters().get("possible_duplicates", 0)
        repeated = sum(there.n - 1 for there in found.values() if there.n)
        doubled = sum(max(0, perhaps_sent(m) - 1) for m in self.model.messages.values())
        assert doubled <= counted <= repeated


def found_live(found: Mapping[str, Found]) -> list[str]:
    return [name for name, there in found.items() if there.state not in FINAL]


def without_buckets(counters: Mapping[str, int]) -> Counter[str]:
    """Give the counters, of each duration how many there were: how long it took is the server's."""
    found: Counter[str] = Counter()
    for name, count in counters.items():
        if name.partition(":")[0] not in BOUNDS_MS:
            found[name] = count
        elif not name.endswith(":sum"):
            found[name.rpartition(":")[0]] += count
    return found


def mid_of(name: str, n: int) -> str:
    """Give the mid by which the gateway answers a call, or would have."""
    return f"MID-{name}-{n}"


def perhaps_sent(m: Modelled) -> int:
    """Count the calls by which the message may have gone out, the one under way included."""
    return sum(call.perhaps_sent or call.outcome is None for call in m.calls)


def reachable(state: State) -> set[State]:
    """Give the states to which the table leads, in any number of steps: an act can make some."""
    found = {state}
    while more := {after for before in found for after in NEXT[before]} - found:
        found |= more
    return found


def check_message(there: Found, budget: int) -> None:
    """Hold what the server says of a message to the promises that need no model."""
    view, final = there.view(), there.state in FINAL
    assert [final, view.held, view.timer].count(True) == 1
    assert view.payload is not final
    assert (there.expires_ms > 0) is final
    assert view.resends <= budget
    outcomes = [outcome for outcome, _, _ in view.attempts.values()]
    assert None not in outcomes[:-1]
    if there.state is State.SENDING:
        assert outcomes[-1] is None
    elif not final:
        assert None not in outcomes
    if there.state is State.EXPIRED:
        assert PERHAPS_SENT.isdisjoint(outcomes)
    ends = int(there.fields.get("expires", PAST))
    if there.state in {State.QUEUED, State.DEFERRED} and ends != PAST:
        assert there.timer is not None
        assert there.timer <= ends


@pytest.mark.timeout(120 + EXAMPLES)
def test_the_ledger_does_what_the_model_does(base_environ: Mapping[str, str]) -> None:
    compare(LedgerMachine, base_environ, EXAMPLES)
