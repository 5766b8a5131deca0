"""What the ledger counts of each account at one moment."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from smsq import keys
from smsq.connection import Client, mapped_errors
from smsq.contract import State


@dataclass(frozen=True, slots=True)
class AccountCounts:
    """How an account stands."""

    in_flight: int
    """Attempts under way."""
    awaiting_reports: int
    """Messages that it accepted, and of which no final report has come."""
    refusals: int
    """In a row, the last one of them the last answer."""


def account_keys(client: Client, url: str) -> list[str]:
    """Return the keys of the accounts that were used, but "". Raises LedgerUnavailable."""
    with mapped_errors(url):
        found: Any = client.smembers(keys.ACCOUNTS)
    return sorted(map(str, found))


def read_counts(client: Client, url: str, accounts: Iterable[str]) -> dict[str, AccountCounts]:
    """Return the counts of accounts, by their keys. Raises LedgerUnavailable."""
    wanted = [*accounts]
    others = sorted({*account_keys(client, url), *wanted} - {""})
    with mapped_errors(url), client.pipeline() as pipe:
        pipe.hgetall(keys.LIVE)
        for one in others:
            pipe.hgetall(keys.at_account(keys.LIVE, one))
        for one in wanted:
            pipe.hget(keys.at_account(keys.HEALTH, one), "refusals")
        live, *found = pipe.execute()
    by_key = dict(zip(others, found[: len(others)], strict=True))
    refusals = found[len(others) :]

    def count(account: str, state: State) -> int:
        if account:
            return max(0, int(by_key[account].get(state, 0)))
        # All of them together, whichever lane; what is not another's is that of the first.
        total = sum(int(n) for name, n in live.items() if name.partition(":")[2] == state)
        return max(0, total - sum(int(one.get(state, 0)) for one in by_key.values()))

    return {
        one: AccountCounts(
            count(one, State.SENDING), count(one, State.ACCEPTED), max(0, int(in_a_row or 0))
        )
        for one, in_a_row in zip(wanted, refusals, strict=True)
    }
