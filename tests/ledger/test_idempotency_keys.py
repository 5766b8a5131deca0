"""An idempotency key: what frees it, what conflicts with it, and who hears that it is taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Any
from uuid import uuid4

import pytest
import redis
from cryptography.fernet import Fernet

import smsq
from harness.cli import run
from harness.scene import DELIVRD, OTHER_PHONE, PHONE, PHONE_IS_OFF, TEMPLATE, Scene, stat
from harness.vendor_server import VendorServer
from harness.waiting import eventually, known
from harness.wakeups import send
from smsq import KeyConflict, keys
from smsq.connection import connect
from smsq.contract import Lane, State, parse
from smsq.ledger_writer import LedgerWriter
from smsq_worker.config.settings import Settings
from smsq_worker.domain.states import Outcome
from smsq_worker.ledger import Rejected
from smsq_worker.runtime import Runtime

KEY = "login-7781"
NAME = f"smsq:k:{keys.phone_hash(KEY)}"
TO_CHINA = stat("MA:0001", "permanent")


@pytest.fixture
def scene(client: redis.Redis, settings: Settings) -> Scene:
    return Scene(client, settings, max_resends=1)


def keyed(scene: Scene, name: str = "m1", **options: object) -> State:
    return scene.enter(name, key=KEY, **options)


def counted(scene: Scene) -> int:
    return scene.ledger.counters().get("possible_duplicates", 0)


def called(scene: Scene, *outcomes: Outcome) -> None:
    """Make attempts that come to this, each as soon as the one before allows."""
    for outcome in outcomes:
        if scene.state() == "deferred":
            scene.run_out()
        scene.go()
        scene.record("m1", outcome)


# --- what frees a key ---------------------------------------------------------------------------


def expires(scene: Scene) -> None:
    scene.run_out_of_ttl()


def is_refused(scene: Scene) -> None:
    called(scene, Outcome.REFUSED)


def is_refused_at_last(scene: Scene) -> None:
    called(scene, Outcome.NOT_SENT, Outcome.NOT_SENT, Outcome.REFUSED)


def expires_after_an_outage(scene: Scene) -> None:
    """Of the first attempts nothing is kept."""
    called(scene, *[Outcome.NOT_SENT] * 15)
    assert scene.field("m1", "1:at") is None
    scene.run_out_of_ttl()


def is_suppressed(scene: Scene) -> None:
    scene.control.suppress(PHONE, "by hand", datetime.now(UTC) + timedelta(days=1))
    assert scene.stays() == "ended"


def is_suppressed_after_an_outage(scene: Scene) -> None:
    called(scene, Outcome.NOT_SENT)
    scene.control.suppress(PHONE, "by hand", datetime.now(UTC) + timedelta(days=1))
    scene.run_out()
    assert scene.stays() == "ended"


def is_lost(scene: Scene) -> None:
    scene.client.delete(keys.payload("m1"))
    assert scene.stays() == "ended"


def was_in_doubt_until_the_answer_came(scene: Scene) -> None:
    """The lease ran out, and the worker says later that it did not get through."""
    scene.go()
    scene.run_out()
    assert scene.field("m1", "1:outcome") == "maybe_sent"
    scene.record("m1", Outcome.NOT_SENT)
    scene.run_out_of_ttl()


@pytest.mark.parametrize(
    "ends",
    [
        expires,
        is_refused,
        is_refused_at_last,
        expires_after_an_outage,
        is_suppressed,
        is_suppressed_after_an_outage,
        is_lost,
        was_in_doubt_until_the_answer_came,
    ],
)
def test_a_message_that_certainly_was_not_sent_frees_its_key(
    scene: Scene, ends: Callable[[Scene], None]
) -> None:
    assert keyed(scene) is State.QUEUED
    ends(scene)
    assert scene.state() in {"failed", "expired"}
    assert scene.status().certainly_not_sent
    assert not list(scene.client.scan_iter("smsq:k:*"))
    assert keyed(scene, "m2") is State.QUEUED
    assert keyed(scene, "m3") is State.DUPLICATE
    assert counted(scene) == 0


def test_a_message_asked_for_too_often_frees_its_key(
    client: redis.Redis, environ: dict[str, str]
) -> None:
    scene = Scene(client, Settings.load(environ | {"SMSQ_PHONE_LIMITS": "1/60"}))
    scene.enter("first", lane="otp")
    scene.go("first")
    keyed(scene, lane="otp")
    assert scene.stays() == "ended"
    assert scene.status().reason == "local:frequency"
    assert keyed(scene, "m2", lane="otp") is State.QUEUED


# --- what keeps it ------------------------------------------------------------------------------


def is_refused_after_a_doubt(scene: Scene) -> None:
    called(scene, Outcome.MAYBE_SENT, Outcome.REFUSED)


def has_no_resend_left(scene: Scene) -> None:
    called(scene, Outcome.MAYBE_SENT, Outcome.MAYBE_SENT)


def dies_with_its_worker(scene: Scene) -> None:
    for _ in range(2):
        if scene.state() == "deferred":
            scene.run_out()
        scene.go()
        scene.run_out()


def ends_in_doubt_with_its_ttl(scene: Scene) -> None:
    called(scene, Outcome.MAYBE_SENT)
    scene.run_out_of_ttl()


def is_suppressed_in_doubt(scene: Scene) -> None:
    called(scene, Outcome.MAYBE_SENT)
    scene.control.suppress(PHONE, "by hand", datetime.now(UTC) + timedelta(days=1))
    scene.run_out()
    assert scene.stays() == "ended"


def is_denied_by_its_report(scene: Scene) -> None:
    called(scene, Outcome.ACCEPTED)
    scene.report("m1", TO_CHINA)


def ends_after_a_transient_report(scene: Scene) -> None:
    called(scene, Outcome.ACCEPTED)
    scene.report("m1", PHONE_IS_OFF)
    called(scene, Outcome.REFUSED)


def is_delivered(scene: Scene) -> None:
    called(scene, Outcome.ACCEPTED)
    scene.report("m1", DELIVRD)


def is_not_reported(scene: Scene) -> None:
    called(scene, Outcome.ACCEPTED)
    scene.run_out()


def has_attempts_that_a_failover_undid(scene: Scene) -> None:
    scene.ledger.record("m1", 2, Outcome.REFUSED, detail="gateway:400", begun=scene.now_ms())


def had_its_number_taken_twice_by_a_failover(scene: Scene) -> None:
    scene.go()
    scene.ledger.record("m1", 1, Outcome.MAYBE_SENT, detail="", begun=scene.now_ms() - 5000)
    scene.record("m1", Outcome.REFUSED)


@pytest.mark.parametrize(
    "ends",
    [
        is_refused_after_a_doubt,
        has_no_resend_left,
        dies_with_its_worker,
        ends_in_doubt_with_its_ttl,
        is_suppressed_in_doubt,
        is_denied_by_its_report,
        ends_after_a_transient_report,
        is_delivered,
        is_not_reported,
        has_attempts_that_a_failover_undid,
        had_its_number_taken_twice_by_a_failover,
    ],
)
def test_a_message_that_may_have_been_sent_keeps_its_key(
    scene: Scene, ends: Callable[[Scene], None]
) -> None:
    keyed(scene)
    ends(scene)
    assert scene.status().final
    assert not scene.status().certainly_not_sent
    assert scene.client.get(NAME) == "m1"
    assert keyed(scene, "m2") is State.DUPLICATE
    assert scene.field("m1", "key") is None


def test_a_message_that_an_operator_drops_keeps_its_key(scene: Scene) -> None:
    keyed(scene, on_ambiguous="hold")
    called(scene, Outcome.MAYBE_SENT)
    scene.ledger.decide("m1", "drop")
    assert scene.status().reason == "local:dropped"
    assert keyed(scene, "m2") is State.DUPLICATE


def test_a_live_message_keeps_its_key(scene: Scene) -> None:
    keyed(scene)
    called(scene, Outcome.NOT_SENT)
    assert not scene.status().certainly_not_sent
    assert keyed(scene, "m2") is State.DUPLICATE


def test_a_key_that_names_another_message_by_now_stays(scene: Scene) -> None:
    keyed(scene)
    scene.client.delete(*scene.client.scan_iter("smsq:k:*"))  # a day is over
    keyed(scene, "m2")
    is_refused(scene)
    assert scene.client.get(NAME) == "m2"
    assert scene.client.exists(f"{NAME}:fp")
    assert scene.field("m1", "freed") is None


def test_a_duplicate_frees_nothing(scene: Scene) -> None:
    keyed(scene)
    keyed(scene, "m2")
    assert not scene.status("m2").certainly_not_sent
    assert isinstance(scene.admit("m2"), Rejected)
    assert scene.client.get(NAME) == "m1"


def test_of_many_who_send_with_a_key_while_messages_end_one_gets_it_each_time(
    scene: Scene, settings: Settings
) -> None:
    stop, told = Event(), []
    message = parse((PHONE, TEMPLATE), {"key": KEY})

    def producer() -> None:
        with connect(settings.redis_url) as client:
            entrance = LedgerWriter(client, settings)
            while not stop.is_set():
                message_id = uuid4().hex
                told.append((message_id, entrance.enter(message_id, message)))

    threads = [Thread(target=producer) for _ in range(8)]
    for thread in threads:
        thread.start()
    ended: list[str] = []
    try:
        while len(ended) < 50:
            holder = str(eventually(lambda: scene.client.get(NAME)))
            scene.run_out_of_ttl(holder)
            ended.append(holder)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    last = scene.client.get(NAME)
    queued = [name for name, entered in told if entered.state is State.QUEUED]
    assert sorted(queued) == sorted([*ended, last] if last else ended)
    holders = {entered.duplicate_of for _, entered in told} - {None}
    assert holders <= {*queued}
    assert len(told) > len(queued)
    assert counted(scene) == 0


# --- news that comes too late -------------------------------------------------------------------


def test_a_call_that_a_failover_had_undone_counts_a_possible_duplicate(scene: Scene) -> None:
    keyed(scene)
    expires(scene)
    for _ in range(2):  # a command that is sent twice counts once
        scene.ledger.record("m1", 1, Outcome.ACCEPTED, detail="", mid="M", begun=scene.now_ms())
        assert counted(scene) == 1
    assert not scene.status().certainly_not_sent
    assert scene.state() == "expired"


def test_a_call_that_did_not_arrive_is_no_such_news(scene: Scene) -> None:
    keyed(scene)
    expires(scene)
    scene.ledger.record("m1", 1, Outcome.NOT_SENT, detail="", begun=scene.now_ms())
    assert counted(scene) == 0
    assert scene.status().certainly_not_sent


def test_without_a_key_it_is_known_and_not_counted(scene: Scene) -> None:
    scene.enter()
    expires(scene)
    scene.ledger.record("m1", 1, Outcome.MAYBE_SENT, detail="", begun=scene.now_ms())
    assert counted(scene) == 0
    assert not scene.status().certainly_not_sent


def test_a_call_made_twice_by_a_failover_counts_once_with_its_report(scene: Scene) -> None:
    keyed(scene)
    is_refused(scene)
    begun = scene.now_ms() - 5000
    scene.ledger.record("m1", 1, Outcome.ACCEPTED, detail="", mid="M", begun=begun)
    assert counted(scene) == 1
    assert scene.ledger.report("M", "DELIVRD", DELIVRD) == ("delivered", "m1")
    assert counted(scene) == 1


def test_a_report_that_it_was_delivered_counts_a_possible_duplicate(scene: Scene) -> None:
    """As a worker of 0.2.0 leaves it, which noted the mid of a call made twice and no more."""
    keyed(scene)
    is_refused(scene)
    scene.client.set(keys.mid("M"), "1 m1")
    for _ in range(2):
        assert scene.ledger.report("M", "DELIVRD", DELIVRD) == ("delivered", "m1")
        assert counted(scene) == 1


# --- what conflicts -----------------------------------------------------------------------------


@pytest.mark.parametrize("other", [(OTHER_PHONE, TEMPLATE), (PHONE, "SMS_2002")])
def test_a_key_taken_for_another_number_or_template_raises(
    client: redis.Redis, other: tuple[str, str]
) -> None:
    first = smsq.send_sms.delay(PHONE, TEMPLATE, "482913", key=KEY)
    before = client.dbsize(), client.hgetall(keys.COUNTERS)
    with pytest.raises(KeyConflict) as caught:
        smsq.send_sms.delay(*other, "482913", key=KEY)
    assert caught.value.holder == first.id
    assert isinstance(caught.value, smsq.InvalidMessage)
    assert str(caught.value).startswith(f"key is that of message {first.id}, which has another")
    assert not any(secret in str(caught.value) for secret in (*other, PHONE, KEY))
    assert (client.dbsize(), client.hgetall(keys.COUNTERS)) == before
    assert client.llen(Lane.NOTICE.queue) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"code": "000000"},
        {"ttl_s": 60},
        {"send_at": 1_900_000_000},
        {"lane": "otp"},
        {"reference": "r", "notify": "n", "on_ambiguous": "hold"},
    ],
)
def test_what_else_differs_is_a_duplicate_of_the_first(
    client: redis.Redis, other: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smsq.times.MAX_AHEAD_S", 10 * 366 * 86_400)
    first = smsq.send_sms.delay(PHONE, TEMPLATE, "482913", key=KEY)
    written = " ".join((PHONE[:3], PHONE[3:7], PHONE[7:]))  # the same number
    second = smsq.send_sms.delay(written, TEMPLATE, **{"code": "482913", "key": KEY} | other)  # type: ignore[arg-type]
    assert first.duplicate_of is None
    assert second.duplicate_of == first.id
    assert second.id != first.id
    assert known(second.id).reason == f"duplicate:{first.id}"


def test_a_call_that_is_repeated_with_its_id_hears_the_same(client: redis.Redis) -> None:
    first = smsq.send_sms.delay(PHONE, TEMPLATE, key=KEY)
    for _ in range(2):
        again = smsq.send_sms.apply_async((PHONE, TEMPLATE), {"key": KEY}, task_id="second")
        assert (again.id, again.duplicate_of) == ("second", first.id)


def test_a_conflict_is_known_until_the_key_is_over(client: redis.Redis, scene: Scene) -> None:
    keyed(scene)
    is_delivered(scene)
    assert scene.field("m1", "who") is None
    with pytest.raises(KeyConflict):
        scene.enter("m2", phone=OTHER_PHONE, key=KEY)
    assert client.pttl(f"{NAME}:fp") == pytest.approx(client.pttl(NAME), abs=1000)
    client.delete(NAME)  # a day is over; the rest goes at the same moment, and would do no harm
    assert scene.enter("m2", phone=OTHER_PHONE, key=KEY) is State.QUEUED


def test_a_fingerprint_is_keyed_by_what_the_ledger_does_not_hold(
    client: redis.Redis, environ: dict[str, str]
) -> None:
    with_keys = Settings.load(environ | {"SMSQ_PAYLOAD_KEYS": Fernet.generate_key().decode()})
    found = set()
    for settings in (Settings.load(environ), with_keys):
        client.flushall()
        LedgerWriter(client, settings).enter("m1", parse((PHONE, TEMPLATE), {"key": KEY}))
        (name,) = client.scan_iter("smsq:k:*:fp")
        found.add(client.get(name))
    assert found > {keys.fingerprint(KEY, PHONE, TEMPLATE)}
    assert len(found) == 2
    assert keys.fingerprint("another", PHONE, TEMPLATE) not in found


def test_a_bare_message_whose_key_conflicts_fails_and_is_not_sent(
    environ: dict[str, str], client: redis.Redis, tmp_path: Path
) -> None:
    first = smsq.send_sms.delay(PHONE, TEMPLATE, key=KEY)
    with VendorServer() as vendor:
        own = {"SMSQ_GATEWAY_URL": vendor.url, "SMSQ_HOME": str(tmp_path)}
        runtime = Runtime(Settings.load(environ | own))
        try:
            for word in ("local:key-conflict failed", "entered failed"):
                bare = [OTHER_PHONE, TEMPLATE], {"key": KEY}
                assert send(runtime, "bare", Lane.OTP, *bare) == word
        finally:
            runtime.close()
        assert vendor.phones() == []
    status = known("bare")
    assert (status.state, status.reason) == ("failed", "local:key-conflict")
    assert status.detail is not None
    assert first.id in status.detail
    assert status.certainly_not_sent
    assert client.get(NAME) == first.id


# --- many at once -------------------------------------------------------------------------------


def rows(*numbers: int, **more: object) -> list[dict[str, object]]:
    """Rows of which each has the key of its number's last two digits."""
    return [
        {"phone": f"138{n:08}", "template": TEMPLATE, "key": f"k{n % 100}"} | more for n in numbers
    ]


