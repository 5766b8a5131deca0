"""A process that takes messages through the ledger's acts, and reads what each costs Redis.

    python -m bench.life <messages> <messages an act> [<campaign>]

What it runs is the smsq that PYTHONPATH names, of this tree or of another, on the Redis of
SMSQ_REDIS_URL, which nothing else uses. It writes one JSON object: stage -> [us of Redis' CPU,
commands, bytes of the append-only file], each per message.
"""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from bench.product import (
    AttemptResult,
    Ledger,
    LedgerWriter,
    Outcome,
    Report,
    Settings,
    enter_many,
    opener,
)
from smsq import keys
from smsq.connection import connect
from smsq.contract import parse

DELIVRD: Final = Report("DELIVRD", "delivered", 0, maybe_sent=False, counted_as="reports:DELIVRD")
WAKE_AFTER_S: Final = 30.0
PAST: Final = 1
REFUSED_OF: Final = 10
"""All but one of so many: more in a row would pause the account."""
NOT_OF_ACTS: Final = frozenset({"cmdstat_info", "cmdstat_evalsha", "cmdstat_eval", "cmdstat_fcall"})
WARM_UP: Final = 100

T = TypeVar("T")


class Life:
    """A ledger, and what its acts have cost."""

    def __init__(self, url: str, at_once: int, campaign: str = "") -> None:
        self.client, settings = connect(url), Settings.load(os.environ)
        cipher = opener(self.client, settings)
        self.ledger = Ledger(self.client, settings.rules, cipher)
        self.writer = LedgerWriter(self.client, settings, cipher)
        self.at_once = at_once
        self.options = {"campaign": campaign} if campaign else {}
        self.figures: dict[str, list[float]] = {}

    def go_through(self, count: int) -> None:
        """Take messages to each of their ends."""
        self.deliver(count)
        self.refuse(count)
        self.leave_unreported(count)

    def deliver(self, count: int) -> None:
        """Most messages: accepted, and reported as delivered."""
        ids = self.enter(count)
        self.stage("admit", ids, self.admit)
        self.stage("record", ids, self.accept)
        self.stage("take in", ids, lambda some: self.take_in(some, WAKE_AFTER_S))
        self.stage("report", ids, self.report)

    def refuse(self, count: int) -> None:
        """Messages that end with their result."""
        ids = self.enter(count)
        self.admit(ids)

        def outcome(one: str) -> Outcome:
            return Outcome.REFUSED if number[one] % REFUSED_OF else Outcome.ACCEPTED

        number = {one: n for n, one in enumerate(ids)}
        self.stage(
            "record a refusal",
            ids,
            lambda some: self.record((one, outcome(one), "gateway:400 no") for one in some),
        )

    def leave_unreported(self, count: int) -> None:
        """Messages that end by their timer; reports that are claimed."""
        ids = self.enter(count)
        self.admit(ids)
        self.accept(ids)
        # Two lists, so that no command in the stage is this process' own.
        self.client.zremrangebyrank(keys.TIMERS, 0, -1)
        self.client.zadd(keys.TIMERS, dict.fromkeys(ids, PAST))
        self.stage("end unreported", ids, self.run_out, at_once=count)
        self.take_in(ids, 0)
        self.stage("claim a report", ids, self.claim_reports, at_once=count)

    def enter(self, count: int) -> list[str]:
        """Enter new messages."""
        message = parse(("13900000001", "SMS_1001", "482913"), self.options)
        ids = [str(uuid.uuid4()) for _ in range(count)]
        self.stage("enter", ids, lambda some: enter_many(self.writer, [(n, message) for n in some]))
        return ids

    def admit(self, ids: Sequence[str]) -> None:
        """Admit messages."""
        assert len(self.ledger.admit_many([(one, "") for one in ids])) == len(ids)

    def accept(self, ids: Sequence[str]) -> None:
        """Record that the gateway took messages."""
        self.record((one, Outcome.ACCEPTED, "") for one in ids)

    def record(self, results: Any) -> None:
        """Record results (id, outcome, detail)."""
        self.ledger.record_many(
            [
                AttemptResult(one, 1, outcome, detail, f"M{one}" if not detail else "")
                for one, outcome, detail in results
            ]
        )

    def take_in(self, ids: Sequence[str], wake_after_s: float) -> None:
        """Take in reports on messages."""
        self.ledger.take_in([(f"M{one}", "DELIVRD") for one in ids], wake_after_s=wake_after_s)

    def report(self, ids: Sequence[str]) -> None:
        """Apply reports on messages."""
        answers = self.ledger.report_many([(f"M{one}", "DELIVRD", DELIVRD) for one in ids])
        assert {state for state, *_ in answers} == {"delivered"}

    def run_out(self, _: Sequence[str]) -> None:
        """Claim until no timer is due."""
        while self.ledger.claim(resend_wait_s=1, empty=[]).next_s is not None:
            time.sleep(0.02)

    def claim_reports(self, ids: Sequence[str]) -> None:
        """Claim all reports."""
        left = len(ids)
        while left:
            left -= len(self.ledger.claim_reports(wake_after_s=WAKE_AFTER_S))

    def stage(
        self, name: str, ids: list[str], act: Callable[[list[str]], object], *, at_once: int = 0
    ) -> None:
        """Do an act to messages, so many at once, and note what that costs."""
        at_once = at_once or self.at_once
        before = self.used()
        for start in range(0, len(ids), at_once):
            act(ids[start : start + at_once])
        after = self.used()
        self.figures[name] = [(b - a) / len(ids) for a, b in zip(before, after, strict=True)]

    def used(self) -> tuple[float, int, int]:
        """Return Redis' CPU time in us, its commands, and the length of its append-only file."""
        info: Any = self.client.info("everything")
        calls = sum(
            one["calls"]
            for name, one in info.items()
            if name.startswith("cmdstat_") and name not in NOT_OF_ACTS
        )
        return (
            (info["used_cpu_user"] + info["used_cpu_sys"]) * 1e6,
            calls,
            info["aof_current_size"] + info.get("aof_buffer_length", 0),
        )


def main() -> None:
    """Run a life and write its figures."""
    count, at_once = map(int, sys.argv[1:3])
    life = Life(os.environ["SMSQ_REDIS_URL"], at_once, *sys.argv[3:])
    life.client.config_set("auto-aof-rewrite-percentage", 0)
    life.go_through(WARM_UP)
    life.go_through(count)
    sys.stdout.write(json.dumps(life.figures))


if __name__ == "__main__":
    main()
