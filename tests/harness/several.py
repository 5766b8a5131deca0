"""A ledger with several accounts in a test's hands."""

from __future__ import annotations

from typing import Any

from harness.scene import Scene, mid_of
from smsq import keys
from smsq.contract import State
from smsq_worker.domain.accounts import qualified
from smsq_worker.domain.states import Outcome
from smsq_worker.ledger import AttemptResult, Report

A, B = "", "backup"
"""The keys: of the account that was there first, and of the one that came."""
ACCEPTED, REFUSED = Outcome.ACCEPTED, Outcome.REFUSED
NOT_SENT, MAYBE_SENT = Outcome.NOT_SENT, Outcome.MAYBE_SENT
UNCLEAR = "gateway:400 no"


class Several(Scene):
    """A ledger with several accounts."""

    def at(self, name: str = "m1") -> str:
        """Let a message go; give the account that takes it."""
        return self.admitted(name).account

    def ended(self, name: str, outcome: Outcome, **more: Any) -> State | None:
        """Record what the last attempt came to, as the process does that has it in hand."""
        n = int(self.field(name, "n") or 0)
        account = self.field(name, f"{n}:account") or ""
        mid = qualified(mid_of(name, n), account) if outcome is ACCEPTED else ""
        begun = int(self.field(name, f"{n}:at") or 0)
        more = {"detail": UNCLEAR, "mid": mid, "wait_s": 60.0, "in_hand": True} | more
        result = AttemptResult(name, n, outcome, account=account, begun=begun, **more)
        (state,) = self.ledger.record_many([result])
        return state

    def told(self, name: str, report: Report, *, attempt: int = 0) -> str:
        n = attempt or int(self.field(name, "n") or 0)
        account = self.field(name, f"{n}:account") or ""
        return self.report_on(qualified(mid_of(name, n), account), report)

    def attempts(self, name: str = "m1") -> list[tuple[str, str | None]]:
        return [(one.account or "", one.outcome) for one in self.status(name).attempts]

    def pause(self, account: str, scope: str = "account") -> None:
        assert self.control.pause(keys.at_account(scope, account), "test")