def woken(client: redis.Redis) -> int:
    return sum(int(n) for name, n in client.hgetall(keys.LIVE).items() if name.endswith("queued"))


CONFLICTS = rows(1, 2, 103, 4, 105, 6)


def taken() -> list[str]:
    """Take the keys of the third and the fifth row of these, for other numbers."""
    ids: list[str] = []
    smsq.send_many(rows(3, 5), on_batch=ids.extend)
    return ids


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_a_row_that_conflicts_stops_after_all_before_it(
    client: redis.Redis, batch_size: int
) -> None:
    holder, _ = taken()
    ids: list[str] = []
    with pytest.raises(KeyConflict) as caught:
        smsq.send_many(CONFLICTS, batch_size=batch_size, on_batch=ids.extend)
    error = caught.value
    assert (error.index, error.enqueued, error.holder) == (2, 2, holder)
    assert str(error).startswith("row 2: key is that of message")
    assert "the 2 messages before it are enqueued" in str(error)
    assert [known(one).phone for one in ids] == ["138****0001", "138****0002"]
    assert woken(client) == 4


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_rows_that_conflict_are_left_out_and_nothing_else(
    client: redis.Redis, batch_size: int
) -> None:
    holders = taken()
    batches: list[Sequence[str]] = []
    sent = smsq.send_many(
        CONFLICTS, batch_size=batch_size, on_batch=batches.append, on_invalid="skip"
    )
    assert sent == 4
    assert [(type(one), one.index) for one in sent.invalid] == [(KeyConflict, 2), (KeyConflict, 4)]
    assert [one.holder for one in sent.invalid if isinstance(one, KeyConflict)] == holders
    assert [len(batch) for batch in batches if not batch] == []
    assert sum(map(len, batches)) == 4
    assert woken(client) == 6


