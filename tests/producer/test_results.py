"""What `delay()` returns answers from the ledger, and waits no longer than it is told to."""

from __future__ import annotations

import asyncio
import copy
import inspect
import math
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, get_args, get_type_hints
from urllib.parse import urlsplit
from uuid import RFC_4122, UUID

import celery
import celery.exceptions
import pytest
import redis
from celery.result import AsyncResult

import smsq
from harness.faulty_line import Line
from harness.scene import DELIVRD, PHONE, Scene, stat
from harness.silent_redis import SOON_S
from harness.waiting import eventually
from smsq import deadline, keys, results
from smsq.app import app
from smsq.async_connection import AsyncClients
from smsq.connection import connect
from smsq.contract import FINAL, Lane, OnAmbiguous, Row, State, signature_of_send_sms
from smsq.tasks import SendSms
from smsq_worker.domain.states import Outcome

BLACKLISTED = stat("MA:0001", "permanent")


@pytest.fixture
def waiting() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


def get(result: smsq.SendResult, *given: Any, **named: Any) -> smsq.Status:
    return result.get(*given, **named)


def aget(result: smsq.SendResult, *given: Any, **named: Any) -> smsq.Status:
    return asyncio.run(result.aget(*given, **named))


both = pytest.mark.parametrize("wait", [get, aget])
Wait = Callable[..., smsq.Status]


def over(monkeypatch: pytest.MonkeyPatch, line: Line, try_s: float) -> None:
    """Let the process reach its ledger over this line."""
    monkeypatch.setitem(vars(app), "client", connect(line.url, try_s=try_s))
    clients = AsyncClients(line.url, idle_s=30, try_s=try_s)
    monkeypatch.setitem(vars(app), "_async_clients", clients)


def asked(client: redis.Redis) -> int:
    """Return how often the ledger was read."""
    stats: Any = client.info("commandstats")
    return int(stats.get("cmdstat_hgetall", {}).get("calls", 0))


def has_asked(client: redis.Redis, result: Future[smsq.Status] | asyncio.Task[smsq.Status]) -> None:
    """Wait until someone has asked, and been told that it is not over."""
    client.config_resetstat()
    eventually(lambda: asked(client) >= 2)
    assert not result.done()


# --- its form -------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Let a wait of no time have the time for one reading, however busy this machine is."""
    if "silent" not in request.node.name:
        monkeypatch.setattr(results, "READ_AT_LEAST_S", 5.0)


def test_a_result_is_an_id_in_the_form_of_celerys(client: redis.Redis) -> None:
    result = smsq.send_sms.delay(PHONE, "SMS_1001")
    assert UUID(result.id).version == 4
    assert UUID(result.id).variant == RFC_4122
    assert str(UUID(result.id)) == result.id == str(result) == result.task_id
    assert repr(result) == f"<SendResult: {result.id}>"
    assert result == copy.copy(result) == pickle.loads(pickle.dumps(result))
    assert result == smsq.send_sms.AsyncResult(result.id)
    assert hash(result) == hash(copy.copy(result))
    assert result.backend is result.app.backend is smsq.send_sms.app.backend
    with pytest.raises(AttributeError, match="nonsense"):
        _ = result.nonsense


def test_a_copy_and_a_pickle_still_name_the_keys_holder(client: redis.Redis) -> None:
    first, second = (smsq.send_sms.delay(PHONE, "SMS_1001", key="k") for _ in range(2))
    assert second.duplicate_of == first.id
    assert copy.copy(second).duplicate_of == first.id
    assert pickle.loads(pickle.dumps(second)).duplicate_of == first.id


@pytest.mark.parametrize("given", [None, 7, "", "two\nlines", smsq.SendResult("m1")], ids=repr)
def test_a_result_of_what_is_no_id_is_refused_at_once(given: Any) -> None:
    with pytest.raises(smsq.InvalidMessage, match="an id must be a str"):
        smsq.send_sms.AsyncResult(given)


ANSWERED = {
    *("app", "as_list", "as_tuple", "backend", "children", "date_done", "failed", "forget", "get"),
    *(
        "id",
        "ignored",
        "info",
        "name",
        "parent",
        "ready",
        "result",
        "revoke",
        "arevoke",
        "state",
        "status",
    ),
    *("successful", "supports_native_join", "task_id", "TimeoutError", "traceback", "wait"),
}
OTHER = celery.Celery(set_as_current=False)
CELERYS = {name for name in dir(AsyncResult("m1", app=OTHER)) if not name.startswith("_")}


