"""What is asked of the bench."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """How long and how large."""

    seconds: float = 30.0
    """The length of a measurement; the otp's minute is twice as long."""
    workers: tuple[int, ...] = (1, 2, 4, 8)
    rates: tuple[int, ...] = (20, 200)
    backlog: int = 20_000
    """Bulk messages before the otp; half as many for the wrong secret."""
    scale: float = 10.0
    """How many times shorter than in earnest an outage and all times that matter to it are."""
    modes: tuple[str, ...] = ("500", "503", "silent")
    """How the gateway fails."""
    messages: int = 3000
    """What each peer sends at each latency of the gateway."""
    shapes: tuple[str, ...] = ("singles", "batches", "both")
    """How a backlog is queued."""
    size: float = 1.0
    """How much of what `scale` is about is queued, of the million and so on."""
    crowd: int = 20
    """How many workers `scale` lets share one rate."""
    scale_only: tuple[str, ...] = ()
    """Which scenarios of `scale`; all where none is named."""
    base: str = "HEAD"
    """The commit, or for `acts` a release, that is measured beside this tree."""
