"""What can be wrong with an account as a whole, whatever its numbers' digits say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from smsq_worker.sandbox.behaviour import Behaviour, Push


@dataclass(frozen=True, slots=True)
class Mood:
    """How an account behaves for now."""

    name: str
    behaviour: Behaviour | None = None
    """What happens to every request; None where its number decides, or none arrives."""


NORMAL: Final = Mood("normal")
"""Each number does what its last four digits say."""
DOWN: Final = Mood("down")
"""Nothing listens: connections are refused, and open ones are closed."""

MOODS: Final[Mapping[str, Mood]] = {
    mood.name: mood
    for mood in (
        NORMAL,
        DOWN,
        Mood("silent", Behaviour(accepts=False, transfer="silent")),
        Mood("503", Behaviour(accepts=False, status=503, body="page")),
        # As with a wrong secret.
        Mood("refused", Behaviour(accepts=False, code=400, msg="校验失败")),
        Mood("no-balance", Behaviour(pushes=(Push("MA:0015"),))),
        Mood("garbage", Behaviour(accepts=False, body="page")),
    )
}
