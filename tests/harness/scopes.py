"""Scopes of pauses, as the ledger writes them."""

from __future__ import annotations

from smsq_worker.domain.scopes import Scope


def template_scope(name: str, account: str = "") -> str:
    """Return the scope of a template's pause, at the account with this key."""
    return str(Scope("template", account, name))
