"""What can be wrong with an account as a whole, whatever its numbers' digits say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from smsq_worker.i18n import N_
from smsq_worker.sandbox.behaviour import Behaviour, Push


@dataclass(frozen=True, slots=True)
class Mood:
    """How an account behaves for now."""

    name: str
    words: str
    behaviour: Behaviour | None = None
    """What happens to every request; None where its number decides, or none arrives."""


NORMAL: Final = Mood("normal", N_("each number does what its last four digits say"))
DOWN: Final = Mood("down", N_("nothing listens: connections are refused, open ones are closed"))
_PAGE: Final = Behaviour(accepts=False, body="page")

MOODS: Final[Mapping[str, Mood]] = {
    mood.name: mood
    for mood in (
        NORMAL,
        DOWN,
        Mood(
            "silent",
            N_("no response to any request, none is accepted"),
            Behaviour(accepts=False, transfer="silent"),
        ),
        Mood(
            "503",
            N_("HTTP 503 to every request, none is accepted"),
            Behaviour(accepts=False, status=503, body="page"),
        ),
        Mood(
            "refused",
            N_("code 400 to every request, as with a wrong secret"),
            Behaviour(accepts=False, code=400, msg="校验失败"),
        ),
        Mood(
            "no-balance",
            N_("every request is accepted, and reported with MA:0015"),
            Behaviour(pushes=(Push("MA:0015"),)),
        ),
        Mood("garbage", N_("an HTML page to every request, none is accepted"), _PAGE),
    )
}
