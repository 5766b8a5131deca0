"""A Flask app that tells people by SMS that their parcel has arrived."""

import os
from typing import Any

from flask import Flask, Response, jsonify, request

import smsq


def create_app() -> Flask:
    """Build the app. Raises smsq.SettingsError: nothing starts with bad settings."""
    smsq.configure(
        redis_url=os.environ.get("NOTICE_REDIS_URL"),  # None: SMSQ_REDIS_URL, or this machine's
        enqueue_timeout_s=1,
    )
    app = Flask(__name__)
    app.add_url_rule("/parcels/<parcel>/arrived", view_func=arrived, methods=["POST"])
    app.add_url_rule("/reminders", view_func=remind, methods=["POST"])
    app.add_url_rule("/messages/<message_id>", view_func=message)
    app.register_error_handler(smsq.InvalidMessage, refused)
    app.register_error_handler(smsq.LedgerUnavailable, unavailable)
    return app


def arrived(parcel: str) -> tuple[Response, int]:
    """Notify one person. Called again for the same parcel, it sends nothing."""
    result = smsq.send_sms.delay(
        request.form["phone"], "SMS_3001", request.form["shelf"], key=f"parcel:{parcel}"
    )
    if result.duplicate_of:
        return jsonify(id=result.duplicate_of), 200
    return jsonify(id=result.id), 202


def remind() -> tuple[Response, int]:
    """Remind many; bad numbers are left out and named by their place in the list."""
    phones: list[str] = request.get_json()["phones"]
    rows = ({"phone": phone, "template": "SMS_3002"} for phone in phones)
    sent = smsq.send_many(rows, on_invalid="skip")
    return jsonify(sent=int(sent), bad=[error.index for error in sent.invalid]), 202


def message(message_id: str) -> tuple[Response, int]:
    """Return what became of a message."""
    found = smsq.status(message_id)
    if found is None:
        return jsonify(error="no such message"), 404
    return jsonify(id=found.id, state=found.state, reason=found.reason), 200


def refused(error: smsq.InvalidMessage) -> tuple[Response, int]:
    """Answer with what is wrong with the message."""
    return jsonify(error=str(error)), 400


def unavailable(_: smsq.LedgerUnavailable) -> tuple[Response, int, dict[str, Any]]:
    """Answer 503, to be called again: the key keeps the message from being sent twice."""
    return jsonify(error="try again"), 503, {"Retry-After": "5"}
