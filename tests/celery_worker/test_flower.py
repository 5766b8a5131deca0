"""Real Flower on the shipped configuration: who gets in, and what is never shown."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import flower.urls as flower_urls
import pytest
import requests
from click.testing import CliRunner
from flower.views.auth import LoginHandler
from tornado.web import RequestHandler

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
from smsq.errors import SettingsError
from smsq_worker.cli.commands.flower import flower
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


BAD_CREDENTIALS = (":", "operator", "operator:", ":secret-Zq9", "operator: ", "a:b,:", "a:b,,c:d")


@pytest.mark.parametrize("given", BAD_CREDENTIALS)
@pytest.mark.parametrize("as_option", [False, True], ids=["variable", "option"])
def test_credentials_without_a_name_or_a_password_are_refused_even_on_loopback(
    environ: dict[str, str], given: str, as_option: bool
) -> None:
    found = CliRunner().invoke(
        flower,
        [f"--basic-auth={given}"] if as_option else [],
        env=quiet(environ, **{} if as_option else {"FLOWER_BASIC_AUTH": given}),
    )
    assert isinstance(found.exception, SettingsError)
    (line,) = found.exception.problems
    assert line.endswith("must be user:password, neither of them empty")
    assert "secret-Zq9" not in line


def test_another_configuration_file_is_refused(environ: dict[str, str]) -> None:
    found = CliRunner().invoke(flower, ["--conf=mine.py"], env=quiet(environ))
    assert isinstance(found.exception, SettingsError)
    assert "as FLOWER_... variables" in str(found.exception)


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


PAGES = ("", "workers", "tasks", "broker", "task/x", "worker/x", "metrics")
CALLS = ("api/tasks", "api/workers", "api/task/info/x", "api/task/types", "api/queues/length")


@pytest.mark.parametrize("path", [*PAGES, *CALLS])
def test_with_a_password_nobody_else_gets_in(running: Running, path: str) -> None:
    assert running.get(path, auth=None).status_code == 401
    assert running.get(path, auth=(AUTH[0], "wrong")).status_code == 401


# --- what may be done ----------------------------------------------------------------------------

READS = {"/tasks/datatable"}
"""Routes that take a POST and change nothing."""


def routes() -> Iterator[tuple[str, str]]:
    """Give the method and the path of each route of Flower's own table that is not only a GET."""
    for handler in flower_urls.handlers:
        is_rule = hasattr(handler, "handler_class")
        pattern = handler.regex.pattern if is_rule else handler[0]
        kind = handler.handler_class if is_rule else handler[1]
        path = re.sub(r"\(\.[+*]\)", "x", pattern.rstrip("$")).replace("/?", "")
        if pattern == r".*" or kind is LoginHandler or path in READS:
            continue
        for method in ("post", "put", "patch", "delete"):
            if getattr(kind, method) is not RequestHandler._unimplemented_method:
                yield method.upper(), path


ACTS = tuple(routes())


def test_flowers_acts_are_those_that_we_know_of() -> None:
    assert len(ACTS) == 14
    assert {method for method, _ in ACTS} == {"POST"}
    assert ("POST", "/api/task/send-task/x") in ACTS


@pytest.mark.parametrize(("method", "path"), ACTS, ids=[path for _, path in ACTS])
def test_with_the_password_nothing_can_be_done(running: Running, method: str, path: str) -> None:
    path = path.removeprefix("/").removesuffix("x") + target(path, running)
    done = requests.request(method, f"{running.url}{path}", json={}, auth=AUTH, timeout=10)
    assert (done.status_code, done.text) == (403, "Read only mode is enabled")


def target(path: str, running: Running) -> str:
    """Name what an act would really do something to."""
    if "/worker/" in path:
        return running.worker
    if path.startswith(("/api/task/apply", "/api/task/async-apply", "/api/task/send-task")):
        return "smsq.send_sms"
    return next(iter(running.sent))


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
    # Of the tests' own server, at the worker's start.
    assert "keeps no append-only file" in worker
