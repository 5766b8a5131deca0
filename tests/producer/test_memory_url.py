"""SMSQ_REDIS_URL=memory://: a dev server's ledger, which logs what it would send."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from celery import shared_task

from harness.cli import run
from harness.waiting import eventually
from smsq import SettingsError, ledgers, send_sms, status
from smsq.memory import Rules
from smsq.memory.dev_server import WHAT_IT_IS, DevLedger
from smsq.settings import ProducerSettings
from smsq_worker.config.settings import Settings

PHONE = "13800138000"


@pytest.fixture
def dev() -> Iterator[DevLedger]:
    dev = DevLedger(show_codes=False)
    with ledgers.replaced_by(dev):
        yield dev


def sent(**options: Any) -> str:
    return str(send_sms.delay(PHONE, "SMS_1001", "482913", **options).id)


def state(message_id: str) -> str:
    found = status(message_id)
    assert found is not None
    return found.state


def test_a_message_is_delivered_after_a_moment(dev: DevLedger) -> None:
    message_id = sent()
    assert state(message_id) == "queued"
    dev.clock.advance(1)
    found = status(message_id)
    assert found is not None
    assert (found.state, found.stat, len(found.attempts)) == ("delivered", "DELIVRD", 1)


def test_a_message_for_later_is_delivered_then(dev: DevLedger) -> None:
    message_id = sent(send_at=datetime.now(UTC) + timedelta(hours=1))
    dev.clock.advance(3500)
    assert state(message_id) == "deferred"
    dev.clock.advance(102)
    assert state(message_id) == "delivered"


def test_it_logs_what_it_is_and_each_message_without_number_and_code(
    caplog: pytest.LogCaptureFixture,
) -> None:
    dev = DevLedger(show_codes=False)
    with ledgers.replaced_by(dev):
        first = sent(lane="otp", key="k")
        assert send_sms.delay(PHONE, "SMS_1001", key="k").duplicate_of == first
        send_sms.apply_async((PHONE, "SMS_1001"), task_id=first)
    told = [record.getMessage() for record in caplog.records]
    assert told[0] == WHAT_IT_IS
    hidden = "code hidden: SMSQ_SHOW_CODES=1 shows it"
    assert told[1] == f"memory:// queued SMS_1001 to 138****8000 on lane otp, {hidden} ({first})"
    assert told[2].startswith(
        "memory:// duplicate SMS_1001 to 138****8000 on lane notice, code none"
    )
    assert len(told) == 3
    assert not any(secret in str(told) for secret in (PHONE, "482913"))


def test_the_code_is_shown_to_those_who_ask_for_it(caplog: pytest.LogCaptureFixture) -> None:
    with ledgers.replaced_by(DevLedger(show_codes=True)):
        sent()
    assert "to 138****8000 on lane notice, code 482913 (" in caplog.text


def test_the_limits_hold_and_what_they_stop_is_logged(
    dev: DevLedger, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = sent(lane="otp"), sent(lane="otp")
    dev.clock.advance(1)
    assert [state(first), state(second)] == ["delivered", "failed"]
    assert f"memory:// {second} is failed: local:frequency" in caplog.text


def test_messages_are_sent_at_their_time_though_nobody_asks(dev: DevLedger) -> None:
    first = sent(lane="otp")
    dev.clock.advance(70)
    second = sent(lane="otp")  # a minute later is not too frequent
    dev.clock.advance(400)  # longer than the ttl
    assert [state(first), state(second)] == ["delivered", "delivered"]


def test_it_never_fills_up_with_messages_that_nobody_asks_for(dev: DevLedger) -> None:
    dev.rules = dev._book.rules = Rules(at_most=3)
    for _ in range(10):
        message_id = sent()
        dev.clock.advance(2)
    assert state(message_id) == "delivered"
    assert (len(dev._book.messages), len(dev._due)) == (3, 0)


def test_a_notify_task_is_called_in_time_though_nobody_asks(dev: DevLedger) -> None:
    told: list[dict[str, Any]] = []
    name = f"dev.done_{uuid4().hex}"

    @shared_task(name=name)
    def done(outcome: dict[str, Any]) -> None:
        told.append(outcome)

    first = sent(notify=name)
    second = sent(notify="dev.unheard_of")
    dev.clock.advance(1)
    eventually(lambda: bool(told))
    assert [(one["id"], one["state"]) for one in told] == [(first, "delivered")]
    eventually(lambda: dev._thread is None)
    assert state(second) == "delivered"


def test_what_a_task_raises_is_logged_without_its_text(
    dev: DevLedger, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"dev.bug_{uuid4().hex}"

    @shared_task(name=name)
    def bug(outcome: dict[str, Any]) -> None:
        raise ZeroDivisionError(PHONE)

    message_id = sent(notify=name)
    dev.clock.advance(1)
    eventually(lambda: f"memory:// {message_id}: its notify task: ZeroDivisionError" in caplog.text)
    eventually(lambda: dev._thread is None)
    assert PHONE not in caplog.text


# --- as a process meets it ----------------------------------------------------------------------

SERVER = """
import os, sys
from smsq import send_sms, status

result = send_sms.delay("13800138000", "SMS_1001", "482913")
print(status(result.id).state, flush=True)
if pid := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(status(result.id), status(send_sms.delay("13800138000", "SMS_1001").id).state)
"""


def test_a_dev_server_needs_a_setting_and_nothing_else(base_environ: Mapping[str, str]) -> None:
    environ = {k: v for k, v in base_environ.items() if not k.startswith("SMSQ_")}
    environ |= {"SMSQ_REDIS_URL": "memory://", "SMSQ_SHOW_CODES": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SERVER],
        env=environ,
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    # A child has a ledger of its own.
    assert done.stdout.splitlines() == ["queued", "None queued"]
    assert done.stderr.count(WHAT_IT_IS) == 2
    assert "code 482913" in done.stderr


def test_only_a_producer_takes_it(environ: dict[str, str]) -> None:
    environ["SMSQ_REDIS_URL"] = "memory://"
    assert ProducerSettings.load(environ).redis_url == "memory://"
    with pytest.raises(SettingsError, match="SMSQ_REDIS_URL: memory:// is for a backend's own"):
        Settings.load(environ)
    environ |= {"SMSQ_REDIS_URL": "redis://127.0.0.1:6379/0", "SMSQ_BROKER_URL": "memory://"}
    with pytest.raises(SettingsError, match="SMSQ_BROKER_URL"):
        ProducerSettings.load(environ)


@pytest.mark.parametrize(
    "words", ["worker", "serve", "status", "doctor", "held", f"send {PHONE} SMS_1001"]
)
def test_nothing_that_runs_serves_it(words: str, environ: dict[str, str]) -> None:
    done = run(environ | {"SMSQ_REDIS_URL": "memory://"}, *words.split())
    assert done.returncode != 0
    assert "SMSQ_REDIS_URL: memory:// is for a backend's own process" in done.stderr


def test_a_key_is_kept_as_long_as_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "_in_memory", [])
    monkeypatch.setattr(ledgers.app, "settings", ProducerSettings(redo_s=2 * 86_400))
    dev = ledgers._of_this_process()
    assert isinstance(dev, DevLedger)
    with ledgers.replaced_by(dev):
        first = sent(key="k")
        dev.clock.advance(2 * 86_400 - 60)
        assert send_sms.delay(PHONE, "SMS_1001", "482913", key="k").duplicate_of == first
        dev.clock.advance(120)
        assert send_sms.delay(PHONE, "SMS_1001", "482913", key="k").duplicate_of is None
