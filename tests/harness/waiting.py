"""Waiting for what is to happen, for messages and anything else."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import smsq

T = TypeVar("T")


def eventually(look: Callable[[], T], timeout_s: float = 90.0) -> T:
    """Look until there is something to see; fail after a time that only a fault reaches."""
    deadline = time.monotonic() + timeout_s
    while not (seen := look()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
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
