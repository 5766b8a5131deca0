"""A ledger in a test's hands. Time passes in it by rewriting what it has stored."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import redis

from smsq import keys
from smsq.cipher import Opener
from smsq.compaction import unfolded
from smsq.contract import FINAL, State, parse
from smsq.ledger_writer import LedgerWriter
from smsq.tracking import Status, read_status
from smsq_worker.config.settings import Settings
from smsq_worker.domain.states import Outcome
from smsq_worker.ledger import Admitted, Ledger, Rejected, Report, RetryLater
from smsq_worker.ledger.admin import Control
from smsq_worker.ledger.types import Due

PHONE = "13800138000"
OTHER_PHONE = "13900139000"
TEMPLATE = "SMS_1001"
LONG_AGO = 1
"""A moment that is over, in Unix milliseconds."""


def stat(code: str, code_class: str, wait_s: int = 0, **more: Any) -> Report:
    more = {"maybe_sent": False, "counted_as": f"reports:{code}"} | more
    return Report(code, code_class, wait_s * 1000, **more)


DELIVRD = stat("DELIVRD", "delivered")
NO_BALANCE = stat("MA:0015", "transient", 60, pause="account")
BAD_TEMPLATE = stat("MA:0024", "permanent", pause="template")
PHONE_IS_OFF = stat("EXPIRED", "transient", 7200)


class Scene:
    """Short words for what happens to messages, and for what is stored of them."""

    def __init__(self, client: redis.Redis, settings: Settings, **rules: Any) -> None:
        self.client = client
        self.settings = settings
        self.rules = replace(settings.rules, **rules)
        cipher = Opener(client, settings, strict=True)
        self.ledger = Ledger(client, self.rules, cipher)
        self.control = Control(client, self.rules, cipher)
        self.entrance = LedgerWriter(client, settings)

    # What happens

    def enter(
        self, name: str = "m1", *, phone: str = PHONE, template: str = TEMPLATE, **options: object
    ) -> State:
        return self.entrance.enter(name, parse((phone, template, "482913"), options)).state

    def admit(self, name: str = "m1", *, booked: bool = False) -> Admitted | RetryLater | Rejected:
        return self.ledger.admit(name, turn=str(self.now_us()) if booked else "")

    def admitted(self, name: str = "m1") -> Admitted:
        admission = self.admit(name)
        assert isinstance(admission, Admitted), admission
        return admission

    def go(self, name: str = "m1") -> int:
        return self.admitted(name).attempt

    def stays(self, name: str = "m1") -> str:
        admission = self.admit(name)
        assert isinstance(admission, Rejected), admission
        return admission.why

    def record(self, name: str, outcome: Outcome, *, attempt: int = 0, **more: Any) -> State | None:
        """Record what an attempt came to: the last one, where none is named."""
        n = attempt or int(self.field(name, "n") or 0)
        mid = mid_of(name, n) if outcome is Outcome.ACCEPTED else ""
        more = {"detail": "gateway:400 said so", "wait_s": 60.0, "mid": mid} | more
        return self.ledger.record(name, n, outcome, **more)

    def accept(self, name: str = "m1", **more: Any) -> None:
        """Let an entered message go, and be accepted by the gateway."""
        self.go(name)
        self.record(name, Outcome.ACCEPTED, **more)

    def call(self, name: str, outcome: Outcome, **more: Any) -> State | None:
        """Enter a message if it is new, let it go and record what the call came to."""
        self.enter(name)
        self.go(name)
        return self.record(name, outcome, **more)

    def report(self, name: str, report: Report) -> str:
        return self.report_on(mid_of(name, int(self.field(name, "n") or 0)), report)

    def report_on(self, mid: str, report: Report) -> str:
        return self.ledger.report(mid, report.stat, report)[0]

    def claim(self) -> Due:
        return self.ledger.claim(resend_wait_s=1.0, empty=[])

    def woken(self) -> list[str]:
        return [name for name, _ in self.claim().wake]

    # Time passes

    def run_out(self, name: str = "m1") -> list[str]:
        """Let a message's timer run out; give the ids to wake up."""
        assert self.client.zscore(keys.TIMERS, name) is not None
        self.client.zadd(keys.TIMERS, {name: LONG_AGO}, xx=True)
        return self.woken()

    def wake(self, name: str = "m1") -> None:
        """Let a message's timer run out, which must wake it up."""
        assert self.run_out(name) == [name]

    def run_out_of_ttl(self, name: str = "m1") -> None:
        self.client.hset(keys.message(name), "expires", LONG_AGO)
        self.run_out(name)

    def began_long_ago(self, name: str) -> None:
        """Date the last call back, to before anything that the test did."""
        self.client.hset(keys.message(name), f"{self.field(name, 'n')}:at", LONG_AGO)

    def probe_is_due(self, scope: str) -> Due:
        pause = self.stored_pause(scope)
        self.client.hset(keys.PAUSES, scope, json.dumps(pause | {"probe_at": LONG_AGO}))
        return self.claim()

    def calls_departed(self, *times_us: int) -> None:
        """Let the window hold calls that departed at these times, and no others."""
        self.client.delete(keys.CALLS)
        self.client.zadd(keys.CALLS, {f"{n} earlier": us for n, us in enumerate(times_us)})

    # What is stored

    def now_us(self) -> int:
        seconds, micros = self.client.time()
        return int(seconds) * 1_000_000 + int(micros)

    def now_ms(self) -> int:
        return self.now_us() // 1000

    def field(self, name: str, field: str) -> str | None:
        stored: Any = self.client.hgetall(keys.message(name))
        return unfolded(stored).get(field)

    def timer(self, name: str = "m1") -> float:
        at: Any = self.client.zscore(keys.TIMERS, name)
        assert at is not None
        return float(at)

    def stored_pause(self, scope: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(str(self.client.hget(keys.PAUSES, scope)))
        return found

    def paused(self) -> dict[str, str]:
        """Give the cause of each pause by its scope."""
        return {pause.scope: pause.cause for pause in self.control.pauses()}

    def room(self, template: str = TEMPLATE) -> list[str]:
        """Give who waits because the template is paused, the longest waiting first."""
        return [str(name) for name in self.client.zrange(f"smsq:waiting:{template}", 0, -1)]

    def status(self, name: str = "m1") -> Status:
        status = read_status(self.client, "", name)
        assert status is not None
        return status

    def state(self, name: str = "m1") -> str:
        return self.status(name).state

    def used_up(self, name: str = "m1") -> tuple[str | None, str | None]:
        """Give what a message has used up: attempts and resends."""
        return self.field(name, "n"), self.field(name, "resends")

    def check_live(self, *names: str) -> None:
        """Hold the gauge of live messages to the messages themselves."""
        expected: dict[str, int] = {}
        for status in map(self.status, names):
            if status.state not in FINAL:
                name = f"{status.lane}:{status.state}"
                expected[name] = expected.get(name, 0) + 1
        assert {name: n for name, n in self.control.live().items() if n} == expected


def mid_of(name: str, n: int) -> str:
    return f"MID-{name}-{n}"
