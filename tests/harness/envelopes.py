"""Celery messages in the queues: taken away, and made comparable."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

import redis

Envelope = dict[str, Any]


def taken(client: redis.Redis, name: str = "notice") -> list[Envelope]:
    """Take everything from the queue of a lane, or of reports, the first to be delivered first."""
    items: Any = client.lrange(f"sms.{name}", 0, -1)
    client.delete(f"sms.{name}")
    return [json.loads(item) for item in reversed(items)]


def published(client: redis.Redis, name: str = "notice") -> Envelope:
    """Take what Celery published, without copies of two headers that nothing reads."""
    (found,) = taken(client, name)
    for header in ("argsrepr", "kwargsrepr"):
        assert found["properties"].pop(header) == found["headers"][header]
    return found


def popped_tag(found: Envelope) -> str:
    tag = found["properties"].pop("delivery_tag")
    assert isinstance(tag, str)
    return tag


def popped_id(found: Envelope) -> str:
    """Take away the id of an envelope that Celery would have made up, from all its places."""
    own_id = found["headers"].pop("id")
    assert isinstance(own_id, str)
    assert len(own_id) == 36
    assert found["headers"].pop("root_id") == own_id
    assert found["properties"].pop("correlation_id") == own_id
    return own_id


def with_decoded_body(found: Envelope) -> Envelope:
    encoding = found["properties"].pop("body_encoding")
    text = b64decode(found["body"]) if encoding == "base64" else found["body"]
    return found | {"body": json.loads(text)}
