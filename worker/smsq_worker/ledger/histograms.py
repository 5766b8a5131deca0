"""What the ledger measures: each duration is counted in one bucket, in the act that ends it.

`accept` is from the entry, or from `send_at` where there is one, to the first mid of a message.
`delivery` is from the mid to the report that ended the message, as delivered or as failed; one
that came to both, in this order or that, is counted at each.
"""

from __future__ import annotations

from typing import Final

_MINUTE: Final = 60
_HOUR: Final = 3600

_ACCEPT_S: Final = (
    *(0.1, 0.25, 0.5, 1, 2, 5, 10, 30),
    *(_MINUTE, 2 * _MINUTE, 5 * _MINUTE, 10 * _MINUTE, 30 * _MINUTE),
    *(_HOUR, 3 * _HOUR, 12 * _HOUR, 24 * _HOUR),
)
_DELIVERY_S: Final = (
    *(1, 2, 5, 10, 20, 30),
    *(_MINUTE, 2 * _MINUTE, 5 * _MINUTE, 10 * _MINUTE, 30 * _MINUTE),
    *(_HOUR, 3 * _HOUR, 12 * _HOUR, 24 * _HOUR, 48 * _HOUR, 72 * _HOUR),
)


def _ms(bounds_s: tuple[float, ...]) -> tuple[int, ...]:
    return tuple(round(bound * 1000) for bound in bounds_s)


BOUNDS_MS: Final = {"accept": _ms(_ACCEPT_S), "delivery": _ms(_DELIVERY_S)}
"""The upper bounds of each duration's buckets. What was counted under others stays true."""
