"""The two ledgers that must behave alike, in the same words: of the outbox, and in Redis.

What a backend calls goes through smsq itself. What a worker does is done to the ledger by its acts,
without a worker.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import redis

import smsq
from harness import clock_step
from harness.campaigns import is_swept
from harness.scene import PHONE, TEMPLATE, Scene, mid_of
from smsq import KeyConflict, keys, ledgers
from smsq.contract import Lane, parse_named
from smsq.keys import phone_hash
from smsq.memory import MemoryLedger, campaigns, endings, reports, sending
from smsq.memory.campaigns import Deed
from smsq.memory.rules import Meaning
from smsq.outcomes import outcome_of
from smsq.results import SendResult
from smsq.tracking import Status
from smsq_worker.config.settings import Settings
from smsq_worker.domain.states import Outcome
from smsq_worker.ledger import Admitted, Rejected, Report
from smsq_worker.ledger.callbacks import Callbacks
from smsq_worker.ledger.campaigns import Campaigns

HOUR = 3600.0
DAY = 24 * HOUR
ROW = {"template": TEMPLATE, "code": "482913", "send_at": None, "campaign": None}


class Side(Protocol):
    """What the cases need of a ledger."""

    def admit(self, name: str = "m1") -> int | str:
        """Return the attempt's number, or why there is none."""

    def record(self, name: str, outcome: Outcome, *, attempt: int = 0, **more: Any) -> str | None:
        """Record what an attempt came to, the last where none is named; return the state."""

    def report_on(self, mid: str, report: Report) -> str: ...

    def decide(self, name: str, decision: str) -> str: ...

    def suppress(self, reason: str, for_s: float, lanes: Sequence[Lane] = ()) -> None: ...

    def campaign(self, deed: Deed, name: str) -> str:
        """Pause, resume or cancel a campaign; return what it was."""

    def unsuppress(self) -> None: ...

    def now_s(self) -> float: ...

    def told(self) -> list[Mapping[str, Any]]:
        """Take what `notify` tasks get."""

    def sleep(self, seconds: float) -> None:
        """Let time pass, and nothing happen meanwhile."""

    def advance(self, seconds: float) -> None:
        """Let time pass, and let happen what is due."""


