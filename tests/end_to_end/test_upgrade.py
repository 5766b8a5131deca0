"""Earlier releases beside this one, and each after the other, on one ledger."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Any

import pytest
import redis
import requests
from cryptography.fernet import Fernet

import smsq
from harness.credentials import TOKEN
from harness.machine import dies, started
from harness.paths import RELEASES
from harness.vendor_server import VendorServer, accepted
from harness.waiting import eventually, known
from smsq import contract, keys
from smsq.app import QUEUES
from smsq.failpoints import VARIABLE
from smsq.ledger_writer import LedgerWriter
from smsq_worker.config.settings import Settings
from smsq_worker.devstack import services
from smsq_worker.devstack.processes import Service
from smsq_worker.domain.accounts import Account
from smsq_worker.infra.ports import free_port
from smsq_worker.ledger import accounts, migrations
from smsq_worker.ledger.admin import Control

WHEELS = {wheel.name.split("-")[1]: wheel for wheel in RELEASES.glob("smsq-*.whl")}
SCHEMA_OF = {"0.1.0": migrations.Schema(1, 1), "0.2.0": migrations.Schema(2, 1)}
RATE = 60
QUICK = {
    "SMSQ_CONNECT_TIMEOUT_S": "0.5",
    "SMSQ_READ_TIMEOUT_S": "30",
    "SMSQ_LEASE_S": "120",
    "SMSQ_RETRY_FIRST_S": "0.1",
    "SMSQ_MAX_RESENDS": "10",
    "SMSQ_BREAKER": "",
}
NEWEST = migrations.Schema(migrations.MIGRATIONS[-1].version, 1)
FINAL = {str(state) for state in contract.FINAL}


@pytest.fixture(scope="module", params=sorted(WHEELS))
def last(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An earlier release, unpacked in a folder of its name."""
    folder = tmp_path_factory.mktemp("releases") / request.param
    zipfile.ZipFile(WHEELS[request.param]).extractall(folder)
    return folder


