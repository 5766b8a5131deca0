"""A pool of connections that costs less for whoever does the same again and again."""

from __future__ import annotations

import os
from contextlib import suppress
from threading import RLock
from typing import Any, Final

import redis

KEPT_AT_MOST: Final = 32
"""Of the pool's connections; the others are free for commands of other kinds."""


# redis-py before 5.3 demands the name of a command, which it does not use; later ones warn of it.
_NAMED: Final = redis.VERSION < (5, 3)


class Pool(redis.ConnectionPool):
    """A pool that keeps some connections ready, the one used last first.

    redis-py's own way to a connection and back costs about as much as a command. What comes back
    here has had all its answers, so it need not be asked whether more has come. A server may have
    closed it: the first try finds that out, so only what can be repeated may be sent over it.
    """

    _kept: list[Any]

    def reset(self) -> None:
        """Begin without connections; redis-py does that at the start and in a forked process."""
        self._kept = []
        super().reset()

    def borrow(self) -> Any:
        """Return a connection that is connected."""
        if self.pid != os.getpid():
            return self._any()
        try:
            connection = self._kept.pop()
        except IndexError:
            return self._any()
        try:
            connection.drop_if_idle()
            connection.connect()
        except BaseException:
            self.release(connection)
            raise
        return connection

    def _any(self) -> Any:
        """Return a connection as redis-py does."""
        return self.get_connection("EVALSHA") if _NAMED else self.get_connection()

    def give_back(self, connection: Any) -> None:
        """Take a connection back that has had all its answers."""
        is_moving = getattr(connection, "should_reconnect", None)
        if len(self._kept) < KEPT_AT_MOST and not (is_moving and is_moving()):
            self._kept.append(connection)
        else:
            self.release(connection)

    def unlock(self) -> None:
        """Forget, in a forked process, what the parent's other threads had locked."""
        self._lock, self._fork_lock = RLock(), RLock()

    def disconnect(self, inuse_connections: bool = True) -> None:
        """Disconnect what is kept and what is free, and what is in use if told so."""
        # One by one: other threads take and give back meanwhile.
        with suppress(IndexError):
            while True:
                self.release(self._kept.pop())
        super().disconnect(inuse_connections)
