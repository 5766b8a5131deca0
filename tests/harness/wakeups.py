"""Wake-ups without Celery: a message is handed to the sender as a worker's consumer does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from queue import SimpleQueue
from typing import Any

from smsq.contract import Lane
from smsq_worker.runtime import Runtime
from smsq_worker.sending.consumer_gate import RequeueLater
from smsq_worker.sending.wakeup import WakeUp


class Source:
    """What has become of a wake-up: words, or None where it was given back."""

    def __init__(self) -> None:
        self.came: SimpleQueue[str | None] = SimpleQueue()
        self.acknowledged = False

    def begins(self) -> None:
        pass

    def acknowledge(self) -> None:
        self.acknowledged = True

    def ends(self, word: str, detail: str) -> None:
        self.came.put(word)

    def requeue(self, earlier: Sequence[Source]) -> None:
        for source in (*earlier, self):
            source.came.put(None)


def send(
    runtime: Runtime,
    message_id: str,
    lane: Lane = Lane.NOTICE,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
) -> str:
    """Send one message and give the word on it. Raises RequeueLater where it was given back."""
    content = (args, kwargs or {}) if args or kwargs else None
    return _word(runtime, lambda source: WakeUp(lane, [message_id], source, content=content))


def send_batch(runtime: Runtime, ids: Sequence[str], lane: Lane = Lane.BULK) -> str:
    """Send a batch and give its summary. Raises RequeueLater where it was given back."""
    return _word(runtime, lambda source: WakeUp(lane, ids, source, is_batch=True))


def _word(runtime: Runtime, wakeup: Any) -> str:
    source = Source()
    runtime.sender.take(wakeup(source))
    word = source.came.get(timeout=120)
    if word is None:
        raise RequeueLater
    return word
