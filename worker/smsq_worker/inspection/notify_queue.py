"""The queue of `notify=` tasks, in the application's broker, and what of it is smsq's."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

import redis

from smsq.connection import Client, connect_impatiently
from smsq.contract import FINAL
from smsq_worker.config.settings import Settings

LOOKED: Final = 20
"""How many of the queue are looked at: those of others may be large."""
NAMED: Final = 3
_WITHIN_S: Final = 1.5


@dataclass(frozen=True, slots=True)
class NotifyQueue:
    """What waits in the queue that SMSQ_NOTIFY_QUEUE names."""

    name: str
    waiting: int
    """Tasks of whomever; there may be others' too."""
    ours: int
    """Those of them that smsq sent, of the next few."""
    tasks: tuple[str, ...]
    """Their names, a few."""


def is_in_redis(settings: Settings) -> bool:
    """Return whether the broker of `notify=` tasks is a Redis."""
    return settings.notify_broker_url.startswith("redis")


def look(broker: Client, name: str) -> NotifyQueue:
    """Read the queue. Raises redis.RedisError."""
    with broker.pipeline(transaction=False) as pipe:
        pipe.llen(name)
        pipe.lrange(name, -LOOKED, -1)
        waiting, items = pipe.execute()
    ours = [task for item in reversed(items) if (task := _task_of(item))]
    return NotifyQueue(name, waiting, len(ours), tuple(dict.fromkeys(ours))[:NAMED])


def look_quickly(settings: Settings) -> NotifyQueue | None:
    """Read the queue; return None if it is not in a Redis, or that does not answer."""
    if not is_in_redis(settings):
        return None
    try:
        with closing(connect_impatiently(settings.notify_broker_url, _WITHIN_S)) as broker:
            return look(broker, settings.notify_queue)
    except redis.RedisError:
        return None


def _task_of(item: str) -> str:
    """Return the name of the task of a Celery message that smsq sent; "" of another's."""
    try:
        headers: Any = json.loads(item)["headers"]
        task, name = str(headers["task"]), str(headers["id"])
        is_ours = headers.get("argsrepr") == "(masked)" and name.rpartition(".")[2] in FINAL
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ""
    return task if is_ours else ""