@dataclass
class Place:
    """Processes of either release, a gateway, and reports that go to each API in turn."""

    environ: dict[str, str]
    folder: Path
    last: Path
    vendor: VendorServer = field(default_factory=VendorServer)
    mids: SimpleQueue[str] = field(default_factory=SimpleQueue)
    apis: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    """When the gateway was called."""
    fails: bool = False
    """Whether a tenth of the calls leave a doubt."""
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def of(self, release: str) -> dict[str, str]:
        """The environment in which python finds this release."""
        path = {"PYTHONPATH": str(self.last)} if release == "last" else {}
        return {"SMSQ_HOME": str(self.folder / f"home-{release}")} | self.environ | path

    def workers(self, *environs: dict[str, str]) -> list[subprocess.Popen[bytes]]:
        """Start workers with these environments at once."""
        url = self.environ["SMSQ_REDIS_URL"]
        return self.start([services.worker(url, environ) for environ in environs])

    def start_apis(self, *releases: str) -> None:
        """Start APIs of these releases at once."""
        found = []
        for release in releases:
            port = free_port()
            self.apis.append(f"http://127.0.0.1:{port}/")
            own = self.of(release) | {"SMSQ_DOOR_BIND": f"127.0.0.1:{port}"}
            found.append(services.api(self.apis[-1], own))
        self.start(found)

    def start(self, found: list[Service]) -> list[subprocess.Popen[bytes]]:
        processes = []
        for one in found:
            with (self.folder / f"{one.name}{len(self.running)}.log").open("wb") as log:
                process = started(one.command, one.environ, log)
            processes.append(process)
            self.running.append(process)
        for one in found:
            eventually(one.ready, 60)
        return processes

    def run(self, release: str, *words: str, stdin: str = "") -> dict[str, Any]:
        """Run messages.py with a release; give what it prints."""
        done = subprocess.run(
            [sys.executable, RELEASES / "messages.py", *words],
            env=self.of(release),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        # The release that was meant, and not the one that is installed.
        assert (Path(told["from"]) == self.last) == (release == "last")
        return told

    def nothing_is_left(self, client: redis.Redis) -> bool:
        """Tell whether all messages are final; time passes for those that a dead worker had."""
        rules = Settings.load(self.environ).rules
        live = {name.split(":")[1] for name, n in Control(client, rules).live().items() if n}
        timers = dict.fromkeys(client.zrange(keys.TIMERS, 0, -1), 0)
        if timers and live <= {"queued", "sending"} and not any(map(client.llen, QUEUES)):
            client.zadd(keys.TIMERS, timers, xx=True)
        return not live

    def logs(self) -> str:
        return "\n".join(log.read_text() for log in sorted(self.folder.glob("*.log")))

    def report(self, *reports: tuple[str, str]) -> None:
        """Post reports as one list, to the APIs in turn."""
        self.apis.append(self.apis.pop(0))
        body = [{"mid": mid, "stat": stat} for mid, stat in reports]
        requests.post(f"{self.apis[0]}reports/{TOKEN}", json=body, timeout=10).raise_for_status()

    def report_on(self, stop: Event) -> None:
        """Report every accepted call as delivered, until told to stop."""
        while not stop.is_set():
            found = []
            try:
                found.append(self.mids.get(timeout=0.05))
                while len(found) < 20:
                    found.append(self.mids.get_nowait())
            except Empty:
                pass
            if found:
                self.report(*((mid, "DELIVRD") for mid in found))


@pytest.fixture
def place(
    client: redis.Redis, environ: dict[str, str], tmp_path: Path, last: Path
) -> Iterator[Place]:
    here = Place(environ | QUICK, tmp_path, last)
    numbers = count(1)

    def answer(_: str) -> tuple[int, dict[str, object]]:
        n = next(numbers)
        if here.fails and n % 10 == 0:
            return 500, {}
        here.mids.put(f"{n:016X}")
        return accepted(f"{n:016X}")

    here.vendor.answer = answer
    here.vendor.before_answer = lambda _: here.times.append(time.monotonic())
    here.environ["SMSQ_GATEWAY_URL"] = here.vendor.url
    stop = Event()
    reporter = Thread(target=here.report_on, args=(stop,))
    with here.vendor:
        reporter.start()
        try:
            yield here
        finally:
            stop.set()
            reporter.join()
            for process in here.running:
                process.kill()
                process.wait(30)


def test_two_releases_work_side_by_side(place: Place, client: redis.Redis) -> None:
    place.environ |= {"SMSQ_RATE_PER_S": str(RATE), "SMSQ_RATE_BURST": "1"}
    place.fails = True
    place.start_apis("last", "this")
    last, this = place.of("last"), place.of("this")
    victim, *_ = place.workers(last | {VARIABLE: "after call"}, last, this)
    ids = [
        one
        for release, prefix in (("last", "1380000"), ("this", "1390000"))
        for one in place.run(release, "send", prefix, "120")["ids"]
    ]
    eventually(lambda: len(place.times) > 2 * RATE)
    # Two that keep the rate each by itself would take half the time.
    assert place.times[2 * RATE] - place.times[0] > 0.75 * 2
    dies(victim)
    eventually(lambda: place.nothing_is_left(client), 60)

    for release in ("last", "this"):
        states = place.run(release, "read", stdin=json.dumps(ids))["states"]
        assert Counter(states.values()) == {"delivered": 240}
    calls = Counter(place.vendor.phones())
    assert len(calls) == 240
    doubts = int(client.hget(keys.COUNTERS, "possible_duplicates") or 0)
    assert 0 < sum(calls.values()) - 240 <= doubts
    attempts = [one for name in ids for one in known(name).attempts]
    assert {one.detail for one in attempts if one.outcome == "maybe_sent"} > {"lease ran out"}
    for api in place.apis:
        metrics = requests.get(f"{api}metrics", timeout=10)
        assert 'smsq_messages_total{lane="bulk",state="delivered"} 120.0' in metrics.text
        mine = {"Authorization": place.environ["SMSQ_RELAY_SECRET"]}
        message = requests.get(f"{api}messages/{ids[0]}", headers=mine, timeout=10)
        assert message.json()["state"] == "delivered"
    assert "Traceback" not in place.logs()


WRITTEN = {
    **dict.fromkeys(["queued", "unpublished", "suppressed-later"], "queued"),
    **dict.fromkeys(
        ["scheduled", "tomorrow", "first", "retried", "doubtful", "resent"], "deferred"
    ),
    **dict.fromkeys(["sending", "sending-and-hold", "early", "spooled"], "sending"),
    **dict.fromkeys(["accepted", "accepted-not-delivered", "in-the-inbox"], "accepted"),
    **dict.fromkeys(["refused", "not-delivered", "invalid", "suppressed"], "failed"),
    "waits-for-its-template": "deferred",
    **{name: name for name in ("held", "delivered", "expired", "unreported", "duplicate")},
}
IN_THE_END = WRITTEN | {
    name: "delivered"
    for name, state in WRITTEN.items()
    if state not in FINAL or name in {"unreported", "not-delivered"}
}
IN_THE_END |= {
    "tomorrow": "deferred",
    "sending-and-hold": "held",
    "accepted-not-delivered": "failed",
    "suppressed-later": "failed",
}


@pytest.mark.parametrize(("before", "after"), [("last", "this"), ("this", "last")])
def test_one_release_goes_on_with_all_that_another_left(
    place: Place, client: redis.Redis, before: str, after: str
) -> None:
    """Upgraded, and rolled back: all of the one stop before any of the other starts."""
    place.environ["SMSQ_HOME"] = str(place.folder / "home")
    place.environ["SMSQ_PAYLOAD_KEYS"] = Fernet.generate_key().decode()
    assert place.run(before, "write")["states"] == WRITTEN
    assert migrations.read(client) == (SCHEMA_OF[place.last.name] if before == "last" else NEWEST)
    place.start_apis(after)
    place.workers(place.of(after))
    eventually(lambda: migrations.read(client) == NEWEST)
    due = client.hget(keys.message("tomorrow"), "due")
    assert float(due or 0) == client.zscore(keys.TIMERS, "tomorrow")
    place.run(after, "go_on")
    place.report(
        *((f"MID-{name}", "DELIVRD") for name in ("accepted", "unreported", "not-delivered")),
        ("MID-spooled", "DELIVRD"),
        ("MID-accepted-not-delivered", "MA:0001"),
    )
    eventually(lambda: {name: known(name).state for name in WRITTEN} == IN_THE_END, 60)
    for release in ("last", "this"):
        assert place.run(release, "read", *WRITTEN)["states"] == IN_THE_END
    assert client.llen("celery") == 1
    assert "Traceback" not in place.logs()


def cancel_one(_: redis.Redis, __: Settings) -> None:
    first = smsq.send_sms.delay("13800138000", "SMS_1001", send_at=time.time() + 3600).id
    found = smsq.cancel(first)
    assert found is not None
    assert found.answer == "cancelled"


def begin_a_campaign(client: redis.Redis, settings: Settings) -> None:
    options = {"campaign": "spring", "send_at": time.time() + 3600}
    message = contract.parse(("13812345678", "SMS_1001", "1"), options)
    LedgerWriter(client, settings).enter("first", message)


def begin_with_a_second_account(client: redis.Redis, settings: Settings) -> None:
    both = (Account("main", "", 10, 1), Account("backup", "backup", 10, 1))
    accounts.introduce(client, replace(settings.rules, accounts=both))


@pytest.mark.parametrize("first_use", [cancel_one, begin_a_campaign, begin_with_a_second_account])
@pytest.mark.parametrize("last", ["0.2.0"], indirect=True)
def test_a_release_that_would_send_what_is_forbidden_is_shut_out(
    place: Place, client: redis.Redis, first_use: Callable[[redis.Redis, Settings], None]
) -> None:
    place.start_apis("this")
    (worker,) = place.workers(place.of("last"))
    eventually(lambda: migrations.read(client) == SCHEMA_OF["0.2.0"])
    first_use(client, Settings.load(place.environ))
    # 0.2.0 says the first where the schema was raised between two of its acts: 1 of 100 times.
    told = ("OUTGROWN 3", "is for releases that know its schema 3")
    eventually(lambda: any(words in place.logs() for words in told))
    ids = place.run("last", "send", "1380000", "10")["ids"]
    place.workers(place.of("this"))
    eventually(lambda: all(known(one).state == "delivered" for one in ids), 60)
    assert worker.poll() is None
    assert len(place.vendor.calls) == 10
