"""A Redis that is silent, frozen or dribbles: everybody has an answer within one deadline.

The bounds here are generous, as the machine may be busy; without a deadline each of these takes
20 to 80 s. What is to succeed has a deadline that only a fault reaches.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import kombu
import pytest
import redis
import trustme
from cryptography.fernet import Fernet

from harness.faulty_line import TLS_ANSWER, Line, freezing
from harness.silent_redis import SOON_S, WITHIN_S, dribbling, frozen, hurried, silent
from harness.waiting import eventually
from smsq import deadline, keys
from smsq.app import app
from smsq.connection import connect
from smsq.redis_connections import _DeadlineSocket
from smsq.settings import ProducerSettings

PHONE = "13800138000"


# --- servers that do not answer -------------------------------------------------------------


@contextmanager
def silent_tls() -> Iterator[str]:
    with Line() as line:
        yield line.tls_url


@contextmanager
def dribbling_tls() -> Iterator[str]:
    with Line(dribbled=TLS_ANSWER) as line:
        line.dribble()
        yield line.tls_url


@contextmanager
def silent_sentinels() -> Iterator[str]:
    with Line() as one, Line() as two:
        two.dribble()
        yield f"redis+sentinel://127.0.0.1:{one.port},127.0.0.1:{two.port}/main/0"


SILENT = [frozen, silent, dribbling, silent_tls, dribbling_tls, silent_sentinels]


@pytest.fixture(params=SILENT, ids=lambda kind: kind.__name__)
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    with request.param() as url:
        yield url


# --- producers ------------------------------------------------------------------------------

CALLS = f"""
    import sys
    if "without-hiredis" in sys.argv:
        sys.modules["hiredis"] = None
    import asyncio, dataclasses, json, threading, time
    import smsq

    def timed(act):
        began = time.monotonic()
        try:
            told = str(act())
        except Exception as error:
            told = f"{{type(error).__name__}}: {{error}}"
        print(json.dumps([told, time.monotonic() - began]), flush=True)

    def hurry():
        app = smsq.send_sms.app
        app.settings = dataclasses.replace(app.settings, enqueue_timeout_s={WITHIN_S})

    def delay(**options):
        return smsq.send_sms.delay("{PHONE}", "SMS_1001", "482913", **options).id

    loop = asyncio.new_event_loop()

    def adelay(**options):
        sending = smsq.send_sms.adelay("{PHONE}", "SMS_1001", "482913", **options)
        return loop.run_until_complete(beside(sending)).id

    def acancel():
        return loop.run_until_complete(beside(smsq.acancel("m1")))

    async def beside(awaited):
        beats = ticks = 0
        async def beat():
            nonlocal beats
            while True:
                beats += 1
                await asyncio.sleep(0.01)
        over = threading.Event()
        def tick():
            nonlocal ticks
            while not over.wait(0.01):
                ticks += 1
        beating, ticking = asyncio.create_task(beat()), threading.Thread(target=tick)
        ticking.start()
        try:
            return await awaited
        except Exception:
            # A loop that is blocked stands still while the process's other threads go on.
            assert beats > ticks / 10, (beats, ticks)
            raise
        finally:
            beating.cancel()
            over.set()
            ticking.join()
