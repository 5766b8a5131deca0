"""What the ledger counts of each account at one moment."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from smsq import keys
from smsq.connection import Client, mapped_errors
from smsq_worker.config.rules import Rules
from smsq_worker.ledger.accounts import in_flight, outstanding


@dataclass(frozen=True, slots=True)
class AccountCounts:
    """How an account stands."""

    in_flight: int
    """Attempts under way."""
    awaiting_reports: int
    """Messages that it accepted, and of which no final report has come."""
    refusals: int
    """In a row, the last one of them the last answer."""


def read_counts(client: Client, rules: Rules, accounts: Iterable[str]) -> dict[str, AccountCounts]:
    """Return the counts of accounts, by their keys. Raises LedgerUnavailable."""
    wanted = [*accounts]
    flying, both = in_flight(client, rules), outstanding(client, rules)
    with mapped_errors(rules.url), client.pipeline(transaction=False) as pipe:
        for one in wanted:
            pipe.hget(keys.at_account(keys.HEALTH, one), "refusals")
        in_a_row = pipe.execute()
    return {
        one: AccountCounts(
            flying.get(one, 0),
            max(0, both.get(one, 0) - flying.get(one, 0)),
            max(0, int(refusals or 0)),
        )
        for one, refusals in zip(wanted, in_a_row, strict=True)
    }
