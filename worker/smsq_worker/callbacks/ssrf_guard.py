"""Guard against server-side request forgery: callbacks to what only this machine can reach.

A URL may come from a caller, and a name's address from whoever owns the name. So the connection
itself resolves the name, once, and connects to the addresses that were checked: no second answer
can rebind the name.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Network, ip_address
from typing import Final

from smsq_worker.infra.http import NotConnected
from smsq_worker.infra.resolver import RESOLVER, Place

_UNICAST: Final = IPv6Network("2000::/3")
_SIX_TO_FOUR: Final = IPv6Network("2002::/16")
_NAT64: Final = IPv6Network("64:ff9b::/96")


class Guard:
    """The allowed hosts: those in `anywhere` at any address, those in `public` at public ones."""

    def __init__(self, anywhere: Iterable[str], public: Iterable[str] = ()) -> None:
        self._anywhere = frozenset(map(_normalized, anywhere))
        self._public = frozenset(map(_normalized, public))

    def places(self, host: str, timeout_s: float) -> list[Place]:
        """Resolve a host. Raises NotConnected where it is not allowed, OSError if it is unknown."""
        name = _normalized(host)
        if name not in self._anywhere | self._public:
            raise NotConnected("host not allowed")
        places = RESOLVER.look_up(name, timeout_s)
        must_be_public = name not in self._anywhere
        if must_be_public and not all(is_public(str(place[0])) for *_, place in places):
            raise NotConnected("address not public")
        return places


def is_public(address: str) -> bool:
    """Return whether an IP address is a unicast address of the Internet.

    An IPv6 address that embeds an IPv4 one is checked by that (NAT64) or refused (6to4, mapped).
    """
    ip = ip_address(address)
    if ip in _NAT64:
        ip = IPv4Address(ip.packed[-4:])
    if ip.version == 6:  # noqa: PLR2004
        return ip.is_global and ip in _UNICAST and ip not in _SIX_TO_FOUR
    return ip.is_global and not ip.is_multicast


def _normalized(host: str) -> str:
    """Return a name in canonical form: without a trailing dot, in ASCII and lower case."""
    return host.rstrip(".").encode("idna").decode("ascii").lower()