def test_a_function_is_given_the_rows_that_conflict(client: redis.Redis) -> None:
    taken()
    left: list[tuple[int, object]] = []
    given = [*CONFLICTS, {"phone": "12"}]
    sent = smsq.send_many(given, on_invalid=lambda index, row, _: left.append((index, row)))
    assert (sent, sent.invalid) == (4, ())
    assert sorted(left, key=lambda one: one[0]) == [(n, given[n]) for n in (2, 4, 6)]


def test_two_rows_of_one_batch_may_conflict_with_each_other(client: redis.Redis) -> None:
    sent = smsq.send_many(rows(7, 107), on_invalid="skip")
    assert (sent, [one.index for one in sent.invalid]) == (1, [1])


def test_the_answer_says_which_rows_are_duplicates_of_what(client: redis.Redis) -> None:
    first: list[str] = []
    again: list[str] = []
    assert smsq.send_many(rows(1, 2), on_batch=first.extend).duplicates == ()
    sent = smsq.send_many(rows(9, 1, 2, 9), on_batch=again.extend, batch_size=2)
    found = [(one.index, one.id, one.duplicate_of) for one in sent.duplicates]
    assert sent == 4
    assert found == [
        (1, again[1], first[0]),
        (2, again[2], first[1]),
        (3, again[3], again[0]),
    ]