@pytest.mark.parametrize("name", sorted(CELERYS | ANSWERED))
def test_each_name_of_celerys_results_is_answered_or_told_with_what_to_use(
    client: redis.Redis, name: str
) -> None:
    result = smsq.SendResult("m1")
    if name in ANSWERED:
        getattr(result, name)
        return
    with pytest.raises(smsq.NoResult, match=rf"no {name}\b.*smsq\.status\(result\.id\)") as told:
        getattr(result, name)
    assert "\n" not in str(told.value)
    assert isinstance(told.value, NotImplementedError)  # As of Celery's own disabled backend.


def test_what_needs_no_ledger_has_the_value_that_celery_gives(client: redis.Redis) -> None:
    result = smsq.SendResult("m1")
    assert (result.parent, result.as_tuple()) == (None, (("m1", None), None))
    assert (result.ignored, result.supports_native_join) == (False, False)
    assert (result.name, result.traceback, result.children) == ("smsq.send_sms", None, [])
    assert smsq.SendResult("m1").forget() is None
    assert result.TimeoutError is celery.exceptions.TimeoutError
    assert inspect.signature(result.wait) == inspect.signature(result.get)
    assert inspect.signature(result.aget) == inspect.signature(result.get)


# --- what it says ---------------------------------------------------------------------------


def _held(scene: Scene) -> None:
    scene.enter(on_ambiguous="hold")
    scene.go()
    scene.record("m1", Outcome.MAYBE_SENT)


def _reported(report: Any) -> Callable[[Scene], object]:
    def reach(scene: Scene) -> None:
        scene.enter()
        scene.accept()
        scene.report("m1", report)

    return reach


def _unreported(scene: Scene) -> None:
    scene.enter()
    scene.accept()
    scene.run_out()


def _written(state: str) -> Callable[[Scene], object]:
    def write(scene: Scene) -> None:
        scene.enter()
        scene.client.hset(keys.message("m1"), "state", state)

    return write


REACH: dict[str, Callable[[Scene], object]] = {
    "queued": Scene.enter,
    "sending": lambda scene: (scene.enter(), scene.go()),
    "deferred": lambda scene: scene.call("m1", Outcome.NOT_SENT),
    "accepted": lambda scene: (scene.enter(), scene.accept()),
    "held": _held,
    "delivered": _reported(DELIVRD),
    "failed": _reported(BLACKLISTED),
    "expired": lambda scene: (scene.enter(), scene.run_out_of_ttl()),
    "unreported": _unreported,
    "duplicate": _written("duplicate"),
    "cancelled": lambda scene: (scene.enter(), smsq.SendResult("m1").revoke()),
    "of_a_later_release": _written("of_a_later_release"),
}
COMES: dict[str, set[str]] = {
    "final": {"delivered"},
    "accepted": {"accepted", "delivered", "unreported"},
}


def test_every_state_is_reached_here() -> None:
    assert REACH.keys() - {"of_a_later_release"} == {*State}


@pytest.mark.parametrize("state", REACH)
def test_a_result_says_what_the_ledger_says(scene: Scene, state: str) -> None:
    REACH[state](scene)
    result = smsq.send_sms.AsyncResult("m1")
    assert result.state == result.status == state
    assert result.result == result.info == smsq.status("m1")
    assert result.ready() is (state in FINAL)
    assert result.successful() is (state == "delivered")
    assert result.failed() is (state in {"failed", "expired", "cancelled"})
    assert (result.date_done is None) is (scene.field("m1", "finished") is None)


@both
@pytest.mark.parametrize("until", ["final", "accepted"])
@pytest.mark.parametrize("state", REACH)
def test_a_wait_ends_with_what_it_waited_for_or_says_why_not(
    scene: Scene, state: str, until: Any, wait: Wait
) -> None:
    REACH[state](scene)
    result = smsq.send_sms.AsyncResult("m1")
    if state in COMES[until]:
        assert wait(result, 0, until=until) == smsq.status("m1")
    elif state in FINAL:
        with pytest.raises(smsq.NotDelivered, match=f"ended as {state}") as told:
            wait(result, 0, until=until)
        status = told.value.status
        assert status == smsq.status("m1") == wait(result, 0, propagate=False, until=until)
        words = "certainly was not sent" if status.certainly_not_sent else "may have been sent"
        assert str(told.value).endswith(words)
    else:
        with pytest.raises(smsq.ResultTimeout, match=f"not {until} within 0 s: it is {state}"):
            wait(result, 0, until=until)


