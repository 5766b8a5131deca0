"""Signed webhooks, as standardwebhooks.com specifies them."""

from __future__ import annotations

import hmac
import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

from smsq_worker.ledger.campaigns import FINISHED

_IN_A_HEADER = "!#$&'()*+,/:;=?@[]"


def event(outcome: Mapping[str, Any]) -> bytes:
    """Return the body for the outcome of a message or a campaign.

    It has `state` and `finished_at`, ISO 8601.
    """
    what = "campaign" if outcome["state"] == FINISHED else "message"
    body = {
        "type": f"{what}.{outcome['state']}",
        "timestamp": outcome["finished_at"],
        "data": dict(outcome),
    }
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def header_id(callback_id: str) -> str:
    """Return a callback's id as a header can hold it: percent-encoded where it is not ASCII."""
    return callback_id if callback_id.isascii() else quote(callback_id, safe=_IN_A_HEADER)


def signed(
    keys: Sequence[bytes], webhook_id: str, at: datetime | int, body: bytes
) -> dict[str, str]:
    """Return the headers that sign a body, with one signature for each key.

    `at` is when it is sent, aware or in Unix seconds; endpoints refuse more than 5 minutes of skew.
    """
    seconds = int(at.timestamp() if isinstance(at, datetime) else at)
    content = f"{webhook_id}.{seconds}.".encode() + body
    macs = (hmac.digest(key, content, "sha256") for key in keys)
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(seconds),
        "webhook-signature": " ".join(f"v1,{b64encode(mac).decode()}" for mac in macs),
    }
