"""What is asked of the bench."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """How long and how large."""

    seconds: float = 30.0
    """The length of a measurement; an outage and the otp's minute are twice as long."""
    workers: tuple[int, ...] = (1, 2, 4, 8)
    rates: tuple[int, ...] = (20, 200)
    backlog: int = 20_000
    """Bulk messages before the otp; half as many for the wrong secret."""
