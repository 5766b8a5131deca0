"""The ledger: the truth about every message, kept in Redis.

Each act that must be atomic is one Lua file in `lua/`, called by one method here. After the
entry (`smsq.enqueue`) nothing else writes these keys.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, Literal

from smsq import keys
from smsq.connection import Client, mapped_errors
from smsq.contract import Lane, State
from smsq.enqueue import FIRST_CHECK_S
from smsq_worker.states import NEXT, Outcome

Decision = Literal["resend", "drop"]

CLAIM_AT_MOST = 200
REPORTS_PER_MID = 16


@dataclass(frozen=True, slots=True)
class Times:
    """What the ledger needs to know of the settings."""

    url: str
    lease_s: float
    report_wait_s: int
    retention_s: int
    max_resends: int


@dataclass(frozen=True, slots=True)
class Go:
    """A message may be sent now; `attempt` is the fencing number to record the answer with."""

    attempt: int
    phone: str
    template: str
    code: str

    def __repr__(self) -> str:
        return f"Go(attempt={self.attempt})"


@dataclass(frozen=True, slots=True)
class Stay:
    """A message may not be sent now: it is unknown, expired or this is a copy of its wake-up."""

    why: str
    state: State | None


@dataclass(frozen=True, slots=True)
class Report:
    """A delivery report as the catalogue understands it."""

    stat: str
    code_class: str
    wait_ms: int
    maybe_sent: bool
    counted_as: str


@dataclass(frozen=True, slots=True)
class Due:
    """Wake-ups to publish, and when to ask again; None where no message waits for anything."""

    wake: tuple[tuple[str, Lane], ...]
    next_s: float | None


class Ledger:
    """The acts on the ledger. Every method raises LedgerUnavailable where Redis fails."""

    def __init__(self, client: Client, times: Times) -> None:
        self._client = client
        self._times = times
        prelude = _prelude(times)
        self._admit = client.register_script(prelude + _lua("admit"))
        self._record = client.register_script(prelude + _lua("record"))
        self._report = client.register_script(prelude + _lua("report"))
        self._decide = client.register_script(prelude + _lua("decide"))
        self._claim = client.register_script(prelude + _lua("claim"))
        self._claim_reports = client.register_script(_lua("claim_reports"))

    def admit(self, message_id: str) -> Go | Stay:
        """Let a message go, if it may."""
        answer = self._run(self._admit, message_id, round(self._times.lease_s * 1000))
        if answer[0] == "go":
            phone, code = json.loads(answer[2])
            return Go(attempt=int(answer[1]), phone=phone, template=answer[3], code=code)
        return Stay(answer[0], State(answer[1]) if len(answer) > 1 else None)

    def record(
        self,
        message_id: str,
        attempt: int,
        outcome: Outcome,
        *,
        detail: str,
        mid: str = "",
        wait_s: float = 0,
    ) -> State | None:
        """Write down what a call came to; give the state that follows, None where unknown.

        `wait_s` is how long to wait before another attempt, should there be one.
        """
        state, _ = self._run(
            self._record, message_id, attempt, outcome, detail, mid, round(wait_s * 1000)
        )
        return None if state == "unknown" else State(state)

    def report(self, mid: str, stat: str, report: Report) -> tuple[str, str | None]:
        """Apply a report: (state, message id), or ("parked", None) where nobody knows its mid.

        `mid` and `stat` are as they came, to find the report in the inbox.
        """
        body = json.dumps(
            {
                "stat": report.stat,
                "class": report.code_class,
                "wait_ms": report.wait_ms,
                "maybe_sent": report.maybe_sent,
            }
        )
        state, message_id = self._run(
            self._report, mid, body, REPORTS_PER_MID, _inbox_member(mid, stat), report.counted_as
        )
        return state, message_id or None

    def take_in(self, reports: Iterable[tuple[str, str]], *, wake_after_s: float) -> None:
        """Keep reports (mid, stat) safe until they are reconciled."""
        with mapped_errors(self._times.url):
            seconds, _ = self._client.time()
            due = (seconds + wake_after_s) * 1000
            self._client.zadd(keys.INBOX, {_inbox_member(*report): due for report in reports})

    def decide(self, message_id: str, decision: Decision) -> tuple[str, State | None]:
        """Resend or drop a held message: ("done", "unknown", "not held" or "too late", state)."""
        told, state = self._run(self._decide, message_id, decision)
        return told, State(state) if state else None

    def held(self, at_most: int) -> list[tuple[str, datetime]]:
        """List held messages, the longest held first: (id, since when)."""
        return self._oldest(keys.HELD, at_most)

    def parked(self, at_most: int) -> list[tuple[str, datetime]]:
        """List mids whose reports are parked because nobody knows them: (mid, since when)."""
        return self._oldest(keys.PARKED, at_most)

    def parked_stats(self, mid: str) -> list[str]:
        """Give the stats of the reports that are parked for a mid."""
        with mapped_errors(self._times.url):
            reports = self._client.lrange(keys.early(mid), 0, -1)
        return [str(json.loads(report)["stat"]) for report in reports]

    def claim(self, *, resend_wait_s: float, empty: Iterable[Lane]) -> Due:
        """Do what is due, and say which wake-ups are to be published."""
        next_ms, *pairs = self._run(
            self._claim, CLAIM_AT_MOST, FIRST_CHECK_S * 1000, round(resend_wait_s * 1000), *empty
        )
        wake = tuple(zip(pairs[::2], map(Lane, pairs[1::2]), strict=True))
        return Due(wake, None if int(next_ms) < 0 else int(next_ms) / 1000)

    def claim_reports(self, *, wake_after_s: float) -> list[tuple[str, str]]:
        """Give reports (mid, stat) whose wake-up was lost."""
        with mapped_errors(self._times.url):
            members = self._claim_reports(
                keys=[keys.INBOX], args=[CLAIM_AT_MOST, round(wake_after_s * 1000)]
            )
        return [(mid, stat) for mid, stat in map(json.loads, members)]

    def counters(self) -> dict[str, int]:
        """Read all counters."""
        with mapped_errors(self._times.url):
            found = self._client.hgetall(keys.COUNTERS)
        return {str(name): int(value) for name, value in found.items()}

    def waiting(self) -> tuple[int, int]:
        """Count the held messages and the mids of parked reports."""
        with mapped_errors(self._times.url):
            return self._client.zcard(keys.HELD), self._client.zcard(keys.PARKED)

    def ping(self) -> None:
        """Ask Redis whether it is there."""
        with mapped_errors(self._times.url):
            self._client.ping()

    def _oldest(self, key: str, at_most: int) -> list[tuple[str, datetime]]:
        with mapped_errors(self._times.url):
            found: Any = self._client.zrange(key, 0, at_most - 1, withscores=True)
        return [(str(name), datetime.fromtimestamp(at / 1000, UTC)) for name, at in found]

    def _run(self, script: Any, *args: str | float) -> Any:
        with mapped_errors(self._times.url):
            return script(args=list(args))


def _inbox_member(mid: str, stat: str) -> str:
    return json.dumps([mid, stat])


def _lua(name: str) -> str:
    return files(__name__).joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")


def _prelude(times: Times) -> str:
    ways = ",".join(
        f"{before}={{{','.join(f'{after}=true' for after in sorted(afters))}}}"
        for before, afters in NEXT.items()
    )
    return (
        f"local NEXT = {{{ways}}}\n"
        f"local RETENTION = {times.retention_s * 1000}\n"
        f"local REPORT_WAIT = {times.report_wait_s * 1000}\n"
        f"local MAX_RESENDS = {times.max_resends}\n" + _lua("common")
    )
