"""The modules that pass a message on, from the broker's delivery to the recorded attempt."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import pytest
import redis
from kombu import Connection

import smsq
from harness.paths import ROOT
from harness.vendor_server import VendorServer
from harness.waiting import becomes
from smsq import connection
from smsq.contract import SEND_SMS
from smsq_worker.celery_worker.app import WorkerApp
from smsq_worker.celery_worker.gathering import strategy
from smsq_worker.celery_worker.tasks import register
from smsq_worker.celery_worker.transport import Transport
from smsq_worker.infra import adapter
from smsq_worker.sending.attempts import Attempts
from smsq_worker.sending.lane import LaneQueue

HAND_OVERS = {LaneQueue.put.__code__, Attempts.begin.__code__}
"""From a thread to another."""
CLIENTS = {connection.__name__, adapter.__name__}


@contextmanager
def traced() -> Iterator[set[str]]:
    """Give the modules that have a call under way when a message changes hands, in new threads.

    What a client is made of does not count.
    """
    found: set[str] = set()

    def note(frame: FrameType, event: str, called: Any) -> None:
        of = getattr(called, "__self__", None)
        is_sent = event == "c_call" and called.__name__ == "send" and isinstance(of, socket.socket)
        if not is_sent and not (event == "call" and frame.f_code in HAND_OVERS):
            return
        names: list[str] = []
        at: FrameType | None = frame
        while at:
            names.append(at.f_globals["__name__"])
            at = at.f_back
        for name in reversed(names):
            found.update({name} if name.startswith("smsq") else ())
            if name in CLIENTS:
                break

    threading.setprofile(note)
    try:
        yield found
    finally:
        threading.setprofile(None)


def deliver(app: WorkerApp, url: str) -> None:
    """Take a wake-up as Celery's consumer does."""
    consumer = SimpleNamespace(
        hostname="celery@here",
        connection_errors=(),
        event_dispatcher=None,
        on_task_request=lambda request: request.execute_using_pool(None),
    )
    take = strategy(app.tasks[SEND_SMS], app, consumer)

    def on_message(message: Any) -> None:
        take(message, None, message.ack_log_error, message.reject_log_error, ())

    options = {"gate": app.gate}
    with Connection(url, transport=Transport, transport_options=options) as connection:
        queue = app.amqp.queues["sms.notice"]
        with connection.Consumer(queue, on_message=on_message, accept=["json"]):
            connection.drain_events(timeout=60)


def test_ten_modules_pass_a_message_on_and_the_docs_name_them(
    client: redis.Redis, environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message_id = smsq.send_sms.delay("13800138000", "SMS_1", "1").id
    with VendorServer() as vendor, traced() as found:
        monkeypatch.setenv("SMSQ_GATEWAY_URL", vendor.url)
        monkeypatch.setenv("SMSQ_HOME", str(tmp_path))
        app = WorkerApp("worker", set_as_current=False)
        register(app)
        app.runtime.check()
        taking = threading.Thread(target=deliver, args=(app, environ["SMSQ_REDIS_URL"]))
        taking.start()
        taking.join()
        becomes(message_id, "accepted")
        app.runtime.sender.stop()
        app.runtime.sender.wait_for_attempts()
        app.runtime.close()
    told = (ROOT / "docs/internals/walks.md").read_text()
    (named,) = re.findall(r"\*\*Ten modules pass a message on:\*\*(.+?)\n\n", told, re.DOTALL)
    modules = [f"smsq_worker/{name}" for name in re.findall(r"`(\S+)\.py`", named)]
    assert len(modules) == 10
    ours = {name.replace("smsq_worker/connection", "smsq/connection") for name in modules}
    assert {name.replace(".", "/") for name in found} == ours