def test_a_function_is_given_duplicates_before_their_batch(client: redis.Redis) -> None:
    smsq.send_many(rows(1))
    seen: list[object] = []
    sent = smsq.send_many(rows(1), on_duplicate=seen.append, on_batch=seen.extend)
    (duplicate, message_id) = seen
    assert isinstance(duplicate, smsq.Duplicate)
    assert (duplicate.id, duplicate.index) == (message_id, 0)
    assert (sent, sent.duplicates) == (1, ())


@pytest.mark.parametrize("name", ["on_invalid", "on_duplicate"])
def test_a_function_that_raises_keeps_no_id_of_what_is_in_from_the_caller(
    client: redis.Redis, name: str
) -> None:
    taken()
    smsq.send_many(rows(1))
    told: list[str] = []

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    functions: dict[str, Any] = {"on_invalid": "skip", name: fail}
    before = set(client.scan_iter("smsq:m:*"))
    with pytest.raises(ZeroDivisionError):
        smsq.send_many([*CONFLICTS, *rows(1)], on_batch=told.extend, **functions)
    assert {keys.message(one) for one in told} == set(client.scan_iter("smsq:m:*")) - before
    assert len(told) == 5


def test_send_file_leaves_out_the_rows_that_conflict_and_sends_the_rest(
    environ: dict[str, str], client: redis.Redis, tmp_path: Path
) -> None:
    taken()
    environ["SMSQ_HOME"] = str(tmp_path / "home")
    path = tmp_path / "numbers.csv"
    lines = [f"{row['phone']},{TEMPLATE},{row['key']}\n" for row in CONFLICTS]
    path.write_text("phone,template,key\n" + "".join(lines))
    done = run(environ, "send-file", str(path))
    assert done.returncode == 1
    told = done.stdout.splitlines()
    assert told[2:4] == ["enqueued    4", "duplicates  2"]
    assert told[4] == "  2 of them with another message's key; they are not sent"
    assert [line[:32] for line in told[5:7]] == [
        "  line 4: key is that of message",
        "  line 6: key is that of message",
    ]
    (ids,) = tmp_path.glob("home/send-file/*.ids")
    numbers = [known(one).phone for one in ids.read_text().split()]
    assert numbers == ["138****0001", "138****0002", "138****0004", "138****0006"]
    assert "was sent already" in run(environ, "send-file", str(path)).stderr


def test_the_command_line_says_that_a_message_is_a_duplicate(
    environ: dict[str, str], client: redis.Redis
) -> None:
    first = run(environ, "send", PHONE, TEMPLATE, "--key", KEY)
    second = run(environ, "send", PHONE, TEMPLATE, "--key", KEY)
    assert (first.stderr, first.returncode, second.returncode) == ("", 0, 0)
    assert f"its key is that of {first.stdout.strip()}, so it is not sent" in second.stderr
    third = run(environ, "send", OTHER_PHONE, TEMPLATE, "--key", KEY)
    assert (third.stdout, third.returncode) == ("", 2)
    assert "key is that of message" in third.stderr
