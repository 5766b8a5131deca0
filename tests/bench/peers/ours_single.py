"""smsq, message by message."""

from __future__ import annotations

from collections.abc import Iterable

from bench.peers.vendor import CODE, TEMPLATE
from smsq import send_sms

WORKER = ("smsq_worker", "worker", "--loglevel", "info")
"""As the files in ops/ and `smsq up` start it."""


def enqueue(phones: Iterable[str], **options: str) -> None:
    """Enqueue one message per number, each with an idempotency key."""
    for phone in phones:
        send_sms.delay(phone, TEMPLATE, CODE, key=f"login-{phone}", **options)
