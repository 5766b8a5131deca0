"""Messages among three accounts on a real server, against a plain model, in any order of events.

The model keeps of each message its calls, who has refused it and where it did not arrive, and says
which account takes it next. What one account may do to a message is test_ledger_model's.

For a long run: SMSQ_MODEL_EXAMPLES=3000 pytest tests/ledger/test_accounts_model.py
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast

import pytest
import redis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from harness.model import compare, examples
from harness.scene import DELIVRD, Scene, stat
from smsq import keys
from smsq.contract import FINAL, Lane
from smsq_worker.config.settings import Settings
from smsq_worker.domain.accounts import Account, Route, qualified
from smsq_worker.domain.states import Outcome
from smsq_worker.ledger import Admitted, AttemptResult, Rejected, accounts

EXAMPLES: Final = examples(40)

KEYS: Final = ("", "b", "c")
ACCOUNTS: Final = tuple(Account(key or "main", key, 9000, 9000) for key in KEYS)
ROUTES: Final = (Route(("b", ""), lane=Lane.OTP), Route(KEYS))
CERTAIN: Final = frozenset({Outcome.REFUSED, Outcome.NOT_SENT})
NOT_FILED: Final = stat("MA:0024", "permanent", scope="template")
EMPTY_NUMBER: Final = stat("MK:0001", "permanent", scope="recipient")
BUDGET: Final = 2


@dataclass
class Call:
    account: str
    begun: int
    outcome: Outcome | None = None
    denied: bool = False
    """Its report said that it certainly did not arrive."""


@dataclass
class Modelled:
    lane: Lane
    hold: bool
    state: str = "queued"
    calls: list[Call] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    """By account, its reason."""
    unsent: set[str] = field(default_factory=set)
    resends: int = 0

    @property
    def route(self) -> tuple[str, ...]:
        return ROUTES[0 if self.lane is Lane.OTP else 1].accounts

    def untried(self) -> list[str]:
        return [a for a in self.route if a not in self.refused and a not in self.unsent]

    def last_doubt(self, account: str) -> int:
        return max(
            (
                n
                for n, one in enumerate(self.calls, 1)
                if one.account == account and one.outcome is Outcome.MAYBE_SENT
            ),
            default=0,
        )

    @property
    def is_known_accepted(self) -> bool:
        """Tell whether the last call that can have been sent was accepted, and not reported on."""
        sent = [call for call in self.calls if call.outcome not in CERTAIN]
        return bool(sent) and sent[-1].outcome is Outcome.ACCEPTED and not sent[-1].denied

    def perhaps_sent(self) -> int:
        return sum(call.outcome not in CERTAIN and not call.denied for call in self.calls)


names = st.sampled_from(["m1", "m2", "m3", "m4"])
some_accounts = st.sampled_from(KEYS)


class AccountsMachine(RuleBasedStateMachine):
    """Does everything to both, and compares them after every rule."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        super().__init__()
        client.flushall()
        self.client = client
        more: dict[str, Any] = {"phone_limits": (), "breaker": None, "max_resends": BUDGET}
        self.scene = Scene(client, settings, accounts=ACCOUNTS, routes=ROUTES, **more)
        accounts.introduce(client, self.scene.rules)
        self.messages: dict[str, Modelled] = {}
        self.paused: set[str] = set()
        self.duplicates = 0

    # What happens

    @rule(name=names, lane=st.sampled_from([Lane.OTP, Lane.BULK]), hold=st.booleans())
    def enter(self, name: str, lane: Lane, hold: bool) -> None:
        if name not in self.messages:
            self.scene.enter(name, lane=lane, on_ambiguous="hold" if hold else "resend")
            self.messages[name] = Modelled(lane, hold)

    @rule(account=some_accounts)
    def pause(self, account: str) -> None:
        self.scene.control.pause(keys.at_account("account", account), "test")
        self.paused.add(account)

    @rule(account=some_accounts)
    def resume(self, account: str) -> None:
        self.scene.control.resume(keys.at_account("account", account), "test")
        self.paused.discard(account)

    @rule(name=names)
    def admit(self, name: str) -> None:
        m = self.messages.get(name)
        if m is None:
            return
        answer = self.scene.admit(name)
        if m.state != "queued":
            assert answer == Rejected("copy", cast("Any", m.state))
            return
        if not m.untried():
            m.refused.clear()
            m.unsent.clear()
        usable = [one for one in m.untried() if one not in self.paused]
        is_again = bool(m.calls and m.calls[-1].outcome is Outcome.MAYBE_SENT)
        if is_again:
            usable.sort(key=m.last_doubt)
        if usable:
            assert isinstance(answer, Admitted)
            assert answer.account == usable[0]
            self.duplicates += is_again
            m.calls.append(Call(usable[0], answer.begun))
            m.state = "sending"
        elif self.paused.issuperset(KEYS):
            assert answer == Rejected("paused", None)
        else:
            assert isinstance(answer, Rejected)
            assert answer.why == "deferred"
            m.state = "deferred"
            m.unsent.clear()

    @rule(
        name=names,
        outcome=st.sampled_from(Outcome),
        scope=st.sampled_from(["", "", "account", "recipient"]),
        in_hand=st.booleans(),
    )
    def record(self, name: str, outcome: Outcome, scope: str, in_hand: bool) -> None:
        m = self.messages.get(name)
        if m is None or m.state != "sending":
            return
        n, call = len(m.calls), m.calls[-1]
        scope = scope if outcome is Outcome.REFUSED else ""
        self.record_call(name, n, outcome, scope, in_hand)
        call.outcome = outcome
        if m.is_known_accepted:
            m.state = "accepted"
        elif outcome is Outcome.MAYBE_SENT:
            self.doubt(m)
        elif scope == "recipient":
            m.state = "failed"
        else:
            self.untaken(m, call, f"gateway:{n}", "queued" if in_hand else "deferred")

    @rule(name=names, n=st.integers(1, 6), outcome=st.sampled_from(Outcome))
    def record_late(self, name: str, n: int, outcome: Outcome) -> None:
        """Record a call whose lease has run out; what follows is the ledger's, as ever."""
        m = self.messages.get(name)
        if m is None or n > len(m.calls) or m.calls[n - 1].outcome is not Outcome.MAYBE_SENT:
            return
        before, call = m.state, m.calls[n - 1]
        self.record_call(name, n, outcome, "", in_hand=False)
        call.outcome = outcome
        m.state = self.scene.state(name)
        m.resends = int(self.scene.field(name, "resends") or 0)
        if outcome in CERTAIN and before not in FINAL:
            is_refused = outcome is Outcome.REFUSED and call.account not in self.paused
            if is_refused:
                m.refused.setdefault(call.account, f"gateway:{n}")
            else:
                m.unsent.add(call.account)
            if self.scene.field(name, "unsent") is None:
                m.unsent.clear()

    @rule(name=names, report=st.sampled_from([DELIVRD, NOT_FILED, EMPTY_NUMBER]))
    def report(self, name: str, report: Any) -> None:
        m = self.messages.get(name)
        if m is None or m.state != "accepted" or m.calls[-1].outcome is not Outcome.ACCEPTED:
            return
        call = m.calls[-1]
        mid = qualified(f"MID-{name}-{len(m.calls)}", call.account)
        self.scene.report_on(mid, report)
        if report is DELIVRD:
            m.state = "delivered"
        elif report is EMPTY_NUMBER:
            m.state = "failed"
        else:
            call.denied = True
            m.refused.setdefault(call.account, "report:MA:0024")
            m.state = "deferred" if m.untried() else "failed"

    @rule(name=names)
    def run_out(self, name: str) -> None:
        """Let a timer run out: a lease, a wait, or the wait for a report."""
        m = self.messages.get(name)
        if m is None or self.client.zscore(keys.TIMERS, name) is None:
            return
        self.client.zadd(keys.TIMERS, {name: 1}, xx=True)
        self.client.zadd(keys.LEASES, {name: 1}, xx=True)
        for lane in (keys.OTP_TIMERS, keys.NOTICE_TIMERS):
            self.client.zadd(lane, {name: 1}, xx=True)
        self.client.hdel(keys.CLOCK, "slice")
        due = self.scene.ledger.claim(resend_wait_s=60.0, empty=[])
        woken = {one for one, _ in due.wake}
        assert name in woken or m.state != "deferred"
        # Others may be due as well: by a call that asks for another account, or a pause of 5 s.
        for one in woken - {name}:
            assert self.messages[one].state == "deferred"
            self.messages[one].state = "queued"
        if m.state == "sending":
            m.calls[-1].outcome = Outcome.MAYBE_SENT
            self.doubt(m)
        elif m.state == "accepted":
            m.state = "unreported"
        elif m.state == "deferred":
            m.state = "queued"

    # What follows

    def record_call(self, name: str, n: int, outcome: Outcome, scope: str, in_hand: bool) -> None:
        call = self.messages[name].calls[n - 1]
        mid = qualified(f"MID-{name}-{n}", call.account) if outcome is Outcome.ACCEPTED else ""
        result = AttemptResult(name, n, outcome, f"gateway:{n} no", mid, 60, begun=call.begun)
        result = replace(result, account=call.account, scope=scope, in_hand=in_hand)
        self.scene.ledger.record_many([result])
        # 20 in a row are another test's.
        for key in KEYS:
            self.client.hdel(keys.at_account(keys.HEALTH, key), "refusals")

    def doubt(self, m: Modelled) -> None:
        if m.hold:
            m.state = "held"
        elif m.resends >= BUDGET:
            m.state = "failed"
        else:
            m.resends += 1
            m.state = "deferred"

    def untaken(self, m: Modelled, call: Call, reason: str, next_state: str) -> None:
        is_refused = call.outcome is Outcome.REFUSED and call.account not in self.paused
        if is_refused:
            m.refused.setdefault(call.account, reason)
        else:
            m.unsent.add(call.account)
        if m.untried():
            m.state = next_state
        elif is_refused and not m.unsent:
            m.state = "failed"
        else:
            m.unsent.clear()
            m.state = "deferred"

    # What holds

    @invariant()
    def compare(self) -> None:
        at_accounts: Counter[str] = Counter()
        for name, m in self.messages.items():
            status = self.scene.status(name)
            assert status.state == m.state, name
            calls = [(one.account or "", one.outcome) for one in status.attempts]
            assert calls == [(one.account, one.outcome) for one in m.calls]
            if m.hold:
                assert m.perhaps_sent() <= 1  # over all accounts together
            if m.state in {"sending", "accepted"}:
                at_accounts[m.calls[-1].account] += 1
            if m.state not in FINAL:
                _, *refused = (self.scene.field(name, "refused") or "-").split()
                unsent = (self.scene.field(name, "unsent") or "").split()
                assert refused == [f"@{one}" for one in m.refused]
                assert sorted(unsent) == sorted(f"@{one}" for one in m.unsent)
                assert (self.client.zscore(keys.TIMERS, name) is None) is (m.state == "held")
            elif m.state == "failed" and m.refused and status.reason in m.refused.values():
                assert status.reason == next(iter(m.refused.values()))
        counted = accounts.outstanding(self.client, self.scene.rules)
        assert +Counter(counted) == +at_accounts
        found = self.scene.ledger.counters().get("possible_duplicates", 0)
        assert found == self.duplicates
        self.scene.check_live(*self.messages)


@pytest.mark.timeout(120 + EXAMPLES)
def test_accounts_do_what_the_model_does(base_environ: Mapping[str, str]) -> None:
    compare(AccountsMachine, base_environ, EXAMPLES)
