"""What can be wrong with an account as a whole, whatever its numbers' digits say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from smsq_worker.sandbox.behaviour import Behaviour, Push

NORMAL: Final = "normal"
"""Each number does what its last four digits say."""
DOWN: Final = "down"
"""Nothing listens: connections are refused, and open ones are closed."""

MOODS: Final[Mapping[str, Behaviour | None]] = {
    NORMAL: None,
    DOWN: None,
    "silent": Behaviour(accepts=False, transfer="silent"),
    "503": Behaviour(accepts=False, status=503, body="page"),
    # As with a wrong secret.
    "refused": Behaviour(accepts=False, code=400, msg="校验失败"),
    "no-balance": Behaviour(pushes=(Push("MA:0015"),)),
    "garbage": Behaviour(accepts=False, body="page"),
}
"""What happens to every request; None where its number decides, or none arrives."""
