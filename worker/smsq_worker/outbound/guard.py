"""Where outcomes may go: a guard against requests to what only this machine can reach.

A URL may come from a caller, and a name's address from whoever owns the name. So the connection
itself looks the name up, once, and connects to the very addresses that were judged: there is no
second answer to rebind a name with.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from functools import partial
from ipaddress import IPv4Address, IPv6Network, ip_address
from typing import Any, Final

from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util.connection import create_connection

from smsq_worker.timely import Connection, NotConnected, SecureConnection

MAX_ADDRESSES: Final = 4
"""So many of a name's addresses are tried: each may take the whole timeout."""

_UNICAST: Final = IPv6Network("2000::/3")
_SIX_TO_FOUR: Final = IPv6Network("2002::/16")
_NAT64: Final = IPv6Network("64:ff9b::/96")


class Guard:
    """The hosts to which a connection may go; of `public` ones, at public addresses only."""

    def __init__(self, anywhere: Iterable[str], public: Iterable[str] = ()) -> None:
        self._anywhere = frozenset(map(_plain, anywhere))
        self._public = frozenset(map(_plain, public))

    def addresses(self, host: str, port: int) -> list[str]:
        """Look a host up. Raises NotConnected where it is not allowed, OSError if unknown."""
        name = _plain(host)
        if name not in self._anywhere | self._public:
            raise NotConnected("host not allowed")
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        found = [str(place[0]) for *_, place in places]
        if name not in self._anywhere and not all(map(is_public, found)):
            raise NotConnected("address not public")
        return found[:MAX_ADDRESSES]


def is_public(address: str) -> bool:
    """Tell whether an IP address is one of the Internet's, and of a single host.

    An IPv6 address that holds an IPv4 one is judged by that (NAT64) or refused (6to4, mapped).
    """
    ip = ip_address(address)
    if ip in _NAT64:
        ip = IPv4Address(ip.packed[-4:])
    if ip.version == 6:  # noqa: PLR2004
        return ip.is_global and ip in _UNICAST and ip not in _SIX_TO_FOUR
    return ip.is_global and not ip.is_multicast


def guarded(
    anywhere: Iterable[str], public: Iterable[str]
) -> dict[str, Callable[..., HTTPConnectionPool]]:
    """Make pools, by scheme, whose connections keep to a guard; plain http goes `anywhere` only."""
    return {
        "http": partial(_Pool, guard=Guard(anywhere)),
        "https": partial(_SecurePool, guard=Guard(anywhere, public)),
    }


class _Guarded:
    host: str
    port: int
    timeout: Any
    socket_options: Any

    def __init__(self, *args: Any, guard: Guard, **options: Any) -> None:
        super().__init__(*args, **options)
        self._guard = guard

    def _new_conn(self) -> socket.socket:
        """Connect to an address; TLS goes on to check the certificate against the name."""
        failed = OSError("no address")
        for address in self._guard.addresses(self.host, self.port):
            try:
                # Of an address it makes itself, and asks nobody.
                return create_connection(
                    (address, self.port), self.timeout, socket_options=self.socket_options
                )
            except OSError as error:
                failed = error
        raise failed


class _Connection(_Guarded, Connection):
    pass


class _SecureConnection(_Guarded, SecureConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


def _plain(host: str) -> str:
    """Write a name in one way: without the dot at its end, in ASCII and small letters."""
    return host.rstrip(".").encode("idna").decode("ascii").lower()
