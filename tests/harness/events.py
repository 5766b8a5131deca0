"""Celery's events as they come to a listener."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

from celery import Celery

from harness.waiting import eventually

_PROBE = "task-probe"


@contextmanager
def listening(url: str) -> Iterator[list[dict[str, Any]]]:
    """Give the events of tasks as they come, until the block ends."""
    seen: list[dict[str, Any]] = []
    ready = Event()

    def heard(event: dict[str, Any]) -> None:
        if event["type"] == _PROBE:
            ready.set()
        else:
            seen.append(event)

    with Celery(broker=url, set_as_current=False) as app, app.connection_for_read() as line:
        receiver: Any = app.events.Receiver(line, handlers={"*": heard})
        thread = Thread(target=lambda: [*receiver.itercapture(limit=None, timeout=None)])
        thread.start()
        try:
            with app.connection_for_write() as own, app.events.Dispatcher(own) as probing:
                # Celery says that it consumes before Redis has its subscription.
                eventually(lambda: probing.send(_PROBE) or ready.is_set())
            yield seen
        finally:
            receiver.should_stop = True
            thread.join(30)


def of(seen: list[dict[str, Any]], task_id: str) -> list[str]:
    return [event["type"] for event in [*seen] if event.get("uuid") == task_id]
