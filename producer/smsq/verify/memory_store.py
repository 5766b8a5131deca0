"""Verification in a process' own memory, with the rules of start.lua and check.lua."""

from __future__ import annotations

import hmac
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from smsq.contract import Message
from smsq.memory.rules import Bounded
from smsq.verify.challenge import Challenge
from smsq.verify.rules import AGAIN_S, TRIES, WRONG, WRONG_S, Guess, Wanted


@dataclass
class _Held:
    wanted: Wanted
    started: int
    expires: int
    used: bool = False
    handles: dict[str, str] = field(default_factory=dict)
    """By pool."""
    tries: dict[str, int] = field(default_factory=dict)


class MemoryStore:
    """Challenges by number and purpose, under the lock of their ledger."""

    def __init__(
        self,
        now_ms: Callable[[], int],
        enter: Callable[[str, Message], object],
        last_otp: Callable[[str], int],
        at_most: int,
    ) -> None:
        """Take the time in Unix ms, what enters a message, and when a number had its last otp.

        `at_most` challenges are held, and numbers with wrong codes; the oldest go.
        """
        self._now_ms, self._enter, self._last_otp = now_ms, enter, last_otp
        self._by_name = Bounded[str, _Held](at_most)
        self._last = Bounded[tuple[str, str], _Held](at_most)
        self._wrong = Bounded[tuple[str, str], deque[int]](at_most)

    def start(self, wanted: Wanted) -> Challenge:
        """Start a challenge and enter its message, or return the one that there is."""
        now, slot = self._now_ms(), (wanted.message.phone, wanted.purpose)
        free = self._free_at(wanted.pool, wanted.message.phone, now)
        held = self._last.get(slot)
        if held and now < held.started + AGAIN_S * 1000:
            handle = held.handles.setdefault(wanted.pool, wanted.handle)
            tries = held.tries.setdefault(wanted.pool, 0)
            is_spent = held.used or bool(free) or tries >= TRIES
            return _challenge(held, handle, free, is_new=False, spent=is_spent)
        if free:
            return Challenge.of(wanted.name + wanted.handle, "", now, free, False, True)
        message = wanted.message
        # It waits rather than fails as too frequent.
        due = max(now, min(self._last_otp(message.phone), now) + AGAIN_S * 1000)
        if due > now:
            message = replace(message, send_at=due / 1000)
        self._enter(wanted.message_id, message)
        held = _Held(wanted, now, due + round(message.ttl_s * 1000))
        held.handles[wanted.pool], held.tries[wanted.pool] = wanted.handle, 0
        self._by_name[wanted.name] = self._last[slot] = held
        return _challenge(held, wanted.handle, 0, is_new=True, spent=False)

    def check(self, guess: Guess) -> bool:
        """Return whether a code is right, and use it up."""
        held = self._by_name.get(guess.name)
        pools = held.handles.items() if held else ()
        pool = next((pool for pool, handle in pools if handle == guess.handle), None)
        if not (held and pool) or not self._may_be_guessed(held, pool, guess):
            return False
        if hmac.compare_digest(guess.code, held.wanted.message.code):
            held.used = True
            return True
        held.tries[pool] += 1
        number = pool, held.wanted.message.phone
        wrong = self._wrong.get(number, deque(maxlen=WRONG))
        wrong.appendleft(self._now_ms())
        self._wrong[number] = wrong
        return False

    def _may_be_guessed(self, held: _Held, pool: str, guess: Guess) -> bool:
        now, phone = self._now_ms(), held.wanted.message.phone
        return (
            guess.phone in {None, phone}
            and guess.purpose in {None, held.wanted.purpose}
            and now < held.expires
            and not held.used
            and held.tries[pool] < TRIES
            and not self._free_at(pool, phone, now)
        )

    def _free_at(self, pool: str, phone: str, now: int) -> int:
        """Return from when a number may be guessed at again; 0 where it may be now."""
        wrong = self._wrong.get((pool, phone), deque())
        at = wrong[-1] + WRONG_S * 1000 if len(wrong) == WRONG else 0
        return at if at > now else 0


def _challenge(held: _Held, handle: str, free: int, *, is_new: bool, spent: bool) -> Challenge:
    again = max(free, held.started + AGAIN_S * 1000)
    wanted = held.wanted
    return Challenge.of(wanted.name + handle, wanted.message_id, held.expires, again, is_new, spent)
