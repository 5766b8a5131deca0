"""Understanding the gateway's answers: a table of what it may say and what is concluded."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from smsq_worker.domain.states import Outcome
from smsq_worker.infra.http import MAX_RETRY_AFTER_S
from smsq_worker.vendors.mids import clean_mid
from smsq_worker.vendors.oneoc.response import loads, understand
from smsq_worker.vendors.vendor import GatewayResult

ACCEPTED = Outcome.ACCEPTED
REFUSED = Outcome.REFUSED
NOT_SENT = Outcome.NOT_SENT
MAYBE_SENT = Outcome.MAYBE_SENT

MID = "1151894566D2EDD9"
GOOD = '{"code": 200, "msg": "ok", "mid": "1151894566D2EDD9"}'
NO = '{"code": 400, "msg": "校验失败", "mid": ""}'
PAGE = "<html><title>no</title></html>"
BOM = "\ufeff"


def concluded(status: int, body: str | bytes, **headers: str) -> GatewayResult:
    data = body.encode() if isinstance(body, str) else body
    return understand(status, {name.replace("_", "-"): v for name, v in headers.items()}, data)


def unreadable(status: int) -> GatewayResult:
    return GatewayResult(MAYBE_SENT, f"unreadable answer, http {status}", trouble=True)


# --- the table ------------------------------------------------------------------------------


def with_mid(value: Any) -> str:
    return json.dumps({"code": 200, "msg": "ok", "mid": value})


@pytest.mark.parametrize(
    ("status", "body", "mid"),
    [
        pytest.param(200, GOOD, MID, id="as documented"),
        pytest.param(200, '{"code":"200","mid":"A1"}', "A1", id="code as text"),
        pytest.param(200, '{"code":" 200\\n","mid":"A1"}', "A1", id="code as text with blanks"),
        pytest.param(200, '{"mid":"A1","code":200,"x":[{}]}', "A1", id="more than documented"),
        pytest.param(200, '{"code":400,"code":200,"mid":"A1"}', "A1", id="code twice"),
        pytest.param(200, BOM + GOOD, MID, id="a BOM"),
        pytest.param(200, BOM * 3 + GOOD, MID, id="a BOM of each included file"),
        pytest.param(200, f"\r\n \t{BOM}\n{GOOD}", MID, id="blanks and a BOM"),
        pytest.param(200, f"\v\f{GOOD}\r\n\v{BOM}", MID, id="something behind"),
        pytest.param(201, GOOD, MID, id="status 201"),
        pytest.param(302, GOOD, MID, id="a redirect with a body"),
        pytest.param(404, GOOD, MID, id="status 404 and a mid"),
        pytest.param(429, GOOD, MID, id="status 429 and a mid"),
        pytest.param(500, GOOD, MID, id="status 500 and a mid"),
        pytest.param(503, GOOD, MID, id="status 503 and a mid"),
        pytest.param(200, with_mid(1151894566), "1151894566", id="mid as a number"),
        pytest.param(200, with_mid(" A1\n"), "A1", id="mid with blanks around"),
        pytest.param(200, with_mid("x" * 64), "x" * 64, id="the longest mid"),
        pytest.param(200, with_mid("!~"), "!~", id="mid of odd signs"),
    ],
)
def test_code_200_with_a_mid_is_accepted_whatever_the_status(
    status: int, body: str, mid: str
) -> None:
    assert concluded(status, body) == GatewayResult(ACCEPTED, "", mid)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param('{"code": 200, "msg": "ok"}', id="no mid"),
        pytest.param(with_mid(""), id="empty"),
        pytest.param(with_mid("  "), id="blanks"),
        pytest.param(with_mid(None), id="null"),
        pytest.param(with_mid("A 1"), id="a blank inside"),
        pytest.param(with_mid("A\x001"), id="a control character"),
        pytest.param(with_mid("x" * 65), id="too long"),
        pytest.param(with_mid("编号"), id="not ASCII"),
        pytest.param(with_mid("\ud800"), id="half a surrogate pair"),
        pytest.param(with_mid(1.5), id="a fraction"),
        pytest.param(with_mid(True), id="true"),
        pytest.param(with_mid(["A1"]), id="a list"),
        pytest.param(with_mid({"mid": "A1"}), id="an object"),
        pytest.param('{"code": 200, "mid": 1e400}', id="infinite"),
        pytest.param('{"code": 200, "mid": %s}' % ("1" * 65), id="too long a number"),
    ],
)
def test_code_200_without_a_usable_mid_is_accepted_and_flagged(body: str) -> None:
    assert concluded(200, body) == GatewayResult(ACCEPTED, "no usable mid")


@pytest.mark.parametrize(
    ("status", "body", "detail"),
    [
        pytest.param(200, NO, "gateway:400 校验失败", id="as documented"),
        pytest.param(200, '{"code":"400","msg":"no"}', "gateway:400 no", id="code as text"),
        pytest.param(200, '{"code":400}', "gateway:400", id="no msg"),
        pytest.param(200, '{"code":400,"msg":7}', "gateway:400", id="msg as a number"),
        pytest.param(200, '{"code":400,"msg":" "}', "gateway:400", id="a blank msg"),
        pytest.param(200, '{"code":400,"mid":"A1"}', "gateway:400", id="with a mid"),
        pytest.param(200, '{"code":0}', "gateway:0", id="code 0"),
        pytest.param(200, '{"code":-1}', "gateway:-1", id="a negative code"),
        pytest.param(200, '{"code":"0401"}', "gateway:401", id="leading zeros"),
        pytest.param(200, '{"code":500,"msg":"x"}', "gateway:500 x", id="code 500"),
        pytest.param(200, '{"code":429,"msg":"x"}', "gateway:429 x", id="code 429"),
        pytest.param(200, BOM + NO, "gateway:400 校验失败", id="a BOM"),
        pytest.param(302, NO, "gateway:400 校验失败", id="a redirect with a body"),
        pytest.param(400, NO, "gateway:400 校验失败", id="status 400 as well"),
        pytest.param(401, NO, "gateway:400 校验失败", id="status 401 with a body"),
        pytest.param(400, PAGE, "gateway:http-400", id="status 400 and a page"),
        pytest.param(401, PAGE, "gateway:http-401", id="status 401 and a page"),
        pytest.param(403, PAGE, "gateway:http-403", id="status 403 and a page"),
        pytest.param(404, PAGE, "gateway:http-404", id="status 404 and a page"),
        pytest.param(405, "", "gateway:http-405", id="status 405 and nothing"),
        pytest.param(414, PAGE, "gateway:http-414", id="status 414 and a page"),
        pytest.param(404, "[200]", "gateway:http-404", id="status 404 and a list"),
        pytest.param(403, '{"code":200}', "gateway:200", id="status 403 and 200 without a mid"),
    ],
)
def test_another_code_or_a_clients_error_is_refused(status: int, body: str, detail: str) -> None:
    assert replace(concluded(status, body), scope="") == GatewayResult(REFUSED, detail)


@pytest.mark.parametrize(
    ("status", "body", "scope"),
    [
        pytest.param(200, NO, "", id="400, said of the secret and of the number"),
        pytest.param(400, PAGE, "", id="status 400 and a page"),
        pytest.param(200, '{"code":0}', "", id="a code that nobody knows"),
        *(
            pytest.param(status, PAGE, "account", id=f"status {status} and a page")
            for status in (401, 402, 403, 404, 405, 407)
        ),
        pytest.param(401, NO, "account", id="status 401 with a body"),
        pytest.param(200, '{"code":"0402","msg":"余额不足"}', "account", id="code 402"),
        pytest.param(414, PAGE, "", id="too long a message"),
    ],
)
def test_a_refusal_says_whose_it_is_where_that_is_clear(status: int, body: str, scope: str) -> None:
    assert concluded(status, body).scope == scope


# What each says besides: that calls come too fast, that the gateway is in trouble.
NOT_TAKEN = {
    408: {"too_fast": False, "trouble": True},
    429: {"too_fast": True, "trouble": False},
    503: {"too_fast": True, "trouble": True},
}


@pytest.mark.parametrize("status", NOT_TAKEN)
@pytest.mark.parametrize(
    "body",
    [
        pytest.param("", id="nothing"),
        pytest.param(PAGE, id="a page"),
        pytest.param(NO, id="another code"),
        pytest.param('{"code": 200}', id="200 without a mid"),
    ],
)
def test_a_request_that_was_not_taken_was_not_sent(status: int, body: str) -> None:
    assert concluded(status, body) == GatewayResult(NOT_SENT, f"http {status}", **NOT_TAKEN[status])


@pytest.mark.parametrize("status", [500, 501, 502, 504, 507, 520, 599, 999])
@pytest.mark.parametrize(
    "body",
    [
        pytest.param("", id="nothing"),
        pytest.param(PAGE, id="a page"),
        pytest.param(NO, id="another code"),
        pytest.param('{"code": 200}', id="200 without a mid"),
    ],
)
def test_after_a_servers_error_nobody_can_know(status: int, body: str) -> None:
    call = concluded(status, body, Retry_After="9")
    assert call == GatewayResult(MAYBE_SENT, f"http {status}", trouble=True)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("", id="nothing"),
        pytest.param("  ", id="blanks"),
        pytest.param(BOM, id="a BOM alone"),
        pytest.param(PAGE, id="a page"),
        pytest.param("ok", id="a word"),
        pytest.param("200", id="a number"),
        pytest.param("null", id="null"),
        pytest.param(f"[{GOOD}]", id="a list"),
        pytest.param(json.dumps(GOOD), id="JSON in a text"),
        pytest.param(GOOD[:-1], id="cut off"),
        pytest.param(GOOD + GOOD, id="twice"),
        pytest.param(GOOD.replace('"', "'"), id="the wrong quotes"),
        pytest.param("{}", id="an empty object"),
        pytest.param('{"code": null, "mid": "A1"}', id="code null"),
        pytest.param('{"code": true, "mid": "A1"}', id="code true"),
        pytest.param('{"code": 200.5, "mid": "A1"}', id="a fraction as code"),
        pytest.param('{"code": "ok", "mid": "A1"}', id="a word as code"),
        pytest.param('{"code": "２００", "mid": "A1"}', id="wide digits as code"),
        pytest.param('{"code": "", "mid": "A1"}', id="an empty code"),
        pytest.param('{"code": [200], "mid": "A1"}', id="a list as code"),
        pytest.param('{"code": 2000000000}', id="too long a code"),
        pytest.param('{"code": %s}' % ("2" * 5000), id="a code without end"),
        pytest.param('{"data": {"code": 200}}', id="deeper than documented"),
        pytest.param(f'{{"code": {"[" * 900}1{"]" * 900}}}', id="a nested code"),
        pytest.param("[" * 100_000, id="nested without end"),
        pytest.param(b'{"code": 200, "mid": "\xff"}', id="no UTF-8"),
        pytest.param(b"\x1f\x8b\x08\x00", id="gzip"),
    ],
)
@pytest.mark.parametrize("status", [200, 302])
def test_an_answer_that_cannot_be_read_may_have_been_sent(status: int, body: str | bytes) -> None:
    assert concluded(status, body) == unreadable(status)


@pytest.mark.parametrize("status", [101, 103, 204, 301, 302, 303, 304, 307, 308])
def test_neither_a_redirect_nor_an_early_answer_says_anything(status: int) -> None:
    assert concluded(status, "") == unreadable(status)


def test_the_content_type_has_no_say() -> None:
    for kind in ("text/html", "text/html; charset=gbk", "application/octet-stream", "", "\xff"):
        assert concluded(200, GOOD, Content_Type=kind) == GatewayResult(ACCEPTED, "", MID)


# --- when to come back ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        pytest.param("0", 0, id="at once"),
        pytest.param("7", 7, id="seconds"),
        pytest.param(" 007 ", 7, id="blanks and zeros"),
        pytest.param("3600", MAX_RETRY_AFTER_S, id="just the most"),
        pytest.param("3601", MAX_RETRY_AFTER_S, id="more than the most"),
        pytest.param("9" * 12, MAX_RETRY_AFTER_S, id="huge"),
        pytest.param("9" * 5000, MAX_RETRY_AFTER_S, id="more than a float holds"),
        pytest.param("-5", 0, id="negative"),
        pytest.param("1.5", 0, id="a fraction"),
        pytest.param("", 0, id="empty"),
        pytest.param("soon", 0, id="a word"),
        pytest.param("7, 7", 0, id="twice"),
        pytest.param("٧", 0, id="other digits"),
        pytest.param("Wed, 21 Oct 2015 07:28:00 GMT", 0, id="a date that has passed"),
        pytest.param("Wed, 21 Oct 2999 07:28:00 GMT", MAX_RETRY_AFTER_S, id="a far date"),
        pytest.param("Wed, 21 Oct 2999 07:28:00 -0000", MAX_RETRY_AFTER_S, id="without a zone"),
        pytest.param("21 Oct 2999 07:28", MAX_RETRY_AFTER_S, id="half a date"),
        pytest.param("Wed, 41 Oct 2999 07:28:00 GMT", 0, id="no such day"),
        pytest.param("Wed, 21 Oct 99999999999 07:28:00 GMT", 0, id="no such year"),
        pytest.param("Wed, 21 Oct 2999 07:28:00 +99999999999999", 0, id="no such zone"),
        pytest.param("Fri, 31 Dec 9999 23:59:59 -2359", MAX_RETRY_AFTER_S, id="the end of time"),
        pytest.param("Mon, 01 Jan 0001 00:00:00 +2359", 0, id="the beginning of time"),
    ],
)
@pytest.mark.parametrize("status", NOT_TAKEN)
def test_retry_after_is_read_and_bounded(status: int, value: str, seconds: float) -> None:
    call = concluded(status, PAGE, Retry_After=value)
    assert call == GatewayResult(
        NOT_SENT, f"http {status}", retry_after_s=seconds, **NOT_TAKEN[status]
    )


def test_retry_after_may_be_a_date() -> None:
    half_an_hour = datetime.now(UTC) + timedelta(minutes=30)
    for zone in (UTC, datetime.now().astimezone().tzinfo):
        moment = format_datetime(half_an_hour.astimezone(zone))
        assert 0 < concluded(503, "", Retry_After=moment).retry_after_s <= 1800


@pytest.mark.parametrize("status", [200, 302, 400, 404, 500, 502])
def test_retry_after_counts_only_where_nothing_was_taken(status: int) -> None:
    assert concluded(status, PAGE, Retry_After="7").retry_after_s == 0


# --- what the vendor says -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        pytest.param("余额不足", "余额不足", id="words"),
        pytest.param("错误 123", "错误 123", id="a short number"),
        pytest.param("a\nb\x00c\u202ed", "a b c d", id="control characters"),
        pytest.param("x" * 99, "x" * 60, id="too long"),
        pytest.param("\ud83d", "", id="half a surrogate pair"),
        pytest.param("码482913错", "码****错", id="six digits"),
        pytest.param("4829", "****", id="four digits"),
        pytest.param("４８２９", "****", id="wide digits"),
        pytest.param("13800138000", "****", id="a number"),
        pytest.param("+86 138-0013-8000", "+****", id="a number in groups"),
        pytest.param("1 3 8 0 0 1", "****", id="spelt out"),
        pytest.param("x" * 58 + "482913", "x" * 58 + "**", id="digits where it is cut"),
    ],
)
def test_the_vendors_words_are_cut_and_what_may_be_a_number_or_a_code_is_masked(
    message: str, shown: str
) -> None:
    call = concluded(200, json.dumps({"code": 400, "msg": message}))
    assert call.detail == f"gateway:400 {shown}".strip()


@pytest.mark.parametrize(
    ("private", "message", "shown"),
    [
        pytest.param(["AB12"], "变量 AB12 无效", "变量 **** 无效", id="as it is"),
        pytest.param(["AB12"], "变量 ab12 无效", "变量 **** 无效", id="in other letters"),
        pytest.param(["a.*(["], "aXX( a.*([", "aXX( ****", id="not as a pattern"),
        pytest.param(["AB", "ABCD"], "ABCD AB", "**** ****", id="the longest first"),
        pytest.param([""], "words", "words", id="nothing"),
        pytest.param(["SECRET"], "x" * 57 + "SECRET", "x" * 57 + "***", id="where it is cut"),
    ],
)
def test_what_is_private_is_masked(private: list[str], message: str, shown: str) -> None:
    body = json.dumps({"code": 400, "msg": message}).encode()
    assert understand(200, {}, body, private).detail == f"gateway:400 {shown}"


visible = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="*"), min_size=1)


@given(st.text(), visible, st.text())
def test_nothing_private_is_ever_shown(before: str, private: str, after: str) -> None:
    body = json.dumps({"code": 7, "msg": f"{before}{private}{after}"}).encode()
    shown = understand(200, {}, body, [private]).detail.removeprefix("gateway:7 ")
    assert all(private not in part for part in shown.split("****"))


# --- for all ---------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=70),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
answers = st.fixed_dictionaries(
    {},
    optional={
        "code": st.sampled_from([200, 400, "200", "x"]) | json_values,
        "msg": json_values,
        "mid": st.sampled_from([MID, "", 7]) | json_values,
    },
).map(lambda answer: json.dumps(answer).encode())
dates = st.from_regex(
    r"[A-Z][a-z]{2}, [0-9]{1,9} (Jan|Oct|Dec) [0-9]{1,20} [0-9:]{1,9} ([+-][0-9]{1,20}|GMT)",
    fullmatch=True,
)
headers = st.fixed_dictionaries({}, optional={"Retry-After": st.text() | dates})


@settings(max_examples=500)
@given(st.integers(100, 999), headers, st.binary() | answers)
@example(503, {"Retry-After": "Mon, 01 Jan 99999999999 00:00:00 GMT"}, b"")
@example(200, {}, b'{"code": ' + b"[" * 2000 + b"]" * 2000 + b"}")
def test_every_answer_has_exactly_one_sensible_outcome(
    status: int, headers: dict[str, str], body: bytes
) -> None:
    call = understand(status, headers, body)
    assert call.outcome in set(Outcome)
    assert call.connected
    assert call.mid == clean_mid(call.mid)
    assert not call.mid or call.outcome is ACCEPTED
    assert 0 <= call.retry_after_s <= MAX_RETRY_AFTER_S
    assert not call.retry_after_s or call.outcome is NOT_SENT
    assert call.too_fast == (call.outcome is NOT_SENT and status in {429, 503})
    in_trouble = call.outcome is NOT_SENT and status != 429
    assert call.trouble == (call.outcome is MAYBE_SENT or in_trouble)
    assert call.detail.isprintable()
    assert len(call.detail) <= 80
    assert call.detail.startswith("gateway:") == (call.outcome is REFUSED)


@given(json_values)
def test_every_mid_is_short_printable_ascii(value: Any) -> None:
    mid = clean_mid(value)
    assert mid == "" or (mid.isascii() and mid.isprintable() and " " not in mid)
    assert len(mid) <= 64


@pytest.mark.parametrize("around", ["", BOM, BOM * 2, f" {BOM}\n", "\r\n\t\v\f"])
@given(value=json_values)
def test_json_is_read_whatever_stands_around_it(around: str, value: Any) -> None:
    text = json.dumps(value)
    assert repr(loads(f"{around}{text}{around}".encode())) == repr(json.loads(text))


@given(st.binary())
def test_anything_else_is_a_value_error(body: bytes) -> None:
    try:
        loads(body)
    except ValueError:
        return
    json.loads(body.decode().strip("\ufeff \t\r\n\v\f"))
