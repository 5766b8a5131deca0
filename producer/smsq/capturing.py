"""A transport of kombu's that keeps what it is to publish. Imported when it is first used."""

from __future__ import annotations

from typing import Any

from kombu.transport import virtual


class Channel(virtual.Channel):
    """A channel for one message."""

    def _put(self, queue: str, message: Any, **_: Any) -> None:  # noqa: ARG002
        self.connection.published = message  # type: ignore[attr-defined]


class Transport(virtual.Transport):
    """kombu's own handling of a message, up to the point at which a server would take it."""

    Channel = Channel
    published: dict[str, Any]