"""


class Backend:
    """A backend in a process of its own, which does what it is told and says how long it took."""

    def __init__(self, environ: Mapping[str, str], *argv: str) -> None:
        code = textwrap.dedent(CALLS) + "for line in sys.stdin: exec(line)\n"
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", code, *argv],
            env=dict(environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def does(self, act: str) -> tuple[str, float]:
        process = self._process
        assert process.stdin
        assert process.stdout
        process.stdin.write(f"timed(lambda: {act})\n")
        process.stdin.flush()
        told, took_s = json.loads(process.stdout.readline())
        return told, took_s

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def unhurried(environ: dict[str, str], url: str) -> dict[str, str]:
    return environ | {"SMSQ_REDIS_URL": url, "SMSQ_ENQUEUE_TIMEOUT_S": "60"}


MANY = "smsq.send_many([{'phone': '13800138000', 'template': 'SMS_1001'}])"
ACTS = {
    "delay()": "may or may not be in: repeat it with the same key or task_id",
    "adelay()": "may or may not be in: repeat it with the same key or task_id",
    MANY: "; 0 messages are enqueued, of the next 1 ",
    "smsq.status('m1')": "did not answer",
    "acancel()": "cancelled",
}


BOTH = ("delay()", "adelay()")
NONE_OF_MANY = "; 0 messages are enqueued, of the next 1 none"
NOTHING_ENTERED = dict.fromkeys(BOTH, "; nothing was entered") | {MANY: NONE_OF_MANY}


def test_a_fresh_producer_has_an_answer_in_time(environ: dict[str, str], url: str) -> None:
    with Backend(hurried(environ, url)) as backend:
        for act, words in (ACTS | NOTHING_ENTERED).items():
            told, took_s = backend.does(act)
            assert told.startswith("LedgerUnavailable: "), told
            # redis-py up to 5.2 has words of its own for a timeout in the handshake.
            assert "no answer in time" in told or "Timeout reading from" in told
            assert words in told
            assert took_s < SOON_S


@pytest.mark.parametrize("is_encrypted", [False, True])
def test_where_no_connection_came_about_nothing_was_entered(
    environ: dict[str, str], is_encrypted: bool
) -> None:
    if is_encrypted:  # The ledger's key is asked for first.
        environ["SMSQ_PAYLOAD_KEYS"] = Fernet.generate_key().decode()
    with Backend(hurried(environ, "redis://127.0.0.1:1/0")) as backend:
        for act in BOTH:
            told, _ = backend.does(act)
            assert told.startswith("LedgerUnavailable: ")
            assert told.endswith("; nothing was entered")
        told, _ = backend.does(MANY)
        assert told.endswith(NONE_OF_MANY)
        assert "nothing was entered" not in told
        assert backend.does("acancel()")[0].endswith("; nothing was cancelled")


@pytest.mark.parametrize("parser", ["with-hiredis", "without-hiredis"])
@pytest.mark.parametrize("failing", ["frozen", "silence", "dribble"])
def test_a_producer_with_an_open_connection_has_an_answer_in_time(
    environ: dict[str, str], failing: str, parser: str
) -> None:
    with (
        freezing() as server,
        Line(server.port) as line,
        Backend(unhurried(environ, line.url), parser) as backend,
    ):
        assert len(backend.does("delay()")[0]) == len(backend.does("adelay()")[0]) == 36
        backend.does("hurry()")
        server.freeze() if failing == "frozen" else getattr(line, failing)()
        for act, words in ACTS.items():
            told, took_s = backend.does(act)
            assert told.startswith("LedgerUnavailable: "), told
            assert words in told
            assert took_s < SOON_S
        server.thaw()
        line.reopen()
        for act in BOTH:
            eventually(lambda act=act: len(backend.does(act)[0]) == 36)


@contextmanager
def in_tls(port: int, folder: Path) -> Iterator[str]:
    """Speak TLS in front of a port; give the URL for Redis."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    loop = asyncio.new_event_loop()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, here = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pipe(reader, here), pipe(there, writer))

    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0, ssl=context))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        address = server.sockets[0].getsockname()
        query = f"ssl_cert_reqs=required&ssl_ca_certs={folder / 'ca.pem'}"
        yield f"rediss://127.0.0.1:{address[1]}/0?{query}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