def test_nothing_is_known_of_an_id_that_nobody_sent(client: redis.Redis) -> None:
    result = smsq.send_sms.AsyncResult("m1")
    assert (result.state, result.result, result.date_done) == (None, None, None)
    assert (result.ready(), result.successful(), result.failed()) == (False, False, False)
    with pytest.raises(smsq.ResultTimeout, match="nothing is known of it") as told:
        result.get(0)
    assert told.value.status is None


def test_a_late_report_is_seen_by_the_same_result(scene: Scene) -> None:
    _unreported(scene)
    result = smsq.send_sms.AsyncResult("m1")
    assert result.state == "unreported"
    scene.report("m1", DELIVRD)
    assert result.successful()


# --- duplicates -----------------------------------------------------------------------------


def test_a_duplicate_follows_the_message_that_holds_its_key(scene: Scene) -> None:
    scene.enter("m1", key="k")
    second = smsq.send_sms.apply_async((PHONE, "SMS_1001"), {"key": "k"}, task_id="m2")
    restored = smsq.send_sms.AsyncResult("m2")
    assert restored.duplicate_of is None  # Nobody has asked.
    assert (second.state, restored.state) == ("queued", "queued")
    assert second.duplicate_of == restored.duplicate_of == "m1"
    scene.accept("m1")
    scene.report("m1", DELIVRD)
    assert second.get(0) == restored.wait(0) == smsq.status("m1")
    assert smsq.SendResult("m2").date_done == second.date_done


def test_a_duplicate_whose_holder_is_forgotten_is_a_duplicate(scene: Scene) -> None:
    scene.enter("m1", key="k")
    second = smsq.send_sms.apply_async((PHONE, "SMS_1001"), {"key": "k"}, task_id="m2")
    scene.client.delete(keys.message("m1"))
    for result in (second, smsq.SendResult("m2")):
        assert (result.state, result.ready(), result.failed()) == ("duplicate", True, False)
        with pytest.raises(smsq.NotDelivered, match=r"duplicate:m1.*may have been sent"):
            result.get(0)


# --- waiting --------------------------------------------------------------------------------


@both
def test_a_wait_sees_the_message_through(
    scene: Scene, waiting: ThreadPoolExecutor, wait: Wait
) -> None:
    result = smsq.send_sms.AsyncResult("m1")
    final = waiting.submit(wait, result, 60)
    accepted = waiting.submit(wait, result, 60, until="accepted")
    has_asked(scene.client, final)  # It is not even in.
    scene.enter()
    scene.accept()
    assert accepted.result().state == "accepted"
    has_asked(scene.client, final)
    scene.report("m1", DELIVRD)
    assert final.result().state == "delivered"


@both
def test_a_wait_asks_at_once_and_then_less_and_less_often(scene: Scene, wait: Wait) -> None:
    scene.enter()
    result = smsq.send_sms.AsyncResult("m1")
    for timeout, most in ((0, 1), (1, 8)):
        scene.client.config_resetstat()
        with pytest.raises(celery.exceptions.TimeoutError) as told:
            wait(result, timeout)
        assert isinstance(told.value, smsq.SmsqError)
        assert told.value.status == smsq.status("m1")
        assert 1 <= asked(scene.client) - 1 <= most


@both
def test_a_wait_survives_a_ledger_that_does_not_answer(
    scene: Scene, waiting: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, wait: Wait
) -> None:
    port = urlsplit(app.settings.redis_url).port or 0
    with Line(port) as line:
        over(monkeypatch, line, 0.2)
        scene.enter()
        line.silence()
        result = smsq.send_sms.AsyncResult("m1")
        with pytest.raises(smsq.ResultTimeout, match="did not answer") as told:
            wait(result, 0)
        assert told.value.status is None
        assert isinstance(told.value.__cause__, smsq.LedgerUnavailable)
        tried = line.accepted
        final = waiting.submit(wait, result, 60)
        # A line on which nothing came is given up, so each try opens others.
        eventually(lambda: line.accepted > tried + 4)
        assert not final.done()
        scene.accept()
        scene.report("m1", DELIVRD)
        line.reopen()
        assert final.result().state == "delivered"


