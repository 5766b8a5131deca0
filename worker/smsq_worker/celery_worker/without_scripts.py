"""Channels that run no scripts on the server, for Flower: its user of Redis may run none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from smsq_worker.celery_worker import transport


class _Scriptless:
    """Does by plain commands what kombu and `_GatedChannel` do by scripts.

    Their scripts are atomic, and go through at the memory limit. Flower only needs its queues of
    answers and events, which it binds again while it runs.
    """

    keyprefix_queue: str
    _create_client: Any

    def insist(self, client: Any, *command: Any) -> None:
        """Run a command, or add it to a pipeline."""
        client.execute_command(*command)

    def _refresh_binding(self, *, keys: Sequence[Any], args: Sequence[Any], client: Any) -> None:
        table, deadlines = keys
        member, exchange, ttl_ms = args
        seconds, micros = self._create_client().time()
        until = seconds * 1000 + micros // 1000 + int(ttl_ms)
        client.sadd(table, member)
        client.zadd(deadlines, {exchange: until}, gt=True)

    def sweep_bindings(self, limit: int = 100) -> int:  # noqa: ARG002
        """Leave tables of others to others."""
        return 0


class Channel(_Scriptless, transport.Channel):
    """A channel to a server."""


class SentinelChannel(_Scriptless, transport.SentinelChannel):
    """A channel to the server that Sentinels name."""


def install() -> None:
    """Run no scripts in this process from now on."""
    transport.Transport.Channel = Channel
    transport.SentinelTransport.Channel = SentinelChannel
