"""Real Flower on the shipped configuration: who gets in, and what is never shown."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import requests

from harness.flower import (
    AUTH,
    CODE,
    MID,
    SLOW_PHONE,
    TEMPLATE,
    Running,
    leaks,
    quiet,
    watched,
)
from harness.waiting import eventually
from smsq_worker.devstack import services
from smsq_worker.devstack.processes import Stack
from smsq_worker.infra.ports import free_port


@pytest.fixture(scope="module")
def running(
    base_environ: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    with watched(base_environ, tmp_path_factory.mktemp("logs")) as running:
        yield running


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
    tasks = running.tasks()
    seen = {what: tasks[each]["state"] for each, what in running.sent.items()}
    refused = ("a report with too much", *INVALID, "ours, refused")
    assert seen == dict.fromkeys(running.sent.values(), "SUCCESS") | dict.fromkeys(
        refused, "FAILURE"
    ) | {"ours, deferred": "RETRY"}
    assert all(each in running.get(f"task/{each}").text for each in running.sent)


INVALID = (
    "bare, at a time",
    "bare, with an end",
    "bare, arguments in the wrong places",
    "bare, too many arguments",
)


def test_a_task_says_what_happened_to_its_message_and_shows_no_traceback(running: Running) -> None:
    tasks = running.tasks()
    of = {what: tasks[each] for each, what in running.sent.items()}
    assert of["ours, otp"]["result"] == "accepted"
    assert of["ours, refused"]["exception"].startswith("failed: gateway:400")
    assert of["ours, deferred"]["exception"].startswith("deferred: ")
    for what in INVALID:
        assert of[what]["exception"] == "failed: local:invalid"
    for what in ("ours, refused", "ours, deferred", *INVALID):
        assert not of[what]["traceback"]


def test_a_single_report_is_seen_and_no_number_in_its_place(running: Running) -> None:
    def reports() -> list[str]:
        tasks = running.tasks().values()
        return sorted(task["args"] for task in tasks if task["name"] == "smsq.reconcile_report")

    eventually(lambda: len(reports()) == 4)
    assert reports() == [f"('{MID}', 'DELIVRD')", "(2 reports)", "(masked)", "(masked)"]


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
    for each in (one for one in ours if running.sent[one].endswith(("otp", "notice", "bulk"))):
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