@pytest.mark.parametrize("parser", ["with-hiredis", "without-hiredis"])
def test_over_tls_it_is_the_same(environ: dict[str, str], tmp_path: Path, parser: str) -> None:
    with (
        freezing() as server,
        in_tls(server.port, tmp_path) as url,
        Backend(unhurried(environ, url), parser) as backend,
    ):
        assert len(backend.does("delay()")[0]) == 36
        row = f"{{'phone': '{PHONE}', 'template': 'SMS_1001', 'code': 'x' * 500}}"
        assert backend.does(f"smsq.send_many([{row}] * 1000, batch_size=1000)")[0] == "1000"
        assert len(backend.does("adelay()")[0]) == 36
        with connect(server.url) as client:
            assert (client.llen("sms.notice"), client.llen("sms.bulk")) == (2, 1)
        backend.does("hurry()")
        server.freeze()
        for act in BOTH:
            told, took_s = backend.does(act)
            assert "no answer in time" in told
            assert took_s < SOON_S


def test_what_a_message_in_doubt_came_to_is_settled_by_its_key(environ: dict[str, str]) -> None:
    with freezing() as server, Backend(unhurried(environ, server.url)) as backend:
        first, _ = backend.does("delay()")
        backend.does("setattr(smsq, 'normal', smsq.send_sms.app.settings)")
        backend.does("hurry()")
        server.freeze()
        told, _ = backend.does("delay(key='k1')")
        assert told.startswith("LedgerUnavailable")
        server.thaw()
        backend.does("setattr(smsq.send_sms.app, 'settings', smsq.normal)")
        # The server finds the first try in its socket when it goes on, sooner or later than this.
        again, _ = backend.does("delay(key='k1')")
        assert len(again) == 36
        with connect(server.url) as client:
            found = {key: client.hget(key, "state") for key in client.scan_iter("smsq:m:*")}
        # One of all the tries with this key holds it.
        del found[keys.message(first)]
        assert list(found.values()).count("queued") == 1, found


@pytest.mark.parametrize("failing", ["silence", "dribble"])
def test_a_broker_that_does_not_answer_keeps_nobody_and_the_scheduler_publishes_at_once(
    environ: dict[str, str], client: redis.Redis, failing: str
) -> None:
    with freezing() as broker, Line(broker.port) as line:
        own = environ | {"SMSQ_ENQUEUE_TIMEOUT_S": "3", "SMSQ_BROKER_URL": line.url}
        with Backend(own) as backend:
            getattr(line, failing)()
            for act in ("delay()", "delay()", "adelay()"):
                message_id, took_s = backend.does(act)
                assert took_s < SOON_S
                assert client.zscore(keys.TIMERS, message_id) == 0
            line.reopen()
            backend.does("delay()")
            getattr(line, failing)()
            # The first use of a lane over a connection that was good.
            message_id, took_s = backend.does("delay(lane='otp')")
            assert took_s < SOON_S
            assert client.zscore(keys.TIMERS, message_id) == 0
            sent, took_s = backend.does(
                "smsq.send_many([{'phone': '13800138000', 'template': 'x'}])"
            )
            assert (sent, took_s < SOON_S) == ("1", True)
            line.reopen()
            for lane in ("otp", "notice", "bulk"):
                for act in ("delay", "adelay"):
                    message_id, _ = backend.does(f"{act}(lane='{lane}')")
                    assert client.hget(keys.message(message_id), "published") != "0"


def test_sentinels_of_a_broker_that_do_not_answer_keep_nobody(
    environ: dict[str, str], client: redis.Redis
) -> None:
    with silent_sentinels() as url:
        own = environ | {"SMSQ_ENQUEUE_TIMEOUT_S": "3", "SMSQ_BROKER_URL": url}
        with Backend(own) as backend:
            for _ in range(2):
                message_id, took_s = backend.does("delay()")
                assert took_s < SOON_S
                assert client.zscore(keys.TIMERS, message_id) == 0
            # kombu's own transport would come in with the next of several addresses.
            kind, _ = backend.does("smsq.send_sms.app.connection_for_write().transport_cls")
            assert kind == "smsq.transport:SentinelTransport"


