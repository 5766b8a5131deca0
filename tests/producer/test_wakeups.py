"""Wake-ups that are written with their messages, as Celery itself would publish them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import celery
import pytest
import redis
from celery.signals import after_task_publish, before_task_publish

import smsq
from harness.envelopes import popped_id, popped_tag, published, taken, with_decoded_body
from harness.scene import LONG_AGO, Scene
from harness.waiting import known
from smsq import envelope, keys, wakeup
from smsq.app import app
from smsq.contract import Lane
from smsq.publishing import publish, publish_batch
from smsq_worker.config.settings import Settings

PHONE = "13800138000"
SHOWN = "('138****8000', 'SMS_1001')"


@pytest.fixture(autouse=True)
def _clean(client: redis.Redis) -> None:
    """Every test begins with an empty server, and with envelopes that its own thread makes."""
    # Celery writes down the thread, too.
    for made in (envelope.of_one, envelope.of_many, envelope.of_reports):
        made.cache_clear()


@pytest.fixture
def scene(client: redis.Redis, settings: Settings) -> Scene:
    scene = Scene(client, settings)
    scene.claim()  # The first looks through all timers, as the clock may have stepped.
    return scene


@pytest.mark.parametrize("lane", Lane)
@pytest.mark.parametrize("task_id", ["0b4d7a0e-mine", 'odd "%s" \\ @ID@ 短信 %(ID)s'])
def test_a_messages_wake_up_is_what_celery_publishes(
    client: redis.Redis, lane: Lane, task_id: str
) -> None:
    smsq.send_sms.apply_async((PHONE, "SMS_1001"), {"lane": lane}, task_id=task_id)
    (ours,) = taken(client, lane)
    publish(app, task_id, lane, argsrepr=SHOWN)
    theirs = published(client, lane)
    assert popped_tag(ours) != popped_tag(theirs)
    assert ours == theirs


def test_the_template_is_shown_whatever_it_is_called(client: redis.Redis) -> None:
    name = 'odd "%s" \' @IDS@ 模板'
    smsq.send_sms.delay(PHONE, name)
    (found,) = taken(client)
    assert found["headers"]["argsrepr"] == f"('138****8000', '{name}')"


def test_in_a_task_of_the_applications_it_has_that_ones_root_and_parent(
    client: redis.Redis,
) -> None:
    host = celery.Celery("host", set_as_current=False)
    both: list[dict[str, Any]] = []

    @host.task(shared=False)
    def work() -> None:
        smsq.send_sms.apply_async((PHONE, "SMS_1001"), task_id="m1")
        (ours,) = taken(client)
        publish(app, "m1", Lane.NOTICE, argsrepr=SHOWN)
        both.extend([ours, published(client)])

    work.apply(task_id="parent")
    ours, theirs = both
    headers = ours["headers"]
    assert (headers["root_id"], headers["parent_id"]) == ("parent", "parent")
    popped_tag(ours)
    popped_tag(theirs)
    assert ours == theirs


def test_a_batchs_wake_ups_are_what_celery_publishes_but_in_plain_text(
    client: redis.Redis,
) -> None:
    ids: list[str] = []
    rows = [{"phone": f"139{n:08}", "template": "SMS_1001", "lane": "bulk"} for n in range(7)]
    smsq.send_many(rows, on_batch=ids.extend)
    (ours,) = taken(client, "bulk")
    publish_batch(app, ids, Lane.BULK)
    theirs = published(client, "bulk")
    assert ours["properties"]["body_encoding"] is None
    for found in (ours, theirs):
        assert popped_tag(found)
        assert popped_id(found)
    assert with_decoded_body(ours) == with_decoded_body(theirs)


def test_a_claims_wake_ups_are_what_celery_publishes(client: redis.Redis, scene: Scene) -> None:
    odd = 'odd "%s" \\ @TAG@ 短信'
    scene.enter(odd)
    names = [f"bulk-{n}" for n in range(5)]
    for name in names:
        scene.enter(name, lane="bulk")
    lost(scene, odd, *names)
    due = scene.ledger.claim(resend_wait_s=1, empty=Lane, wakeups=wakeup.for_the_scheduler(app))
    assert (due.wake, due.woken) == ((), 6)
    (one,), (many,) = taken(client, "notice"), taken(client, "bulk")
    publish(app, odd, Lane.NOTICE)
    publish_batch(app, many_ids(many), Lane.BULK)
    theirs, their_many = published(client, "notice"), published(client, "bulk")
    tags = [popped_tag(found) for found in (one, many, theirs, their_many)]
    assert len(set(tags)) == 4
    assert one == theirs
    assert sorted(many_ids(many)) == names
    assert popped_id(many) != popped_id(their_many)
    assert with_decoded_body(many) == with_decoded_body(their_many)


def many_ids(found: dict[str, Any]) -> list[str]:
    ids = json.loads(found["body"])[0][0]
    assert isinstance(ids, list)
    return ids


def lost(scene: Scene, *names: str) -> None:
    """Let timers run out of messages whose wake-ups are gone."""
    scene.client.zadd(keys.TIMERS, dict.fromkeys(names, LONG_AGO), xx=True)


def test_a_claim_wakes_up_a_few_one_by_one_and_many_a_hundred_at_a_time(
    client: redis.Redis, scene: Scene
) -> None:
    for lane, count in (("otp", 4), ("notice", 5), ("bulk", 104)):
        for n in range(count):
            scene.enter(f"{lane}-{n}", lane=lane)
            lost(scene, f"{lane}-{n}")
    wakeups = wakeup.for_the_scheduler(app)
    due = scene.ledger.claim(resend_wait_s=1, empty=Lane, wakeups=wakeups)
    assert (due.wake, due.woken) == ((), 113)
    found = {lane: taken(client, lane) for lane in Lane}
    tasks = {lane: [one["headers"]["task"] for one in found[lane]] for lane in Lane}
    assert tasks == {
        "otp": ["smsq.send_sms"] * 4,
        "notice": ["smsq.send_batch"],
        "bulk": ["smsq.send_batch", *["smsq.send_sms"] * 4],
    }
    tags = [popped_tag(one) for lane in Lane for one in found[lane]]
    assert len(set(tags)) == len(tags)
    # What was woken up just now is not lost.
    lost(scene, "otp-1")
    oldest = {Lane.OTP: ["otp-0"]}
    assert scene.ledger.claim(resend_wait_s=1, oldest=oldest, wakeups=wakeups).woken == 0


def test_a_message_is_woken_up_once_however_often_it_is_entered(client: redis.Redis) -> None:
    for _ in range(2):
        smsq.send_sms.apply_async((PHONE, "SMS_1001"), task_id="mine")
    smsq.send_sms.delay(PHONE, "SMS_1001", key="k1")
    assert smsq.send_sms.delay(PHONE, "SMS_1001", key="k1").duplicate_of
    assert client.llen("sms.notice") == 2


def test_of_a_batch_only_what_is_to_be_sent_now_is_woken_up(client: redis.Redis) -> None:
    ids: list[str] = []
    rows: list[dict[str, Any]] = [
        {"phone": PHONE, "template": "SMS_1001", "key": "k1"},
        {"phone": PHONE, "template": "SMS_1001", "key": "k1"},
        {"phone": PHONE, "template": "SMS_1001", "send_at": time.time() + 3600},
        {"phone": PHONE, "template": "SMS_1001", "lane": "otp"},
        {"phone": PHONE, "template": "SMS_1002", "key": "k1"},
    ]
    smsq.send_many(rows, on_batch=ids.extend, on_invalid="skip")
    assert many_ids(*taken(client, "bulk")) == [ids[0]]
    assert many_ids(*taken(client, "otp")) == [ids[3]]
    assert [known(one).state for one in ids] == ["queued", "duplicate", "deferred", "queued"]


def test_what_a_queue_does_not_take_is_left_to_the_scheduler(
    client: redis.Redis, scene: Scene
) -> None:
    client.set("sms.notice", "not a list")
    message_id = smsq.send_sms.delay(PHONE, "SMS_1001").id
    ids: list[str] = []
    smsq.send_many([{"phone": PHONE, "template": "x"}] * 2, lane="notice", on_batch=ids.extend)
    for one in (message_id, *ids):
        assert client.zscore(keys.TIMERS, one) == 0
        assert client.hget(keys.message(one), "published") == "0"
    wakeups = wakeup.for_the_scheduler(app)
    due = scene.ledger.claim(resend_wait_s=1, empty=Lane, wakeups=wakeups)
    assert due.woken == 0
    assert dict(due.wake) == dict.fromkeys([message_id, *ids], "notice")


def test_at_the_memory_limit_neither_message_nor_wake_up_is_written(client: redis.Redis) -> None:
    smsq.send_sms.delay(PHONE, "SMS_1001")
    before = client.dbsize()
    client.config_set("maxmemory", 1)
    try:
        with pytest.raises(smsq.LedgerFull):
            smsq.send_sms.delay(PHONE, "SMS_1001", lane="otp")
        with pytest.raises(smsq.LedgerFull):
            smsq.send_many([{"phone": PHONE, "template": "SMS_1001"}])
    finally:
        client.config_set("maxmemory", 0)
    assert client.dbsize() == before
    assert client.llen("sms.notice") == 1


@pytest.fixture
def told() -> Iterator[list[object]]:
    """What the application's signals are called with."""
    told: list[object] = []

    def note(sender: object = None, **_: object) -> None:
        told.append(sender)

    for signal in (before_task_publish, after_task_publish):
        signal.connect(note)
    yield told
    for signal in (before_task_publish, after_task_publish):
        signal.disconnect(note)


def test_making_an_envelope_tells_the_application_of_no_task(told: list[object]) -> None:
    for make in (envelope.of_one, envelope.of_many):
        make.cache_clear()
        assert make(app, Lane.BULK)
    assert told == []
