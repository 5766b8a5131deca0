"""Async calls: they do what the blocking ones do, whatever is cancelled, in each event loop."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from cryptography.fernet import Fernet

import smsq
from harness.awaiting import aperform
from harness.faulty_line import Freezer, freezing
from harness.waiting import eventually, known
from smsq import InvalidMessage, KeyConflict, LedgerFull, deadline, keys, send_sms
from smsq.app import app
from smsq.async_connection import _OPEN, CONNECTIONS_AT_MOST, AsyncClients
from smsq.cipher import Opener
from smsq.connection import NOT_SENT, connect, running
from smsq.contract import parse
from smsq.entries import NO_ORIGIN
from smsq.functions import Script
from smsq.ledger_writer import LedgerWriter
from smsq.settings import ProducerSettings
from smsq_worker.config.settings import Settings
from smsq_worker.ledger.campaigns import Campaigns

PHONE, TEMPLATE = "13800138000", "SMS_1001"


def rows(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"phone": f"138{n:08}", "template": TEMPLATE, **more} for n in range(count)]


# --- what they do ---------------------------------------------------------------------------


def test_a_message_is_entered_with_its_wake_up_and_found(client: redis.Redis) -> None:
    async def main() -> None:
        result = await send_sms.adelay(PHONE, TEMPLATE, "482913", lane="otp", key="k1")
        again = await send_sms.adelay(PHONE, TEMPLATE, "482913", lane="otp", key="k1")
        assert (result.duplicate_of, again.duplicate_of) == (None, result.id)
        found = await smsq.astatus(result.id)
        assert found == known(result.id)
        assert found
        assert (found.state, found.lane, found.phone) == ("queued", "otp", "138****8000")
        with pytest.raises(KeyConflict):
            await send_sms.adelay("13900139000", TEMPLATE, key="k1")
        with pytest.raises(InvalidMessage, match="phone"):
            await send_sms.adelay("1", TEMPLATE)
        assert await smsq.astatus("unknown") is None
        with pytest.raises(InvalidMessage):
            await smsq.astatus(result)  # type: ignore[arg-type]

    asyncio.run(main())
    assert client.llen("sms.otp") == 1


@pytest.mark.parametrize(
    ("blocking", "awaited"),
    [
        (send_sms.delay, send_sms.adelay),
        (smsq.status, smsq.astatus),
        (smsq.cancel, smsq.acancel),
    ],
)
def test_the_arguments_are_the_same(blocking: Any, awaited: Any) -> None:
    assert inspect.signature(blocking) == inspect.signature(awaited)


def test_the_arguments_for_many_are_the_same_but_the_rows() -> None:
    blocking, awaited = (
        [*inspect.signature(one).parameters.values()] for one in (smsq.send_many, smsq.asend_many)
    )
    assert blocking[1:] == awaited[1:]


def test_a_message_is_cancelled_and_its_key_is_free(client: redis.Redis) -> None:
    async def main() -> None:
        first = await send_sms.adelay(PHONE, TEMPLATE, key="k1")
        found = await smsq.acancel(first.id)
        assert found
        assert (found.id, found.answer, found.state) == (first.id, "cancelled", "cancelled")
        assert smsq.cancel(first.id) == found == await first.arevoke()
        assert await smsq.acancel("unknown") is None
        with pytest.raises(InvalidMessage):
            await smsq.acancel(first)  # type: ignore[arg-type]
        again = await send_sms.adelay(PHONE, TEMPLATE, key="k1")
        assert again.duplicate_of is None

    asyncio.run(main())


def test_a_cancelled_campaign_is_seen_before_the_sweep(
    client: redis.Redis, settings: Settings
) -> None:
    async def main() -> None:
        ids: list[str] = []
        keyed = [row | {"key": f"k{n}"} for n, row in enumerate(rows(3))]
        await smsq.asend_many(keyed, campaign="spring", on_batch=ids.extend)
        assert Campaigns(client, settings.rules).do("cancel", "spring") == ""
        found = [await smsq.astatus(one) for one in ids]
        assert [one and one.state for one in found] == ["cancelled"] * 3
        assert found == [known(one) for one in ids]
        assert await send_sms.AsyncResult(ids[0]).aget(0, propagate=False) == found[0]
        with pytest.raises(smsq.CampaignCancelled) as raised:
            await smsq.asend_many(keyed, campaign="spring")
        assert raised.value.enqueued == 0
        sent = await smsq.asend_many(keyed, campaign="the right one")
        assert (sent, sent.duplicates) == (3, ())

    asyncio.run(main())
    assert client.zcard(keys.TIMERS) == 3


def test_a_message_and_its_repetition_may_be_sent_by_either(client: redis.Redis) -> None:
    async def main() -> smsq.SendResult:
        return await send_sms.adelay(PHONE, TEMPLATE, "1", key="k1")

    first = send_sms.delay(PHONE, TEMPLATE, "1", key="k1")
    assert asyncio.run(main()).duplicate_of == first.id


async def asynchronously(given: list[Any]) -> AsyncIterator[Any]:
    for row in given:
        await asyncio.sleep(0)
        yield row


@pytest.mark.parametrize("source", [iter, asynchronously])
def test_many_are_entered_in_batches(client: redis.Redis, source: Callable[[Any], Any]) -> None:
    reported: list[Any] = []

    async def report(*given: Any) -> None:
        await asyncio.sleep(0)
        reported.append(given)

    async def main() -> smsq.Sent:
        send_sms.delay("13800000001", TEMPLATE, key="k1")
        given = [*rows(25), {"phone": "1"}, {**rows(2)[1], "key": "k1"}]
        return await smsq.asend_many(
            source(given), batch_size=10, on_batch=report, on_invalid=report, on_duplicate=report
        )

    sent = asyncio.run(main())
    assert sent == 26
    assert client.llen("sms.bulk") == 3
    batch, other, (number, row, error), (duplicate,), (last,) = reported
    assert (len(batch[0]), len(other[0]), len(last)) == (10, 10, 6)
    assert (number, row, error.index) == (25, {"phone": "1"}, 25)
    assert duplicate.index == 26


def test_a_bad_row_stops_after_those_before_it(client: redis.Redis) -> None:
    with pytest.raises(InvalidMessage, match=r"row 3: .* the 3 messages before it") as caught:
        asyncio.run(smsq.asend_many([*rows(3), {"phone": "1"}, *rows(1)]))
    assert (caught.value.index, caught.value.enqueued) == (3, 3)
    assert client.zcard(keys.TIMERS) == 3


@pytest.mark.parametrize("name", ["on_batch", "on_invalid", "on_duplicate"])
def test_a_function_that_nobody_would_await_is_refused(client: redis.Redis, name: str) -> None:
    async def report(*_: Any) -> None: ...

    given: Any = {name: report}
    with pytest.raises(ValueError, match="report is an async function, which only asend_many"):
        smsq.send_many(rows(1), **given)
    assert not client.exists(keys.TIMERS)


def test_a_full_ledger_takes_nothing_and_says_so(client: redis.Redis) -> None:
    client.config_set("maxmemory", 1)
    try:
        with pytest.raises(LedgerFull, match=r"takes nothing new$"):
            asyncio.run(send_sms.adelay(PHONE, TEMPLATE))
    finally:
        client.config_set("maxmemory", 0)


def test_numbers_are_encrypted_with_one_secret(client: redis.Redis, environ: Any) -> None:
    environ["SMSQ_PAYLOAD_KEYS"] = Fernet.generate_key().decode()
    settings = ProducerSettings.load(environ)
    writer = LedgerWriter(client, settings)

    async def main() -> None:
        entering = writer.entering("m1", parse((PHONE, TEMPLATE, "482913"), {}), NO_ORIGIN, None)
        await aperform(app.async_client, entering)

    asyncio.run(main())
    text = str(client.get(keys.payload("m1")))
    assert PHONE not in text
    assert Opener(client, settings, strict=True)().open(text) == (PHONE, "482913")


def test_calls_beside_each_other_have_traces_of_their_own(
    client: redis.Redis, environ: dict[str, str]
) -> None:
    code = """
        import asyncio
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from smsq import send_sms

        trace.set_tracer_provider(TracerProvider())

        async def checkout():
            with trace.get_tracer("shop").start_as_current_span("checkout") as span:
                result = await send_sms.adelay("13800138000", "SMS_1001")
                assert trace.get_current_span() is span
            print(result.id, f"{span.get_span_context().trace_id:032x}")

        async def main():
            await asyncio.gather(*(checkout() for _ in range(3)))

        asyncio.run(main())
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code)]
    told = subprocess.run(command, env=environ, stdout=subprocess.PIPE, text=True, check=True)
    lines = [line.split() for line in told.stdout.splitlines()]
    assert len({trace for _, trace in lines}) == 3
    for message_id, trace in lines:
        assert str(client.hget(keys.message(message_id), "trace")).split("-")[1] == trace