def test_a_crowd_of_threads_does_not_queue_for_a_broker_that_does_not_answer(
    environ: dict[str, str], client: redis.Redis
) -> None:
    crowd = (
        "max(__import__('concurrent.futures').futures.ThreadPoolExecutor(30)"
        ".map(lambda _: len(delay()), range(30)))"
    )
    with Line() as line:
        own = environ | {"SMSQ_ENQUEUE_TIMEOUT_S": "8", "SMSQ_BROKER_URL": line.url}
        with Backend(own) as backend:
            told, took_s = backend.does(crowd)
    # Kombu's pool has 10 connections: one after the other would take three times 6 s.
    assert (told, took_s < SOON_S) == ("36", True)
    assert client.zcard(keys.TIMERS) == 30


def test_whatever_publishing_raises_a_message_that_is_in_is_no_error(
    client: redis.Redis, environ: dict[str, str]
) -> None:
    broken = "setattr(smsq.send_sms.app, 'send_task', lambda *a, **k: {}['no such key'])"
    broker = environ["SMSQ_REDIS_URL"].removesuffix("/0") + "/5"
    with Backend(environ | {"SMSQ_BROKER_URL": broker}) as backend:
        backend.does(broken)
        message_id, _ = backend.does("delay()")
        assert client.zscore(keys.TIMERS, message_id) == 0
        row = "{'phone': '13800138000', 'template': 'SMS_1001'}"
        assert backend.does(f"smsq.send_many([{row}])")[0] == "1"
        message_id, _ = backend.does("adelay()")
        assert client.zscore(keys.TIMERS, message_id) == 0
        assert backend.does(f"loop.run_until_complete(smsq.asend_many([{row}]))")[0] == "1"


def test_waiting_for_replicas_ends_with_the_deadline(environ: dict[str, str]) -> None:
    with freezing() as server:
        own = hurried(environ, server.url, SMSQ_REDIS_WAIT_REPLICAS="1")
        with Backend(own | {"SMSQ_ENQUEUE_TIMEOUT_S": "4"}) as backend:
            backend.does("delay()")  # The script's first use costs a try more.
            for act in BOTH:
                told, took_s = backend.does(act)
                assert "replicas (SMSQ_REDIS_WAIT_REPLICAS) did not have it in time" in told
                assert took_s < SOON_S


def test_an_earlier_deadline_stands_and_the_end_of_a_block_ends_its_own() -> None:
    assert deadline.left_s() == float("inf")
    with deadline.within(0.0), deadline.within(60.0):
        assert deadline.left_s() <= 0
    with deadline.within(60.0):
        assert 0 < deadline.left_s() <= 60
    assert deadline.left_s() == float("inf")


def test_a_short_deadline_leaves_no_short_timeout_behind(environ: dict[str, str]) -> None:
    with connect(environ["SMSQ_REDIS_URL"]) as client:
        with deadline.within(0.5):
            client.ping()
        # Longer than that deadline, over the same connection.
        assert client.execute_command("BLPOP", "nothing", 0.8) is None


def test_a_server_that_is_slow_to_take_what_is_written_keeps_nobody() -> None:
    done = threading.Event()

    def take_slowly() -> None:
        with listener.accept()[0] as taken:
            while not done.wait(0.05):
                taken.recv(1000)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=take_slowly)
        thread.start()
        with socket.create_connection(listener.getsockname()) as plain:
            sock = _DeadlineSocket(plain, 60.0, deadline.left_s)
            began = time.monotonic()
            with deadline.within(WITHIN_S), pytest.raises(deadline.DeadlineExceeded):
                sock.sendall(b"x" * 50_000_000)
            assert time.monotonic() - began < SOON_S
        done.set()
        thread.join()


# --- connections that were forgotten --------------------------------------------------------

IDLE = {"SMSQ_IDLE_TIMEOUT_S": "1"}


def idle() -> None:
    """Let the time pass after which a connection is not used again."""
    time.sleep(1.2)


