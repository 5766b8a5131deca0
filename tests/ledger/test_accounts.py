"""Several accounts in one ledger: which of them takes a message, and what leads to another."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import redis

from harness.scene import DELIVRD, NO_BALANCE, PHONE_IS_OFF, Scene, stat
from smsq import keys
from smsq.contract import State
from smsq_worker.config.settings import Settings
from smsq_worker.domain.accounts import Account, Route, qualified
from smsq_worker.domain.limits import Breaker
from smsq_worker.domain.states import Outcome
from smsq_worker.ledger import Admitted, AttemptResult, Rejected, Report, RetryLater, accounts
from smsq_worker.ledger.admin import template_scope

A, B = "", "backup"
"""The keys: of the account that was there first, and of the one that came."""
RATE = 1000.0
FIRST = Account("main", A, RATE, 10)
SECOND = Account("backup", B, RATE, 10)
IN_ORDER = Route((A, B))
NOT_FILED = stat("MA:0024", "permanent", scope="template")
NO_ROUTE = stat("MA:0003", "transient", 600, scope="route")
EMPTY_NUMBER = stat("MK:0001", "permanent", scope="recipient")
UNCLEAR = "gateway:400 no"

ACCEPTED, REFUSED = Outcome.ACCEPTED, Outcome.REFUSED
NOT_SENT, MAYBE_SENT = Outcome.NOT_SENT, Outcome.MAYBE_SENT


class Several(Scene):
    """A ledger with several accounts."""

    def at(self, name: str = "m1") -> str:
        """Let a message go; give the account that takes it."""
        return self.admitted(name).account

    def ended(self, name: str, outcome: Outcome, **more: Any) -> State | None:
        """Record what the last attempt came to, as the process does that has it in hand."""
        n = int(self.field(name, "n") or 0)
        account = self.field(name, f"{n}:account") or ""
        mid = qualified(f"MID-{name}-{n}", account) if outcome is ACCEPTED else ""
        begun = int(self.field(name, f"{n}:at") or 0)
        more = {"detail": UNCLEAR, "mid": mid, "wait_s": 60.0, "in_hand": True} | more
        result = AttemptResult(name, n, outcome, account=account, begun=begun, **more)
        (state,) = self.ledger.record_many([result])
        return state

    def told(self, name: str, report: Report, *, attempt: int = 0) -> str:
        n = attempt or int(self.field(name, "n") or 0)
        account = self.field(name, f"{n}:account") or ""
        return self.report_on(qualified(f"MID-{name}-{n}", account), report)

    def attempts(self, name: str = "m1") -> list[tuple[str, str | None]]:
        return [(one.account or "", one.outcome) for one in self.status(name).attempts]

    def pause(self, account: str, scope: str = "account") -> None:
        assert self.control.pause(keys.at_account(scope, account), "test")


Build = Callable[..., Several]


@pytest.fixture
def build(client: redis.Redis, settings: Settings) -> Build:
    def with_accounts(
        *given: Account, routes: tuple[Route, ...] = (IN_ORDER,), **rules: Any
    ) -> Several:
        return Several(client, settings, accounts=given or (FIRST, SECOND), routes=routes, **rules)

    return with_accounts


@pytest.fixture
def scene(build: Build) -> Several:
    return build()


# Which account


def test_the_first_of_the_route_takes_it(scene: Several) -> None:
    scene.enter()
    assert scene.at() == A
    assert scene.ended("m1", ACCEPTED) == "accepted"
    assert scene.field("m1", "1:account") is None
    assert scene.told("m1", DELIVRD) == "delivered"
    assert scene.status().attempts[0].mid == "MID-m1-1"


def test_one_that_is_paused_is_left_at_once(scene: Several) -> None:
    for n in range(3):
        scene.enter(f"m{n}")
    scene.pause(A)
    assert [scene.at(f"m{n}") for n in range(3)] == [B] * 3
    assert scene.ended("m0", ACCEPTED) == "accepted"
    assert scene.client.get(keys.mid("MID-m0-1 backup")) == "1 m0"
    assert scene.told("m0", DELIVRD) == "delivered"
    attempt = scene.status("m0").attempts[0]
    assert (attempt.mid, attempt.account, attempt.stat) == ("MID-m0-1", B, "DELIVRD")
