"""Reports of a described vendor: where they are, and whether they are its own."""

from __future__ import annotations

import hashlib
import hmac
import json
from contextlib import suppress
from dataclasses import replace
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.descriptions import ANSWER, REQUEST, Made
from smsq_worker.vendors.http.pointer import pointer
from smsq_worker.vendors.http.reports import Incoming
from smsq_worker.vendors.http.signature import Signature
from smsq_worker.vendors.vendor import ReportAnswer, ReportRequest, Reports, WrongSignature

PLACE = """
[reports]
mid = "/id"
stat = ["/error", "/state"]
stats = { ok = "DELIVRD" }
"""
GOOD = Reports((("A1", "DELIVRD"),), 0)
ONE = {"id": "A1", "state": "ok"}
DEEP = "[" * 10_000


def posted(body: str | bytes, query: str = "", **headers: str) -> ReportRequest:
    data = body.encode() if isinstance(body, str) else body
    url = f"https://h/reports/t{'?' if query else ''}{query}"
    return ReportRequest("POST", url, headers, query.encode(), data)


@pytest.mark.parametrize(
    ("more", "request_", "expected"),
    [
        pytest.param("", posted(json.dumps(ONE)), GOOD, id="an object"),
        pytest.param("", posted(json.dumps([ONE])), GOOD, id="an array"),
        pytest.param("", posted(json.dumps({"id": 7, "state": 3})), Reports((("7", "3"),), 0)),
        pytest.param("", posted("[]"), Reports((), 0), id="an empty array"),
        pytest.param('items = "/d/list"', posted(json.dumps({"d": {"list": [ONE]}})), GOOD),
        pytest.param('items = "/d/list"', posted(json.dumps([ONE])), Reports((), 1), id="nowhere"),
        pytest.param('in = "form"', posted(urlencode(ONE)), GOOD, id="a form"),
        pytest.param('in = "query"', posted("", urlencode(ONE)), GOOD, id="a query"),
        pytest.param('in = "form"\nfield = "r"', posted(urlencode({"r": json.dumps([ONE])})), GOOD),
        pytest.param(
            'in = "form"\nfield = "r"', posted(urlencode({"r": quote(json.dumps([ONE]))})), GOOD
        ),
        pytest.param('in = "form"\nfield = "r"', posted("x=1"), Reports((), 1), id="no field"),
        pytest.param('in = "form"', posted("a&" * 300), Reports((), 1), id="many fields"),
        pytest.param("", posted(DEEP), Reports((), 1), id="deep"),
        pytest.param("", posted(b"\xff\xfe\x00"), Reports((), 1), id="binary"),
        pytest.param("", posted("7"), Reports((), 1), id="a number"),
        pytest.param("", posted('[7, null, "x", [], {}]'), Reports((), 5), id="none of them"),
        pytest.param("", posted(json.dumps([ONE, {"id": "a b"}])), Reports(GOOD.good, 1)),
        pytest.param("", posted(json.dumps({"id": "smsq-test:1", "state": "ok"})), Reports((), 1)),
        pytest.param("", posted(json.dumps({"id": "A1", "state": "x" * 65})), Reports((), 1)),
        pytest.param(
            "", posted(json.dumps(ONE | {"error": "E9"})), Reports((("A1", "E9"),), 0), id="first"
        ),
    ],
)  # fmt: skip
def test_reports_are_read(
    described: Made, more: str, request_: ReportRequest, expected: Reports
) -> None:
    assert described(REQUEST, ANSWER, PLACE + more).read_reports(request_) == expected


def test_without_reports_none_are_taken(described: Made) -> None:
    vendor = described(REQUEST, ANSWER)
    assert vendor.read_reports(posted(json.dumps(ONE))) == Reports((), 1)
    assert vendor.report_answer("malformed").status == 404


