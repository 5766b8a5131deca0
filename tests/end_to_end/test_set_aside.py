"""One bad item stops no other: not in the ledger, not in a spool, not in a worker that runs."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from subprocess import run
from typing import Any

import pytest
import redis

from harness.machine import machine
from harness.scene import DELIVRD, PHONE, Scene, mid_of
from harness.waiting import eventually
from smsq import keys
from smsq.connection import connect
from smsq.errors import LedgerUnavailable
from smsq_worker.api.metrics import SET_ASIDE
from smsq_worker.config.settings import Settings
from smsq_worker.domain.states import Outcome
from smsq_worker.infra.spool import Spool
from smsq_worker.ledger import Admitted, AttemptResult, Ledger, Rejected
from smsq_worker.ledger.callbacks import Callbacks
from smsq_worker.ledger.errors import LedgerFault
from smsq_worker.sending.result_spool import ResultSpool

LATER_MS = 20_000


@pytest.fixture
def raw(scene: Scene) -> Iterator[redis.Redis]:
    """A client that writes what ours would not."""
    with redis.Redis(port=scene.client.get_connection_kwargs()["port"]) as raw:
        yield raw


def set_aside(scene: Scene, what: str) -> int:
    return scene.ledger.counters().get(f"set_aside:{what}", 0)


# --- messages -------------------------------------------------------------------------------


def no_hash(raw: redis.Redis, name: bytes) -> None:
    raw.delete(b"smsq:m:" + name)
    raw.set(b"smsq:m:" + name, "13800138000")


def having(field: str, value: bytes) -> Callable[[redis.Redis, bytes], None]:
    return lambda raw, name: void(raw.hset(b"smsq:m:" + name, field, value))  # type: ignore[arg-type]


def lacking(*fields: str) -> Callable[[redis.Redis, bytes], None]:
    return lambda raw, name: void(raw.hdel(b"smsq:m:" + name, *fields))


def called(new: bytes) -> Callable[[redis.Redis, bytes], None]:
    def rename(raw: redis.Redis, name: bytes) -> None:
        raw.rename(b"smsq:m:" + name, b"smsq:m:" + new)
        raw.zrem(keys.TIMERS, name)
        raw.zadd(keys.TIMERS, {new: 1})  # type: ignore[dict-item]

    return rename


def void(_: object) -> None:
    pass


SPOILT: dict[str, Callable[[redis.Redis, bytes], None]] = {
    "no hash": no_hash,
    "an odd lane": having("lane", b"express"),
    "no lane": lacking("lane"),
    "a lane of odd bytes": having("lane", b"\xff\xfe"),
    "a state of a release that nobody knows": having("state", b"paused-by-aliens"),
    "an odd end": having("expires", b"soon"),
    "an odd time of publication": having("published", b"then"),
    "an id with a line's end": called(b"m\nBAD"),
    "an id of odd bytes": called(b"m\xff"),
    "no fields but its state": lacking("lane", "expires", "template", "published"),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_message_that_nothing_can_be_made_of_keeps_no_timer_waiting(
    scene: Scene,
    raw: redis.Redis,
    caplog: pytest.LogCaptureFixture,
    spoil: Callable[[redis.Redis, bytes], None],
) -> None:
    scene.enter("bad")
    scene.enter("good")
    raw.zadd(keys.TIMERS, {"bad": 1, "good": 2})
    raw.hset(keys.message("bad"), "published", 0)
    raw.hset(keys.message("good"), "published", 0)
    spoil(raw, b"bad")

    assert scene.woken() == ["good"]
    assert set_aside(scene, "message") == 1
    assert raw.zcard(keys.BAD) == 1
    # It is not due any more, so it does not come back at each tick.
    due: Any = raw.zrangebyscore(keys.TIMERS, "-inf", scene.now_ms() + LATER_MS)
    assert due == []
    for name in raw.zrange(keys.TIMERS, 0, -1):
        raw.zadd(keys.TIMERS, {name: 1})
    scene.claim()
    told = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert len(told) == 1
    assert told[0].getMessage().startswith("set aside a message")
    assert PHONE not in told[0].getMessage()


def test_a_message_that_was_mended_goes_on_by_itself_and_is_not_told_any_more(
    scene: Scene, raw: redis.Redis
) -> None:
    scene.enter("m1")
    raw.hset(keys.message("m1"), mapping={"lane": "express", "published": 0})
    assert scene.run_out() == []
    raw.hset(keys.message("m1"), "lane", "notice")
    assert scene.run_out() == ["m1"]
    raw.zadd(keys.BAD, {"message:m1": 1})  # as long ago as it takes
    scene.claim()
    assert raw.zcard(keys.BAD) == 0
    assert set_aside(scene, "message") == 1


def test_of_more_than_can_be_noted_none_is_told_again_and_again(
    scene: Scene, raw: redis.Redis
) -> None:
    """A fault that all share, as a counter that is no number, spoils a million at once."""
    raw.zadd(keys.BAD, {f"message:{n}": scene.now_ms() + LATER_MS for n in range(10_000)})
    scene.enter("m1")
    raw.hset(keys.message("m1"), mapping={"lane": "express", "published": 0})
    for _ in range(3):
        assert scene.run_out() == []
    assert raw.zcard(keys.BAD) == 10_000
    assert set_aside(scene, "message") == 0
    raw.zadd(keys.BAD, {"message:7": 1})  # mended long ago
    for _ in range(3):
        assert scene.run_out() == []
    assert set_aside(scene, "message") == 1

    raw.hset(keys.PAUSES, "account", "{")
    for _ in range(3):
        scene.claim()
    assert set_aside(scene, "pause") == 1


@pytest.mark.parametrize("payload", [b'["13800138000"', b"7", b'["a", 1]', b'["1\xff", ""]', None])
def test_of_a_batch_those_beside_a_bad_message_go(
    scene: Scene, raw: redis.Redis, payload: bytes | None
) -> None:
    for name in ("m1", "m2", "m3"):
        scene.enter(name)
    raw.delete(keys.payload("m2"))
    if payload is None:
        raw.hset(keys.payload("m2"), "a", "b")
    else:
        raw.set(keys.payload("m2"), payload)
    first, bad, last = scene.ledger.admit_many([("m1", ""), ("m2", ""), ("m3", "")])
    assert isinstance(first, Admitted)
    assert isinstance(last, Admitted)
    # Either nothing is to be called for it, or it has not moved at all.
    assert bad == Rejected("bad", None) or (isinstance(bad, Admitted) and not bad.phone)


def test_a_server_that_takes_no_writes_is_no_fault_of_a_message(
    scene: Scene, raw: redis.Redis
) -> None:
    scene.enter("m1")
    raw.zadd(keys.TIMERS, {"m1": 1})
    raw.hset(keys.message("m1"), "published", 0)
    try:
        raw.config_set("min-replicas-to-write", 1)
        with pytest.raises(LedgerUnavailable) as raised:
            scene.admit()
    finally:
        raw.config_set("min-replicas-to-write", 0)
    assert not isinstance(raised.value, LedgerFault)
    assert not raw.exists(keys.BAD)
    assert scene.run_out() == ["m1"]


# --- reports, notices, pauses ---------------------------------------------------------------


def test_a_report_that_cannot_be_applied_stays_and_those_beside_it_are_applied(
    scene: Scene, raw: redis.Redis
) -> None:
    mids = {}
    for name in ("m1", "m2", "m3"):
        scene.call(name, Outcome.ACCEPTED, detail="")
        mids[name] = mid_of(name, 1)
    scene.ledger.take_in([(mid, "DELIVRD") for mid in mids.values()], wake_after_s=0)
    no_hash(raw, b"m2")

    answers = scene.ledger.report_many([(mid, "DELIVRD", DELIVRD) for mid in mids.values()])

    assert [state for state, _, _ in answers] == ["delivered", "bad", "delivered"]
    assert raw.zrange(keys.INBOX, 0, -1) == [json.dumps([mids["m2"], "DELIVRD"]).encode()]
    assert set_aside(scene, "report") == 1


@pytest.mark.parametrize(
    "member", [b"no JSON", b"7", b"{}", b'["mid"]', b'["mid", 5]', b'["\xff", "DELIVRD"]', b""]
)
def test_an_entry_of_the_inbox_that_is_none_keeps_no_report_waiting(
    scene: Scene, raw: redis.Redis, member: bytes
) -> None:
    raw.zadd(keys.INBOX, {member: 1, b'["m", "DELIVRD"]': 2})  # type: ignore[dict-item]
    assert scene.ledger.claim_reports(wake_after_s=30) == [("m", "DELIVRD")]
    assert set_aside(scene, "report") == 1
    assert scene.ledger.claim_reports(wake_after_s=30) == []


@pytest.mark.parametrize(
    "name", [b"", b"odd", b"task:delivered:m\n", b"task:\xff:m", b"new:failed:x"]
)
def test_a_notice_with_an_odd_name_keeps_no_other_waiting(
    scene: Scene, raw: redis.Redis, name: bytes
) -> None:
    raw.set(keys.message("x"), "no hash")
    raw.zadd(keys.NOTICES, {name: 1, b"task:delivered:good": 2})  # type: ignore[dict-item]
    notices = Callbacks(scene.client, scene.rules)
    assert notices.claim(10) == ["task:delivered:good"]
    assert set_aside(scene, "notice") == 1
    assert notices.claim(10) == []


@pytest.mark.parametrize("outcome", [b"{", b"7", b"{}", b'{"id": 1}', None])
def test_an_outcome_that_cannot_be_read_is_set_aside(
    scene: Scene, raw: redis.Redis, outcome: bytes | None
) -> None:
    raw.zadd(keys.NOTICES, {"task:delivered:m1": 1})
    if outcome is not None:
        raw.hset(keys.callback("delivered", "m1"), "outcome", outcome)  # type: ignore[arg-type]
    notices = Callbacks(scene.client, scene.rules)
    assert notices.take("task:delivered:m1") == "bad"
    assert set_aside(scene, "notice") == 1


@pytest.mark.parametrize("text", ["{", "7", "{}", '{"cause": "operator"}'])
def test_a_pause_that_cannot_be_read_stops_what_it_may_have_stopped_until_an_operator_looks(
    scene: Scene, text: str
) -> None:
    scene.enter("m1")
    scene.client.hset(keys.PAUSES, "account", text)
    assert scene.stays() == "paused"
    assert scene.claim().lanes == "closed"
    assert scene.paused() == {"account": "operator"}
    assert set_aside(scene, "pause") == 1
    scene.control.resume("account", "looked at")
    assert scene.go() == 1


# --- the spool ------------------------------------------------------------------------------

GOOD = {"id": "m1", "attempt": 1, "outcome": "accepted", "detail": "", "mid": "M", "wait_s": 1.0}


def line(**other: Any) -> bytes:
    return json.dumps(GOOD | other).encode()


BAD_LINES = {
    "no JSON": b"no JSON at all",
    "another shape": b"[1, 2]",
    "a number": b"7",
    "no attempt": json.dumps({"id": "m1"}).encode(),
    "an attempt that is text": line(attempt="one"),
    "an id that is a number": line(id=7),
    "an outcome of a newer release": line(outcome="delegated"),
    "half a line before a whole one": line()[:20] + line(),
    "odd bytes": b"\x00\xff\xfe",
    "nothing": b"",
    "nested too deep": b"[" * 100_000,
}


@pytest.mark.parametrize("bad", BAD_LINES.values(), ids=BAD_LINES)
def test_a_bad_line_of_the_spool_is_set_aside_and_the_others_are_written_down(
    scene: Scene, tmp_path: Path, caplog: pytest.LogCaptureFixture, bad: bytes
) -> None:
    for name in ("m1", "m2"):
        scene.enter(name)
        scene.go(name)
    left = tmp_path / "calls-00000000000000000001-aa.ready"
    left.write_bytes(b"".join(one + b"\n" for one in (line(), bad, line(id="m2", mid="N"))))

    kept = ResultSpool(scene.ledger, Spool(tmp_path, "calls"))
    kept.replay()

    assert (scene.state("m1"), scene.state("m2")) == ("accepted", "accepted")
    (beside,) = tmp_path.iterdir()
    assert beside == left.with_suffix(".bad")
    assert beside.read_bytes() == bad + b"\n"
    told = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert len(told) == 1
    assert set_aside(scene, "result") == 1
    # Nobody looks at it again, until somebody renames it.
    kept.replay()
    assert set_aside(scene, "result") == 1
    beside.rename(left)
    kept.replay()
    assert beside.exists()


def test_a_result_whose_message_is_spoilt_keeps_no_other_waiting(
    scene: Scene, raw: redis.Redis, tmp_path: Path
) -> None:
    for name in ("m1", "m2", "m3"):
        scene.enter(name)
        scene.go(name)
    no_hash(raw, b"m2")
    calls = [
        AttemptResult(name, 1, Outcome.ACCEPTED, "", f"MID{name}") for name in ("m1", "m2", "m3")
    ]
    kept = ResultSpool(scene.ledger, Spool(tmp_path, "calls"))
    with pytest.raises(LedgerUnavailable) as raised:
        scene.ledger.record_many(calls)
    kept.keep(calls, raised.value)
    kept.replay()
    assert (scene.state("m1"), scene.state("m3")) == ("accepted", "accepted")
    (beside,) = tmp_path.iterdir()
    assert [json.loads(one)["mid"] for one in beside.read_bytes().splitlines()] == ["MIDm2"]


def test_what_is_no_file_but_is_called_like_one_keeps_no_file_waiting(tmp_path: Path) -> None:
    (tmp_path / "calls-0-folder.ready").mkdir()
    (tmp_path / "calls-0-folder.active").mkdir()
    os.mkfifo(tmp_path / "calls-0-pipe.ready")
    (tmp_path / "calls-0-link.ready").symlink_to("/dev/zero")
    (tmp_path / "calls-1-good.ready").write_text('{"n": 1}\n')
    seen: list[int] = []
    replayed = Spool(tmp_path, "calls").replay(lambda entry: seen.append(entry["n"]))
    assert seen == [1]
    assert replayed.set_aside == 4
    assert {path.suffix for path in tmp_path.iterdir()} == {".bad"}


def test_a_replay_that_waits_for_redis_sets_nothing_aside_twice(tmp_path: Path) -> None:
    left = tmp_path / "calls-1-aa.ready"
    left.write_text('nothing\n{"n": 1}\n{"n": 2}\n')
    away = True

    def apply(entry: dict[str, int]) -> None:
        if away and entry["n"] == 2:
            raise LedgerUnavailable("away")

    spool = Spool(tmp_path, "calls")
    for _ in range(3):
        with pytest.raises(LedgerUnavailable):
            spool.replay(apply)
    away = False
    assert spool.replay(apply) == (2, 1)
    assert left.with_suffix(".bad").read_text() == "nothing\n"
    assert spool.replay(apply) == (0, 0)


# --- a worker that runs ---------------------------------------------------------------------


def test_a_worker_among_bad_items_does_what_is_due_and_doctor_says_what_was_set_aside(
    environ: dict[str, str], client: redis.Redis, settings: Settings, tmp_path: Path
) -> None:
    scene = Scene(client, settings)
    spool = tmp_path / "home" / "spool"
    spool.mkdir(parents=True)
    (spool / "calls-00000000000000000001-aa.ready").write_text(f"{PHONE}\n")
    scene.enter("odd")
    client.hset(keys.message("odd"), "lane", "express")
    client.set(keys.message("none"), PHONE)
    client.zadd(keys.TIMERS, {"odd": 1, "none": 1})
    client.zadd(keys.INBOX, {"no JSON": 1})
    client.zadd(keys.NOTICES, {"odd": 1})
    scene.enter("m1")  # Nobody publishes it but a clock.
    client.hset(keys.message("m1"), "published", 0)
    client.zadd(keys.TIMERS, {"m1": 2})
    with machine(environ, tmp_path) as here:
        here.start_worker()
        eventually(lambda: scene.state("m1") == "accepted")
        # And the clock goes on.
        scene.enter("m2")
        client.hset(keys.message("m2"), "published", 0)
        client.zadd(keys.TIMERS, {"m2": 1})
        eventually(lambda: scene.state("m2") == "accepted")
        log = here.logs / "worker0.log"
        eventually(lambda: log.read_text().count("set aside a message") == 2)
        told = log.read_text()
        assert (PHONE in told, "Traceback" in told) == (False, False)
        assert told.count("CRITICAL") == 5  # of the spool, two messages, a report and a notice
        command = [sys.executable, "-m", "smsq_worker", "doctor", "--json"]
        done = run(command, env=here.environ, capture_output=True, text=True, check=False)
        errors = [row["what"] for row in json.loads(done.stdout) if row["level"] == "error"]
        assert any("set aside" in what for what in errors), errors
        assert any("cannot be processed and were set aside: 4" in what for what in errors), errors
        (alive,) = (tmp_path / "home" / "alive").iterdir()
        assert alive.exists()


def test_all_that_is_set_aside_is_counted_for_prometheus(ledger: Ledger) -> None:
    for what in SET_ASIDE:
        ledger.count_set_aside(what, 2)
    assert {f"set_aside:{what}" for what in SET_ASIDE} <= ledger.counters().keys()


def test_an_api_whose_acl_is_of_an_older_release_counts_all_else(
    scene: Scene, raw: redis.Redis, settings: Settings
) -> None:
    scene.enter("m1")
    scene.ledger.count_set_aside("result", 1)
    known = ["smsq:counters", "smsq:durations"]
    raw.acl_setuser("old", enabled=True, nopass=True, reset=True, categories=["+@all"], keys=known)
    port = scene.client.get_connection_kwargs()["port"]
    try:
        with closing(connect(f"redis://old:any@127.0.0.1:{port}/0")) as old:
            counted = Ledger(old, settings.rules)
            counted.count_set_aside("result", 1)
            assert counted.counters() == {"messages:notice:queued": 1}
    finally:
        raw.acl_deluser("old")
    assert set_aside(scene, "result") == 1
