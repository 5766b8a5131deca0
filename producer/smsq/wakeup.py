"""Wake-ups that the ledger's act pushes itself, where broker and ledger are one Redis.

A message and its wake-up are then written together, or neither is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from functools import lru_cache

from celery import Celery

from smsq.contract import Lane
from smsq.ledger_writer import BatchWakeUp, WakeUp

MARKED = ("ID", "TAG", "ROOT", "PARENT", "ARGUMENTS")


def of_one(celery: Celery, message_id: str, lane: Lane, argsrepr: str) -> WakeUp:
    """Return a new message's wake-up."""
    own_id, parent = json.dumps(message_id)[1:-1], celery.current_worker_task
    root, parent_id = own_id, "null"
    if parent is not None:
        request = parent.request
        root, parent_id = json.dumps(request.root_id or request.id)[1:-1], json.dumps(request.id)
    values = {
        "ID": own_id,
        # Unique, as a message is entered once; others of its wake-ups are the scheduler's.
        "TAG": own_id,
        "ROOT": root,
        "PARENT": parent_id,
        "ARGUMENTS": json.dumps(argsrepr)[1:-1],
    }
    return WakeUp(lane.queue, _format_of_one(celery, lane, os.getpid()) % values)


def of_batches(celery: Celery, lanes: Iterable[Lane]) -> list[BatchWakeUp]:
    """Return a batch's wake-ups, one for each of its lanes."""
    from smsq import envelope

    pid = os.getpid()
    return [BatchWakeUp(one, one.queue, envelope.of_many(celery, one, pid)) for one in lanes]


def for_the_scheduler(celery: Celery) -> str:
    """Return as JSON what claim.lua needs: each lane's queue, and envelopes for one and many."""
    from smsq import envelope

    pid = os.getpid()
    return json.dumps(
        {
            lane: (lane.queue, _of_any(celery, lane, pid), envelope.of_many(celery, lane, pid))
            for lane in Lane
        }
    )


def _of_any(celery: Celery, lane: Lane, pid: int) -> str:
    """Return the envelope of a message of which only the id is at hand."""
    from smsq import envelope

    text = envelope.of_one(celery, lane, pid).replace(envelope.PARENT, "null")
    return text.replace(envelope.ROOT, envelope.ID).replace(envelope.ARGUMENTS, "()")


@lru_cache
def _format_of_one(celery: Celery, lane: Lane, pid: int) -> str:
    """Return the envelope as a format of %."""
    from smsq import envelope

    text = envelope.of_one(celery, lane, pid).replace("%", "%%")
    for name in MARKED:
        text = text.replace(f"@{name}@", f"%({name})s")
    return text
