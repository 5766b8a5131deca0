"""Exponential backoff."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with jitter, so that what failed together is not retried together."""

    first_s: float
    max_s: float

    def wait_s(self, attempt: int) -> float:
        """Return the wait after an attempt, counted from 1."""
        full = min(self.first_s * 2.0 ** min(attempt - 1, 32), self.max_s)
        return full * random.uniform(0.5, 1.0)  # noqa: S311 - no secret depends on it
