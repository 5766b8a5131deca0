"""Several accounts at gateways, as the ledger knows them: by their keys, see domain/accounts.py."""

from __future__ import annotations

from typing import Any

from redis.exceptions import NoPermissionError

from smsq import keys
from smsq.connection import Client, mapped_errors
from smsq_worker.config.rules import Rules
from smsq_worker.ledger import migrations
from smsq_worker.ledger.scripts import WITH_ACCOUNTS

_UNDER_WAY = ("sending", "accepted")


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
    with mapped_errors(url):
        try:
            found: Any = client.smembers(keys.ACCOUNTS)
        except NoPermissionError:  # of an ACL that was made for an older release
            return []
    return sorted(found)


def outstanding(client: Client, rules: Rules) -> dict[str, int]:
    """Count by account, by its key, the messages in flight or waiting for a report there.

    Those are of the ledger, whether the settings name their account or not; "" is always among
    them. Counters, so it costs the same on any ledger. Raises LedgerUnavailable.
    """
    accounts = known(client, rules.url)
    with mapped_errors(rules.url), client.pipeline() as pipe:
        pipe.hgetall(keys.LIVE)
        for account in accounts:
            pipe.hmget(keys.at_account(keys.LIVE, account), _UNDER_WAY)
        live, *each = pipe.execute()
    total = sum(int(n) for name, n in live.items() if name.endswith(_UNDER_WAY))
    counts = {
        account: max(0, sum(int(n or 0) for n in found))
        for account, found in zip(accounts, each, strict=True)
    }
    return {"": max(0, total - sum(counts.values()))} | counts


def in_flight(client: Client, rules: Rules) -> dict[str, int]:
    """Count by account, by its key, the attempts under way. Raises LedgerUnavailable."""
    accounts = known(client, rules.url)
    with mapped_errors(rules.url), client.pipeline() as pipe:
        pipe.hgetall(keys.LIVE)
        for account in accounts:
            pipe.hget(keys.at_account(keys.LIVE, account), "sending")
        live, *each = pipe.execute()
    total = sum(int(n) for name, n in live.items() if name.endswith(":sending"))
    counts = {name: max(0, int(n or 0)) for name, n in zip(accounts, each, strict=True)}
    return {"": max(0, total - sum(counts.values()))} | counts
