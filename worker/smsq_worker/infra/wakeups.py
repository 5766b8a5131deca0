"""The ids in a queued wake-up: of one message, or of a batch."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Final

from smsq.contract import SEND_BATCH
from smsq.ids import is_id

OLDEST: Final = """
-- Return the item that is next in each queue: false if it is empty, '' if the item is longer than
-- any of smsq's.
-- KEYS queues  ARGV[1] the most bytes
local found = {}
for i, queue in ipairs(KEYS) do
  local item = redis.call('LINDEX', queue, -1)
  found[i] = item and (#item <= tonumber(ARGV[1]) and item or '')
end
return found
"""


def ids_of(item: str | bytes) -> list[str]:
    """Return the ids of the messages that a Celery message wakes up; none if it is invalid."""
    try:
        envelope = json.loads(item)
        found = [envelope["headers"]["id"]]
        if envelope["headers"].get("task") == SEND_BATCH:
            body = envelope["body"]
            # In plain text or in base64, which has no brackets.
            found = list(json.loads(body if body[:1] == "[" else b64decode(body))[0][0])
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return []
    return [one for one in found if is_id(one)]


def some_ids(body: str | bytes) -> list[str]:
    """Return up to three of them, from the first to the last; [""] if there are none."""
    found = ids_of(body)
    return [found[n] for n in sorted({0, len(found) // 2, len(found) - 1})] if found else [""]
