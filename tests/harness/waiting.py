"""Waiting for what is to happen, for messages and anything else."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import smsq

T = TypeVar("T")

MOST_S = 0.08
"""Between two looks: many tests wait at once, and each look is work for a few processes."""


def eventually(look: Callable[[], T], timeout_s: float = 90.0) -> T:
    """Look until there is something to see; fail after a time that only a fault reaches."""
    deadline, pause_s = time.monotonic() + timeout_s, 0.01
    while not (seen := look()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(pause_s)
        pause_s = min(1.2 * pause_s, MOST_S)
    return seen


def known(message_id: str) -> smsq.Status:
    status = smsq.status(message_id)
    assert status is not None
    return status


def becomes(message_id: str, state: str, timeout_s: float = 90.0) -> smsq.Status:
    """Wait until a message has a state, and give its status."""
    try:
        eventually(lambda: (status := smsq.status(message_id)) and status.state == state, timeout_s)
    except AssertionError:
        raise AssertionError(f"expected {state}, got {smsq.status(message_id)}") from None
    return known(message_id)
