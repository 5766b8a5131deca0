"""Envelopes of wake-ups that Celery and kombu make once, with marks where publications differ.

The ledger's act can then push a wake-up itself, where broker and ledger are one Redis: see
wakeup.py.
"""

from __future__ import annotations

import json
import os
import re
from base64 import b64decode
from functools import lru_cache
from typing import Any, Final, cast

import kombu
from celery import Celery
from kombu.utils.json import dumps

from smsq.contract import RECONCILE_REPORT, REPORT_QUEUE, SEND_BATCH, SEND_SMS, Lane

MARK: Final = re.compile("@([A-Z]+)@")
ID: Final = "@ID@"
TAG: Final = "@TAG@"
ROOT: Final = "@ROOT@"
PARENT: Final = "@PARENT@"
ARGUMENTS: Final = "@ARGUMENTS@"
IDS: Final = "@IDS@"
REPORTS: Final = "@REPORTS@"
COUNT: Final = "@COUNT@"


@lru_cache
def of_one(celery: Celery, lane: Lane) -> str:
    """Return the envelope of a message's wake-up, with marks."""
    found = _published(celery, SEND_SMS, (), ARGUMENTS, lane.queue)
    return dumps(found).replace(f'"{PARENT}"', PARENT)


@lru_cache
def of_many(celery: Celery, lane: Lane) -> str:
    """Return the envelope of a batch's wake-up, with marks."""
    return _of_list(celery, SEND_BATCH, IDS, f"({COUNT} messages)", lane.queue)


@lru_cache
def of_reports(celery: Celery) -> str:
    """Return the envelope of the wake-up of delivery reports, with marks."""
    return _of_list(celery, RECONCILE_REPORT, REPORTS, ARGUMENTS, REPORT_QUEUE)


# Celery writes down which process made an envelope.
for _made in (of_one, of_many, of_reports):
    os.register_at_fork(after_in_child=_made.cache_clear)


@lru_cache
def as_format(text: str) -> str:
    """Return an envelope for the operator %."""
    return MARK.sub(r"%(\1)s", text.replace("%", "%%"))


def _of_list(celery: Celery, task: str, mark: str, argsrepr: str, queue: str) -> str:
    """Return the envelope of a task whose argument is a list, for which a mark stands.

    Its body is in plain text, which kombu takes as it takes base64: Lua has no base64, and it is a
    quarter shorter.
    """
    found = _published(celery, task, ([mark],), argsrepr, queue)
    found["body"] = b64decode(found["body"]).decode()
    found["properties"]["body_encoding"] = None
    text = dumps(found).replace(json.dumps(f'["{mark}"]')[1:-1], mark)
    return text.replace(f'"{PARENT}"', "null").replace(ROOT, ID)


def _published(
    celery: Celery, task: str, args: tuple[Any, ...], argsrepr: str, queue: str
) -> dict[str, Any]:
    """Return what `celery.send_task` would publish.

    Through what it calls, not through itself: its signals would announce a task that does not
    exist.
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
    from smsq.capturing import Transport

    with kombu.Connection(transport=Transport) as connection:
        amqp.Producer(connection, auto_declare=False).publish(
            body,
            exchange="",
            routing_key=queue,
            serializer=celery.conf.task_serializer,
            compression=celery.conf.task_compression,
            delivery_mode=celery.conf.task_default_delivery_mode,
            headers=headers,
            **properties,
        )
        published = cast(Transport, connection.transport).published
    published["properties"]["delivery_tag"] = TAG
    return published
