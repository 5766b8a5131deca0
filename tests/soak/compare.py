"""Compare the ledger with the gateway's own log."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Final

import smsq
from smsq.contract import State
from smsq.tracking import Attempt
from soak.plan import LEASE_S, MAX_RESENDS, OVER_LEASE_S, WELL

SLACK: Final = timedelta(seconds=1)
"""From a request's departure to the sandbox's log, on a busy machine."""
LEASE: Final = timedelta(seconds=LEASE_S)
LATE: Final = timedelta(seconds=OVER_LEASE_S + 3)
"""A worker that was stopped has told by then what its calls came to."""
TOLD_AT_MOST: Final = 3


@dataclass(frozen=True)
class Acceptance:
    """A call that the gateway accepted: an SMS."""

    at: datetime
    mid: str


@dataclass
class Result:
    """What the comparison found."""

    messages: int = 0
    lost: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    untrue: list[str] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)
    """Processes, or threads in living ones, that ended by themselves or hang."""
    duplicates: int = 0
    doubts_counted: int = 0
    slowest_s: float = 0.0
    states: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)

    def good(self, policy: str) -> bool:
        """Tell whether every promise was kept."""
        allowed = 0 if policy == "hold" else self.doubts_counted
        broken = self.lost or self.stuck or self.untrue or self.dead
        return not broken and self.duplicates <= allowed

    def lines(self) -> Iterator[str]:
        """Describe the result, with the first of each kind of violation in full."""
        yield f"messages            {self.messages}"
        yield f"states              {dict(self.states.most_common())}"
        yield f"faults              {dict(self.faults)}"
        for name in ("lost", "stuck", "untrue", "dead"):
            found: list[str] = getattr(self, name)
            yield f"{name:19} {len(found)}"
            yield from found[:TOLD_AT_MOST]
        if self.slowest_s:
            yield f"slowest delay()     {self.slowest_s:.1f} s"
        yield f"duplicates          {self.duplicates}"
        yield f"doubts counted      {self.doubts_counted}"


def compare(
    sent: Mapping[str, str],
    statuses: Mapping[str, smsq.Status | None],
    accepted: Mapping[str, Sequence[Acceptance]],
    policy: str = "resend",
    goes_on: Callable[[str], bool] = lambda _: False,
) -> Result:
    """Compare messages, numbers by id, with what was accepted for their numbers.

    `goes_on` tells of which codes a message that an account accepted goes on to another, because it
    certainly did not arrive: two acceptances are no duplicate then.
    """
    result = Result(messages=len(sent))
    for message_id, phone in sent.items():
        status, calls = statuses[message_id], accepted.get(phone, ())
        came_not = sum(goes_on(one.stat or "") for one in status.attempts[:-1]) if status else 0
        sms = calls[came_not:]
        result.duplicates += max(0, len(sms) - 1)
        if status is None:
            result.lost.append(f"{phone} {message_id}")
            continue
        result.states[f"{status.state} {status.reason or ''}".strip()] += 1
        if not (status.final or status.state == State.HELD):
            result.stuck.append(story(phone, status, calls))
        for why in untruths(status, calls, sms, policy):
            result.untrue.append(f"{why}: {story(phone, status, calls)}")
    return result


def untruths(
    status: smsq.Status, calls: Sequence[Acceptance], sms: Sequence[Acceptance], policy: str
) -> Iterator[str]:
    """Name what the ledger says of a message that is not so."""
    if status.state == "delivered" and not calls:
        yield "delivered, and never accepted"
    if status.state in {"expired", "cancelled"} and calls:
        yield "certainly not sent, and accepted"
    if status.reason in {"local:invalid", "local:lost"}:
        yield "it was valid, and Redis evicts nothing"
    if policy == "hold" and len(sms) > 1:
        yield "accepted more than once under hold"


def gave_up(phone: str, status: smsq.Status) -> bool:
    """Tell whether a message to a number that works failed for doubt before its resends were spent.

    A resend is spent on each attempt in doubt, but for the last.
    """
    doubt = status.reason == "local:resends" and status.lane != "otp"
    return doubt and phone.endswith(WELL) and len(list(_doubted(status))) < MAX_RESENDS


def _doubted(status: smsq.Status) -> Iterator[Attempt]:
    # What was learnt of an attempt when all was over does not count against the end.
    ended = status.finished_at or datetime.now(UTC)
    for attempt in status.attempts[:-1]:
        if attempt.outcome != "not_sent" or attempt.started_at + LATE > ended:
            yield attempt


def unaccounted(attempts: Sequence[Attempt], calls: Sequence[Acceptance]) -> Acceptance | None:
    """Return the first SMS that no attempt accounts for: one that sent it, and under its lease.

    Each attempt accounts for one, and none where it is said to have sent nothing.
    """
    able = [one for one in attempts if one.outcome not in {"not_sent", "refused"}]
    for call in calls:
        own = [one for one in able if one.mid == call.mid] or [one for one in able if not one.mid]
        found = next((one for one in own if _covers(one, call)), None)
        if found is None:
            return call
        able.remove(found)
    return None


def _covers(attempt: Attempt, call: Acceptance) -> bool:
    return attempt.started_at - SLACK <= call.at <= attempt.started_at + LEASE + SLACK


def story(phone: str, status: smsq.Status, calls: Sequence[Acceptance]) -> str:
    """Describe a message in some lines: what the ledger and what the gateway knows."""
    reason = f" {status.reason}" if status.reason else ""
    told = f"{phone} {status.id} {status.lane} {status.state}{reason}, accepted {len(calls)}"
    events = [(status.enqueued_at, "enqueued")]
    for one in status.attempts:
        words = f"attempt {one.n}: {one.outcome} ({one.detail}), mid {one.mid}, report {one.stat}"
        events.append((one.started_at, words))
    events += [(one.at, f"the gateway accepted, mid {one.mid}") for one in calls]
    if status.finished_at:
        events.append((status.finished_at, status.state))
    return "\n    ".join([told, *(f"{at:%H:%M:%S.%f} {words}" for at, words in sorted(events))])


def read_journals(*paths: Path) -> dict[str, list[Acceptance]]:
    """Read the sandboxes' logs: what they accepted by number, in order."""
    accepted = defaultdict[str, list[Acceptance]](list)
    for line in chain.from_iterable(path.read_text().splitlines() for path in paths):
        one = json.loads(line)
        accepted[one["phone"]].append(Acceptance(datetime.fromisoformat(one["at"]), one["mid"]))
    return {phone: sorted(calls, key=lambda one: one.at) for phone, calls in accepted.items()}
