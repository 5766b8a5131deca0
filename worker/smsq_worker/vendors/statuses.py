"""HTTP statuses that say the same of every gateway."""

from __future__ import annotations

from typing import Final

NOT_TAKEN: Final = frozenset({408, 429, 503})
"""By these a server says that it has not looked at the request."""
TOO_FAST: Final = frozenset({429, 503})
OF_THE_ACCOUNT: Final = frozenset({401, 402, 403, 404, 405, 406, 407, 410})
"""Refusals that every message would get: of the secret, the balance, the address or the method."""
