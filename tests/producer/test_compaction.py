"""A final message is kept folded, and nothing of what is known of it is lost by that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import redis

from harness.scene import DELIVRD, PHONE, Scene, mid_of, stat
from smsq import keys
from smsq.compaction import unfolded
from smsq.tracking import Status
from smsq_worker.config.settings import Settings
from smsq_worker.domain.states import Outcome

BLACKLISTED = stat("MA:0001", "permanent")
STRANGE = stat("NOT LISTED 7", "permanent")
ROUTE = stat("MA:0003", "transient", 60)
PENDING = stat("ACCEPTD", "pending")
A_DAY_S = 86_400


@pytest.fixture
def scene(client: redis.Redis, settings: Settings) -> Scene:
    return Scene(client, settings, max_resends=1)


def accept(scene: Scene) -> None:
    scene.call("m1", Outcome.ACCEPTED, detail="")


def accept_again(scene: Scene) -> None:
    """Have it resent after a report."""
    accept(scene)
    scene.report("m1", ROUTE)
    scene.run_out()
    accept(scene)


def stored(scene: Scene) -> dict[str, str]:
    found: Any = scene.client.hgetall(keys.message("m1"))
    return dict(found)


def ended(before: Status, after: Status, said: str | None) -> Status:
    """Give what a message is after its end by what it was before, and the last report on it."""
    *earlier, last = before.attempts
    return replace(
        before,
        state=after.state,
        reason=after.reason,
        stat=said or before.stat,
        finished_at=after.finished_at,
        attempts=(*earlier, replace(last, stat=said)),
    )


def test_a_delivered_message_is_kept_in_one_small_piece(scene: Scene) -> None:
    accept(scene)
    scene.report("m1", DELIVRD)
    assert set(stored(scene)) == {"state", "template", "1", "fold"}
    assert scene.client.object("encoding", keys.message("m1")) == "listpack"


@pytest.mark.parametrize("accepted", [accept, accept_again])
@pytest.mark.parametrize("report", [DELIVRD, BLACKLISTED, STRANGE])
def test_a_report_that_ends_a_message_leaves_what_was_known(
    scene: Scene, accepted: Callable[[Scene], None], report: Any
) -> None:
    scene.enter(reference="r1", lane="otp", notify="told")
    accepted(scene)
    before = scene.status()
    began = scene.now_ms()
    scene.report("m1", report)
    after = scene.status()
    assert after == ended(before, after, report.stat)
    assert after.phone == f"{PHONE[:3]}****{PHONE[-4:]}"
    assert after.finished_at is not None
    assert began <= after.finished_at.timestamp() * 1000 <= scene.now_ms()


@pytest.mark.parametrize("accepted", [accept, accept_again])
def test_a_message_without_a_report_keeps_what_was_known(
    scene: Scene, accepted: Callable[[Scene], None]
) -> None:
    accepted(scene)
    before = scene.status()
    scene.run_out()
    after = scene.status()
    assert after.state == "unreported"
    assert after == ended(before, after, None)


def test_a_call_that_was_not_accepted_keeps_its_detail(scene: Scene) -> None:
    scene.call("m1", Outcome.REFUSED)
    (attempt,) = scene.status().attempts
    assert (attempt.outcome, attempt.detail) == ("refused", "gateway:400 said so")
    assert scene.status().accepted_at is None


def test_a_message_that_was_never_sent_keeps_what_was_known(scene: Scene) -> None:
    scene.enter()
    before = scene.status()
    scene.run_out_of_ttl()
    after = scene.status()
    assert after == replace(
        before, state="expired", finished_at=after.finished_at, certainly_not_sent=True
    )


def test_a_call_still_under_way_stays_so(scene: Scene) -> None:
    accept(scene)
    scene.report("m1", ROUTE)
    scene.run_out()
    scene.go("m1")
    before = scene.status()
    scene.ledger.report(mid_of("m1", 1), "DELIVRD", DELIVRD)
    after = scene.status()
    assert after.state == "delivered"
    assert after.attempts[1] == before.attempts[1]
    assert after.attempts[1].detail is None


@pytest.mark.parametrize("folded", [True, False], ids=["folded", "as before it was folded"])
def test_news_after_the_end_finds_what_it_needs(scene: Scene, folded: bool) -> None:
    accept(scene)
    scene.report("m1", BLACKLISTED)
    failed, fields = scene.status(), unfolded(stored(scene))
    if not folded:
        scene.client.hdel(keys.message("m1"), "fold", "1")
        scene.client.hset(keys.message("m1"), mapping=fields)
        assert scene.status() == failed
    scene.report("m1", PENDING)
    (attempt,) = scene.status().attempts
    assert scene.status() == replace(failed, attempts=(replace(attempt, stat="ACCEPTD"),))
    scene.report("m1", DELIVRD)
    delivered = scene.status()
    assert delivered == replace(
        failed,
        state="delivered",
        reason=None,
        stat="DELIVRD",
        attempts=(replace(attempt, stat="DELIVRD"),),
        finished_at=delivered.finished_at,
    )
    assert set(stored(scene)) == {"state", "template", "1", "fold"}


def test_an_answer_after_the_end_is_kept(scene: Scene) -> None:
    scene.enter(on_ambiguous="hold")
    scene.go()
    scene.run_out()
    scene.ledger.decide("m1", "drop")
    assert scene.record("m1", Outcome.ACCEPTED, detail="") == "failed"
    (attempt,) = scene.status().attempts
    assert (attempt.outcome, attempt.mid, attempt.detail) == ("accepted", mid_of("m1", 1), "")
    assert scene.report("m1", DELIVRD) == "delivered"


def test_a_copy_of_the_wake_up_leaves_a_final_message_folded(scene: Scene) -> None:
    accept(scene)
    scene.report("m1", DELIVRD)
    before = stored(scene)
    assert scene.stays() == "copy"
    assert stored(scene) == before


def test_a_delivered_messages_mid_is_known_for_a_day(scene: Scene, settings: Settings) -> None:
    accept(scene)
    mid = keys.mid(mid_of("m1", 1))
    assert scene.client.ttl(mid) > settings.retention_s
    scene.report("m1", DELIVRD)
    assert A_DAY_S - 60 < scene.client.ttl(mid) <= A_DAY_S
    assert scene.report("m1", DELIVRD) == "delivered"


def test_a_failed_messages_mid_is_known_as_long_as_the_message(
    scene: Scene, settings: Settings
) -> None:
    accept(scene)
    scene.report("m1", BLACKLISTED)
    assert scene.client.ttl(keys.mid(mid_of("m1", 1))) > settings.retention_s
