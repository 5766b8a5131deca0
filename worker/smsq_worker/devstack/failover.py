"""The demo's last scene: an account goes down, and its messages go over another."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import requests

import smsq
from smsq.contract import FINAL, State
from smsq_worker.devstack.up import Plan
from smsq_worker.infra.ports import free_port

MAIN: Final = "main"
BACKUP: Final = "backup"
TEMPLATE: Final = "SMS_2001"
"""The only one that has two accounts: whatever else the demo sends, fails or not, is of one."""
MESSAGES: Final = 10
DEADLINE_S: Final = 60.0
"""Only reached on a fault."""
_POLL_S: Final = 0.1

_FILE: Final = """\
[accounts.main]
was_default = true
url = "http://127.0.0.1:{main}/"

[accounts.backup]
url = "http://127.0.0.1:{backup}/"
secret = "{secret}"
report_token = "{token}"
rate_per_s = 200

[[routes]]
template = "{template}"
accounts = ["main", "backup"]

[[routes]]
accounts = ["main"]
"""


@dataclass(frozen=True, slots=True)
class Failover:
    """What became of the messages that were sent while the first account was down."""

    statuses: Sequence[smsq.Status]
    accepted: Mapping[str, int]
    """How many calls each account accepted meanwhile."""

    @property
    def delivered(self) -> int:
        """How many were delivered, and not over the account that was down."""
        return sum(
            State(one.state) is State.DELIVERED and one.attempts[-1].account == BACKUP
            for one in self.statuses
        )

    @property
    def is_right(self) -> bool:
        """Whether each came once, over the account that was up."""
        return self.delivered == MESSAGES and self.accepted == {MAIN: 0, BACKUP: MESSAGES}

    @property
    def slowest_s(self) -> float:
        """The longest time from `delay()` to the acceptance."""
        return max(
            (
                (one.accepted_at - one.enqueued_at).total_seconds()
                for one in self.statuses
                if one.accepted_at
            ),
            default=0.0,
        )


def write_accounts(file: Path) -> None:
    """Write a file of two accounts with free ports of this machine."""
    file.touch(mode=0o600)
    file.write_text(
        _FILE.format(
            main=free_port(),
            backup=free_port(),
            secret=secrets.token_urlsafe(24),
            token=secrets.token_urlsafe(24),
            template=TEMPLATE,
        ),
        encoding="utf-8",
    )


def run_failover(plan: Plan, check: Callable[[], None]) -> Failover:
    """Take the first account down, send messages, and follow them to their end."""
    before = _accepted(plan)
    _switch(plan, MAIN, "down")
    ids = [
        smsq.send_sms.delay(f"1390000{8000 + n}", TEMPLATE, "482913", lane="otp").id
        for n in range(MESSAGES)
    ]
    deadline = time.monotonic() + DEADLINE_S
    while True:
        check()
        found = [status for one in ids if (status := smsq.status(one)) is not None]
        if all(one.state in FINAL for one in found) or time.monotonic() > deadline:
            break
        time.sleep(_POLL_S)
    now = _accepted(plan)
    _switch(plan, MAIN, "normal")
    return Failover(found, {name: now[name] - n for name, n in before.items()})


def _accepted(plan: Plan) -> dict[str, int]:
    told = _ask(plan, "GET", "")
    return {name: one["accepted"] for name, one in told.items()}


def _switch(plan: Plan, account: str, mood: str) -> None:
    _ask(plan, "POST", f"/{account}/{mood}")


def _ask(plan: Plan, method: str, path: str) -> Any:
    with requests.Session() as session:
        session.trust_env = False  # A proxy would look for this machine elsewhere.
        told = session.request(method, f"{plan.sandbox_url}sandbox/accounts{path}", timeout=10)
        told.raise_for_status()
        return told.json()
