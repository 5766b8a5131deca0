"""Celery's events, published once each, and those of tasks many at a time."""

from __future__ import annotations

import time
from collections import deque
from typing import Any, Final

import celery.app.events
from celery.events import Event, EventDispatcher
from celery.utils.time import utcoffset

FLUSH_S: Final = 0.2
"""Events of tasks that come within this time are published together."""
MAX_TOGETHER: Final = 200
MAX_EVENTS: Final = 10_000
"""The oldest are dropped while the broker is away."""


class QuietEventDispatcher(EventDispatcher):
    """A dispatcher that does not retry, and groups the task events of all threads.

    Celery's own repeats a heartbeat until Redis takes it, in the one thread that handles signals
    and queues: a worker that was cut off would not even end when asked to. Its buffer loses events
    of other threads, which come while it is flushed.
    """

    pid: int
    clock: Any
    groups: Any
    mutex: Any
    on_send_buffered: Any
    producer: Any
    _outbound_buffer: deque[Any]

    def __init__(self, *args: Any, **options: Any) -> None:
        self._events: deque[Any] = deque(maxlen=MAX_EVENTS)
        self._planned_at = 0.0
        super().__init__(*args, **options)
        # Not kombu's get_event_loop(), which is None once a connection was lost.
        consumer = getattr(self.on_send_buffered, "__self__", None)
        self._loop = getattr(consumer, "hub", None)

    def send(self, type: str, **fields: Any) -> None:  # type: ignore[override] # noqa: A002
        """Send an event; of a task with others, up to FLUSH_S later."""
        loop = self._loop
        if loop is None or not type.startswith("task-"):
            super().send(type, **fields)
            return
        if not self.enabled or (self.groups and "task" not in self.groups):
            return
        common: dict[str, Any] = {
            "hostname": self.hostname,
            "utcoffset": utcoffset(),
            "pid": self.pid,
        }
        self._events.append(Event(type, **common, clock=self.clock.forward(), **fields))
        now = time.monotonic()
        # A plan may be lost with the connection.
        if now >= self._planned_at + 2 * FLUSH_S:
            self._planned_at = now
            loop.call_soon(loop.call_later, FLUSH_S, self.flush)

    def flush(self, errors: bool = True, groups: bool = True) -> None:
        """Publish what has come. Runs in the thread of the event loop."""
        self._planned_at = 0.0
        while groups and self._events and self.enabled:
            some = [self._events.popleft() for _ in range(min(MAX_TOGETHER, len(self._events)))]
            before = len(self._outbound_buffer)
            with self.mutex:
                self._publish(some, self.producer, "task.multi")
            if len(self._outbound_buffer) > before:
                # They keep their place until the broker is there again.
                self._outbound_buffer.pop()
                room = MAX_EVENTS - len(self._events)
                self._events.extendleft(reversed(some[-room:] if room else ()))
                break
        super().flush(errors=errors, groups=False)

    def extend_buffer(self, other: Any) -> None:
        """Take over what a dispatcher has kept whose connection was lost."""
        super().extend_buffer(other)
        self._events.extend(other._events)  # noqa: SLF001 - of the same class

    def _publish(
        self, event: Any, producer: Any, routing_key: str, retry: bool = False, **rest: Any
    ) -> None:
        super()._publish(event, producer, routing_key, retry=False, **rest)  # type: ignore[misc]
        if retry:
            # A late heartbeat would look like a wrong clock.
            self._outbound_buffer.clear()


class Events(celery.app.events.Events):
    """Makes such dispatchers."""

    dispatcher_cls = f"{__name__}:QuietEventDispatcher"
