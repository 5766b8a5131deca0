"""What the ledger measures: each duration is counted in one bucket, in the act that ends it.

`accept` is from the entry, or from `send_at` where there is one, to the first mid of a message.
`delivery` is from the mid to the report that ended the message, as delivered or as failed; one
that came to both, in this order or that, is counted at each.
"""

from __future__ import annotations

from typing import Final

_MINUTE: Final = 60_000
_HOUR: Final = 60 * _MINUTE
_COMMON: Final = (
    *(10_000, 30_000, _MINUTE, 2 * _MINUTE, 5 * _MINUTE, 10 * _MINUTE, 30 * _MINUTE),
    *(_HOUR, 3 * _HOUR, 12 * _HOUR, 24 * _HOUR),
)

BOUNDS_MS: Final = {
    "accept": (100, 250, 500, 1000, 2000, 5000, *_COMMON),
    "delivery": (*sorted((1000, 2000, 5000, 20_000, *_COMMON)), 48 * _HOUR, 72 * _HOUR),
}
"""The upper bounds of each duration's buckets. What was counted under others stays true."""
