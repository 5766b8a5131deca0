"""What a pause is about, as the ledger writes it: "account", "breaker@NAME", "template@NAME:T"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from smsq_worker.domain.accounts import Account


class Scope(NamedTuple):
    """An account, the breaker of one, or a template at one."""

    kind: str
    """account, breaker or template."""
    account: str = ""
    """Its key, or its name where people read it."""
    template: str = ""

    def __str__(self) -> str:
        head = f"{self.kind}@{self.account}" if self.account else self.kind
        return f"{head}:{self.template}" if self.kind == "template" else head

    @property
    def stops_all(self) -> bool:
        """Whether nothing of the account is sent."""
        return self.kind != "template"


def read_scope(text: str) -> Scope:
    """Return a scope as it is written."""
    head, _, template = text.partition(":")
    kind, _, account = head.partition("@")
    return Scope(kind, account, template)


def name_of(key: str, accounts: Sequence[Account]) -> str:
    """Return the name of an account as people read it; "" of the only one that there is.

    One that no file names any more is shown by its key.
    """
    return next((one.name for one in accounts if one.key == key), key)


def spoken(text: str, accounts: Sequence[Account]) -> str:
    """Return a scope with the name of its account, where a file gives it one."""
    scope = read_scope(text)
    return str(scope._replace(account=name_of(scope.account, accounts)))


def scopes_at(account: str, template: str) -> tuple[str, str, str]:
    """Return the scopes of what stops a template at an account, by its key."""
    return (
        str(Scope("account", account)),
        str(Scope("breaker", account)),
        str(Scope("template", account, template)),
    )