@both
def test_a_silent_ledger_does_not_lengthen_a_wait(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch, wait: Wait
) -> None:
    """Without the wait's own deadline a read had the 60 s of its connection."""
    with Line() as line, ThreadPoolExecutor() as pool:
        over(monkeypatch, line, 60)
        late = pool.submit(wait, smsq.SendResult("m1"), 0.3)
        with pytest.raises(smsq.ResultTimeout, match="did not answer"):
            late.result(timeout=SOON_S)


@pytest.mark.parametrize(
    "timeout", [None, "13800138000", True, -1, math.nan, math.inf, 10**9], ids=repr
)
def test_a_wait_without_an_end_is_refused(client: redis.Redis, timeout: Any) -> None:
    words = "timeout must be a number of seconds, from 0 to"
    with pytest.raises((TypeError, ValueError), match=words) as told:
        smsq.SendResult("m1").get(timeout)
    assert "1380013" not in str(told.value)


def test_a_wait_takes_none_of_celerys_options_and_no_other_end(client: redis.Redis) -> None:
    result: Any = smsq.SendResult("m1")
    with pytest.raises(TypeError, match="timeout"):
        result.get()
    with pytest.raises(TypeError, match="interval"):
        result.get(1, interval=0.1)
    with pytest.raises(ValueError, match=r'until must be "final" or "accepted"; got .sent'):
        result.get(1, until="sent")
    with pytest.raises(ValueError, match=r"until must be .* got \[.final.\]"):
        result.get(1, until=["final"])


def test_the_errors_of_a_wait_pass_between_processes(scene: Scene) -> None:
    REACH["expired"](scene)
    with pytest.raises(smsq.NotDelivered) as failed:
        smsq.SendResult("m1").get(0)
    scene.enter("m2")
    with pytest.raises(smsq.ResultTimeout) as late:
        smsq.SendResult("m2").get(0)
    for error in (failed.value, late.value):
        again = pickle.loads(pickle.dumps(error))
        assert (str(again), again.status) == (str(error), error.status)


@pytest.mark.parametrize(
    "moved",
    [
        pytest.param(lambda error: pickle.loads(pickle.dumps(error)), id="pickle"),
        pytest.param(copy.copy, id="copy"),
        pytest.param(lambda error: type(error)(*error.args), id="Celery's JSON"),
    ],
)
@pytest.mark.parametrize(
    "error",
    [smsq.SettingsError(["SMSQ_REDIS_URL: a", "SMSQ_INDEX: b"]), smsq.KeyConflict("key is that")],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_a_hosts_task_says_the_same_in_its_result(
    error: smsq.SmsqError, moved: Callable[[smsq.SmsqError], smsq.SmsqError]
) -> None:
    again = moved(error)
    assert (str(again), vars(again)) == (str(error), vars(error))


def test_a_wait_that_is_cancelled_ends_at_once_and_leaves_no_deadline(scene: Scene) -> None:
    scene.enter()

    async def main() -> float:
        wait = asyncio.create_task(smsq.SendResult("m1").aget(60))
        await asyncio.to_thread(has_asked, scene.client, wait)
        wait.cancel()
        await asyncio.wait([wait])
        assert wait.cancelled()
        return deadline.left_s()

    assert asyncio.run(main()) == math.inf


# --- types ----------------------------------------------------------------------------------


def test_the_names_that_checkers_know_are_the_enums() -> None:
    assert get_args(smsq.LaneName) == (*Lane,)
    assert get_args(smsq.OnAmbiguousName) == (*OnAmbiguous,)
    assert get_args(smsq.StateName) == (*State,)


def test_a_row_has_the_arguments_of_the_contract() -> None:
    of_rows = get_type_hints(Row)
    of_calls = get_type_hints(signature_of_send_sms)
    assert of_rows | {"return": type(None)} == of_calls


@pytest.mark.parametrize("call", [SendSms.delay, SendSms.adelay])
def test_delay_has_the_signature_of_the_contract(call: Callable[..., Any]) -> None:
    ours = inspect.signature(call).parameters
    contract = inspect.signature(signature_of_send_sms).parameters
    assert [*ours.values()][1:] == [*contract.values()]


def test_the_help_of_delay_explains_each_argument() -> None:
    for name in signature_of_send_sms.__annotations__.keys() - {"return"}:
        assert f"\n    {name}: " in inspect.cleandoc(SendSms.delay.__doc__ or "")
