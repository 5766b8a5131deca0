"""What a worker takes from a lane's queue: it wakes up one message, or those of a batch."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from smsq.contract import Lane

log = logging.getLogger(__name__)

Content: TypeAlias = tuple[Sequence[Any], Mapping[str, Any]]
"""The arguments of a bare Celery message of another language, which the ledger may not have yet."""


class Source(Protocol):
    """Where a wake-up came from, and what learns of its progress."""

    def begins(self) -> None:
        """Note that the first of its messages waits no longer."""

    def acknowledge(self) -> None:
        """Note that none of its messages waits here any more: it need not come back."""

    def ends(self, state: str, detail: str) -> None:
        """Note what became of its message, or of all of its batch in words."""

    def requeue(self, earlier: Sequence[Any]) -> None:
        """Return it to its queue, for what is left in `waiting`, and before it earlier ones."""


class InHand:
    """The source of a message that goes on: its wake-up has been acknowledged."""

    def __init__(self, leave: Callable[[], object]) -> None:
        """`leave` leaves it to the scheduler."""
        self._leave = leave

    def begins(self) -> None:
        """Ignore this: its first attempt began long ago."""

    def acknowledge(self) -> None:
        """Ignore this: nothing is in a queue."""

    def ends(self, state: str, detail: str) -> None:
        """Ignore this: its first wake-up is notified."""

    def requeue(self, earlier: Sequence[Any]) -> None:
        """Leave it to the scheduler."""
        del earlier
        self._leave()


class WakeUp:
    """A wake-up in hand.

    Its lane's thread alone changes `waiting`, and whoever records calls `ended`.
    """

    __slots__ = (
        "_begun",
        "_counts",
        "_ended",
        "_given_back",
        "content",
        "first",
        "is_batch",
        "lane",
        "source",
        "waiting",
    )

    def __init__(
        self,
        lane: Lane,
        ids: Sequence[str],
        source: Source,
        *,
        content: Content | None = None,
        is_batch: bool = False,
        first: WakeUp | None = None,
    ) -> None:
        self.lane = lane
        self.source = source
        self.content = content
        self.is_batch = is_batch
        self.first = first
        """Of a message that goes on to another account, the wake-up with which it came."""
        self.waiting = dict.fromkeys(ids)
        """The ids that wait for their slots, in order."""
        self._counts: Counter[str] | None = Counter() if is_batch else None
        self._begun = self._ended = 0
        self._given_back = False

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
        if self._counts is not None:
            self._counts[state] += 1
        if self.waiting or self._ended < self._begun or self._given_back:
            return ""
        if self._counts is not None:
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