class Play:
    """The words of the cases, over either side."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.admit, self.record, self.report_on = side.admit, side.record, side.report_on
        self.decide, self.suppress, self.campaign = side.decide, side.suppress, side.campaign
        self.told, self.advance, self.sleep = side.told, side.advance, side.sleep
        self.unsuppress = side.unsuppress

    def enter(
        self, name: str = "m1", *, phone: str = PHONE, template: str = TEMPLATE, **options: Any
    ) -> SendResult:
        return smsq.send_sms.apply_async((phone, template, "482913"), options, task_id=name)

    def enter_in(self, wait_s: float | None, name: str, **options: Any) -> SendResult:
        """Enter a message to be sent so many seconds from now."""
        send_at = None if wait_s is None else self.side.now_s() + wait_s
        return self.enter(name, **options, send_at=send_at)

    def enter_some(self, rows: Sequence[dict[str, Any]], stop: bool) -> list[Any]:
        """Enter messages in one act, as `send_many` does; return what it answers of each."""
        given = [(row["task"], parse_named(ROW | _without(row, "task"))) for row in rows]
        answers = ledgers.do(ledgers.current().entering_many(given, stop))
        return [
            one.holder if isinstance(one, KeyConflict) else (one.state, one.duplicate_of)
            for one in answers
        ]

    def status(self, name: str = "m1") -> Status:
        status = smsq.status(name)
        assert status is not None
        return status

    def state(self, name: str = "m1") -> str:
        return self.status(name).state

    def why(self, name: str = "m1") -> tuple[str, str | None]:
        status = self.status(name)
        return status.state, status.reason

    def go(self, name: str = "m1") -> int:
        n = self.admit(name)
        assert isinstance(n, int), n
        return n

    def call(self, outcome: Outcome, name: str = "m1", **more: Any) -> str | None:
        """Let a message go, and record what the call came to."""
        self.go(name)
        return self.record(name, outcome, **more)

    def accept(self, name: str = "m1") -> None:
        self.call(Outcome.ACCEPTED, name)

    def report(self, report: Report, name: str = "m1", *, attempt: int = 0) -> str:
        n = attempt or len(self.status(name).attempts)
        return self.report_on(mid_of(name, n), report)


def _without(row: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != name}


def as_meaning(report: Report) -> Meaning:
    return Meaning(**{one.name: getattr(report, one.name) for one in fields(Meaning)})


class InMemory:
    """The ledger of the outbox."""

    def __init__(self, ledger: MemoryLedger) -> None:
        self.ledger = ledger

    def admit(self, name: str = "m1") -> int | str:
        return self.ledger.act(sending.admit, name)

    def record(self, name: str, outcome: Outcome, *, attempt: int = 0, **more: Any) -> str | None:
        status = self.ledger.look_up(name)
        n = attempt or (status.attempts[-1].n if status and status.attempts else 0)
        result = _result(name, n, outcome, more)
        state = self.ledger.act(sending.record, name, n, outcome, **result)
        return None if state == "unknown" else state

    def report_on(self, mid: str, report: Report) -> str:
        return self.ledger.act(reports.report, mid, as_meaning(report))

    def decide(self, name: str, decision: str) -> str:
        return self.ledger.act(endings.decide, name, decision)

    def suppress(self, reason: str, for_s: float, lanes: Sequence[Lane] = ()) -> None:
        self.ledger.suppress(PHONE, reason, for_s, lanes)

    def campaign(self, deed: Deed, name: str) -> str:
        return self.ledger.act(campaigns.do, deed, name)

    def unsuppress(self) -> None:
        with self.ledger._at_once() as book:
            book.numbers._suppressed.pop(phone_hash(PHONE), None)

    def now_s(self) -> float:
        return self.ledger._book.now / 1000

    def told(self) -> list[Mapping[str, Any]]:
        return [outcome_of(one, one.get("raw") or one.get("stat")) for one in self.ledger.ended()]

    def sleep(self, seconds: float) -> None:
        self.ledger.clock.advance(seconds)

    def advance(self, seconds: float) -> None:
        self.ledger.advance(seconds)


def _result(name: str, n: int, outcome: Outcome, more: dict[str, Any]) -> dict[str, Any]:
    mid = mid_of(name, n) if outcome is Outcome.ACCEPTED else ""
    return {"detail": "gateway:400 said so", "wait_s": 60.0, "mid": mid} | more


@contextmanager
def in_memory(ledger: MemoryLedger | None = None) -> Iterator[Play]:
    with ledgers.replaced_by(own := ledger or MemoryLedger()):
        yield Play(InMemory(own))


class InRedis:
    """The real one, with the acts of a worker's ledger."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        # What stops all messages alike is a worker's, and no outbox has it.
        self.scene = Scene(client, settings, breaker=None, template_pause=())
        self.callbacks = Callbacks(client, self.scene.rules)
        self.campaigns = Campaigns(client, self.scene.rules)

    def admit(self, name: str = "m1") -> int | str:
        admission = self.scene.admit(name)
        if isinstance(admission, Admitted):
            return admission.attempt
        assert isinstance(admission, Rejected), admission
        return admission.why

    def record(self, name: str, outcome: Outcome, *, attempt: int = 0, **more: Any) -> str | None:
        n = attempt or int(self.scene.field(name, "n") or 0)
        return self.scene.ledger.record(name, n, outcome, **_result(name, n, outcome, more))

    def report_on(self, mid: str, report: Report) -> str:
        state = self.scene.report_on(mid, report)
        for scope in self.scene.paused():
            self.scene.control.resume(scope, "a test")
        return state

    def decide(self, name: str, decision: Any) -> str:
        return self.scene.ledger.decide(name, decision)[0]

    def suppress(self, reason: str, for_s: float, lanes: Sequence[Lane] = ()) -> None:
        until = datetime.now(UTC) + timedelta(seconds=for_s)
        self.scene.control.suppress(PHONE, reason, until, lanes)

    def campaign(self, deed: Deed, name: str) -> str:
        return self.campaigns.do(deed, name)

    def unsuppress(self) -> None:
        self.scene.control.unsuppress(PHONE)

    def now_s(self) -> float:
        return time.time()

    def told(self) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = []
        for name in [*self.callbacks.claim(100), *self.callbacks.claim(100)]:
            callback = self.callbacks.take(name)
            assert not isinstance(callback, str), callback
            self.callbacks.settle(name, "told", error="", wait_s=0, give_up_s=60)
            found.append(callback.outcome)
        return found

    def sleep(self, seconds: float) -> None:
        clock_step.step(self.scene.client, seconds)

    def advance(self, seconds: float) -> None:
        self.sleep(seconds)
        for n in range(20):  # what one act puts under a timer may be due as well
            if n >= 3 and is_swept(self.scene.client):
                return
            self.scene.client.hdel(keys.CAMPAIGN_SWEEP, "at")  # as 20 ms later
            self.scene.client.hdel(keys.CLOCK, "campaigns")
            self.scene.claim()
        raise AssertionError("the sweep does not end")


@contextmanager
def in_redis(client: redis.Redis, settings: Settings) -> Iterator[Play]:
    yield Play(InRedis(client, settings))
