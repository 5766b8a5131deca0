"""The app's tests: no Redis, no worker."""

from typing import Any

import pytest
from app import create_app
from flask.testing import FlaskClient

from smsq.testing import Outbox

PARCEL = {"phone": "138-0013-8000", "shelf": "A-07"}


@pytest.fixture
def client() -> FlaskClient:
    return create_app().test_client()


def arrive(client: FlaskClient, **changed: str) -> tuple[int, Any]:
    answer = client.post("/parcels/77/arrived", data=PARCEL | changed)
    return answer.status_code, answer.json


def test_a_person_is_told_once_of_a_parcel(client: FlaskClient, smsq_outbox: Outbox) -> None:
    assert arrive(client)[0] == 202
    (sms,) = smsq_outbox
    assert (sms.phone, sms.template, sms.code) == ("13800138000", "SMS_3001", "A-07")
    assert arrive(client) == (200, {"id": sms.id})


def test_a_failed_message_is_shown_as_such(client: FlaskClient, smsq_outbox: Outbox) -> None:
    _, message = arrive(client)
    smsq_outbox.fail(message["id"], "MA:0001")
    assert b'"failed"' in client.get(f"/messages/{message['id']}").data
    assert client.get("/messages/unknown").status_code == 404


def test_a_bad_number_is_refused(client: FlaskClient, smsq_outbox: Outbox) -> None:
    code, answer = arrive(client, phone="12")
    assert code == 400
    assert "phone must be" in answer["error"]
    assert len(smsq_outbox) == 0


def test_of_many_the_bad_ones_are_left_out(client: FlaskClient, smsq_outbox: Outbox) -> None:
    answer = client.post("/reminders", json={"phones": ["13800138000", "12", "13800138001"]})
    assert answer.json == {"sent": 2, "bad": [1]}
    assert [sms.phone for sms in smsq_outbox] == ["13800138000", "13800138001"]


def test_while_redis_is_away_the_caller_is_asked_again(
    client: FlaskClient, smsq_outbox: Outbox
) -> None:
    smsq_outbox.unavailable()
    answer = client.post("/parcels/77/arrived", data=PARCEL)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert arrive(client)[0] == 202
