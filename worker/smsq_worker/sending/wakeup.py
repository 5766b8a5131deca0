"""What a worker takes from a lane's queue: it wakes up one message, or those of a batch."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from typing import Any, TypeAlias

from smsq.contract import Lane

log = logging.getLogger(__name__)

Content: TypeAlias = tuple[Sequence[Any], Mapping[str, Any]]
"""The arguments of a bare Celery message of another language, which the ledger may not have yet."""


class Source:
    """Where a wake-up came from, and what learns of its progress: here nobody does."""

    def begins(self) -> None:
        """Note that the first of its messages waits no longer."""

    def acknowledge(self) -> None:
        """Note that none of its messages waits here any more: it need not come back."""

    def ends(self, state: str, detail: str) -> None:
        """Note what became of its message, or of all of its batch in words."""

    def requeue(self, earlier: Sequence[Any]) -> None:
        """Return it to its queue, for what is left in `waiting`, and before it earlier ones."""


class InHand(Source):
    """The source of a message that goes on.

    Its first wake-up was acknowledged, and is the one that is told of its progress.
    """

    def __init__(self, leave: Callable[[], object]) -> None:
        """`leave` leaves it to the scheduler."""
        self._leave = leave

    def requeue(self, earlier: Sequence[Any]) -> None:
        """Leave it to the scheduler."""
        del earlier
        self._leave()


@dataclass(slots=True, eq=False, repr=False)
class WakeUp:
    """A wake-up in hand.

    Its lane's thread alone changes `waiting`, and whoever records calls `ended`.
    """

    lane: Lane
    ids: InitVar[Sequence[str]]
    source: Source
    content: Content | None = field(default=None, kw_only=True)
    is_batch: bool = field(default=False, kw_only=True)
    first: WakeUp | None = field(default=None, kw_only=True)
    """Of a message that goes on to another account, the wake-up with which it came."""
    waiting: dict[str, None] = field(init=False)
    """The ids that wait for their slots, in order."""
    _counts: Counter[str] = field(init=False, default_factory=Counter)
    _begun: int = field(init=False, default=0)
    _ended: int = field(init=False, default=0)
    _given_back: bool = field(init=False, default=False)

    def __post_init__(self, ids: Sequence[str]) -> None:
        self.waiting = dict.fromkeys(ids)

    def begins(self, message_id: str) -> None:
        """Note that a message waits no longer: it was admitted, or is not to be sent."""
        if not self._begun:
            _tell(self.source.begins)
        self._begun += 1
        del self.waiting[message_id]
        if not self.waiting:
            _tell(self.source.acknowledge)

    @staticmethod
    def give_back(wakeups: Sequence[WakeUp]) -> None:
        """Return wake-ups of a lane to its queue, for those that wait, in the same order."""
        for wakeup in wakeups:
            wakeup._given_back = True  # noqa: SLF001 - a WakeUp's own
            if wakeup.first:
                _tell(wakeup.source.requeue, ())
                wakeup.waiting.clear()
        wakeups = [one for one in wakeups if not one.first]
        if not wakeups:
            return
        *earlier, last = (wakeup.source for wakeup in wakeups)
        _tell(last.requeue, earlier)
        for wakeup in wakeups:
            wakeup.waiting.clear()

    def ended(self, state: str, detail: str = "") -> str:
        """Note what became of a message; return the summary of all with the last one, else ""."""
        self._ended += 1
        if self.is_batch:
            self._counts[state] += 1
        if self.waiting or self._ended < self._begun or self._given_back:
            return ""
        if self.is_batch:
            state = ", ".join(f"{count} {one}" for one, count in sorted(self._counts.items()))
            detail = ""
        _tell(self.source.ends, state, detail)
        return state


def _tell(note: Callable[..., None], *args: object) -> None:
    """Notify a source. What it may raise must not keep an admitted message from being submitted."""
    try:
        note(*args)
    except Exception:
        log.exception("a wake-up could not be told of its progress")
