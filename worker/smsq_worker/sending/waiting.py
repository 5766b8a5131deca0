"""The messages of one lane that wait here for their slots, and when to ask for them."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from smsq.contract import Lane
from smsq_worker.ledger import Admitted, Rejected, RetryLater

IN_HAND_S: Final = 5.0
"""A wake-up that waits here longer than this is not to be taken for lost."""
MIN_ASK_S: Final = {Lane.OTP: 0.025, Lane.NOTICE: 0.1, Lane.BULK: 0.04}
"""Asking more often would book no more slots. A lane may book at least 2.5 times as far ahead
(AHEAD in guards.lua), so that one that asks late loses none."""
MIN_ASK_ALONE_S: Final = 0.025
"""The same for those that wait for another account."""
MAX_ASK_S: Final = 1.0
"""The rate may have been raised meanwhile."""
MAX_ASKS: Final = 25
"""In one act: a long act would delay the send times of other messages."""


class Waiting:
    """Used by the lane's one thread."""

    def __init__(self, lane: Lane) -> None:
        self._min_ask_s = MIN_ASK_S[lane]
        self._unbooked = deque[str]()
        """Those for which no slot is booked yet."""
        self._ask_at = 0.0
        self._has_room = True
        self._in_hand_at = time.monotonic() + IN_HAND_S
        self._booked: dict[str, tuple[float, str]] = {}
        """When to ask again, and with which slot."""
        self._alone: dict[str, float] = {}
        """When to ask again for those that wait without a slot, and hold up no others."""

    def __bool__(self) -> bool:
        return bool(self._unbooked or self._booked or self._alone)

    def add(self, ids: Iterable[str], *, first: bool = False) -> None:
        """Add messages behind the others, or before them."""
        if not self:
            self._in_hand_at = time.monotonic() + IN_HAND_S
        if first:
            self._unbooked.extendleft(ids)
            self._ask_at = 0.0
        else:
            self._unbooked.extend(ids)

    def clear(self) -> None:
        """Forget all."""
        self._unbooked.clear()
        self._booked.clear()
        self._alone.clear()

    def rest(self, seconds: float) -> None:
        """Wait this long before any of them is asked for again."""
        self._ask_at = at = time.monotonic() + seconds
        self._booked = {one: (max(at, due), slot) for one, (due, slot) in self._booked.items()}
        self._alone = {one: max(at, due) for one, due in self._alone.items()}

    def long_in_hand(self) -> list[str]:
        """Return the ids of all if it is time to note them in the ledger; otherwise none."""
        now = time.monotonic()
        if now < self._in_hand_at:
            return []
        self._in_hand_at = now + IN_HAND_S
        return [*self._booked, *self._alone, *self._unbooked]

    def next_at(self) -> float:
        """Return when to ask next, by time.monotonic(), if no attempt ends earlier."""
        times = [at for at, _ in self._booked.values()]
        if self._has_room:
            times += [self._ask_at] * bool(self._unbooked)
            times += self._alone.values()
        return min(times, default=math.inf)

    def to_ask(self, free: int) -> list[tuple[str, str]]:
        """Return the messages to ask for now, with their slots; new ones as attempts are free."""
        now = time.monotonic()
        asks = [(one, slot) for one, (at, slot) in self._booked.items() if at <= now]
        is_time = now >= self._ask_at
        if is_time or self._alone:
            room = free - len(self._booked)
            self._has_room = room > 0
            most = min(room, MAX_ASKS - len(asks))
            new = min(most, len(self._unbooked)) if is_time else 0
            if self._alone and most > 0:
                # Half of them may be new: those may have another account.
                due = [(one, "") for one, at in self._alone.items() if at <= now]
                asks += due[: max(most - new, (most + 1) // 2)]
                new = min(new, MAX_ASKS - len(asks))
            asks += [(self._unbooked[n], "") for n in range(new)]
        return asks

    def answered(
        self, asks: Sequence[tuple[str, str]], answers: Sequence[Admitted | RetryLater | Rejected]
    ) -> Iterator[tuple[str, Admitted | Rejected]]:
        """Yield those that wait no longer, and note when to ask for the others."""
        now = time.monotonic()
        for (message_id, slot), answer in zip(asks, answers, strict=False):
            if isinstance(answer, RetryLater) and not (slot or answer.turn):
                if not (answer.alone or message_id in self._alone):
                    self._ask_at = now + min(max(answer.seconds, self._min_ask_s), MAX_ASK_S)
                    return
                at = now + min(max(answer.seconds, MIN_ASK_ALONE_S), MAX_ASK_S)
                if self._alone.pop(message_id, None) is None:
                    self._unbooked.popleft()
                self._alone[message_id] = at
                continue
            if not slot and self._alone.pop(message_id, None) is None:
                self._unbooked.popleft()
            if isinstance(answer, RetryLater):
                self._booked[message_id] = now + answer.seconds, answer.turn or slot
            else:
                self._booked.pop(message_id, None)
                yield message_id, answer
