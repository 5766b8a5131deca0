"""What this worker has taken from the queues and is not done with."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from kombu.transport import redis as kombu_redis
from kombu.utils.json import dumps
from redis.exceptions import OutOfMemoryError

from smsq.failpoints import reached
from smsq_worker.celery_worker.envelope import is_in_ledger


class Unacked(kombu_redis.QoS):
    """kombu's notes of the messages that were taken and are not done with.

    In Redis it keeps only those that are nowhere else. A wake-up's message is in the ledger, whose
    timers bring back what a dead worker had taken.
    """

    channel: Any
    _delivered: Any
    _remove_from_indices: Callable[[str], Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._kept: set[str] = set()
        """The tags of those in Redis."""

    def append(self, message: Any, delivery_tag: str) -> None:
        """Note that a message was taken; also at the memory limit."""
        if is_in_ledger(message):
            self._note(message, delivery_tag)
            return
        self.channel.put_back_the_others()
        reached("before note")
        self._kept.add(delivery_tag)
        try:
            super().append(message, delivery_tag)
        except OutOfMemoryError:
            delivery = message.delivery_info
            taken = dumps([message._raw, delivery["exchange"], delivery["routing_key"]])  # noqa: SLF001
            with self.channel.conn_or_acquire() as client, client.pipeline() as pipe:
                self.channel.insist(pipe, "ZADD", self.unacked_index_key, time.time(), delivery_tag)
                self.channel.insist(pipe, "HSET", self.unacked_key, delivery_tag, taken)
                pipe.execute()
            self._note(message, delivery_tag)

    def is_kept(self, delivery_tag: str) -> bool:
        """Return whether Redis has a note of a message."""
        return delivery_tag in self._kept

    def ack(self, delivery_tag: str) -> None:
        """Note that a message is done with."""
        self._forget(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Note that a message is done with, or put it back into its queue."""
        if requeue:
            self.requeue([delivery_tag])
        else:
            self._forget(delivery_tag)

    def requeue(self, delivery_tags: Sequence[str]) -> None:
        """Return messages to where they were taken from, the last of them to be taken first.

        In one act: this process may be waiting for items of that queue, and would get the first.
        """
        kept = self._kept.intersection(delivery_tags)
        # First of all: this process may take them again, with the same tags, before this returns;
        # and of several threads that give the same one back only one gets it.
        self._kept -= kept
        found = [(tag, self._delivered.pop(tag, None)) for tag in delivery_tags]
        try:
            with self.channel.conn_or_acquire() as client, client.pipeline() as pipe:
                for tag, message in found:
                    if tag in kept:
                        pipe.execute()
                        self.restore_by_tag(tag, client, leftmost=True)
                    elif message:
                        self.channel.requeue(message, pipe)
                pipe.execute()
        except BaseException:
            # Closing the channel tries again.
            self._kept |= kept
            self._delivered.update((tag, message) for tag, message in found if message)
            raise

    def _forget(self, delivery_tag: str) -> None:
        if delivery_tag in self._kept:
            self._remove_from_indices(delivery_tag).execute()
            self._kept.discard(delivery_tag)
        self._delivered.pop(delivery_tag, None)

    def restore_unacked(self, client: Any = None) -> None:  # noqa: ARG002
        """Requeue what is not done with, in its order."""
        taken = {}
        with suppress(KeyError):  # Not by iterating: other threads forget some meanwhile.
            while True:
                tag, message = self._delivered.popitem()
                taken[tag] = message
        self._delivered.update(taken)
        self.requeue([*taken])

    def restore_visible(self, *args: Any, **options: Any) -> None:
        """Requeue what dead workers had taken; at the limit later, as that needs a lock."""
        with suppress(OutOfMemoryError):
            super().restore_visible(*args, **options)

    def _note(self, message: Any, delivery_tag: str) -> None:
        super(kombu_redis.QoS, self).append(message, delivery_tag)
