"""Listening where the settings say, or a clear error that names the setting; and who listens."""

from __future__ import annotations

import errno
import os
import random
import socket
import sys
from collections import deque
from collections.abc import Iterable
from contextlib import ExitStack, closing
from http.client import HTTPConnection, HTTPException
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from smsq.errors import SettingsError
from smsq_worker.config.parsers import Bind

QUIET_PORTS: Final = (20_000, 32_000)
"""Below the range of outgoing connections on Linux, one of which could take the port at once."""

ANOTHER: Final = "set another HOST:PORT"
_WITHIN_S: Final = 2.0
_OK: Final = 200
_BACKLOG: Final = 1024
_dice: Final = random.SystemRandom()

_TRIES: Final = 1000
_MOST_RESERVED: Final = 100
_reserved: Final = deque[int]()
"""Descriptors of sockets that are bound and never listen."""


class Wish(NamedTuple):
    """Where to listen, which setting says so, and what to change if it is impossible."""

    bind: Bind
    setting: str
    remedy: str = ANOTHER


def opened(bind: Bind) -> socket.socket:
    """Listen on a TCP socket; port 0 takes a free one. Raises OSError."""
    listening = _bound(bind)
    try:
        # Only this fails if another socket is bound there without listening.
        listening.listen(_BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def listen(bind: Bind, setting: str, remedy: str = ANOTHER) -> socket.socket:
    """Listen on a TCP socket. Raises SettingsError that names the setting to change."""
    try:
        return opened(bind)
    except OSError as error:
        why = f"cannot listen on {shown(bind)}: {error.strerror}"
        raise SettingsError([f"{setting}: {why}; {remedy}"]) from None


def require_free(bind: Bind, setting: str) -> None:
    """Check that a port is free. Raises SettingsError that names the setting to change."""
    listen(bind, setting).close()


def find_ports(wishes: Iterable[Wish]) -> dict[str, Bind]:
    """Check that all ports are free; return each setting's, with a free port for a 0.

    Those are reserved as `free_port` does. Raises SettingsError that names every setting to change.
    """
    found: dict[str, Bind] = {}
    problems: list[str] = []
    with ExitStack() as held:
        for wish in wishes:
            try:
                held.enter_context(listen(*wish))
            except SettingsError as error:
                problems += error.problems
            else:
                host, port = wish.bind
                found[wish.setting] = host, port or free_port(host)
    if problems:
        raise SettingsError(problems)
    return found


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port on which nobody listens. Raises OSError if the host is not this machine.

    While this process lives, no other call, here or in another process, returns it as well (until
    this process has asked for some hundred more); whoever names the port may listen there. That is
    so on Linux: elsewhere a socket that is only bound would keep that one from listening, too.
    """
    with _bound((host, 0)) as bound:
        port: int = bound.getsockname()[1]
        if sys.platform == "linux":
            _reserved.append(bound.detach())
            if len(_reserved) > _MOST_RESERVED:
                os.close(_reserved.popleft())
    return port


def shown(bind: Bind) -> str:
    """Return HOST:PORT."""
    host, port = bind
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_up(url: str) -> bool:
    """Return whether a server of ours answers an http URL with 200; no proxy is asked for it."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.netloc, timeout=_WITHIN_S)
    try:
        with closing(connection):
            connection.request("GET", parts.path, headers={"Connection": "close"})
            response = connection.getresponse()
            response.read(1000)  # or the server would see a reset
            return response.status == _OK
    except (OSError, HTTPException, UnicodeError):
        return False


def _bound(bind: Bind) -> socket.socket:
    host, port = bind
    bound = socket.socket(_family(host), socket.SOCK_STREAM)
    try:
        if not port:
            # While addresses may not be shared: what is only reserved is refused as well.
            _bind_anywhere(bound, host)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if port:
            bound.bind(bind)
    except OSError:
        bound.close()
        raise
    return bound


def _bind_anywhere(bound: socket.socket, host: str) -> None:
    for tries_left in reversed(range(_TRIES)):
        try:
            bound.bind((host, _dice.randrange(*QUIET_PORTS)))
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not tries_left:
                raise
        else:
            return


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
