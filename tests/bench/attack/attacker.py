"""The attacker's process: keeps its connections open and busy until it is killed."""

from __future__ import annotations

import selectors
import socket
import sys
import time
from dataclasses import dataclass, field

from bench.attack.bytes import ATTACKS, Attack

WAIT_S = 0.05
"""How long it waits until it connects again where it was refused."""


@dataclass
class _Connection:
    sock: socket.socket
    left: memoryview = field(default_factory=lambda: memoryview(b""))


def attack(port: int, what: Attack) -> None:
    """Attack for ever."""
    selector = selectors.DefaultSelector()
    count, again_at = 0, 0.0
    while True:
        while count < what.connections and time.monotonic() >= again_at:
            if _open(selector, port, what):
                count += 1
            else:
                again_at = time.monotonic() + WAIT_S
        for key, events in selector.select(WAIT_S):
            if not _go_on(key.data, events, what):
                selector.unregister(key.data.sock)
                key.data.sock.close()
                count -= 1


def _open(selector: selectors.BaseSelector, port: int, what: Attack) -> bool:
    try:
        sock = socket.create_connection(("127.0.0.1", port), 1.0)
    except OSError:
        return False
    sock.setblocking(False)
    wanted = selectors.EVENT_WRITE if what.begin or what.more else 0
    if what.reads or not wanted:
        wanted |= selectors.EVENT_READ
    selector.register(sock, wanted, _Connection(sock, memoryview(what.begin)))
    return True


def _go_on(one: _Connection, events: int, what: Attack) -> bool:
    """Read and write what is possible; return False where the API has closed."""
    try:
        if events & selectors.EVENT_READ and not one.sock.recv(262_144):
            return False
        if events & selectors.EVENT_WRITE:
            one.left = one.left or memoryview(what.more)
            if one.left:
                one.left = one.left[one.sock.send(one.left) :]
            else:
                time.sleep(0.0001)  # what is held has nothing more to say
    except BlockingIOError:
        return True
    except OSError:
        return False
    return True


if __name__ == "__main__":
    attack(int(sys.argv[1]), ATTACKS[sys.argv[2]])
