"""A broker that falls silent while a worker starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import smsq
from harness.machine import Machine
from harness.waiting import becomes

# As mingle, which connects by itself, where Redis falls silent right after the worker connected.
SILENT_ONCE = """
from celery import bootsteps
from kombu.exceptions import OperationalError
from smsq_worker.celery import app

class SilentOnce(bootsteps.StartStopStep):
    requires = ("celery.worker.consumer.mingle:Mingle",)
    starts = 0

    def start(self, parent):
        SilentOnce.starts += 1
        if SilentOnce.starts == 1:
            raise OperationalError("Timeout reading from socket")

app.steps["consumer"].add(SilentOnce)
"""


def test_a_worker_connects_again_after_kombus_own_error(host: Machine, tmp_path: Path) -> None:
    (tmp_path / "silent.py").write_text(SILENT_ONCE)
    command = [sys.executable, "-m", "celery", "-A", "silent", "worker", "--loglevel", "info"]
    with (tmp_path / "log").open("wb") as log:
        environ = host.environ | {"PYTHONPATH": str(tmp_path)}
        worker = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
    host.workers.append(worker)
    message_id = smsq.send_sms.delay("13800138000", "SMS_1001").id
    becomes(message_id, "accepted")
    assert worker.poll() is None
    told = (tmp_path / "log").read_text()
    assert told.count("Connection to broker lost") == 1
    assert "Traceback" not in told
