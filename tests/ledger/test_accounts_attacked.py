"""What comes between two accounts, and what two accounts must not let grow or wait."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis

from harness.campaigns import SPRING
from harness.scene import NO_BALANCE, PHONE_IS_OFF, Scene
from smsq import keys
from smsq.cancelling import Canceller
from smsq.cipher import PlaintextCipher
from smsq.contract import State
from smsq_worker.config.settings import Settings
from smsq_worker.domain.accounts import Account, Route, qualified
from smsq_worker.domain.limits import Breaker
from smsq_worker.domain.states import Outcome
from smsq_worker.ledger import AttemptResult, Rejected
from smsq_worker.ledger.campaigns import Campaigns

A, B = "", "backup"
"""The keys of the two accounts, in the order of the route."""
BOTH = (Account("main", A, 1000.0, 10), Account("backup", B, 1000.0, 10))
ACCEPTED, REFUSED = Outcome.ACCEPTED, Outcome.REFUSED
NOT_SENT, MAYBE_SENT = Outcome.NOT_SENT, Outcome.MAYBE_SENT


class Two(Scene):
    """A ledger with two accounts."""

    def __init__(self, client: redis.Redis, settings: Settings, **rules: Any) -> None:
        rules = {"accounts": BOTH, "routes": (Route((A, B)),), "phone_limits": ()} | rules
        super().__init__(client, settings, **rules)

    def at(self, name: str = "m1") -> str:
        """Let a message go; give the account that takes it."""
        return self.admitted(name).account

    def ended(self, outcome: Outcome, name: str = "m1", **more: Any) -> State | None:
        """Record what the last attempt came to, as who has the message in hand."""
        n = int(self.field(name, "n") or 0)
        account, begun = self.field(name, f"{n}:account") or "", self.field(name, f"{n}:at")
        mid = qualified(f"MID-{name}-{n}", account) if outcome is ACCEPTED else ""
        more = {"detail": "gateway:400 no", "mid": mid, "wait_s": 60.0, "in_hand": True} | more
        result = AttemptResult(name, n, outcome, account=account, begun=int(begun or 0), **more)
        (state,) = self.ledger.record_many([result])
        return state

    def refused_by_first(self, name: str = "m1", **options: Any) -> None:
        self.enter(name, **options)
        assert self.at(name) == A
        assert self.ended(REFUSED, name) == State.QUEUED


@pytest.fixture
def two(client: redis.Redis, settings: Settings) -> Two:
    return Two(client, settings)


# Between two accounts


def test_the_ttl_ends_between_two_accounts(two: Two) -> None:
    two.refused_by_first()
    two.client.hset(keys.message("m1"), "expires", 1)
    assert two.stays() == "expired"
    assert two.state() == "expired"


def test_it_is_cancelled_between_two_accounts(two: Two) -> None:
    two.refused_by_first()
    (told,) = Canceller(two.client, two.settings).cancel(["m1"])
    assert told is not None
    assert told.answer == "cancelled"
    assert two.stays() == "copy"
    assert two.state() == "cancelled"


def test_it_is_cancelled_while_the_first_account_has_it(two: Two) -> None:
    for name, outcome, end in (("m1", REFUSED, "failed"), ("m2", NOT_SENT, "cancelled")):
        two.enter(name)
        two.go(name)
        two.client.hset(keys.message(name), "stop", "cancelled")
        assert two.ended(outcome, name) == end


def test_its_campaign_is_paused_between_two_accounts(two: Two) -> None:
    two.refused_by_first(campaign=SPRING, lane="bulk")
    campaigns = Campaigns(two.client, two.rules)
    campaigns.do("pause", SPRING)
    assert two.stays() == "deferred"
    campaigns.do("resume", SPRING)
    two.woken()
    assert two.at() == B
    assert two.ended(ACCEPTED) == State.ACCEPTED


def test_a_doubt_at_one_is_held_whatever_another_would_do(two: Two) -> None:
    two.enter(on_ambiguous="hold")
    two.go()
    assert two.ended(MAYBE_SENT) == State.HELD
    # Its answer came late, and says that nothing was sent: another account may have it.
    assert two.ended(NOT_SENT) == State.DEFERRED
    two.wake()
    assert two.at() == B
    assert two.ended(MAYBE_SENT) == State.HELD
    assert two.ledger.counters().get("possible_duplicates", 0) == 0


def test_a_refusal_after_a_doubt_is_counted_once(two: Two) -> None:
    two.enter()
    two.go()
    two.ended(MAYBE_SENT)
    two.wake()
    assert two.at() == A
    assert two.ended(REFUSED) == State.QUEUED
    assert two.at() == B
    two.ended(ACCEPTED)
    assert two.ledger.counters()["possible_duplicates"] == 1


# All are down


def test_what_an_outage_of_all_accounts_leaves_is_bounded(two: Two) -> None:
    two.enter()
    for _ in range(30):
        assert two.at() == A
        assert two.ended(NOT_SENT) == State.QUEUED
        assert two.at() == B
        assert two.ended(NOT_SENT) == State.DEFERRED
        two.wake()
    kept = {name.partition(":")[0] for name in two.client.hkeys(keys.message("m1")) if ":" in name}
    assert len(kept) <= 11
    assert len(two.status().attempts) <= 11