def test_a_producer_does_not_use_a_connection_that_a_firewall_may_have_forgotten(
    environ: dict[str, str],
) -> None:
    with freezing() as server, Line(server.port) as line:
        with Backend(environ | IDLE | {"SMSQ_REDIS_URL": line.url}) as backend:
            for _ in range(2):
                for act in BOTH:
                    message_id, took_s = backend.does(act)
                    assert len(message_id) == 36
                    assert took_s < SOON_S
                accepted = line.accepted
                line.forget()
                idle()
            assert accepted == 4
        with connect(server.url) as client:
            assert client.llen("sms.notice") == 4
            assert client.zcount(keys.TIMERS, 0, 0) == 0


def test_one_that_is_forgotten_sooner_costs_a_try_and_no_error(environ: dict[str, str]) -> None:
    own = environ | {"SMSQ_ENQUEUE_TIMEOUT_S": "6"}
    with (
        freezing() as server,
        Line(server.port) as line,
        Backend(own | {"SMSQ_REDIS_URL": line.url}) as backend,
    ):
        backend.does("delay()")
        line.forget()
        # The first use of a lane, where kombu held on to the channel that it had closed.
        message_id, took_s = backend.does("delay(lane='otp')")
        assert len(message_id) == 36, message_id
        assert took_s < SOON_S
        backend.does("adelay()")
        line.forget()
        message_id, took_s = backend.does("adelay()")
        assert (len(message_id), took_s < SOON_S) == (36, True)
        assert len(backend.does("delay(lane='bulk')")[0]) == 36


def test_a_forgotten_connection_to_the_broker_is_replaced_and_the_wake_up_published(
    environ: dict[str, str], client: redis.Redis
) -> None:
    with freezing() as broker, Line(broker.port) as line:
        own = environ | {"SMSQ_BROKER_URL": line.url, "SMSQ_ENQUEUE_TIMEOUT_S": "6"}
        with Backend(own) as backend:
            backend.does("delay()")
            line.forget()
            message_id, _ = backend.does("delay(lane='otp')")
            assert client.hget(keys.message(message_id), "published") != "0"
        with connect(broker.url) as there:
            assert there.llen("sms.otp") == 1


def test_a_connection_that_is_in_use_is_kept(environ: dict[str, str]) -> None:
    with (
        freezing() as server,
        Line(server.port) as line,
        Backend(unhurried(environ, line.url)) as backend,
    ):
        for _ in range(3):
            backend.does("delay()")
        assert line.accepted == 1


def test_a_workers_channel_does_not_use_one_either() -> None:
    with freezing() as server, Line(server.port) as line:
        with kombu.Connection(
            line.url,
            transport="smsq_worker.celery_worker.transport:Transport",
            transport_options={"socket_timeout": 60, "idle_s": 1.0},
        ) as connection:
            producer = connection.Producer()
            for _ in range(2):
                producer.publish({}, routing_key="q")
                line.forget()
                idle()
        with connect(server.url) as client:
            assert client.llen("q") == 2


def test_an_idle_connection_to_a_sentinel_is_not_used_again(environ: dict[str, str]) -> None:
    found = ProducerSettings.load({"SMSQ_REDIS_URL": "redis+sentinel://127.0.0.1:1/main/0"})
    client = connect(found.redis_url)
    (sentinel,) = client.connection_pool.sentinel_manager.sentinels  # type: ignore[attr-defined]
    assert sentinel.connection_pool.make_connection()._idle_s == 30.0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the options")
def test_keep_alive_is_on_for_ledger_and_broker(environ: dict[str, str]) -> None:
    with connect(environ["SMSQ_REDIS_URL"]) as client:
        client.ping()
        pooled = client.connection_pool.borrow()
        sock = pooled._sock
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 15
        client.connection_pool.release(pooled)
    options = app.conf.broker_transport_options
    assert options["socket_keepalive"]
    assert options["socket_keepalive_options"][socket.TCP_KEEPIDLE] == 15
