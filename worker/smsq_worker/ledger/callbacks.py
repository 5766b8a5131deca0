"""Callbacks that wait to be dispatched: their endpoints, times and results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from smsq import keys
from smsq.connection import mapped_errors
from smsq.outcomes import callback_id, outcome_of
from smsq_worker.domain.code_spelling import normalise
from smsq_worker.ledger import timestamps
from smsq_worker.ledger.acts import Acts
from smsq_worker.ledger.campaigns import FINISHED, campaign_outcome

Result = Literal["told", "failed", "unreached", "refused", "hindered", "crowded"]
"""See lua/settle_callback.lua."""


CLAIMS_AT_MOST: Final = 20
"""How often it is asked for more where much waits for endpoints in backoff."""


@dataclass(frozen=True, slots=True)
class Callback:
    """What one endpoint is to be sent about a message that has ended."""

    name: str
    kind: str
    """task, returnurl or webhook."""
    failures: int
    """How often its endpoint has failed in a row."""
    tries: int
    """How often it was tried, with this time."""
    outcome: Mapping[str, Any] = field(repr=False)
    """Public: id, state, lane, reason, stat, ...; times are ISO 8601, in UTC."""
    notify: str | None = field(repr=False)
    return_url: str | None = field(repr=False)
    caller: str = field(repr=False)
    """Who sent its message through the relay; "" for anyone else."""
    trace: str | None = field(repr=False)
    """W3C traceparent of its message, where that is traced."""
    last_stat: str | None = None
    """The code last reported of the attempt that counts, of a message that ended as unreported."""

    @property
    def id(self) -> str:
        """Return its id: the same at each try, and for each of the message's endpoints."""
        return callback_id(self.outcome)


@dataclass(frozen=True, slots=True)
class Dead:
    """A callback that its endpoint did not accept for too long."""

    name: str
    given_up_at: datetime
    tries: int
    error: str


class Callbacks(Acts):
    """The acts on callbacks. Every method raises LedgerUnavailable where Redis fails."""

    def claim(self, at_most: int) -> list[str]:
        """Return the names of those that are due, and whose endpoints are in no backoff."""
        names = list[str]()
        for _ in range(CLAIMS_AT_MOST):
            room = at_most - len(names)
            more, *found = self._run("claim_callbacks", room, _ms(self._rules.notice_lease_s))
            names += found
            if not more:
                break
        return names

    def take(self, name: str) -> Callback | str:
        """Take one to dispatch it, or return why not: gone, copy, wait, or bad: set aside."""
        answer, *rest = self._run("take_callback", name, _ms(self._rules.notice_lease_s))
        if answer != "go":
            return str(answer)
        found = json.loads(rest[0])
        return Callback(
            name,
            kind=name.partition(":")[0],
            failures=int(rest[1]),
            tries=int(rest[2]),
            outcome=campaign_outcome(found) if found["state"] == FINISHED else _public(found),
            notify=found.get("notify"),
            return_url=found.get("returnurl"),
            last_stat=found.get("last"),
            caller=found.get("caller") or "",
            trace=found.get("trace"),
        )

    def settle(
        self, name: str, result: Result, *, error: str, wait_s: float, give_up_s: float
    ) -> str:
        """Record the result of its dispatch; return what follows: told, waits, dead or gone."""
        (answer,) = self._run("settle_callback", name, result, error, _ms(wait_s), _ms(give_up_s))
        return str(answer)

    def dead(self, at_most: int) -> list[Dead]:
        """List those given up, the oldest first."""
        with mapped_errors(self._rules.url):
            found: Any = self._client.zrange(keys.DEAD_NOTICES, 0, at_most - 1, withscores=True)
            with self._client.pipeline(transaction=False) as pipe:
                for name, _ in found:
                    kind, state, message_id = (*name.split(":", 2), "", "")[:3]
                    pipe.hmget(keys.callback(state, message_id), f"{kind}:tries", f"{kind}:error")
                details = pipe.execute()
        return [
            Dead(name, timestamps.at(since), _whole(tries), error or "")
            for (name, since), (tries, error) in zip(found, details, strict=True)
        ]

    def dead_names(self) -> list[str]:
        """Return the names of all that were given up, the oldest first."""
        names: Any = self._ask(self._client.zrange, keys.DEAD_NOTICES, 0, -1)
        return list(names)

    def revive(self, name: str, decision: Literal["replay", "drop"], act: str = "") -> bool:
        """Replay or drop one that was given up; return False where it is not among them.

        `act` is the operator's, from `smsq.audit`.
        """
        (done,) = self._run("revive_callback", name, decision, act)
        return bool(done)

    def counts(self) -> dict[str, int]:
        """Count those waiting and those dead."""
        waits = {"waiting": keys.NOTICES, "dead": keys.DEAD_NOTICES}
        return {name: self._ask(self._client.zcard, key) for name, key in waits.items()}


def _public(found: dict[str, Any]) -> dict[str, Any]:
    raw, stat = found.get("raw"), found.get("stat")
    # Release 0.2.0 notes another stat without it.
    return outcome_of(found, raw if raw and normalise(raw) == stat else stat)


def _whole(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
