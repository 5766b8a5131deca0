"""Workers of one ledger whose settings of the rate differ."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from smsq_worker.ledger.types import OtherRate

log = logging.getLogger(__name__)

MOST: Final = 5
"""Of so many other rates it is said."""


class OtherRates:
    """Says once of each other rate that it differs from this worker's.

    Each books its attempts by its own settings, and nothing else shows that they are not the same.
    """

    def __init__(self) -> None:
        self._has_claimed = False
        self._told: set[OtherRate] = set()

    def note(self, others: Iterable[OtherRate]) -> None:
        """Note what a claim of this worker found.

        What the first finds may be of a worker that is no more; what any later one finds was
        written since the one before.
        """
        if not self._has_claimed:
            self._has_claimed = True
            return
        for one in others:
            if one not in self._told and len(self._told) < MOST:
                self._told.add(one)
                _tell(one)


def _tell(one: OtherRate) -> None:
    log.warning(
        "the rate%s is %s/s, burst %s in this worker's settings, and %s/s, burst %s in another's: "
        "the gateway gets more than the lower one allows. Give all workers the same, or set one "
        "for all by smsq rate; while workers are restarted with new settings this passes",
        f" of account {one.account}" if one.account else "",
        *(one.own_limit, one.own_burst, one.limit, one.burst),
    )
