"""Logs as JSON: every line of every role, and what each of them knows."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import redis
import requests
from celery import Celery
from celery.worker.consumer import consumer

from harness.credentials import SECRET, TOKEN
from harness.devstack import BINDS, PATIENCE_S, SMSQ, up
from harness.waiting import eventually
from smsq_worker.celery_worker import celery_logs
from smsq_worker.infra.logs import JsonLines, about

PHONE = "13912345678"
CODE = "code-Qz7k-482913"
ALL = {"time", "level", "logger", "message", "process"}

Line = dict[str, Any]


def lines(text: str) -> list[Line]:
    """Read a log; what is no JSON fails."""
    found: list[Line] = [json.loads(line) for line in text.splitlines()]
    assert all(line.keys() >= ALL for line in found)
    assert all(datetime.fromisoformat(line["time"]).tzinfo for line in found)
    return found


def test_every_role_of_up_logs_json_and_nothing_else(
    environ: dict[str, str], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    environ |= dict.fromkeys(BINDS, "127.0.0.1:0") | {
        "PYTHONUNBUFFERED": "1",
        "SMSQ_HOME": str(home),
        "SMSQ_LOG_FORMAT": "json",
        "SMSQ_REDIS_URL": "",
    }
    with up(environ) as running:
        redis_url, api = running.addresses["Redis"], running.addresses["API"]
        send = [*SMSQ, "send", PHONE, "SMS_1001", CODE, "--lane", "otp"]
        sent = subprocess.run(
            send,
            check=True,
            env=environ | {"SMSQ_REDIS_URL": redis_url},
            capture_output=True,
            text=True,
        )
        message_id = sent.stdout.strip()
        with Celery(broker=redis_url, set_as_current=False) as foreign:
            # Too much of it: the task raises.
            args = ["mid-1", "DELIVRD", PHONE, CODE]
            bad = foreign.send_task("smsq.reconcile_report", args=args, queue="sms.report").id
            invalid = foreign.send_task("smsq.send_sms", args=[CODE], queue="sms.otp").id
        assert requests.post(f"{api}reports/wrong", timeout=PATIENCE_S).status_code == 404
        worker = home / "logs" / "worker.log"
        # The report comes last.
        eventually(lambda: all(one in worker.read_text() for one in (bad, invalid, "DELIVRD")))

    text = {path.stem: path.read_text() for path in (home / "logs").iterdir()}
    assert not [one for one in (PHONE, CODE, SECRET, TOKEN) if one in "".join(text.values())]
    # Celery writes these words past all logging.
    told = {role: lines(text[role]) for role in ("api", "sandbox", "flower")}
    told["worker"] = lines(text["worker"].replace("\nworker: Warm shutdown (MainProcess)\n", ""))
    assert all(told.values())
    assert {line["worker"].partition("@")[2] for line in told["worker"]} == {"localhost"}
    of_message = [line for line in told["worker"] if line.get("id") == message_id]
    known = {(line["logger"], line.get("lane"), line.get("state")) for line in of_message}
    assert known >= {
        ("smsq_worker.sending.sender", "otp", "accepted"),
        ("smsq_worker.delivery_reports.reconciler", None, "delivered"),
    }
    (call,) = [line for line in of_message if line.get("outcome")]
    (report,) = [line for line in of_message if line.get("stat")]
    assert (call["attempt"], call["outcome"], call["mid"]) == (1, "accepted", report["mid"])
    (raised,) = [line for line in told["worker"] if bad in line["message"] and "exception" in line]
    assert raised["exception"].startswith("Traceback (most recent call last):\n")
    assert [
        line["state"] for line in told["worker"] if line.get("id") == invalid and "state" in line
    ]


def test_a_worker_logs_json_to_where_its_options_say_and_no_more_than_they_say(
    environ: dict[str, str], tmp_path: Path
) -> None:
    log = tmp_path / "worker.log"
    options = ["--loglevel", "warning", "--logfile", str(log), "--hostname", "one@here"]
    with subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "smsq_worker", "worker", *options],
        env=environ | {"SMSQ_LOG_FORMAT": "json", "SMSQ_HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        eventually(lambda: log.exists() and "SMSQ_PAYLOAD_KEYS" in log.read_text())
        process.terminate()
        told, early = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    # What comes before Celery has opened its log: where root runs it, that root should not.
    assert {line["logger"] for line in lines(early)} <= {"py.warnings"}
    assert told.strip() == "worker: Warm shutdown (MainProcess)"
    assert {(line["level"], line["worker"]) for line in lines(log.read_text())} == {
        ("WARNING", "one@here")
    }


# --- one record -----------------------------------------------------------------------------


def form(message: str, *args: object, exc_info: Any = None, **extra: Any) -> Line:
    record = logging.LogRecord("some.log", logging.INFO, "", 1, message, args, exc_info)
    vars(record).update(extra)
    (line,) = lines(JsonLines().format(record))
    return line


def test_text_of_any_kind_is_one_line_of_ascii() -> None:
    text = 'line\nbreak "quoted" \x00 短信 \U0001f600 \udc80 \u2028'
    assert form("%s", text)["message"] == text
    record = logging.LogRecord("some.log", logging.INFO, "", 1, text, (), None)
    assert JsonLines().format(record).isascii()


def test_an_exception_is_one_field() -> None:
    why = ValueError("why")
    line = form("it failed", exc_info=(type(why), why, None))
    assert line["message"] == "it failed"
    assert line["exception"].endswith("ValueError: why")


def test_what_is_not_known_is_no_field() -> None:
    line = form("text", **about(id="m1", mid="", state=None))
    assert line.keys() == ALL | {"id"}


@pytest.mark.parametrize(("name", "known"), [("smsq.send_sms", {"id"}), ("smsq.send_batch", set())])
def test_of_what_celery_adds_only_a_messages_id_is_shown(name: str, known: set[str]) -> None:
    data = {"name": name, "id": "m1", "args": f"('{PHONE}',)", "kwargs": CODE, "return_value": 1}
    assert form("Task done", data=data).keys() == ALL | known


def test_a_wake_up_that_could_not_be_acknowledged_is_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    celery_logs.add_filters()
    gone = OSError("the connection is gone")
    # As kombu tells it, for each that a worker had when its connection broke.
    request_log = logging.getLogger("celery.worker.request")
    request_log.critical("Couldn't ack %r, reason:%r", "a tag", gone, exc_info=gone)
    (record,) = caplog.records
    assert (record.levelname, record.exc_info) == ("WARNING", None)


@pytest.mark.parametrize(
    ("error", "is_short"),
    [(redis.ReadOnlyError("no writes"), True), (OSError(28, "No space left on device"), False)],
)
def test_a_lost_connection_is_one_line_where_redis_says_why(
    caplog: pytest.LogCaptureFixture, error: Exception, is_short: bool
) -> None:
    celery_logs.add_filters()
    consumer_log = logging.getLogger("celery.worker.consumer.consumer")
    consumer_log.warning(consumer.CONNECTION_RETRY, exc_info=error)
    (record,) = caplog.records
    assert (record.exc_info is None) is is_short
    assert record.getMessage().endswith("(no writes)") is is_short


def test_celerys_advice_on_a_setting_that_is_made_is_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    celery_logs.add_filters()
    logging.getLogger("py.warnings").warning("%s", consumer.CANCEL_TASKS_BY_DEFAULT)
    logging.getLogger("py.warnings").warning("another")
    assert [record.getMessage() for record in caplog.records] == ["another"]