def test_a_vendor_is_answered_as_it_expects(described: Made) -> None:
    expects = """
[reports.answer]
status = 202
content_type = "application/json"
body = '{"a":1}'
"""
    vendor = described(REQUEST, ANSWER, PLACE, expects)
    taken = vendor.report_answer("taken")
    assert (taken.status, taken.content_type, taken.body) == (202, "application/json", b'{"a":1}')
    statuses = [vendor.report_answer(one).status for one in ("malformed", "refused", "no_room")]
    assert statuses == [400, 403, 503]


BODY = json.dumps(ONE | {"token": "abc"})
KEY = b"password"
KNOWN_AS = "https://sms.example.com/reports/t"


@pytest.mark.parametrize(
    ("signature", "right"),
    [
        pytest.param("kind = 'token'", "password", id="token"),
        pytest.param(
            "kind = 'hmac-sha256'\nover = ['body']",
            hmac.new(KEY, BODY.encode(), "sha256").hexdigest(),
            id="hmac over the body",
        ),
        pytest.param(
            "kind = 'hmac-sha256'\nover = ['body']",
            hmac.new(KEY, BODY.encode(), "sha256").hexdigest().upper(),
            id="in capitals",
        ),
        pytest.param(
            "kind = 'hmac-sha512'\nover = ['url', 'body']\norigin = 'https://sms.example.com'",
            hmac.new(KEY, KNOWN_AS.encode() + BODY.encode(), "sha512").hexdigest(),
            id="hmac over the address that it knows",
        ),
        pytest.param(
            "kind = 'md5'\nover = ['/token', 'key']",
            hashlib.md5(b"abcpassword").hexdigest(),
            id="md5 of a token and the key",
        ),
    ],
)
def test_a_signature_in_a_header(described: Made, signature: str, right: str) -> None:
    said = f"[reports.signature]\n{signature}\nkey = '{{secret.password}}'\nheader = 'X-Sign'"
    vendor = described(REQUEST, ANSWER, PLACE, said)
    assert vendor.read_reports(posted(BODY, **{"x-sign": right})) == GOOD
    for wrong in ("", right[:-1], "é", right[:-1] + ("0" if right[-1] != "0" else "1")):
        with pytest.raises(WrongSignature):
            vendor.read_reports(posted(BODY, **{"x-sign": wrong}))
    with pytest.raises(WrongSignature):
        vendor.read_reports(posted(BODY))


HALF_A_CHARACTER = r'{"sign": "\ud800", "token": "\udfff"}'
INCOMING = {
    place: Incoming(
        place=place,
        field="",
        items=pointer(""),
        mid=pointer("/id"),
        stat=[pointer("/state")],
        stats={},
        signature=Signature("md5", "k", "x-sign", None, ["body", pointer("/a"), "key"], "hex", ""),
        answer=ReportAnswer(200, "text/plain", b""),
    )
    for place in ("json", "form")
}


@given(st.sampled_from(["json", "form"]), st.binary(max_size=200), st.text(max_size=20))
def test_no_body_and_no_signature_raises_anything_else(place: str, body: bytes, sign: str) -> None:
    request, incoming = posted(body, **{"x-sign": sign}), INCOMING[place]
    with suppress(WrongSignature):
        incoming.read(request)
    assert isinstance(replace(incoming, signature=None).read(request), Reports)


@pytest.mark.parametrize("body", ["", DEEP, "7", '{"sign": {}}', "\x00", HALF_A_CHARACTER])
def test_a_signature_in_a_body_that_is_none(described: Made, body: str) -> None:
    said = "[reports.signature]\nkind = 'md5'\nover = ['/token', 'key']\nkey = 'k'\nfield = '/sign'"
    vendor = described(REQUEST, ANSWER, PLACE, said)
    with pytest.raises(WrongSignature):
        vendor.read_reports(posted(body))
    signed = ONE | {"token": "t", "sign": hashlib.md5(b"tk").hexdigest()}
    assert vendor.read_reports(posted(json.dumps(signed))) == GOOD