# --- connections ----------------------------------------------------------------------------


ECHO = Script("return ARGV[1]")
"""A script whose answer tells whose it is."""


def clients(url: str, *, idle_s: float = 30.0, try_s: float = 5.0) -> AsyncClients:
    return AsyncClients(url, idle_s=idle_s, try_s=try_s)


async def echo(own: AsyncClients, text: str) -> Any:
    answer, _ = await aperform(own.of_running_loop(), running(ECHO, [text], 0))
    return answer


@pytest.fixture
def own(environ: dict[str, str]) -> AsyncClients:
    return clients(environ["SMSQ_REDIS_URL"])


@contextmanager
def leaves_no_connection(client: redis.Redis) -> Iterator[None]:
    def connections() -> set[str]:
        found: Any = client.client_list()
        return {one["id"] for one in found}

    before = connections()
    yield
    eventually(lambda: connections() <= before)


def test_one_connection_does_for_one_call_after_another(
    client: redis.Redis, own: AsyncClients
) -> None:
    async def main() -> None:
        before = client.info("stats")["total_connections_received"]
        for n in range(20):
            assert await echo(own, str(n)) == str(n)
        assert client.info("stats")["total_connections_received"] == before + 1

    with leaves_no_connection(client):
        asyncio.run(main())


def test_a_crowd_shares_a_bounded_number_and_each_has_its_own_answer(
    client: redis.Redis, own: AsyncClients
) -> None:
    async def main() -> None:
        before = client.info("stats")["total_connections_received"]
        asked = [str(n) for n in range(10 * CONNECTIONS_AT_MOST)]
        assert await asyncio.gather(*(echo(own, text) for text in asked)) == asked
        after = client.info("stats")["total_connections_received"]
        assert after - before == CONNECTIONS_AT_MOST

    with leaves_no_connection(client):
        asyncio.run(main())


