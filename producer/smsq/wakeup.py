"""Wake-ups that the ledger's act pushes itself, where broker and ledger are one Redis.

A message and its wake-up are then written together, or neither is.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from itertools import chain
from json.encoder import encode_basestring_ascii
from typing import Any

from celery import Celery

from smsq import envelope
from smsq.contract import REPORT_QUEUE, Lane
from smsq.ids import new_id
from smsq.ledger_writer import WakeUp


def of_one(celery: Celery, message_id: str, lane: Lane, argsrepr: str) -> WakeUp:
    """Return a new message's wake-up."""
    own_id, parent = _in_json(message_id), _running_task(celery)
    root, parent_id = own_id, "null"
    if parent is not None:  # A task of the application's sends it.
        parent_id = json.dumps(parent.request.id)
        root = _in_json(parent.request.root_id or str(parent.request.id))
    values = {
        "ID": own_id,
        # Unique, as a message is entered once; others of its wake-ups are the scheduler's.
        "TAG": own_id,
        "ROOT": root,
        "PARENT": parent_id,
        "ARGUMENTS": _in_json(argsrepr),
    }
    return WakeUp(lane.queue, envelope.as_format(envelope.of_one(celery, lane)) % values)


def of_batches(celery: Celery, lanes: Iterable[Lane]) -> tuple[str, ...]:
    """Return a batch's wake-ups, one for each of its lanes, as enqueue.lua takes them."""
    found = ((lane, lane.queue, envelope.of_many(celery, lane)) for lane in lanes)
    return ("many", *chain.from_iterable(found))


def of_reports(celery: Celery, reports: Sequence[tuple[str, str]]) -> WakeUp:
    """Return the wake-up of delivery reports (mid, stat).

    Of several it has marks, as not all of them may be new. One alone saves the server to fill them.
    """
    if len(reports) > 1:
        return WakeUp(REPORT_QUEUE, envelope.of_reports(celery))
    own_id = new_id()
    values = {
        "ID": own_id,
        "TAG": own_id,
        "REPORTS": _in_json(json.dumps(reports)),
        "ARGUMENTS": _in_json(repr(tuple(reports[0]))),
    }
    return WakeUp(REPORT_QUEUE, envelope.as_format(envelope.of_reports(celery)) % values)


def for_the_scheduler(celery: Celery) -> str:
    """Return as JSON what claim.lua needs: each lane's queue, and envelopes for one and many."""
    return json.dumps(
        {lane: (lane.queue, _of_any(celery, lane), envelope.of_many(celery, lane)) for lane in Lane}
    )


def _of_any(celery: Celery, lane: Lane) -> str:
    """Return the envelope of a message of which only the id is at hand."""
    text = envelope.of_one(celery, lane).replace(envelope.PARENT, "null")
    return text.replace(envelope.ROOT, envelope.ID).replace(envelope.ARGUMENTS, "()")


def _running_task(celery: Celery) -> Any:
    """Return the application's task that is running here, if one is."""
    # Celery runs tasks by this module. Where it is not loaded none runs, and asking costs as much
    # as all the rest of a wake-up.
    return celery.current_worker_task if "celery.app.trace" in sys.modules else None


def _in_json(text: str) -> str:
    return encode_basestring_ascii(text)[1:-1]
