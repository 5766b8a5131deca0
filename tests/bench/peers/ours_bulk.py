"""smsq, a campaign."""

from __future__ import annotations

from collections.abc import Iterable

from bench.peers.vendor import CODE, TEMPLATE
from smsq import send_many

WORKER = ("smsq_worker", "worker")


def enqueue(phones: Iterable[str]) -> None:
    """Enqueue all numbers."""
    send_many({"phone": phone, "template": TEMPLATE, "code": CODE} for phone in phones)
