"""What a delivery report says of its message, by the catalogue.

`smsq.testing` reads it too, where no extra is installed.
"""

from __future__ import annotations

from dataclasses import dataclass

from smsq.contract import Lane


@dataclass(frozen=True, slots=True)
class Report:
    """A delivery report as the catalogue understands it."""

    stat: str
    code_class: str
    wait_ms: int
    maybe_sent: bool
    counted_as: str
    pause: str = ""
    suppress_ms: int = 0
    hold_ms: int = 0
    slow_down: bool = False
    suppress_lanes: tuple[Lane, ...] = ()
    """Where `suppress_ms` holds; () is all lanes."""
    raw: str = ""
    """The stat as the gateway wrote it, where that is another text."""
    unlisted: bool = False
    """Whether the catalogue neither names it nor says what its prefix means."""
    scope: str = ""
    """Where the cause lies, as in domain/codes.py; "" where that is not known."""
