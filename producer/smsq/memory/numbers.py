"""What is known of single numbers: suppression, the gateway's limit, and ours for otps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from smsq.contract import Lane
from smsq.memory.rules import Bounded, Rules


class Suppression(NamedTuple):
    """Why nothing is sent to a number in a lane, and until when."""

    reason: str
    until: int


class Numbers:
    """Found by phone hash; times are in ms."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._suppressed = Bounded[str, dict[Lane, Suppression]](rules.at_most)
        self._held = Bounded[str, int](rules.at_most)
        self._sent = Bounded[str, list[int]](rules.at_most)

    def suppress(
        self, who: str, reason: str, until: int, lanes: Sequence[Lane] = (), *, replaces: bool
    ) -> None:
        """Send nothing to a number in some lanes, or in all.

        The longer suppression counts, unless the new one `replaces`: an operator may shorten it.
        """
        self._suppressed[who] = of = self._suppressed.get(who, {})
        for lane in lanes or tuple(Lane):
            old = of.get(lane)
            if replaces or old is None or old.until < until:
                of[lane] = Suppression(reason, until)

    def suppression(self, who: str, lane: str, now: int) -> str | None:
        """Return why nothing is sent to a number in a lane, as a message's detail."""
        of = self._suppressed.get(who, {})
        found = of.get(Lane(lane))
        if found is None or now >= found.until:
            return None
        is_same = len(of) == len(Lane) and len(set(of.values())) == 1
        return f"suppressed: {found.reason}{'' if is_same else f' (lane {lane})'}"

    def hold(self, who: str, until: int) -> None:
        """Note that the gateway takes nothing for a number until then."""
        self._held[who] = until

    def held_until(self, who: str) -> int:
        """Return until when the gateway takes nothing for a number."""
        return self._held.get(who, 0)

    def allowed_at(self, who: str, now: int) -> int:
        """Return when another otp would be allowed; 0 where it is."""
        sent = self._sent.get(who, [])
        ends = (
            sent[-messages] + seconds * 1000
            for messages, seconds in self._rules.phone_limits
            if len(sent) >= messages
        )
        return max((end for end in ends if end > now), default=0)

    def last_sent(self, who: str) -> int:
        """Return when the last otp went, as far as that limits the next; 0 for never."""
        return max(self._sent.get(who, ()), default=0)

    def note_sent(self, who: str, now: int) -> None:
        """Note an otp."""
        most = max((messages for messages, _ in self._rules.phone_limits), default=0)
        if most:
            self._sent[who] = [*self._sent.get(who, ()), now][-most:]
