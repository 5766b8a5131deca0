"""Cancelling: one act, and its three answers in every state."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable

import pytest
import redis

import smsq
from harness.paths import ROOT
from harness.scene import DELIVRD, NO_BALANCE, PHONE_IS_OFF, Scene, stat
from harness.waiting import known
from smsq import keys
from smsq.audit import act
from smsq.cancelling import cancel
from smsq.contract import FINAL, Lane
from smsq.errors import InvalidMessage
from smsq.functions import lua
from smsq_worker.domain.states import Outcome
from smsq_worker.ledger import Report, migrations
from smsq_worker.ledger.callbacks import Callbacks

GONE = stat("MA:0001", "permanent")


@pytest.fixture
def scene(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setenv("SMSQ_REDIS_URL", scene.settings.redis_url)
    return scene


def cancelled(message_id: str = "m1") -> tuple[str, str, str | None]:
    found = smsq.cancel(message_id)
    assert found is not None
    status = known(message_id)
    assert (found.id, found.state, found.reason) == (message_id, status.state, status.reason)
    return found.answer, found.state, found.reason


def nothing_waits_for(scene: Scene, message_id: str = "m1") -> bool:
    timers = (keys.TIMERS, keys.LEASES, keys.OTP_TIMERS, keys.NOTICE_TIMERS, keys.HELD)
    return (
        all(scene.client.zscore(name, message_id) is None for name in timers)
        and not scene.client.exists(keys.payload(message_id))
        and not any(int(n) for n in scene.client.hvals(keys.LIVE))
        and 0 < scene.client.pttl(keys.message(message_id)) <= scene.rules.retention_s * 1000
    )


def queued(scene: Scene) -> None:
    scene.enter()


def scheduled(scene: Scene) -> None:
    scene.enter(send_at=time.time() + 3600, lane="otp")


def after_one_that_was_not_sent(scene: Scene) -> None:
    scene.call("m1", Outcome.NOT_SENT)


def waits_for_its_template(scene: Scene) -> None:
    scene.enter()
    scene.control.pause("template:SMS_1001", "")
    scene.admit()


@pytest.mark.parametrize(
    "comes_to", [queued, scheduled, after_one_that_was_not_sent, waits_for_its_template]
)
def test_what_certainly_was_not_sent_is_cancelled(
    scene: Scene, comes_to: Callable[[Scene], None]
) -> None:
    comes_to(scene)
    assert cancelled() == ("cancelled", "cancelled", None)
    assert cancelled() == ("cancelled", "cancelled", None)
    status = known("m1")
    assert status.certainly_not_sent
    assert status.finished_at
    assert nothing_waits_for(scene)
    assert scene.stays() == "copy"
    assert not scene.client.zcard(keys.WAITING + "SMS_1001")
    counted = scene.client.hget(keys.COUNTERS, f"messages:{status.lane}:cancelled")
    assert counted == "1"


def test_the_key_of_a_cancelled_message_is_free_again(scene: Scene) -> None:
    scene.enter("m1", key="k")
    assert scene.enter("m2", key="k") == "duplicate"
    cancelled()
    assert scene.enter("m3", key="k") == "queued"


def in_doubt_and_deferred(scene: Scene) -> None:
    scene.call("m1", Outcome.MAYBE_SENT)


def in_doubt_and_queued(scene: Scene) -> None:
    scene.call("m1", Outcome.MAYBE_SENT)
    scene.wake()


def held(scene: Scene) -> None:
    scene.enter(on_ambiguous="hold")
    scene.go()
    scene.record("m1", Outcome.MAYBE_SENT)


@pytest.mark.parametrize("comes_to", [in_doubt_and_deferred, in_doubt_and_queued, held])
def test_what_may_have_been_sent_ends_as_failed_and_keeps_its_key(
    scene: Scene, comes_to: Callable[[Scene], None]
) -> None:
    comes_to(scene)
    assert cancelled() == ("too_late", "failed", "local:cancelled")
    assert cancelled() == ("too_late", "failed", "local:cancelled")
    assert not known("m1").certainly_not_sent
    assert nothing_waits_for(scene)
    scene.record("m1", Outcome.ACCEPTED)
    scene.report("m1", DELIVRD)
    assert known("m1").state == "delivered"


@pytest.mark.parametrize("state", sorted(FINAL - {"cancelled"}))
def test_what_has_ended_stays_what_it_is(scene: Scene, state: str) -> None:
    scene.call("m1", Outcome.REFUSED)
    scene.client.hset(keys.message("m1"), "state", state)
    before = scene.client.hgetall(keys.message("m1"))
    assert cancelled()[:2] == ("too_late", state)
    assert scene.client.hgetall(keys.message("m1")) == before
    assert scene.client.hget(keys.SCHEMA, "readable_by") is None


def test_what_the_ledger_does_not_know_cannot_be_cancelled(scene: Scene) -> None:
    assert smsq.cancel("m1") is None
    assert not scene.client.keys("smsq:*")
    with pytest.raises(InvalidMessage):
        smsq.cancel("")


# --- under way ------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["resend", "hold"])
@pytest.mark.parametrize(
    ("outcome", "state", "reason"),
    [
        (Outcome.NOT_SENT, "cancelled", None),
        (Outcome.REFUSED, "failed", "gateway:400"),
        (Outcome.MAYBE_SENT, "failed", "local:cancelled"),
        (Outcome.ACCEPTED, "accepted", None),
    ],
)
def test_the_attempt_under_way_decides_and_is_the_last(
    scene: Scene, policy: str, outcome: Outcome, state: str, reason: str | None
) -> None:
    scene.enter(on_ambiguous=policy)
    scene.go()
    assert cancelled() == ("under_way", "sending", None)
    scene.record("m1", outcome)
    status = known("m1")
    assert (status.state, status.reason) == (state, reason)
    assert scene.client.zscore(keys.HELD, "m1") is None
    if state != "accepted":
        assert nothing_waits_for(scene)


@pytest.mark.parametrize("policy", ["resend", "hold"])
def test_where_its_worker_died_the_doubt_ends_it(scene: Scene, policy: str) -> None:
    scene.enter(on_ambiguous=policy)
    scene.go()
    cancelled()
    assert scene.run_out() == []
    assert (known("m1").state, known("m1").reason) == ("failed", "local:cancelled")
    assert nothing_waits_for(scene)


def test_a_refusal_that_would_wait_for_the_account_ends_it(scene: Scene) -> None:
    scene.enter()
    scene.go()
    scene.control.pause("account", "")
    cancelled()
    scene.record("m1", Outcome.REFUSED)
    assert (known("m1").state, known("m1").certainly_not_sent) == ("cancelled", True)


def test_after_a_doubt_an_attempt_that_was_not_sent_does_not_make_it_certain(scene: Scene) -> None:
    scene.call("m1", Outcome.MAYBE_SENT)
    scene.wake()
    scene.go()
    cancelled()
    scene.record("m1", Outcome.NOT_SENT)
    assert (known("m1").state, known("m1").reason) == ("failed", "local:cancelled")


# --- accepted -------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["resend", "hold"])
@pytest.mark.parametrize(
    ("report", "end"),
    [
        (DELIVRD, ("delivered", None)),
        (GONE, ("failed", "report:MA:0001")),
        (PHONE_IS_OFF, ("failed", "report:EXPIRED")),
        (stat("MA:0002", "transient", 60, maybe_sent=True), ("failed", "report:MA:0002")),
        (NO_BALANCE, ("failed", "report:MA:0015")),
    ],
)
@pytest.mark.parametrize("is_under_way", [False, True])
def test_what_was_accepted_goes_on_to_its_report_and_is_not_sent_again(
    scene: Scene, report: Report, end: tuple[str, str], policy: str, is_under_way: bool
) -> None:
    scene.enter(on_ambiguous=policy)
    scene.go()
    if is_under_way:
        assert cancelled() == ("under_way", "sending", None)
    scene.record("m1", Outcome.ACCEPTED)
    assert cancelled() == ("too_late", "accepted", None)
    scene.report("m1", report)
    assert (known("m1").state, known("m1").reason) == end
    assert nothing_waits_for(scene)


def test_without_a_report_it_ends_as_unreported(scene: Scene) -> None:
    scene.call("m1", Outcome.ACCEPTED)
    cancelled()
    scene.run_out()
    assert known("m1").state == "unreported"


# --- what follows ---------------------------------------------------------------------------


def test_its_callbacks_say_that_it_was_cancelled(scene: Scene) -> None:
    scene.enter(notify="shop.told", reference="order 7")
    cancelled()
    callbacks = Callbacks(scene.client, scene.rules)
    callbacks.claim(10)
    (name,) = callbacks.claim(10) or scene.client.zrange(keys.NOTICES, 0, -1)
    assert name == "task:cancelled:m1"
    taken = callbacks.take(name)
    assert not isinstance(taken, str)
    assert (taken.outcome["state"], taken.outcome["reference"]) == ("cancelled", "order 7")
    assert taken.notify == "shop.told"


@pytest.mark.parametrize("version", [None, "1", "2", "3"])
def test_the_first_cancellation_shuts_out_workers_that_would_send_it(
    scene: Scene, version: str | None
) -> None:
    if version:
        scene.client.hset(keys.SCHEMA, mapping={"version": version, "readable_by": "1"})
    scene.enter()
    cancelled()
    assert migrations.read(scene.client) == migrations.Schema(int(version or 1), 3)
    assert migrations.migrate(scene.client, scene.rules) == migrations.Schema(3, 3)


def test_an_operators_act_is_in_the_audit_stream_and_a_programs_is_not(scene: Scene) -> None:
    scene.enter("m1")
    scene.call("m2", Outcome.ACCEPTED)
    scene.enter("m3")
    smsq.cancel("m3")
    done = act("cancel", who="ann", ids="m1 m2 none")
    cancel(scene.client, scene.settings, ["m1", "m2", "none"], done)
    ((_, entry),) = scene.client.xrange(keys.AUDIT)
    assert json.loads(entry.pop("arguments")) == {"ids": "m1 m2 none"}
    assert entry == {
        "who": "ann",
        "what": "cancel",
        "effect": "1 cancelled, 1 too late, 1 unknown",
    }


def test_it_frees_memory_also_at_the_limit(scene: Scene) -> None:
    scene.enter()
    scene.client.config_set("maxmemory", 1)
    try:
        assert cancelled() == ("cancelled", "cancelled", None)
    finally:
        scene.client.config_set("maxmemory", 0)


def test_purge_of_celerys_loses_wake_ups_and_no_message(scene: Scene) -> None:
    """Only messages that others wrote into the queue, and no worker has taken, are gone."""
    message_id = smsq.send_sms.delay("13800138000", "SMS_1001").id
    assert smsq.app.app.control.purge() == 1
    assert known(message_id).state == "queued"
    scene.client.zadd(keys.TIMERS, {message_id: 1})
    due = scene.ledger.claim(resend_wait_s=1, empty=[*Lane])
    assert [one for one, _ in due.wake] == [message_id]


def test_release_0_1_0_goes_by_the_ttl_of_what_must_not_be_sent_again(scene: Scene) -> None:
    scene.enter()
    scene.go()
    cancelled()
    assert int(scene.field("m1", "expires") or 0) <= scene.now_ms()


def test_both_ways_of_an_end_leave_the_same(scene: Scene, client: redis.Redis) -> None:
    """The producers' act and admit.lua."""
    for name in ("m1", "m2"):
        scene.enter(name, key=name, reference="r", notify="t")
    client.hset(keys.message("m2"), "stop", "cancelled")
    cancelled("m1")
    assert scene.stays("m2") == "ended"
    fields = {"state", "reference", "notify", "template", "freed"}
    one, other = ({name: scene.field(m, name) for name in fields} for m in ("m1", "m2"))
    assert one == other
    assert nothing_waits_for(scene, "m1")
    assert nothing_waits_for(scene, "m2")


def test_both_ways_of_an_end_drop_the_same_fields() -> None:
    """What workers do is in ends.lua; `trace` stays where a worker is yet to tell of the end."""
    ends = ROOT / "worker" / "smsq_worker" / "ledger" / "lua" / "shared" / "ends.lua"
    (of_worker,) = re.findall(r"OF_THE_LIVE = \{(.*?)\}", ends.read_text(), re.DOTALL)
    (of_producer,) = re.findall(r"'HDEL', message, ('reason'.*?)\)", lua("cancelling"), re.DOTALL)
    dropped = [set(re.findall(r"'(\w+)'", text)) for text in (of_worker, of_producer)]
    assert dropped[0] - {"trace"} == dropped[1] - {"reason"}
