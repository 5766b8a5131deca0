"""Whether every account is there whose messages are under way."""

from __future__ import annotations

from smsq.connection import Client
from smsq.errors import SettingsError
from smsq_worker.config.rules import Rules
from smsq_worker.ledger.accounts import outstanding


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
