"""A worker, and a Flower that watches it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from celery import Celery

import smsq
from harness.credentials import RELAY, SECRET, TOKEN
from harness.sandboxes import serving
from harness.waiting import eventually
from smsq.publishing import publish_reports
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
REFUSED_PHONE = "13912344400"
DEFERRED_PHONE = "13912344500"
MID = "0123456789ABCDEF"
# What nobody may see, by a name for the failure's text.
HIDDEN = {
    "the phone": PHONE,
    "the slow phone": SLOW_PHONE,
    "the refused phone": REFUSED_PHONE,
    "the deferred phone": DEFERRED_PHONE,
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


@contextmanager
def watched(base_environ: Mapping[str, str], logs: Path) -> Iterator[Running]:
    """Run both, and send messages of all kinds."""
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
    with serving(gateway) as sandbox, foreign, of_old:
        environ = quiet(
            base_environ,
            SMSQ_REDIS_URL=redis_url,
            SMSQ_GATEWAY_URL=f"{sandbox.url}/",
            SMSQ_FLOWER_BIND=f"0.0.0.0:{port}",
            FLOWER_BASIC_AUTH=":".join(AUTH),
            # What is deferred stays so.
            SMSQ_RETRY_FIRST_S="3600",
            SMSQ_RETRY_MAX_S="3600",
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
    ours |= {
        f"ours, {what}": smsq.send_sms.delay(phone, TEMPLATE, CODE).id
        for what, phone in {"refused": REFUSED_PHONE, "deferred": DEFERRED_PHONE}.items()
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
    publish_reports(smsq.send_sms.app, [(MID, "DELIVRD")])
    # Whoever knows the URL can invent a report.
    publish_reports(smsq.send_sms.app, [(PHONE, "DELIVRD")])
    publish_reports(smsq.send_sms.app, [(MID, "DELIVRD"), (MID, "EXPIRED")])
    ends = {"SUCCESS", "FAILURE", "RETRY"}
    eventually(lambda: all(one.tasks().get(each, {}).get("state") in ends for each in one.sent))


def sees_tasks(one: Running) -> bool:
    """Tell whether Flower has asked the worker for events; it does so every five seconds."""
    one.send_bare()
    return bool(one.tasks())
