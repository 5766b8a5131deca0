"""Signed webhooks, held against the reference library."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from smsq_worker.callbacks.signing import event, header_id, signed

OLD = bytes(range(24))
NEW = bytes(range(64))
OUTCOME = {
    "id": "3f2a",
    "state": "delivered",
    "reference": "订单 7781",
    "finished_at": "2026-03-01T08:00:00.123000+00:00",
}


def verify(key: bytes, body: bytes, headers: dict[str, str]) -> Any:
    return Webhook(f"whsec_{b64encode(key).decode()}").verify(body, headers)


@pytest.mark.parametrize("keys", [[OLD], [NEW, OLD], [OLD, NEW]])
def test_each_of_the_keys_verifies(keys: list[bytes]) -> None:
    body = event(OUTCOME)
    headers = signed(keys, "3f2a.delivered", datetime.now(UTC), body)
    for key in keys:
        assert verify(key, body, headers)["data"] == OUTCOME
    assert len(headers["webhook-signature"].split(" ")) == len(keys)


def test_another_key_does_not() -> None:
    body = event(OUTCOME)
    with pytest.raises(WebhookVerificationError, match="No matching"):
        verify(NEW, body, signed([OLD], "3f2a", datetime.now(UTC), body))


def test_what_is_signed_cannot_be_changed() -> None:
    now = int(datetime.now(UTC).timestamp())
    body = event(OUTCOME)
    headers = signed([OLD], "3f2a", now, body)
    for changed, told in (
        (body + b" ", headers),
        (body, headers | {"webhook-id": "other"}),
        (body, headers | {"webhook-timestamp": str(now - 7)}),
    ):
        with pytest.raises(WebhookVerificationError, match="No matching"):
            verify(OLD, changed, told)


def test_the_time_is_that_of_sending_in_whole_seconds() -> None:
    at = datetime(2026, 3, 1, 8, 0, 0, 999_999, tzinfo=UTC)
    seconds = int(at.timestamp())
    assert signed([OLD], "3f2a", at, b"{}") == signed([OLD], "3f2a", seconds, b"{}")
    assert signed([OLD], "3f2a", at, b"{}")["webhook-timestamp"] == str(seconds)
    with pytest.raises(WebhookVerificationError, match="too old"):
        verify(OLD, b"{}", signed([OLD], "3f2a", datetime.now(UTC) - timedelta(minutes=6), b"{}"))


@given(st.lists(st.binary(min_size=24, max_size=64), min_size=1, max_size=3), st.text())
def test_any_keys_and_any_text_agree_with_the_reference(keys: list[bytes], text: str) -> None:
    at = datetime(2026, 3, 1, tzinfo=UTC)
    body = json.dumps({"text": text}).encode()
    reference = [Webhook(key).sign("3f2a", at, body.decode()) for key in keys]
    assert signed(keys, "3f2a", at, body)["webhook-signature"] == " ".join(reference)


@pytest.mark.parametrize(
    ("callback_id", "header"),
    [
        ("3f2a/x:1.delivered", "3f2a/x:1.delivered"),
        ("订单 1.failed", "%E8%AE%A2%E5%8D%95%201.failed"),
        ("é%.failed", "%C3%A9%25.failed"),
    ],
)
def test_an_id_that_no_header_can_hold_is_encoded_and_verifies(
    callback_id: str, header: str
) -> None:
    body = event(OUTCOME)
    headers = signed([OLD], header_id(callback_id), datetime.now(UTC), body)
    assert headers["webhook-id"] == header
    assert verify(OLD, body, headers)["data"] == OUTCOME


def test_an_event_names_what_happened_and_when() -> None:
    body = event(OUTCOME)
    assert json.loads(body) == {
        "type": "message.delivered",
        "timestamp": "2026-03-01T08:00:00.123000+00:00",
        "data": OUTCOME,
    }
    assert "订单 7781".encode() in body
