"""Messages by Redis commands, without any library of ours, as other-languages.md says."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from urllib.parse import parse_qs, urlsplit

import pytest

from harness.documents import rows
from harness.waiting import eventually
from harness.wire import WIRE, Envelope, Wire, body_of, example, fresh, wired, with_body

FIELDS = {name.strip("`"): needed for name, needed, _ in rows(WIRE, "| field | needed | |")}
NEEDED = [name for name, needed in FIELDS.items() if needed == "yes"]


def without(message: Envelope, field: str) -> Envelope:
    *path, last = field.split(".")
    part = message
    for name in path:
        part = part[name]
    del part[last]
    return message


@pytest.fixture(scope="module")
def wire(
    base_environ: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Wire]:
    with wired(base_environ, tmp_path_factory.mktemp("wire")) as running:
        yield running


def test_the_example_is_delivered(wire: Wire) -> None:
    message = example()
    body = body_of(message)
    assert f"```\n{json.dumps(body, separators=(',', ':'))}\n```" in WIRE
    message_id = wire.push(message)
    accepted = wire.becomes(message_id, "accepted")
    path, _ = wire.host.vendor.calls[-1]
    query = parse_qs(urlsplit(path).query)
    assert [query[name] for name in ("mobphone", "smstemplate", "code")] == [[a] for a in body[0]]
    wire.api.report({"mid": accepted["attempts"][-1]["mid"], "stat": "DELIVRD"})
    assert wire.becomes(message_id, "delivered")["lane"] == "otp"
    again = wire.push(example())
    assert wire.becomes(again, "duplicate")["reason"] == f"duplicate:{message_id}"


def test_what_is_not_needed_can_be_left_out(wire: Wire) -> None:
    message = fresh(example())
    for field in FIELDS:
        if field not in NEEDED:
            without(message, field)
    wire.becomes(wire.push(message), "accepted")


@pytest.mark.parametrize("field", NEEDED)
def test_what_is_needed_is_needed(wire: Wire, field: str) -> None:
    message_id = wire.push(without(fresh(example()), field))
    wire.becomes(wire.push(fresh(example())), "accepted")
    eventually(lambda: not wire.command("EXISTS", "sms.otp"))
    assert not message_id or wire.field(message_id) in {"", "failed"}


def test_another_lane_has_another_queue(wire: Wire) -> None:
    message = with_body(["13800138000", "SMS_1001"], {"lane": "bulk"}, {})
    message["properties"]["delivery_info"]["routing_key"] = "sms.bulk"
    assert wire.becomes(wire.push(message, "sms.bulk"), "accepted")["lane"] == "bulk"


def test_without_a_lane_it_is_a_notice_whatever_the_queue(wire: Wire) -> None:
    message = with_body(["13800138000", "SMS_1001"], {}, {})
    assert wire.becomes(wire.push(message), "accepted")["lane"] == "notice"


def test_the_body_may_be_the_text_itself(wire: Wire) -> None:
    message = without(fresh(example()), "properties.body_encoding")
    message["body"] = base64.b64decode(message["body"]).decode()
    wire.becomes(wire.push(message), "accepted")


def test_an_id_that_is_pushed_twice_is_sent_once(wire: Wire) -> None:
    before = len(wire.host.vendor.calls)
    message = fresh(example())
    message_id = wire.push(message)
    wire.becomes(message_id, "accepted")
    message["properties"]["delivery_tag"] = "another"
    wire.push(message)
    wire.becomes(wire.push(fresh(example())), "accepted")
    eventually(lambda: not wire.host.client.exists("sms.otp", "unacked"))
    assert len(wire.host.vendor.calls) == before + 2


@pytest.mark.parametrize(
    "body",
    [
        [["12345", "SMS_1001", "482913"], {}, {}],
        [["13800138000", "SMS_1001", 482913], {}, {}],
        [["13800138000", "SMS_1001"], {"lane": "fast"}, {}],
        [["13800138000", "SMS_1001"], {"colour": "red"}, {}],
        [["13800138000", "SMS_1001"], [], {}],
        ["13800138000", "SMS_1001", "482913"],
    ],
    ids=["number", "code", "lane", "name", "PHP's empty array", "no triple"],
)
def test_a_mistake_fails_under_its_id(wire: Wire, body: list[object]) -> None:
    before = len(wire.host.vendor.calls)
    told = wire.becomes(wire.push(with_body(*body)), "failed")
    assert (told["reason"], len(wire.host.vendor.calls)) == ("local:invalid", before)
    assert "13800138000" not in told["detail"]


def with_part(value: object, *path: str) -> str:
    message = part = fresh(example())
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = value
    return json.dumps(message)


@pytest.mark.parametrize(
    "envelope",
    [
        "no JSON",
        "[1]",
        "5",
        with_part([5], "properties"),
        with_part([5], "properties", "delivery_tag"),
        with_part("x", "properties", "delivery_info"),
        with_part("rot13", "properties", "body_encoding"),
        with_part("abc", "body"),
        with_part(7, "body"),
        with_part([1], "headers"),
        with_part([5], "headers", "task"),
        with_part("x", "headers", "retries"),
        with_part(7, "headers", "stamped_headers"),
    ],
)
def test_rubbish_neither_ends_the_worker_nor_stays(wire: Wire, envelope: str) -> None:
    wire.command("LPUSH", "sms.otp", envelope)
    wire.becomes(wire.push(fresh(example())), "accepted")
    eventually(lambda: not wire.host.client.exists("sms.otp", "unacked"))
    assert wire.host.workers[0].poll() is None


def test_a_callback_in_the_body_is_not_called(wire: Wire) -> None:
    link = {"callbacks": [{"task": "x"}], "chord": 5}
    wire.becomes(wire.push(with_body(["13800138000", "SMS_1001"], {}, link)), "accepted")
    eventually(lambda: not wire.host.client.exists("unacked"))
