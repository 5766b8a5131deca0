"""What comes between two accounts, and what two accounts must not let grow or wait."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis

from harness.campaigns import SPRING
from harness.scene import DELIVRD
from harness.several import ACCEPTED, MAYBE_SENT, NOT_SENT, REFUSED, A, B, Several
from smsq import keys
from smsq.cancelling import cancel
from smsq.contract import State
from smsq_worker.config.settings import Settings
from smsq_worker.domain.accounts import Account, Route, qualified
from smsq_worker.domain.limits import Breaker
from smsq_worker.ledger import Admitted, RetryLater
from smsq_worker.ledger import reports as report_acts
from smsq_worker.ledger.campaigns import Campaigns

BOTH = (Account("main", A, 1000.0, 10), Account("backup", B, 1000.0, 10))


class Two(Several):
    """A ledger with two accounts."""

    def __init__(self, client: redis.Redis, settings: Settings, **rules: Any) -> None:
        rules = {"accounts": BOTH, "routes": (Route((A, B)),), "phone_limits": ()} | rules
        super().__init__(client, settings, **rules)

    def refused_by_first(self, name: str = "m1", **options: Any) -> None:
        self.enter(name, **options)
        assert self.at(name) == A
        assert self.ended(name, REFUSED) == State.QUEUED


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
    (told,) = cancel(two.client, two.settings, ["m1"])
    assert told is not None
    assert told.answer == "cancelled"
    assert two.stays() == "copy"
    assert two.state() == "cancelled"
    assert not two.client.hmget(keys.message("m1"), "refused", "unsent")[0]


def test_it_is_cancelled_while_the_first_account_has_it(two: Two) -> None:
    for name, outcome, end in (("m1", REFUSED, "failed"), ("m2", NOT_SENT, "cancelled")):
        two.enter(name)
        two.go(name)
        two.client.hset(keys.message(name), "stop", "cancelled")
        assert two.ended(name, outcome) == end


def test_its_campaign_is_paused_between_two_accounts(two: Two) -> None:
    two.refused_by_first(campaign=SPRING, lane="bulk")
    campaigns = Campaigns(two.client, two.rules)
    campaigns.do("pause", SPRING)
    assert two.stays() == "deferred"
    campaigns.do("resume", SPRING)
    two.woken()
    assert two.at() == B
    assert two.ended("m1", ACCEPTED) == State.ACCEPTED


def test_a_doubt_at_one_is_held_whatever_another_would_do(two: Two) -> None:
    two.enter(on_ambiguous="hold")
    two.go()
    assert two.ended("m1", MAYBE_SENT) == State.HELD
    # Its answer came late, and says that nothing was sent: another account may have it.
    assert two.ended("m1", NOT_SENT) == State.DEFERRED
    two.wake()
    assert two.at() == B
    assert two.ended("m1", MAYBE_SENT) == State.HELD
    assert two.ledger.counters().get("possible_duplicates", 0) == 0


def test_a_refusal_after_a_doubt_is_counted_once(two: Two) -> None:
    two.enter()
    two.go()
    two.ended("m1", MAYBE_SENT)
    two.wake()
    assert two.at() == B
    assert two.ended("m1", REFUSED) == State.QUEUED
    assert two.at() == A
    two.ended("m1", ACCEPTED)
    assert two.ledger.counters()["possible_duplicates"] == 1


# All are down


def test_what_an_outage_of_all_accounts_leaves_is_bounded(two: Two) -> None:
    two.enter()
    for _ in range(30):
        assert two.at() == A
        assert two.ended("m1", NOT_SENT) == State.QUEUED
        assert two.at() == B
        assert two.ended("m1", NOT_SENT) == State.DEFERRED
        two.wake()
    kept = {name.partition(":")[0] for name in two.client.hkeys(keys.message("m1")) if ":" in name}
    assert len(kept) <= 11
    assert len(two.status().attempts) <= 11


def test_both_accounts_are_probed_and_nothing_waits_for_one_that_is_back(
    client: redis.Redis, settings: Settings
) -> None:
    two = Two(client, settings, breaker=Breaker(1, 50, 60))
    for name in ("breaker", "breaker@backup"):
        two.control.pause(name, "down")
        pause = two.stored_pause(name) | {"cause": "outage"}
        client.hset(keys.PAUSES, name, json.dumps(pause))
        two.probe_is_due(name)
    for n in range(4):
        two.enter(f"m{n}")
    # One each, and no more: the third is given back.
    assert (two.at("m0"), two.at("m1")) == (A, B)
    assert two.stays("m2") == "paused"
    assert two.ended("m1", ACCEPTED) == State.ACCEPTED
    assert two.paused() == {"breaker": "outage"}
    assert two.claim().lanes == "open"
    assert (two.at("m2"), two.at("m3")) == (B, B)


def test_what_would_be_held_is_no_probe_while_another_account_is_there(two: Two) -> None:
    two.control.pause("breaker", "down")
    pause = two.stored_pause("breaker") | {"cause": "outage", "permit": two.now_ms()}
    two.client.hset(keys.PAUSES, "breaker", json.dumps(pause))
    for name, policy in (("m1", "hold"), ("m2", "resend")):
        two.enter(name, on_ambiguous=policy)
    assert (two.at("m1"), two.at("m2")) == (B, A)


def test_a_message_of_stopped_accounts_is_back_within_seconds(two: Two) -> None:
    two.refused_by_first()
    two.control.pause("account@backup", "test")
    assert two.stays() == "deferred"
    assert two.timer() - two.now_ms() <= 5000
    two.control.resume("account@backup", "test")
    two.wake()
    assert two.at() == B


@pytest.mark.parametrize(("lane", "apart"), [("otp", 5000), ("notice", 60_000)])
def test_messages_of_stopped_accounts_come_round_ever_more_rarely(
    two: Two, lane: str, apart: int
) -> None:
    two.refused_by_first(lane=lane, ttl_s=3600)
    two.control.pause("account@backup", "test")
    waits = []
    for _ in range(6):
        assert two.stays() == "deferred"
        waits.append(int(two.field("m1", "waits") or 0))
        two.wake()
    assert waits == [min(5000 * 2**n, apart) for n in range(6)]


# A report address that has leaked


def flood(count: int, account: str = B) -> list[tuple[str, str]]:
    return [(qualified(f"{n:016X}", account), "DELIVRD") for n in range(count)]


def test_early_reports_of_one_account_do_not_push_out_anothers(two: Two) -> None:
    now, first, few = two.now_ms(), flood(200, A), flood(30)
    two.client.zadd(keys.PARKED, {mid: now for mid, _ in first})
    two.client.zadd(keys.PARKED, {f"x{n} {B}": now + 1 for n in range(9_800)})
    two.client.config_set("maxmemory", int(two.client.info("memory")["used_memory"] / 0.76))
    try:
        for mid, _ in few:
            two.report_on(mid, DELIVRD)
    finally:
        two.client.config_set("maxmemory", 0)
    left = {mid for mid, _ in two.ledger.parked(20_000)}
    assert len(left) == 10_000
    assert left >= {mid for mid, _ in [*first, *few]}
    assert two.ledger.counters()["reports_dropped"] == 30


def test_a_flood_at_one_account_leaves_room_for_early_reports_of_another(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_acts, "INBOX_UNKNOWN", 100)
    monkeypatch.setattr(report_acts, "INBOX_AT_MOST", 1000)
    bad, good = flood(150), flood(150, A)
    assert two.ledger.take_in(bad, wake_after_s=30).refused == bad[100:]
    assert two.ledger.take_in(good, wake_after_s=30).refused == good[100:]
    assert two.ledger.take_in(bad[100:], wake_after_s=30).refused == bad[100:]
    assert two.ledger.waiting().inbox == 200


# An account that wants fewer


SLOW = (Account("main", A, 10.0, 1), Account("backup", B, 10.0, 1))


@pytest.fixture
def slow(client: redis.Redis, settings: Settings) -> Two:
    return Two(client, settings, accounts=SLOW)


def test_too_fast_there_is_not_too_fast_here(two: Two) -> None:
    two.enter()
    two.go()
    assert two.ended("m1", NOT_SENT, too_fast=True) == State.QUEUED
    assert two.at() == B
    assert two.client.hget(keys.RATE, "slow") == "500"
    assert two.client.hget(keys.at_account(keys.RATE, B), "slow") is None


def test_an_otp_does_not_wait_for_an_account_that_wants_fewer(slow: Two) -> None:
    slow.client.hset(keys.RATE, mapping={"slow": "2", "slow_at": slow.now_ms()})
    for name, lane in (("m1", "otp"), ("m2", "otp"), ("m3", "notice")):
        slow.enter(name, lane=lane)
    assert slow.at("m1") == A
    assert slow.at("m2") == B
    later = slow.admit("m3")
    assert isinstance(later, RetryLater)


@pytest.mark.parametrize(("lane", "goes"), [("otp", True), ("notice", False)])
def test_an_otp_does_not_wait_for_a_slot_that_is_put_off(slow: Two, lane: str, goes: bool) -> None:
    slow.enter(lane=lane)
    slow.calls_departed(*[slow.now_us()] * 11)
    answer = slow.admit(booked=True)
    assert isinstance(answer, Admitted if goes else RetryLater)
    assert not goes or answer.account == B
