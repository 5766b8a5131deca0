"""What became of messages is counted by the day on which they were entered."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest
import redis

import smsq
from harness.scene import DELIVRD, PHONE_IS_OFF, Scene, stat
from smsq import keys
from smsq_worker.domain.states import Outcome
from smsq_worker.ledger.callbacks import Callbacks
from smsq_worker.ledger.days import Report, Sums, read_days, today

FAILED = stat("MO:0254", "permanent")


@pytest.fixture
def counted(scene: Scene, client: redis.Redis) -> Callable[..., dict[str, Any]]:
    """What today's counters say, without what is 0."""

    def _counted() -> dict[str, Any]:
        total = days(scene).total.as_dict()
        return {
            name: n for name, n in total.items() if n and not name.startswith(("del", "med"))
        } | {"delivered": total["delivered"]}

    return _counted


def days(scene: Scene, *by: str) -> Report:
    url = scene.settings.redis_url
    return read_days(scene.client, url, [today(scene.client, url)], by)


def key(scene: Scene) -> str:
    return keys.day((today(scene.client, scene.settings.redis_url) - date(1970, 1, 1)).days)


def test_a_message_is_counted_when_it_is_sent_and_when_it_ends(
    scene: Scene, counted: Callable[..., dict[str, Any]]
) -> None:
    scene.call("m1", Outcome.ACCEPTED)
    assert counted() == {"sent": 1, "delivered": 0}
    scene.report("m1", DELIVRD)
    scene.report("m1", DELIVRD)
    assert counted() == {"sent": 1, "delivered": 1}
    scene.call("m2", Outcome.ACCEPTED)
    scene.report("m2", FAILED)
    scene.call("m3", Outcome.REFUSED)
    scene.enter("m4")
    scene.run_out_of_ttl("m4")
    assert counted() == {"sent": 2, "delivered": 1, "failed": 2, "expired": 1}
    found = days(scene).total
    assert found.failed_after_acceptance == 1
    assert found.delivery_rate == 0.5
    assert found.median_s is not None
    assert found.median_s <= 1


def test_a_late_report_moves_it_from_one_end_to_another(
    scene: Scene, counted: Callable[..., dict[str, Any]]
) -> None:
    scene.call("m1", Outcome.ACCEPTED)
    scene.report("m1", FAILED)
    scene.report("m1", DELIVRD)
    scene.call("m2", Outcome.ACCEPTED)
    scene.run_out("m2")
    assert counted() == {"sent": 2, "delivered": 1, "unreported": 1}
    scene.report("m2", FAILED)
    assert counted() == {"sent": 2, "delivered": 1, "failed": 1}


def test_it_is_in_doubt_until_that_is_known(
    scene: Scene, counted: Callable[..., dict[str, Any]]
) -> None:
    scene.call("m1", Outcome.MAYBE_SENT)
    scene.call("m2", Outcome.MAYBE_SENT)
    assert counted() == {"in_doubt": 2, "delivered": 0}
    scene.wake("m1")
    scene.accept("m1")
    assert counted() == {"sent": 1, "in_doubt": 2, "delivered": 0}
    scene.report("m1", DELIVRD)
    assert counted() == {"sent": 1, "in_doubt": 1, "delivered": 1}
    scene.record("m2", Outcome.NOT_SENT, attempt=1)
    assert counted() == {"sent": 1, "delivered": 1}


def test_a_doubt_outlives_the_end(scene: Scene, counted: Callable[..., dict[str, Any]]) -> None:
    scene.call("m1", Outcome.MAYBE_SENT)
    scene.run_out_of_ttl("m1")
    assert counted() == {"failed": 1, "in_doubt": 1, "delivered": 0}
    scene.record("m1", Outcome.REFUSED, attempt=1)
    assert counted() == {"failed": 1, "delivered": 0}


def test_what_producers_end_is_counted_by_a_worker(
    scene: Scene, counted: Callable[..., dict[str, Any]]
) -> None:
    scene.enter("m1", key="k")
    scene.enter("m2", key="k")
    smsq.cancel("m1")
    assert counted() == {"delivered": 0}
    callbacks = Callbacks(scene.client, scene.rules)
    callbacks.claim(10)
    callbacks.claim(10)
    assert counted() == {"cancelled": 1, "delivered": 0}


