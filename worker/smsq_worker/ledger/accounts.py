"""Several accounts at gateways, as the ledger knows them: by their keys, see domain/accounts.py."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from smsq import keys
from smsq.connection import Client, mapped_errors
from smsq.contract import State
from smsq.errors import SettingsError
from smsq_worker.config.rules import Rules
from smsq_worker.ledger import migrations
from smsq_worker.ledger.reading import asked, if_allowed
from smsq_worker.ledger.scripts import WITH_ACCOUNTS

_NOW: Final = (State.SENDING, State.ACCEPTED)


@dataclass(frozen=True, slots=True)
class AccountCounts:
    """How an account stands."""

    in_flight: int
    """Attempts under way."""
    awaiting_reports: int
    """Messages that it accepted, and of which no final report has come."""
    refusals: int
    """In a row, the last one of them the last answer."""
    unanswered: int = 0
    """Attempts under way that began since its last answer."""
    booked_s: float = 0.0
    """For how long its slots are booked."""

    @property
    def outstanding(self) -> int:
        """Return how many messages something is yet to come of."""
        return self.in_flight + self.awaiting_reports


def introduce(client: Client, rules: Rules) -> None:
    """Note the accounts with a key, and shut out releases that would spoil what they send.

    To be done before anything is sent through one; where there is none, nothing is done. What waits
    for a template asks again, as there may be another account or route for it now. Raises
    LedgerUnavailable.
    """
    found = [account.key for account in rules.accounts if account.key]
    if not found:
        return
    migrations.require(client, rules, WITH_ACCOUNTS)
    with mapped_errors(rules.url):
        client.sadd(keys.ACCOUNTS, *found)
        paused: Any = client.hkeys(keys.PAUSES)
        templates = [scope.partition(":")[2] for scope in paused if scope.startswith("template")]
        if templates:
            client.sadd(keys.RELEASED, *templates)


def known(client: Client, url: str) -> list[str]:
    """Return the keys of all accounts that ever were in use here, sorted, but for "".

    Raises LedgerUnavailable.
    """
    return sorted(asked(url, if_allowed, client.smembers, keys.ACCOUNTS) or ())


def outstanding(client: Client, rules: Rules) -> dict[str, int]:
    """Count by account, by its key, the messages in flight or waiting for a report there.

    Those are of the ledger, whether the settings name their account or not; "" is always among
    them. Counters, so it costs the same on any ledger. Raises LedgerUnavailable.
    """
    return {account: max(0, sum(n)) for account, n in _under_way(client, rules).items()}


def read_counts(client: Client, rules: Rules, accounts: Iterable[str]) -> dict[str, AccountCounts]:
    """Return the counts of accounts, by their keys. Raises LedgerUnavailable."""
    wanted, under_way = [*accounts], _under_way(client, rules)
    with mapped_errors(rules.url), client.pipeline(transaction=False) as pipe:
        for one in wanted:
            pipe.hget(keys.at_account(keys.HEALTH, one), "refusals")
            pipe.hmget(keys.at_account(keys.RATE, one), "tat", "unanswered")
        pipe.time()
        *stored, (seconds, micros) = pipe.execute()
    now, found = int(seconds) + int(micros) / 1e6, {}
    for one, refusals, (tat, unanswered) in zip(wanted, stored[::2], stored[1::2], strict=True):
        sending, accepted = (max(0, n) for n in under_way.get(one, (0, 0)))
        # One that a report has settled meanwhile leaves its count behind, see breaker.lua.
        silent_on = min(sending, max(0, int(unanswered or 0)))
        booked_s = max(0.0, float(tat or 0) / 1e6 - now)
        found[one] = AccountCounts(
            sending, accepted, max(0, int(refusals or 0)), silent_on, booked_s
        )
    return found


def check(client: Client, rules: Rules) -> None:
    """Refuse settings without an account that messages are in flight at, or wait for a report of.

    Nobody could tell what such a report means. Raises SettingsError with a line for each such
    account, and LedgerUnavailable.
    """
    there = {one.key for one in rules.accounts} or {""}
    missing = {
        key: count
        for key, count in outstanding(client, rules).items()
        if count and key not in there
    }
    if missing:
        has_file = bool(rules.accounts)
        raise SettingsError([_line(key, n, has_file=has_file) for key, n in missing.items()])


def _line(key: str, count: int, *, has_file: bool) -> str:
    wait = (
        "1 message is in flight or waits for a report"
        if count == 1
        else f"{count} messages are in flight or wait for a report"
    )
    if not key:
        return (
            f"SMSQ_ACCOUNTS_FILE: {wait} at the account that was the only one; say which it is, "
            "by was_default = true"
        )
    what = "has no account" if has_file else "is not set, so there is no account"
    return (
        f"SMSQ_ACCOUNTS_FILE: {what} {key}, where {wait}; keep it in the file, without a route, "
        "until there are none"
    )


def _under_way(client: Client, rules: Rules) -> dict[str, tuple[int, int]]:
    """Return of each account how many messages are `sending`, and how many `accepted`."""
    accounts = known(client, rules.url)
    with mapped_errors(rules.url), client.pipeline() as pipe:
        pipe.hgetall(keys.LIVE)
        for account in accounts:
            pipe.hmget(keys.at_account(keys.LIVE, account), _NOW)
        live, *each = pipe.execute()
    found = {
        account: (int(sending or 0), int(accepted or 0))
        for account, (sending, accepted) in zip(accounts, each, strict=True)
    }
    # What is counted of the only account, or the first, is of all.
    of_all = (
        sum(int(n) for name, n in live.items() if name.endswith(f":{state}")) for state in _NOW
    )
    sending, accepted = (
        total - sum(max(0, one[n]) for one in found.values()) for n, total in enumerate(of_all)
    )
    return {"": (sending, accepted)} | found
