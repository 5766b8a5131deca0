"""Where the gateway is, and how long an attempt may take."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from smsq.settings import IDLE_S
from smsq_worker.config.parsers import is_loopback

TRIES: Final = 3
"""How often connecting is tried for one attempt; a request is written only once."""
MAX_PAUSE_S: Final = 1.0
EXPOSED: Final = (
    "is plain http to another host, which shows the secret and every number to the network; use "
    "https, or set SMSQ_GATEWAY_ALLOW_PLAINTEXT=1"
)


@dataclass(frozen=True, slots=True)
class Address:
    """Where the gateway is and how to speak to it."""

    url: str
    secret: str = field(repr=False)
    verify: bool | str = True
    """True for the CAs that the system trusts, the path of a bundle, or False.

    The system's are those of OpenSSL, which SSL_CERT_FILE and SSL_CERT_DIR may replace.
    """
    connect_timeout_s: float = 3.0
    read_timeout_s: float = 10.0
    idle_timeout_s: float = IDLE_S
    """A connection that was idle for longer is not used again."""
    connections: int = 192

    @property
    def is_exposed(self) -> bool:
        """Whether it is as EXPOSED says."""
        url = urlsplit(self.url)
        return url.scheme == "http" and not is_loopback(url.hostname or "")

    @property
    def longest_call_s(self) -> float:
        """The longest time of an attempt, with retries and pauses.

        Each try to connect has the connect timeout for lookup, all addresses and TLS together, and
        writing has it once more; the answer as a whole has the read timeout.
        """
        connecting = (TRIES + 1) * self.connect_timeout_s + (TRIES - 1) * MAX_PAUSE_S
        return connecting + self.read_timeout_s