def test_so_it_is_where_it_came_to_another_end_meanwhile(
    scene: Scene, counted: Callable[..., dict[str, Any]]
) -> None:
    for name in ("m1", "m2"):
        scene.call(name, Outcome.ACCEPTED)
        scene.report(name, PHONE_IS_OFF)
        smsq.cancel(name)
    scene.report("m1", DELIVRD)
    Callbacks(scene.client, scene.rules).claim(10)
    assert counted() == {"sent": 2, "failed": 1, "delivered": 1}


def test_an_act_of_many_counts_each_of_them(scene: Scene) -> None:
    for n in range(3):
        scene.call(f"m{n}", Outcome.ACCEPTED)
        scene.enter(f"n{n}", template="SMS 2", lane="bulk")
    for n in range(3):
        scene.report(f"m{n}", DELIVRD)
        scene.run_out_of_ttl(f"n{n}")
    day = today(scene.client, scene.settings.redis_url).isoformat()
    groups = days(scene, "template", "lane", "stat").groups
    assert {group: (one.sent, one.delivered, one.expired) for group, one in groups.items()} == {
        (day, "SMS_1001", "notice", ""): (3, 0, 0),
        (day, "SMS_1001", "notice", "DELIVRD"): (0, 3, 0),
        (day, "SMS 2", "bulk", ""): (0, 0, 3),
    }


def test_the_day_is_that_of_the_entry_and_is_kept_for_40(scene: Scene) -> None:
    scene.enter("m1")
    scene.client.hincrby(keys.message("m1"), "enqueued", -86_400_000)
    scene.call("m2", Outcome.ACCEPTED)
    scene.accept("m1")
    url, now = scene.settings.redis_url, today(scene.client, scene.settings.redis_url)
    before = read_days(scene.client, url, [now - timedelta(days=1)], [])
    assert before.total.sent == days(scene).total.sent == 1
    assert before.since
    assert 39 * 86_400 < scene.client.ttl(key(scene)) <= 41 * 86_400


def test_one_of_a_day_that_is_over_leaves_nothing_behind(scene: Scene) -> None:
    scene.enter("m1")
    scene.client.hincrby(keys.message("m1"), "enqueued", -50 * 86_400_000)
    scene.accept("m1")
    scene.report("m1", DELIVRD)
    assert all(scene.client.ttl(name) > 0 for name in scene.client.keys(keys.DAY + "*"))


@pytest.mark.parametrize("full", ["templates", "fields"])
def test_beyond_the_bounds_all_others_are_counted_as_one(scene: Scene, full: str) -> None:
    scene.call("m1", Outcome.ACCEPTED)
    if full == "templates":
        scene.client.hset(key(scene), "templates", 1000)
    else:
        scene.client.hset(key(scene), mapping={f"x{n}": 1 for n in range(20_000)})
    scene.enter("m2", template="SMS_2")
    scene.accept("m2")
    scene.report("m2", FAILED)
    scene.report("m2", DELIVRD)
    scene.enter("m3", template="SMS_2")
    scene.go("m3")
    scene.record("m3", Outcome.REFUSED)
    scene.report("m1", DELIVRD)
    sums = {group[1]: one for group, one in days(scene, "template").groups.items()}
    assert (sums["other"].sent, sums["other"].failed) == (1, 1)
    assert sums["other"].failed_after_acceptance == 0
    assert sums["SMS_1001"].sent == 1
    assert sums["SMS_1001" if full == "templates" else "other"].delivered >= 1
    assert days(scene).total.delivered == 2


def test_a_counter_that_is_no_number_costs_no_act(scene: Scene) -> None:
    scene.client.set(key(scene), "broken")
    scene.call("m1", Outcome.ACCEPTED)
    scene.report("m1", DELIVRD)
    assert scene.state("m1") == "delivered"


def test_the_median_is_interpolated_in_its_bucket() -> None:
    sums = Sums()
    assert sums.median_s is None
    for le, n in ((1000, 2), (2000, 4), (5000, 2)):
        sums.add(f"delivered:{le}", n)
    assert sums.median_s == 1.5
    late = Sums()
    late.add("delivered:inf", 3)
    assert late.median_s == 72 * 3600
