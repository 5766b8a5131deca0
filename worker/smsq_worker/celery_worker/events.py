"""Celery's events, published once each."""

from __future__ import annotations

from typing import Any

import celery.app.events
from celery.events import EventDispatcher


class QuietEventDispatcher(EventDispatcher):
    """A dispatcher that does not retry.

    Celery's own repeats a heartbeat until Redis takes it, in the one thread that handles signals
    and queues: a worker that was cut off would not even end when asked to.
    """

    def _publish(
        self, event: Any, producer: Any, routing_key: str, retry: bool = False, **rest: Any
    ) -> None:
        super()._publish(event, producer, routing_key, retry=False, **rest)  # type: ignore[misc]
        if retry:
            # A late heartbeat would look like a wrong clock.
            self._outbound_buffer.clear()  # type: ignore[attr-defined]


class Events(celery.app.events.Events):
    """Makes such dispatchers."""

    dispatcher_cls = f"{__name__}:QuietEventDispatcher"
