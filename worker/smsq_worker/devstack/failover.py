"""The demo's last scene: an account goes down, and its messages go over another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import requests

import smsq
from smsq.contract import State
from smsq_worker.devstack.demo import TEMPLATE, Sent, watch
from smsq_worker.devstack.up import Plan

MAIN: Final = "main"
BACKUP: Final = "backup"
MESSAGES: Final = 10


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


def run_failover(plan: Plan, check: Callable[[], None]) -> Failover:
    """Take the first account down, send messages, and follow them to their end."""
    before = _accepted(plan)
    _switch(plan, MAIN, "down")
    sent = []
    for digits in map(str, range(8000, 8000 + MESSAGES)):
        result = smsq.send_sms.delay(f"1390000{digits}", TEMPLATE, "482913", lane="otp")
        sent.append(Sent(result.id, digits, (State.DELIVERED, None)))
    seen = watch(sent, lambda _: None, check)
    now = _accepted(plan)
    _switch(plan, MAIN, "normal")
    return Failover([*seen.statuses.values()], {name: now[name] - n for name, n in before.items()})


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
