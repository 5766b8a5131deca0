"""smsq, a campaign."""

from __future__ import annotations

from collections.abc import Iterable

from bench.peers.vendor import CODE, TEMPLATE
from smsq import send_many

WORKER = ("smsq_worker", "worker", "--loglevel", "info")
"""As the files in ops/ and `smsq up` start it."""


def enqueue(phones: Iterable[str], **options: str) -> None:
    """Enqueue all numbers, each with an idempotency key."""
    rows = (
        {"phone": phone, "template": TEMPLATE, "code": CODE, "key": f"spring-{phone}"}
        for phone in phones
    )
    send_many(rows, **options)
