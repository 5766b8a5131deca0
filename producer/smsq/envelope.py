"""Envelopes of wake-ups that Celery and kombu make once, with marks where publications differ.

The ledger's act can then push a wake-up itself, where broker and ledger are one Redis: see
wakeup.py. Imported when it is first used.
"""

from __future__ import annotations

import json
from base64 import b64decode
from functools import lru_cache
from typing import Any, Final, cast

import kombu
from celery import Celery
from kombu.transport import virtual
from kombu.utils.json import dumps

from smsq.contract import SEND_BATCH, SEND_SMS, Lane

ID: Final = "@ID@"
TAG: Final = "@TAG@"
ROOT: Final = "@ROOT@"
PARENT: Final = "@PARENT@"
ARGUMENTS: Final = "@ARGUMENTS@"
IDS: Final = "@IDS@"
COUNT: Final = "@COUNT@"


class _Channel(virtual.Channel):
    """A channel that keeps what it is to publish."""

    def _put(self, queue: str, message: Any, **_: Any) -> None:  # noqa: ARG002
        self.connection.published = message


class _Transport(virtual.Transport):
    """kombu's own handling of messages, up to the point at which a server would take them."""

    Channel = _Channel
    published: dict[str, Any]


# By process: Celery writes down which one made an envelope.
@lru_cache
def of_one(celery: Celery, lane: Lane, pid: int) -> str:  # noqa: ARG001
    """Return the envelope of a message's wake-up, with marks."""
    return dumps(_published(celery, SEND_SMS, (), ARGUMENTS, lane)).replace(f'"{PARENT}"', PARENT)


@lru_cache
def of_many(celery: Celery, lane: Lane, pid: int) -> str:  # noqa: ARG001
    """Return the envelope of a batch's wake-up, with marks.

    Its body is in plain text, which kombu takes as it takes base64: Lua has no base64, and it is a
    quarter shorter.
    """
    found = _published(celery, SEND_BATCH, ([IDS],), f"({COUNT} messages)", lane)
    found["body"] = b64decode(found["body"]).decode()
    found["properties"]["body_encoding"] = None
    text = dumps(found).replace(json.dumps(f'["{IDS}"]')[1:-1], IDS)
    return text.replace(f'"{PARENT}"', "null").replace(ROOT, ID)


def _published(
    celery: Celery, task: str, args: tuple[Any, ...], argsrepr: str, lane: Lane
) -> dict[str, Any]:
    """Return what `celery.send_task` would publish.

    By what it calls, not by itself: signals would tell the application of a task that there is not.
    """
    amqp: Any = celery.amqp
    headers, properties, body, _ = amqp.as_task_v2(
        ID,
        task,
        args,
        reply_to=celery.thread_oid,
        root_id=ROOT,
        parent_id=PARENT,
        ignore_result=True,
        argsrepr=argsrepr,
        kwargsrepr="{}",
    )
    with kombu.Connection(transport=_Transport) as connection:
        amqp.Producer(connection, auto_declare=False).publish(
            body,
            exchange="",
            routing_key=lane.queue,
            serializer=celery.conf.task_serializer,
            compression=celery.conf.task_compression,
            delivery_mode=celery.conf.task_default_delivery_mode,
            headers=headers,
            **properties,
        )
        published = cast(_Transport, connection.transport).published
    published["properties"]["delivery_tag"] = TAG
    return published
