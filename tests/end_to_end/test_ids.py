"""One rule for a message's id, wherever one is given; and calls that would send nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis

import smsq
from harness.api import serving
from harness.cli import run
from harness.credentials import RELAY
from harness.machine import machine
from harness.scene import Scene
from harness.waiting import becomes, eventually
from smsq import ids, keys
from smsq.app import app
from smsq.tracking import read_status
from smsq_worker.celery_worker import envelope, gathering
from smsq_worker.domain.states import Outcome

PHONE = "13800138000"

ODD = ["a b", "order:7/8", "x" * 255, "订单-7", "%41?b#c&d=e", "'\"\\", "-1", "(.*)%d+"]
"""Ids that worked before, and go on working."""
NO_IDS = [
    *("", "a\n", "a\r", "a\0b", "\x1b[31m", "x" * 256, "x" * 1_000_000, "a\u2028b", "\ud800"),
    *("a\u00a0b", "a\u3000b", "\ufffe"),
]
NO_STR: list[Any] = [5, 0, 1.5, True, b"m1", ["m1"]]


@pytest.mark.parametrize("bad", [*NO_IDS, *NO_STR], ids=lambda bad: repr(bad)[:20])
def test_what_is_no_id_is_refused_at_the_call(client: redis.Redis, bad: Any) -> None:
    with pytest.raises(smsq.InvalidMessage, match="an id must be a str of 1 to 255 printable"):
        smsq.send_sms.apply_async((PHONE, "SMS_1001"), task_id=bad)
    assert client.dbsize() == 0


def test_an_error_shows_nothing_of_the_id(client: redis.Redis) -> None:
    with pytest.raises(smsq.InvalidMessage) as error:
        smsq.send_sms.apply_async((PHONE, "SMS_1001"), task_id=f"{PHONE}\n")
    assert PHONE not in str(error.value)


@pytest.mark.parametrize("bad", NO_IDS, ids=lambda bad: repr(bad)[:20])
def test_the_ledger_takes_no_such_id_from_anybody(scene: Scene, bad: str) -> None:
    with pytest.raises(smsq.InvalidMessage):
        scene.enter(bad)
    assert scene.client.dbsize() == 0


@pytest.mark.parametrize("bad", NO_IDS, ids=lambda bad: repr(bad)[:20])
def test_nothing_is_known_of_a_str_that_is_no_id(client: redis.Redis, bad: str) -> None:
    assert smsq.status(bad) is None


@pytest.mark.parametrize("bad", [*NO_STR, None], ids=repr)
def test_to_ask_for_what_is_no_str_is_a_mistake(client: redis.Redis, bad: Any) -> None:
    with pytest.raises(smsq.InvalidMessage, match="an id must be a str"):
        smsq.status(bad)
    result = smsq.send_sms.delay(PHONE, "SMS_1001")
    with pytest.raises(smsq.InvalidMessage, match="of type SendResult"):
        smsq.status(result)  # type: ignore[arg-type]


def test_the_rule_is_one() -> None:
    assert envelope.is_id is ids.is_id
    assert gathering.is_id is ids.is_id
    assert all(map(ids.is_id, ODD))
    assert not any(map(ids.is_id, [*NO_IDS, *NO_STR, None]))


def test_odd_ids_go_all_the_way(
    environ: dict[str, str], tmp_path: Path, client: redis.Redis
) -> None:
    with machine(environ, tmp_path) as here:
        here.start_worker()
        for one in ODD:
            smsq.send_sms.apply_async((PHONE, "SMS_1001"), task_id=one)
        for one in ODD:
            eventually(lambda one=one: state_of(client, one) == "accepted")  # type: ignore[misc]
    with serving(environ, tmp_path / "log") as api:
        for one in ODD:
            assert api.get(f"/messages/{quote(one, safe='')}", RELAY).json()["id"] == one
            assert run(environ, "explain", "--", one).returncode == 0
        for bad in ("a%0Ab", "a%00b", "x" * 256, ""):
            assert api.get(f"/messages/{bad}", RELAY).status_code == 404


def state_of(client: redis.Redis, message_id: str) -> str | None:
    status = read_status(client, "", message_id)
    return status and status.state


@pytest.mark.parametrize("bad", [*NO_IDS, *NO_STR], ids=lambda bad: repr(bad)[:20])
def test_a_batch_with_what_is_no_id_is_no_batch(bad: Any) -> None:
    assert gathering.ids_of_batch([["m1", "m2"]]) == ["m1", "m2"]
    assert gathering.ids_of_batch([["m1", bad]]) is None
    assert gathering.ids_of_batch([["m1"], bad]) is None


@pytest.mark.parametrize("words", [("resend",), ("drop",)])
def test_a_command_refuses_what_is_no_id_before_it_decides_anything(
    environ: dict[str, str], words: tuple[str, ...]
) -> None:
    for bad in ("a\nb", "\udcff", "x" * 256):
        done = run(environ, "held", *words, "m1", bad)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("smsq: an id must be a str of 1 to 255 printable")
        assert run(environ, "status", bad).returncode == 1
        assert run(environ, "notices", "replay", f"webhook:failed:{bad}").returncode in {1, 2}


@pytest.mark.parametrize("name", ["template", "notify"])
@pytest.mark.parametrize(
    "bad", ["a\nb", "a\0b", "\x1b[31m", "a\u2028b", "a\u202eb", "a\u200bb", "\ufeffa"], ids=repr
)
def test_a_name_has_no_control_and_no_invisible_character(
    client: redis.Redis, name: str, bad: str
) -> None:
    rule = f"{name} must be .* (control|invisible) character"
    with pytest.raises(smsq.InvalidMessage, match=rule):
        smsq.send_sms.delay(PHONE, **{"template": "SMS_1001", name: bad})
    assert client.dbsize() == 0


@pytest.mark.parametrize("bad", ["a\0", "\x1b[31m", "\x9b31m", "a\u202eb", "\u2066"], ids=repr)
def test_a_reference_has_nothing_that_a_terminal_obeys(client: redis.Redis, bad: str) -> None:
    with pytest.raises(smsq.InvalidMessage, match=r"reference must be .* control character \(U\+"):
        smsq.send_sms.delay(PHONE, "SMS_1001", reference=bad)
    assert client.dbsize() == 0


def test_a_key_may_hold_any_text_and_a_reference_lines(
    client: redis.Redis, environ: dict[str, str]
) -> None:
    key, text = "a\nb\0c\u3000\x1b[31m", "a\nb\tc\u3000"
    first = smsq.send_sms.delay(PHONE, "SMS_1001", key=key, reference=text)
    second = smsq.send_sms.delay(PHONE, "SMS_1001", key=key)
    status = smsq.status(first.id)
    assert status is not None
    assert status.reference == text
    assert client.hget(keys.message(second.id), "reason") == f"duplicate:{first.id}"
    # An older release took more: a terminal is shown none of it.
    client.hset(keys.message(first.id), "reference", text + "\x1b[31m")
    told = run(environ, "status", first.id).stdout
    assert "\x1b" not in told
    assert "reference    a\\nb\\tc\u3000\\x1b[31m\n" in told


def test_a_call_in_this_process_would_send_nothing_and_says_so(client: redis.Redis) -> None:
    signature = smsq.send_sms.s(PHONE, "SMS_1001")
    for call in (
        lambda: smsq.send_sms(PHONE, "SMS_1001"),
        lambda: smsq.send_sms.apply((PHONE, "SMS_1001")),
        signature,
        signature.apply,
    ):
        with pytest.raises(smsq.InvalidMessage, match=r"only delay\(...\) and apply_async"):
            call()
    assert client.dbsize() == 0


@pytest.mark.parametrize("name", ["apply", "map", "starmap", "chunks", "__call__"])
def test_what_would_lose_a_message_is_refused(client: redis.Redis, name: str) -> None:
    with pytest.raises(smsq.InvalidMessage, match="enqueue"):
        getattr(smsq.send_sms, name)((PHONE, "SMS_1001"), "1")
    assert client.dbsize() == 0


@pytest.mark.parametrize("task", ["celery.map", "celery.starmap", "celery.chunks"])
def test_celerys_own_tasks_run_none_of_ours(
    environ: dict[str, str], tmp_path: Path, client: redis.Redis, task: str
) -> None:
    """They would run it without an id, so that all messages had the one of the first."""
    with machine(environ, tmp_path) as here:
        rows = [[PHONE, "SMS_1001"], ["13900139000", "SMS_1001"]]
        kwargs = {"task": {"task": "smsq.send_sms"}, "it": rows}
        app.send_task(task, kwargs=kwargs, queue="sms.notice")
        here.start_worker()
        after = smsq.send_sms.delay(PHONE, "SMS_1001").id
        becomes(after, "accepted")
        assert here.vendor.phones() == [PHONE]
        log = (tmp_path / "worker0.log").read_text()
        assert PHONE not in log
        assert "Traceback" not in log


@pytest.mark.parametrize("end", [False, True], ids=["live", "ended"])
@pytest.mark.parametrize(
    ("phone", "template"), [("13900139000", "SMS_1001"), (PHONE, "SMS_2002")], ids=str
)
def test_an_id_that_another_message_has_is_a_conflict(
    scene: Scene, phone: str, template: str, end: bool
) -> None:
    scene.enter("order-99", template="SMS_1001")
    if end:
        scene.go("order-99")
        scene.record("order-99", Outcome.REFUSED)
    again = smsq.send_sms.apply_async((PHONE, "SMS_1001"), task_id="order-99")
    assert (again.id, again.duplicate_of) == ("order-99", None)
    with pytest.raises(smsq.KeyConflict, match="task_id is that of message order-99") as caught:
        smsq.send_sms.apply_async((phone, template), task_id="order-99")
    assert caught.value.holder == "order-99"
    assert scene.client.hget(keys.COUNTERS, "messages:notice:queued") == "1"
