"""Listening where the settings say, or saying clearly why not."""

from __future__ import annotations

import random
import socket
from typing import Final

from smsq.errors import SettingsError
from smsq_worker.settings import Bind

QUIET_PORTS: Final = (20_000, 32_000)
"""Below those that Linux gives to outgoing connections, which could take one back at once."""

_dice: Final = random.SystemRandom()


def listen(bind: Bind, setting: str) -> socket.socket:
    """Bind a TCP socket. Raises SettingsError that names the setting to change."""
    host, port = bind
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise SettingsError(
            [f"{setting}: cannot listen on {shown(bind)}: {error.strerror}; set another HOST:PORT"]
        ) from None
    return listening


def require_free(bind: Bind, setting: str) -> None:
    """Check that a port can be bound. Raises SettingsError that names the setting to change."""
    listen(bind, setting).close()


def free_port() -> int:
    """Find a port of the loopback interface on which nobody listens."""
    while True:
        port = _dice.randrange(*QUIET_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def shown(bind: Bind) -> str:
    """Write HOST:PORT."""
    host, port = bind
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
