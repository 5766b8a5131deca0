"""What an operator reads and sets for all workers: rate, pauses, how many messages are live."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from smsq import keys
from smsq_worker.domain.scopes import spoken
from smsq_worker.infra.memory import used_and_limit
from smsq_worker.ledger.accounts import AccountCounts, known, read_counts
from smsq_worker.ledger.backlog import lag_s
from smsq_worker.ledger.campaigns import unswept
from smsq_worker.ledger.suppressed import SuppressionActs
from smsq_worker.ledger.timestamps import at

ACCOUNT: Final = "account"
BREAKER: Final = "breaker"
# With `tat`: the next slot at a very low rate may be hours away.
_OF_THE_RATE_BEFORE: Final = ("slow", "slow_at", "tat")


@dataclass(frozen=True, slots=True)
class Rate:
    """Attempts a second for all workers together."""

    limit: float
    burst: int
    now: float
    """Less than the limit while the gateway wants fewer; it comes back step by step."""
    back_at: datetime | None
    """When it will be at the limit again, if the gateway is content; None where it is now."""
    by_operator: bool
    """Whether it was set at run time; otherwise the settings say it."""
    of_workers: tuple[tuple[float, int], ...] = ()
    """Two limits with their bursts, where settings of workers that run now differ; else ()."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Why nothing is sent, for the account, during an outage, or of one template."""

    scope: str
    """account, breaker, or template:<name>; of an account with a key see domain/scopes.py."""
    cause: str
    """operator, report, refusals or outage."""
    detail: str
    since: datetime
    probe_at: datetime | None
    """When the next message may find out whether it is over; None where an operator decides."""
    lanes: tuple[str, ...] = ()
    """Of a template, which of its lanes are stopped; () is all."""
    probes: bool = False
    """Whether a message may go now that finds out whether it is over."""
    spoken: str = ""
    """The scope with the name of its account, where a file gives it one; "" if that is `scope`."""

    def stops(self, lane: str) -> bool:
        """Return whether messages of a lane wait for its end."""
        return not self.lanes or lane in self.lanes


class Control(SuppressionActs):
    """The switches. Every method raises LedgerUnavailable where Redis fails.

    `act` is an operator's, from `smsq.audit`, to be noted with its effect.
    """

    def rate(self, account: str = "") -> Rate:
        """Read the rate as it is now, of the account with this key."""
        found, _ = self._run_plain("read_rate", account)
        _, limit, burst, now, by_operator, back_ms, *differing = found
        pairs = zip(map(float, differing[::2]), map(int, map(float, differing[1::2])), strict=True)
        return Rate(
            limit=float(limit),
            burst=int(float(burst)),
            now=float(now),
            back_at=at(back_ms) if back_ms else None,
            by_operator=bool(by_operator),
            of_workers=tuple(sorted(pairs)),
        )

    def set_rate(self, limit: float, burst: int, act: str = "", account: str = "") -> None:
        """Set the rate of all workers from now on, and forget what the gateway wanted."""
        fields = ("limit", f"{limit:.17g}", "burst", burst)
        self._keep_rate(account, act, len(fields), *fields, *_OF_THE_RATE_BEFORE)

    def reset_rate(self, act: str = "", account: str = "") -> None:
        """Return to what the settings say."""
        self._keep_rate(account, act, 0, "limit", "burst", *_OF_THE_RATE_BEFORE)

    def _keep_rate(self, account: str, *args: str | float) -> None:
        self._run_plain("keep", *args, keys=[keys.at_account(keys.RATE, account)])

    def pause(self, scope: str, detail: str, act: str = "") -> bool:
        """Pause until `resume`; False where an operator has done so before."""
        return bool(self._run_plain("pause", "pause", scope, detail, act)[0])

    def resume(self, scope: str, why: str, act: str = "") -> bool:
        """End a pause, whatever its cause; False where there is none."""
        return bool(self._run_plain("pause", "resume", scope, why, act)[0])

    def pauses(self) -> list[Pause]:
        """List the pauses, the oldest first."""
        found: Any = self._ask(self._client.hgetall, keys.PAUSES)
        pauses = [
            _pause(scope, text, spoken(scope, self._rules.accounts))
            for scope, text in found.items()
        ]
        return sorted(pauses, key=lambda pause: pause.since)

    def account_keys(self) -> list[str]:
        """List the accounts that were used beside the first, by their keys."""
        return known(self._client, self._rules.url)

    def account_counts(self, accounts: Iterable[str]) -> dict[str, AccountCounts]:
        """Read what is counted of accounts, by their keys."""
        return read_counts(self._client, self._rules, accounts)

    def live(self) -> dict[str, int]:
        """Count live messages, by "<lane>:<state>"."""
        found: Any = self._ask(self._client.hgetall, keys.LIVE)
        behind = self._ask(unswept, self._client)
        # Those that were live before they were counted make it negative.
        return {str(name): max(0, int(n) + behind[name]) for name, n in found.items()}

    def lag_s(self) -> float:
        """Return for how long the most overdue timer has been due."""
        return self._ask(lag_s, self._client)

    def memory(self) -> tuple[int, int] | None:
        """Return the ledger's memory and its limit in bytes, 0 for none; None without INFO."""
        return self._ask(used_and_limit, self._client)


def _pause(scope: str, text: str, spoken: str) -> Pause:
    try:
        found = json.loads(text)
        return Pause(
            scope=scope,
            cause=found["cause"],
            detail=found["detail"],
            since=at(found["since"]),
            probe_at=None if found["cause"] == "operator" else at(found["probe_at"]),
            lanes=tuple(found.get("lanes", ())),
            probes="permit" in found,
            spoken=spoken,
        )
    except (ValueError, KeyError, TypeError, OverflowError):
        # Workers stop for it, too: see lua/shared/pauses.lua.
        why, now = "its entry is malformed", datetime.now(UTC)
        return Pause(scope, "operator", why, now, None, spoken=spoken)
