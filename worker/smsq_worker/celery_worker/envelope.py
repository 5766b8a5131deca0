"""Making any item of a queue safe to take, whoever put it there.

The format is docs/guides/other-languages.md's.

kombu trusts every envelope. A kilobyte of it could name a compression or a charset that makes
gigabytes of it, or be nested deeper than any decoder goes, and end one worker after another.
"""

from __future__ import annotations

import json
import logging
import re
from base64 import b64decode
from typing import Any, Final
from uuid import uuid4

from kombu.utils.json import dumps, loads

from smsq.contract import NOTIFY_OUTCOME, RECONCILE_REPORT, SEND_BATCH, SEND_SMS
from smsq.ids import is_id

log = logging.getLogger(__name__)

MAX_ENVELOPE: Final = 1_048_576
"""Bytes: three times smsq's longest, which wakes up a batch of 1000. With ids of 255
characters, each in quotes with a comma and a blank, in base64, that takes 1000 x 259 x 4/3."""
JSON_TYPE: Final = "application/json"
HEADERS: Final = ("argsrepr", "kwargsrepr", "eta", "expires", "root_id")
"""Those with a meaning here, beside id and task. Celery trusts all others, too."""
MAX_HEADER: Final = 255
TASK: Final = re.compile(r"[A-Za-z_]+(\.[A-Za-z_]+)*")
"""Names of unknown tasks are shown, too, so they must not hold a number."""
NO_TASK: Final = "none"

_NONE: Final = dumps([[], {}, dict.fromkeys(("callbacks", "errbacks", "chain", "chord"))])
NO_ARGUMENTS: Final = frozenset({_NONE, _NONE.encode()})
"""The body that Celery gives to a task without arguments."""

_ENDS: Final = 65_536
"""How much of both ends of an envelope that cannot be decoded is searched for the id."""
_ID: Final = re.compile(rb'"id"\s*:\s*"([ !#-\[\]-~]{1,255})"')
_SEND_SMS: Final = re.compile(rb'"task"\s*:\s*"%s"' % re.escape(SEND_SMS).encode())


def read(item: bytes) -> Any:
    """Return an item of a queue as kombu decodes it; None where it is dropped.

    One that cannot be decoded, or is too long, is dropped; a message among them is replaced by one
    that fails under its id.
    """
    try:
        if len(item) <= MAX_ENVELOPE:
            # Strictly: kombu would replace bytes that are not UTF-8, and a code be sent like that.
            text = item.decode()
            # What kombu would make an object of is for its decoder, which takes twice as long.
            return loads(text) if "__type__" in text else json.loads(text)
        why = f"of more than {MAX_ENVELOPE} bytes"
    except Exception:  # noqa: BLE001 - kombu's decoder raises anything, RecursionError too
        why = "that is no JSON in UTF-8, or nested too deeply,"
    ends = item[:_ENDS] + item[_ENDS:][-_ENDS:]
    found = _ID.search(ends)
    is_known = found is not None and _SEND_SMS.search(ends) is not None
    what = "was refused" if is_known else "was dropped"
    log.error("an item %s %s from a queue; it is not shown", why, what)
    if found is None or not is_known:
        return None
    return {"headers": {"task": SEND_SMS, "id": found[1].decode()}}


def is_in_ledger(message: Any) -> bool:
    """Return whether the ledger has what a kombu message is about, and so wakes it up again.

    It has all that smsq itself publishes. Bare messages and reports of others it does not have.
    """
    task = message.headers.get("task")
    try:
        if task == SEND_SMS and message.body in NO_ARGUMENTS:
            # As all of smsq's own. The decoder would take longer than all else that is done here.
            message._decoded_cache = ([], {}, {})  # noqa: SLF001
            return True
        args, kwargs, _ = message.payload
    except Exception:  # noqa: BLE001 - on invalid input any decoder may raise anything
        return False
    if task == SEND_SMS:
        return not (args or kwargs)
    return task in {SEND_BATCH, NOTIFY_OUTCOME} or (task == RECONCILE_REPORT and len(args) == 1)


def sanitize_envelope(message: Any, queue: str) -> dict[str, Any]:
    """Return an envelope in which every part has the type that kombu and Celery rely on.

    A body that may not be decoded is omitted: the message is then refused under its id.
    """
    message = _object(message)
    given = _object(message.get("headers"))
    if "task" not in given:
        message = _of_protocol_2(message)
        given = message["headers"]
    properties = _object(message.get("properties"))
    tag, encoding = properties.get("delivery_tag"), properties.get("body_encoding")
    message_id, task = given.get("id"), given.get("task")
    # Without a task, Celery would decode the body and trust everything in it.
    # Celery's own tasks (map, chunks) would run ours without a request, and so without an id.
    is_task = isinstance(task, str) and TASK.fullmatch(task) and not task.startswith("celery.")
    headers = {"id": message_id if is_id(message_id) else uuid4().hex}
    headers["task"] = task if is_task else NO_TASK
    headers |= {name: _header(given[name]) for name in HEADERS if given.get(name) is not None}
    may_be_decoded = (
        is_id(message_id)
        and given.get("compression") is None
        and message.get("content-type") == JSON_TYPE
    )
    return {
        "body": _body(message.get("body"), encoding) if may_be_decoded else "",
        "content-type": JSON_TYPE,
        "content-encoding": "utf-8",
        "headers": headers,
        "properties": {
            "delivery_tag": tag if is_id(tag) else uuid4().hex,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "body_encoding": "base64" if encoding == "base64" else None,
        },
    }


def has_arguments(message: dict[str, Any]) -> bool:
    """Return whether a sanitized message calls its task with arguments, or with what is none."""
    body = message["body"]
    try:
        args, kwargs, *_ = json.loads(
            b64decode(body) if message["properties"]["body_encoding"] else body
        )
    except Exception:  # noqa: BLE001 - as above
        return True
    return bool(args or kwargs)


def _of_protocol_2(message: dict[str, Any]) -> dict[str, Any]:
    """Convert a message of Celery's protocol 1, which has everything in its body."""
    safe = sanitize_envelope(message | {"headers": {"task": NO_TASK, "id": NO_TASK}}, "")
    try:
        text = safe["body"]
        content = loads(b64decode(text) if safe["properties"]["body_encoding"] else text)
        headers = {name: content.get(name) for name in ("task", "id", "eta", "expires")}
        body = dumps([content.get("args") or [], content.get("kwargs") or {}, {}])
    except Exception:  # noqa: BLE001 - as above
        headers, body = {}, ""
    headers["compression"] = _object(message.get("headers")).get("compression")
    properties = _object(message.get("properties")) | {"body_encoding": None}
    return message | {"headers": headers, "body": body, "properties": properties}


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _header(value: Any) -> str:
    """Return a header of short text; of any other only that it was there."""
    is_text = isinstance(value, str) and len(value) <= MAX_HEADER and value.isprintable()
    return value if is_text else ""


def _body(value: Any, encoding: Any) -> str:
    text = value if isinstance(value, str) else ""
    try:
        b64decode(text) if encoding == "base64" else text.encode()
    except ValueError:
        return ""
    return text
