"""What each account delivers is counted, and weights of a route that prefers delivery follow it."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pytest
import redis

from harness.hours import SHARE_HOUR, an_hour_passes
from harness.scene import DELIVRD, PHONE_IS_OFF, TEMPLATE, Scene, stat
from smsq import keys
from smsq_worker.config.settings import Settings
from smsq_worker.domain.accounts import Account, Route, qualified
from smsq_worker.domain.shares import FLOOR, STEPS
from smsq_worker.domain.states import Outcome
from smsq_worker.ledger import Admitted, AttemptResult, quality
from smsq_worker.ledger.quality import Delivery, Kind
from smsq_worker.ledger.weights import Moved, read_moved, share_of, weights_now

A, B = "", "backup"
FIRST, SECOND = Account("main", A, 100000, 10000), Account("backup", B, 100000, 10000)
BY_DELIVERY = Route((A, B), (1, 1), prefer="delivery")
EMPTY_NUMBER = stat("MK:0001", "permanent", scope="recipient")
HOUR_MS = 3_600_000


class Two(Scene):
    """A ledger with two accounts, between which delivery decides."""

    def __init__(self, client: redis.Redis, settings: Settings, *routes: Route) -> None:
        super().__init__(
            client, settings, accounts=(FIRST, SECOND), routes=routes or (BY_DELIVERY,)
        )
        self.url = settings.redis_url
        self._entered = 0

    def send(
        self, n: int, *, template: str = TEMPLATE, accounts: tuple[str, ...] = (A, B)
    ) -> dict[str, str]:
        """Let messages be accepted; give the account of each."""
        names = [f"x{self._entered + i}" for i in range(n)]
        self._entered += n
        for i, name in enumerate(names):
            self.enter(name, phone=f"138{i % 10**8:08}", template=template, lane="notice")
        took = {}
        for start in range(0, n, 100):
            some = names[start : start + 100]
            answers = self.ledger.admit_many([(name, "") for name in some])
            for name, answer in zip(some, answers, strict=True):
                assert isinstance(answer, Admitted), answer
                assert answer.account in accounts
                took[name] = answer.account
            self.ledger.record_many([self.accepted(name, took[name]) for name in some])
        return took

    def accepted(self, name: str, account: str) -> AttemptResult:
        answered = {"detail": "", "mid": mid(name, account), "account": account}
        return AttemptResult(name, 1, Outcome.ACCEPTED, **answered)

    def reported(self, took: Mapping[str, str], delivers: Mapping[str, float]) -> None:
        """Let so much be delivered by each account, and the rest fail."""
        seen: Counter[str] = Counter()
        reports = []
        for name, account in took.items():
            # Exactly so much, evenly.
            k, rate = seen[account], delivers[account]
            is_there = int((k + 1) * rate) > int(k * rate)
            seen[account] += 1
            report = DELIVRD if is_there else EMPTY_NUMBER
            reports.append((mid(name, account), report.stat, report))
        self.ledger.report_many(reports)

    def hour(self, n: int, delivers: Mapping[str, float]) -> Counter[str]:
        """Let an hour of messages pass; give how many each account was given."""
        took = self.send(n)
        self.reported(took, delivers)
        self.passes()
        return Counter(took.values())

    def counted(self, n: int, delivers: Mapping[str, float], template: str = TEMPLATE) -> None:
        """Count as much for each account, in the hour that is last."""
        key = keys.quality(quality.last_hour(self.client, self.url))
        for account, rate in delivers.items():
            for what, count in (
                ("accepted", n),
                ("delivered:10", round(n * rate)),
                ("failed", n - round(n * rate)),
            ):
                self.client.hset(key, f"notice\t{what}\t@{account}\t{template}", count)

    def passes(self) -> None:
        an_hour_passes(self.client, self.url)
        assert self.ledger.move_weights()

    def hours(self, count: int, n: int, delivers: Mapping[str, float]) -> None:
        for _ in range(count):
            an_hour_passes(self.client, self.url)
            self.counted(n, delivers)
            assert self.ledger.move_weights()

    def now(self) -> dict[Kind, Delivery]:
        hours = [int(key.rsplit(":", 1)[1]) for key in self.client.keys(keys.QUALITY + "*")]
        return quality.read(self.client, self.url, max(hours)) if hours else {}

    def of(self, account: str) -> Delivery:
        return quality.by_account(self.now()).get(account, Delivery())

    def steps(self, route: Route = BY_DELIVERY) -> dict[str, int]:
        return read_moved(self.client, self.url).steps(route)

    def move_to(self, steps: int, route: Route = BY_DELIVERY) -> None:
        self.client.hset(keys.WEIGHTS, share_of(route, B), f"{steps} {route.weights[1]}")


def mid(name: str, account: str) -> str:
    return qualified(f"MID-{name}", account)


@pytest.fixture
def two(client: redis.Redis, settings: Settings) -> Two:
    return Two(client, settings)


# What is counted


def test_one_account_counts_nothing(scene: Scene) -> None:
    scene.call("m1", Outcome.ACCEPTED)
    scene.report("m1", DELIVRD)
    assert not scene.ledger.move_weights()
    assert not scene.client.keys(keys.QUALITY + "*")
    assert not scene.client.exists(keys.WEIGHTS)


def test_each_account_has_its_own_counts(two: Two) -> None:
    took = two.send(20)
    two.reported(took, {A: 0.5, B: 1.0})
    kinds = {Kind(account, "notice", TEMPLATE, is_first=True) for account in (A, B)}
    assert two.now().keys() == kinds
    a, b = two.of(A), two.of(B)
    assert (a.accepted, a.delivered, a.in_time, a.failed, a.rate) == (10, 5, 5, 5, 0.5)
    assert (b.accepted, b.delivered, b.failed, b.rate) == (10, 10, 0, 1.0)
    assert b.mean_s is not None
    assert 0 <= b.mean_s < 10


def test_repeats_and_what_is_made_up_count_once_or_not(two: Two) -> None:
    ((name, account),) = two.send(1).items()
    for report in [EMPTY_NUMBER, PHONE_IS_OFF, DELIVRD, EMPTY_NUMBER, DELIVRD] * 20:
        two.report_on(mid(name, account), report)
    for n in range(50):
        two.report_on(qualified(f"MADE-UP-{n}", account), DELIVRD)
    # It failed first, and was delivered later.
    one = two.of(account)
    assert (one.accepted, one.failed, one.delivered) == (1, 1, 1)


def test_a_report_that_came_before_its_mid_counts(two: Two) -> None:
    two.enter("m1")
    account = two.admitted("m1").account
    two.report_on(mid("m1", account), DELIVRD)
    two.ledger.record("m1", 1, Outcome.ACCEPTED, detail="", mid=mid("m1", account), account=account)
    assert (two.of(account).accepted, two.of(account).delivered) == (1, 1)


def test_a_late_report_counts_for_the_hour_of_the_attempt(two: Two) -> None:
    two.enter("m1")
    account = two.admitted("m1").account
    began = two.now_ms() - 5 * HOUR_MS
    two.client.hset(keys.message("m1"), "1:at", began)
    two.ledger.record("m1", 1, Outcome.ACCEPTED, detail="", mid=mid("m1", account), account=account)
    two.report_on(mid("m1", account), DELIVRD)
    found = quality.by_account(quality.read(two.client, two.url, began // HOUR_MS))[account]
    # It is delivered, but was not in time.
    assert (found.accepted, found.delivered, found.in_time, found.rate) == (1, 1, 0, 0.0)
    assert found.ms >= 5 * HOUR_MS
    assert len(two.client.keys(keys.QUALITY + "*")) == 1


def test_of_an_hour_that_is_over_nothing_is_kept(two: Two) -> None:
    two.enter("m1")
    account = two.admitted("m1").account
    two.client.hset(keys.message("m1"), "1:at", two.now_ms() - 60 * HOUR_MS)
    two.ledger.record("m1", 1, Outcome.ACCEPTED, detail="", mid=mid("m1", account), account=account)
    assert not two.client.keys(keys.QUALITY + "*")
    two.send(1)
    (key,) = two.client.keys(keys.QUALITY + "*")
    assert 47 * 3600 < two.client.ttl(key) <= 49 * 3600


def test_what_another_account_did_not_take_is_told_apart(two: Two) -> None:
    two.enter("m1")
    first = two.admitted("m1")
    two.ledger.record("m1", 1, Outcome.NOT_SENT, detail="", account=first.account, in_hand=True)
    second = two.admitted("m1")
    assert second.account != first.account
    two.ledger.record(
        "m1", 2, Outcome.ACCEPTED, detail="", mid=mid("m1", second.account), account=second.account
    )
    two.report_on(mid("m1", second.account), DELIVRD)
    kind = Kind(second.account, "notice", TEMPLATE, is_first=False)
    assert {kind: (one.accepted, one.delivered) for kind, one in two.now().items()} == {
        kind: (1, 1)
    }
    hour = int(two.client.keys(keys.QUALITY + "*")[0].rsplit(":", 1)[1])
    assert not quality.samples(two.client, two.url, [hour])


def test_beyond_the_bound_it_is_another_template(two: Two) -> None:
    two.send(1)
    (key,) = two.client.keys(keys.QUALITY + "*")
    two.client.hset(key, mapping={f"notice\taccepted\t@\tT{n}": 1 for n in range(5000)})
    took = two.send(2, template="NEW")
    two.reported(took, {A: 1, B: 1})
    found = {kind.account: one for kind, one in two.now().items() if kind.template == "other"}
    assert {account: (one.accepted, one.delivered) for account, one in found.items()} == {
        A: (1, 1),
        B: (1, 1),
    }
    assert not [kind for kind in two.now() if kind.template == "NEW"]


def test_a_counter_that_is_none_costs_no_act(two: Two, caplog: pytest.LogCaptureFixture) -> None:
    two.client.set(keys.quality(two.now_ms() // HOUR_MS), "x")
    two.client.set(keys.quality(two.now_ms() // HOUR_MS + 1), "x")
    took = two.send(2)
    two.reported(took, {A: 1, B: 1})
    assert {two.state(name) for name in took} == {"delivered"}
    assert "counting an hour failed" in caplog.text


# How weights move


def test_weights_follow_delivery_within_bounds_and_come_back(
    two: Two, caplog: pytest.LogCaptureFixture
) -> None:
    bad, same = {A: 0.6, B: 0.95}, {A: 0.9, B: 0.9}
    with caplog.at_level(logging.WARNING):
        assert two.hour(200, bad) == {A: 100, B: 100}
        assert two.steps() == {}  # One hour decides nothing.
        two.hours(1 + STEPS, 100, bad)
    assert two.steps() == {A: -STEPS, B: STEPS}
    moves = [line for line in caplog.messages if "follow delivery" in line]
    assert len(moves) == STEPS
    assert "main from 1 to 0.909 (file: 1), of 200 accepted 120 delivered" in moves[0]
    assert "backup from 1 to 1.1" in moves[0]
    assert "-35.0 points" in moves[0]
    weights = weights_now(two.client, two.rules)[BY_DELIVERY]
    share = weights[A] / (weights[A] + weights[B])
    assert FLOOR <= share <= 0.21
    assert two.hour(200, bad)[A] == pytest.approx(200 * share, abs=2)
    two.hours(3 + STEPS, 1000, same)
    assert two.steps() == {}
    assert read_moved(two.client, two.url).fields == {}


def test_no_evidence_moves_nothing(two: Two) -> None:
    two.passes()
    two.move_to(2)
    two.hours(4, 5, {A: 0.0, B: 1.0})
    assert two.steps() == {B: 2}


def test_one_bad_hour_of_an_account_moves_nothing(two: Two) -> None:
    for rate in (0.95, 0.95, 0.1, 0.95, 0.95):
        two.hours(1, 200, {A: rate, B: 0.95})
    assert two.steps() == {}


def test_nor_does_one_bad_template_among_several(two: Two) -> None:
    for _ in range(3):
        an_hour_passes(two.client, two.url)
        for template in ("U", "V"):
            two.counted(100, {A: 0.95, B: 0.95}, template)
        two.counted(100, {A: 0.1, B: 0.95})
        assert two.ledger.move_weights()
    assert two.steps() == {}


def test_of_several_workers_one_moves(two: Two, client: redis.Redis, settings: Settings) -> None:
    others = [Two(client, settings) for _ in range(3)]
    two.hours(1, 300, {A: 0.5, B: 0.95})
    an_hour_passes(client, two.url)
    two.counted(300, {A: 0.5, B: 0.95})
    assert [one.ledger.move_weights() for one in (two, *others)] == [True, False, False, False]
    assert two.steps() == {A: -1, B: 1}


def test_one_that_decided_by_what_is_over_by_now_moves_nothing(two: Two) -> None:
    two.passes()
    before = read_moved(two.client, two.url)
    args = ("0", int(before.hour) + 1, 0, share_of(BY_DELIVERY, A), "-1 1", "")
    assert two.ledger._run("weigh", *args) == [0]
    assert read_moved(two.client, two.url) == before


@pytest.mark.parametrize(("ahead", "moves"), [(0, False), (1, False), (2, True), (1000, True)])
def test_a_clock_that_was_set_back_moves_none_again(two: Two, ahead: int, moves: bool) -> None:
    for _ in range(2):
        an_hour_passes(two.client, two.url)
        two.counted(300, {A: 0.5, B: 0.95})
    last = quality.last_hour(two.client, two.url)
    two.move_to(3)
    two.client.hset(keys.WEIGHTS, SHARE_HOUR, last + ahead)
    assert two.ledger.move_weights() is moves
    assert two.steps() == {B: 3}
    assert int(read_moved(two.client, two.url).hour) == last + (0 if moves else ahead)


def test_weights_that_nobody_looked_after_are_the_files_again(
    two: Two, caplog: pytest.LogCaptureFixture
) -> None:
    two.move_to(3)
    two.client.hset(keys.WEIGHTS, SHARE_HOUR, quality.last_hour(two.client, two.url) - 30)
    assert two.ledger.move_weights()
    assert two.steps() == {}
    assert "the file's again" in caplog.text


def test_another_weight_in_the_file_counts_at_once(
    two: Two, client: redis.Redis, settings: Settings
) -> None:
    two.move_to(STEPS)
    changed = replace(BY_DELIVERY, weights=(1, 3))
    other = Two(client, settings, changed)
    assert other.steps(changed) == {}
    assert Counter(other.send(100).values())[B] == 75


def test_a_route_without_preference_has_the_files_weights(
    two: Two, client: redis.Redis, settings: Settings
) -> None:
    two.move_to(STEPS)
    plain = Two(client, settings, replace(BY_DELIVERY, prefer=""))
    assert Counter(plain.send(100).values()) == {A: 50, B: 50}
    assert not plain.ledger.move_weights()
    assert weights_now(client, plain.rules) == {}


def test_routes_of_a_lane_and_of_a_template_move_each_for_itself(
    client: redis.Redis, settings: Settings
) -> None:
    own = Route((A, B), (1, 1), template="U", prefer="delivery")
    two = Two(client, settings, own, BY_DELIVERY)
    for _ in range(2):
        an_hour_passes(client, two.url)
        two.counted(100, {A: 0.5, B: 0.95}, "U")
        two.counted(100, {A: 0.9, B: 0.9})
        assert two.ledger.move_weights()
    assert two.steps(own) == {A: -1, B: 1}
    assert two.steps() == {}
    taken = Counter(two.send(200, template="U").values())
    assert taken[B] == pytest.approx(200 * 1.1 / (1.1 + 1 / 1.1), abs=2)
    assert Counter(two.send(200).values())[B] == pytest.approx(100, abs=2)


@pytest.mark.parametrize("text", ["", "x", "7", "99 1", "-99 1", "1 2", "7 1 1"])
def test_whatever_stands_there_weights_stay_in_bounds(two: Two, text: str) -> None:
    two.client.hset(keys.WEIGHTS, share_of(BY_DELIVERY, B), text)
    taken = Counter(two.send(200).values())
    assert 0.2 * 200 <= taken[B] <= 0.8 * 200


def test_an_older_ledger_has_none_of_this(two: Two) -> None:
    two.client.hset(keys.WEIGHTS, "  @", "0")
    assert read_moved(two.client, two.url) == Moved("", {})
    assert two.ledger.move_weights()
    assert quality.by_account(quality.read(two.client, two.url, 1)) == {}
    assert weights_now(two.client, two.rules) == {BY_DELIVERY: {A: 1, B: 1}}


def test_it_finds_the_better_account_by_chance_alone(two: Two) -> None:
    """Delivery is drawn; two templates, of which the main account is given no other mix."""
    rng = random.Random(21)
    rates = {A: 0.80, B: 0.95}
    for _ in range(6):
        for template in ("U", "V"):
            took = two.send(80, template=template)
            reports = []
            for name, account in took.items():
                report = DELIVRD if rng.random() < rates[account] else EMPTY_NUMBER
                reports.append((mid(name, account), report.stat, report))
            two.ledger.report_many(reports)
        an_hour_passes(two.client, two.url)
        two.ledger.move_weights()
    steps = two.steps()
    assert steps[B] >= 3
    assert steps[A] == -steps[B]