@pytest.mark.parametrize("is_connected", [True, False])
def test_one_that_was_cancelled_leaves_its_answer_to_nobody(
    client: redis.Redis, environ: dict[str, str], own: AsyncClients, is_connected: bool
) -> None:
    """At whatever moment: the loop goes one step further each time, until the call is done."""

    async def main() -> None:
        for steps in itertools.count():
            one = own if is_connected else clients(environ["SMSQ_REDIS_URL"])
            task = asyncio.create_task(echo(one, "cancelled"))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            (told,) = await asyncio.gather(task, return_exceptions=True)
            for n in range(2):
                assert await echo(one, f"{steps}-{n}") == f"{steps}-{n}"
            if told == "cancelled":
                break
            assert isinstance(told, asyncio.CancelledError)

    with leaves_no_connection(client):
        asyncio.run(main())


def test_a_cancelled_call_that_waits_for_its_turn_takes_none(own: AsyncClients) -> None:
    async def main() -> None:
        held = own.of_running_loop()
        for _ in range(CONNECTIONS_AT_MOST):
            await held._places.acquire()
        waiting = [asyncio.create_task(echo(own, "cancelled")) for _ in range(3)]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        with deadline.within(0.01), pytest.raises(deadline.DeadlineExceeded) as caught:
            await echo(own, "late")
        assert caught.value.__notes__ == [NOT_SENT]
        with deadline.within(0.0), pytest.raises(deadline.DeadlineExceeded) as caught:
            await echo(own, "too late")
        assert caught.value.__notes__ == [NOT_SENT]
        held._places.release()
        assert await echo(own, "next") == "next"

    asyncio.run(main())


def test_what_a_cancelled_message_came_to_is_settled_by_its_key() -> None:
    async def main(server: Freezer) -> None:
        writer = LedgerWriter(connect(server.url), ProducerSettings(redis_url=server.url))
        own = clients(server.url).of_running_loop()
        message = parse((PHONE, TEMPLATE), {"key": "k1"})

        def enter(message_id: str) -> Any:
            return aperform(own, writer.entering(message_id, message, NO_ORIGIN, None))

        await aperform(own, writer.entering("m0", parse((PHONE, TEMPLATE), {}), NO_ORIGIN, None))
        server.freeze()
        task = asyncio.create_task(enter("m1"))
        while not task.cancelled():
            # It has been written when the loop has nothing else to do.
            await asyncio.sleep(0.1)
            task.cancel()
            await asyncio.wait([task])
        server.thaw()
        assert (await enter("m2")).duplicate_of == "m1"

    with freezing() as server:
        asyncio.run(main(server))


