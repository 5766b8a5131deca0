"""Servers' certificates of an authority that only tests know."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta

import trustme


def certified(authority: trustme.CA, name: str = "127.0.0.1", days: float = 90) -> ssl.SSLContext:
    """Return a server's side of TLS whose certificate ends in some days."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    now = datetime.now(UTC)
    leaf = authority.issue_cert(
        name, not_before=now - timedelta(days=100), not_after=now + timedelta(days=days)
    )
    leaf.configure_cert(context)
    return context
