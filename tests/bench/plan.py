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
    """Three times what each peer sends in a round, at each latency of the gateway."""
    rounds: int = 5
    """How often each of those compared takes its turn; twice as often in `lone` and `beside`."""
    against: str = "0.2.0"
    """The release that this tree is compared with."""
    chart: bool = False
    """Whether what the peers came to is written into the docs."""
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