def test_one_that_the_server_has_closed_costs_a_try_and_no_error(
    client: redis.Redis, own: AsyncClients
) -> None:
    async def main() -> None:
        assert await echo(own, "first") == "first"
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert await echo(own, "second") == "second"

    asyncio.run(main())


def test_a_refused_connection_is_told_in_the_words_of_a_blocking_call() -> None:
    url = "redis://127.0.0.1:1/0"
    with pytest.raises(redis.ConnectionError) as blocking:
        connect(url).ping()
    with pytest.raises(redis.ConnectionError) as awaited:
        asyncio.run(echo(clients(url), "nobody"))
    assert str(awaited.value) == str(blocking.value)
    assert awaited.value.__notes__ == [NOT_SENT]


def test_the_next_address_of_a_name_is_tried(environ: dict[str, str]) -> None:
    port = urlsplit(environ["SMSQ_REDIS_URL"]).port

    async def main() -> None:
        loop = asyncio.get_running_loop()
        addresses = [(0, 0, 0, "", (host, port)) for host in ("127.0.0.2", "127.0.0.1")]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "getaddrinfo", lambda *_, **__: asyncio.sleep(0, addresses))
            assert await echo(clients(f"redis://two.example:{port}/0"), "here") == "here"

    asyncio.run(main())


# --- event loops ----------------------------------------------------------------------------


def test_loops_in_threads_and_one_after_another_have_connections_of_their_own(
    client: redis.Redis, own: AsyncClients
) -> None:
    together = threading.Barrier(4, timeout=30)

    async def number() -> int:
        answers = [await own.of_running_loop().exchange([("CLIENT", "ID")]) for _ in range(2)]
        assert answers[0] == answers[1]
        return int(answers[0][0])

    def work(_: int) -> list[int]:
        together.wait()
        return [asyncio.run(number()) for _ in range(3)]

    with leaves_no_connection(client):
        with ThreadPoolExecutor(4) as pool:
            found = [number for numbers in pool.map(work, range(4)) for number in numbers]
        assert len(set(found)) == 12
        assert not _OPEN


def test_a_loop_that_ends_while_a_call_waits_closes_its_connection() -> None:
    async def main(own: AsyncClients) -> None:
        await echo(own, "first")
        server.freeze()
        asyncio.create_task(echo(own, "left"))  # noqa: RUF006 - nobody waits for it
        await asyncio.sleep(0.05)

    with freezing() as server:
        for own in (clients(server.url), clients(server.url)):
            asyncio.run(main(own))
            server.thaw()
            with connect(server.url) as client:
                eventually(lambda: len(client.client_list()) == 1)  # type: ignore[arg-type]


def test_a_loop_that_was_closed_without_its_generators_is_forgotten(
    environ: dict[str, str],
) -> None:
    code = """
        import asyncio, gc, warnings
        from smsq import send_sms
        from smsq.async_connection import _OPEN
        for _ in range(3):
            loop = asyncio.new_event_loop()
            loop.run_until_complete(send_sms.adelay("13800138000", "SMS_1001"))
            loop.close()
        assert len(_OPEN) == 1
        del loop
        with warnings.catch_warnings():
            # Whoever closes a loop like that is told so by asyncio.
            warnings.simplefilter("ignore", ResourceWarning)
            asyncio.run(send_sms.adelay("13800138000", "SMS_1001"))
            gc.collect()
        assert not _OPEN
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    subprocess.run(command, env=environ, check=True, timeout=60)


def test_nothing_warns_in_asyncios_debug_mode(environ: dict[str, str], client: redis.Redis) -> None:
    code = """
        import asyncio, gc
        import smsq

        async def main():
            result = await smsq.send_sms.adelay("13800138000", "SMS_1001")
            await asyncio.gather(*(smsq.astatus(result.id) for _ in range(5)))
            await smsq.asend_many([{"phone": "13800138000", "template": "SMS_1001"}])
            cancelled = asyncio.create_task(smsq.send_sms.adelay("13800138000", "SMS_1001"))
            await asyncio.sleep(0)
            cancelled.cancel()

        for _ in range(2):
            asyncio.run(main(), debug=True)
            gc.collect()
    """
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(code)],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "Warning" not in done.stderr
    assert len(client.client_list()) == 1  # type: ignore[arg-type]
