"""What answers mean to a described vendor: what is not certain is doubt."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.descriptions import ANSWER, REQUEST, Made
from smsq_worker.domain.states import Outcome
from smsq_worker.vendors.http.pattern import MAX_READ, pattern
from smsq_worker.vendors.http.pointer import as_text, pointer
from smsq_worker.vendors.mids import is_mid

ACCEPTED, REFUSED, NOT_SENT, MAYBE = Outcome
CODES = """
account = [1, "isv.AMOUNT"]
template = [2]
route = [3]
recipient = [4]
content = [5]
refused = [6]
not_sent = [7]
too_fast = [8]
maybe_sent = [9]
"""
GOOD = b'{"code": 0, "msg": "ok", "data": [{"id": 12345678901234567890}]}'
DEEP = b"[" * 10_000
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.fixed_dictionaries({"id": inner}),
    max_leaves=5,
)
JSON = st.fixed_dictionaries({"code": VALUES, "data": VALUES, "msg": VALUES}).map(
    lambda value: json.dumps(value).encode()
)
UNHURRIED = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.mark.parametrize(
    ("status", "body", "outcome", "detail"),
    [
        pytest.param(200, GOOD, ACCEPTED, "", id="as described"),
        pytest.param(201, b"\xef\xbb\xbf " + GOOD + b"\r\n", ACCEPTED, "", id="a BOM"),
        pytest.param(200, GOOD.decode().encode("utf-16"), ACCEPTED, "", id="UTF-16"),
        pytest.param(200, GOOD.replace(b"0,", b'"0",'), ACCEPTED, "", id="code as text"),
        pytest.param(200, GOOD.replace(b"0,", b"0.0,"), ACCEPTED, "", id="code as a float"),
        pytest.param(200, b'{"code":0,"data":[]}', ACCEPTED, "no usable mid", id="no mid"),
        pytest.param(200, b'{"code":0,"data":7}', ACCEPTED, "no usable mid", id="nowhere"),
        pytest.param(
            200, b'{"code":0,"data":[{"id":"a b"}]}', ACCEPTED, "no usable mid", id="a bad mid"
        ),
        pytest.param(500, b'{"code":0}', MAYBE, "gateway:0", id="0 with 500 and no mid"),
        pytest.param(400, b'{"code":0}', MAYBE, "gateway:0", id="0 with 400 and no mid"),
        pytest.param(200, b'{"code":false}', MAYBE, "gateway:false", id="false is not 0"),
        pytest.param(200, b'{"code":[0]}', MAYBE, "unreadable answer, http 200", id="a list"),
        pytest.param(200, b"[]", MAYBE, "unreadable answer, http 200", id="an array"),
        pytest.param(200, b"", MAYBE, "unreadable answer, http 200", id="nothing"),
        pytest.param(200, b"<html>", MAYBE, "unreadable answer, http 200", id="a page"),
        pytest.param(200, DEEP, MAYBE, "unreadable answer, http 200", id="deep"),
        pytest.param(200, b'{"code":' + DEEP, MAYBE, "unreadable answer, http 200", id="deeper"),
        pytest.param(200, b"\x80" * 65_536, MAYBE, "unreadable answer, http 200", id="binary"),
        pytest.param(
            200, b'{"code":' + b"9" * 60_000 + b"}", MAYBE, "unreadable answer, http 200", id="9s"
        ),
        pytest.param(200, GOOD[:-1], MAYBE, "unreadable answer, http 200", id="half"),
        pytest.param(302, b"", MAYBE, "unreadable answer, http 302", id="a redirect"),
        pytest.param(500, b"<html>", MAYBE, "http 500", id="500"),
        pytest.param(200, b'{"code":9}', MAYBE, "gateway:9", id="listed as doubt"),
        pytest.param(200, b'{"code":77,"msg":"x"}', MAYBE, "gateway:77", id="not listed"),
        pytest.param(429, b'{"code":77}', NOT_SENT, "gateway:77", id="not listed, with 429"),
        pytest.param(503, b"<html>", NOT_SENT, "http 503", id="503"),
        pytest.param(408, b"", NOT_SENT, "http 408", id="408"),
        pytest.param(200, b'{"code":7}', NOT_SENT, "gateway:7", id="not sent"),
        pytest.param(200, b'{"code":8}', NOT_SENT, "gateway:8", id="too fast"),
        pytest.param(
            200,
            '{"code":6,"msg":"号码 13800000001 和 1234"}'.encode("gb18030"),
            REFUSED,
            "gateway:6 号码 **** 和 ****",
            id="words in GBK, masked",
        ),
        pytest.param(
            400,
            b'{"code":"isv.AMOUNT","msg":"no"}',
            REFUSED,
            "gateway:isv.AMOUNT no",
            id="a code of letters",
        ),
        pytest.param(
            200,
            b'{"code":6,"msg":{"a":1}}',
            REFUSED,
            "gateway:6",
            id="words that are none",
        ),
        pytest.param(400, b"<html>", REFUSED, "gateway:http-400", id="400"),
        pytest.param(403, b"<html>", REFUSED, "gateway:http-403", id="403"),
    ],
)
def test_an_answer_means(
    described: Made, status: int, body: bytes, outcome: Outcome, detail: str
) -> None:
    call = described(REQUEST, ANSWER + CODES).understand(status, {}, body, ("1234",))
    assert (call.outcome, call.detail) == (outcome, detail)
    assert call.mid == ("12345678901234567890" if (outcome, detail) == (ACCEPTED, "") else "")


@UNHURRIED
@given(
    status=st.integers(100, 599), body=st.one_of(st.binary(max_size=200), JSON), cut=st.booleans()
)
def test_no_answer_raises_anything_and_a_mid_is_always_clean(
    described: Made, status: int, body: bytes, cut: bool
) -> None:
    vendor = described(REQUEST, ANSWER + CODES)
    call = vendor.understand(status, {}, body, ("1234",), trouble="cut" if cut else "")
    assert not call.mid or (call.outcome is ACCEPTED and is_mid(call.mid))
    assert call.detail.isprintable()


@pytest.mark.parametrize(
    ("code", "scope"), [*enumerate(["account", "template", "route", "recipient", "content", ""], 1)]
)
def test_a_refusals_scope_is_its_list(described: Made, code: int, scope: str) -> None:
    vendor = described(REQUEST, ANSWER + CODES)
    call = vendor.understand(200, {}, b'{"code":%d}' % code)
    assert (call.outcome, call.scope) == (REFUSED, scope)


def test_of_an_answer_that_broke_off_only_a_whole_one_counts(described: Made) -> None:
    vendor = described(REQUEST, ANSWER)
    whole = vendor.understand(200, {}, GOOD, trouble="ReadTimeout")
    half = vendor.understand(200, {}, GOOD[:-1], trouble="ReadTimeout")
    assert (whole.outcome, whole.odd) == (ACCEPTED, "ReadTimeout")
    assert (half.outcome, half.detail) == (MAYBE, "ReadTimeout")


@pytest.mark.parametrize("body", [b"0", b"1"])
def test_half_a_number_is_no_code(described: Made, body: bytes) -> None:
    vendor = described(REQUEST, '[answer]\ncode = ""\naccepted = [0]\nrefused = [1]')
    assert vendor.understand(200, {}, body).outcome in {ACCEPTED, REFUSED}
    assert vendor.understand(200, {}, body, trouble="ReadTimeout").outcome is MAYBE


SECRET = "user:word"


@pytest.mark.parametrize(
    "echoed", ["13800138000", SECRET, "word", "dXNlcjp3b3Jk", "a-code", "five"]
)
def test_no_detail_repeats_what_is_private(described: Made, echoed: str) -> None:
    parts = '[variables]\nsplit = ","', REQUEST, f'{ANSWER}other = "refused"'
    vendor = described(*parts, secret=SECRET)
    private = (SECRET, "13800138000", "a-code,five")
    for body in ({"code": echoed}, {"code": 6, "msg": f"no {echoed}"}):
        found = vendor.understand(200, {}, json.dumps(body).encode(), private)
        assert found.outcome is REFUSED
        assert echoed not in found.detail


TWO_PLACES = """
[answer]
code = ["/code", "/status"]
mid = "/send_id"
accepted = ["success"]
account = [101]
other = "refused"
"""
BY_STATUS = TWO_PLACES.replace('["/code", "/status"]', '"/code"').replace("success", "http-200")


@pytest.mark.parametrize("table", [TWO_PLACES, BY_STATUS], ids=["two places", "by status"])
def test_acceptances_and_refusals_may_be_told_in_different_places(
    described: Made, table: str
) -> None:
    vendor = described(REQUEST, table)
    good = vendor.understand(200, {}, b'{"status": "success", "send_id": "a1"}')
    assert (good.outcome, good.mid) == (ACCEPTED, "a1")
    no = b'{"status": "error", "code": 101}'
    assert vendor.understand(200, {}, no).scope == "account"
    # In no list: `other` says what it is, whatever its status means elsewhere.
    assert vendor.understand(200, {}, no.replace(b"101", b"999")).outcome is REFUSED
    assert vendor.understand(200, {}, b"<html>").outcome is MAYBE
    unsure = described(REQUEST, table.replace('other = "refused"', ""))
    assert unsure.understand(200, {}, no.replace(b"101", b"999")).outcome is MAYBE


LINES = r"""
[answer]
pattern = '^(?P<code>-?[0-9]+)(?:,(?P<mid>[0-9]+))?'
accepted = [0]
account = [-1]
other = "refused"
"""


def test_an_answer_may_be_a_line_of_text(described: Made) -> None:
    vendor = described(REQUEST, LINES)
    good = vendor.understand(200, {}, b"0,12345\n")
    assert (good.outcome, good.mid) == (ACCEPTED, "12345")
    assert vendor.understand(200, {}, b"-1").scope == "account"
    assert vendor.understand(200, {}, b"-2").outcome is REFUSED
    assert vendor.understand(200, {}, b"<html>").outcome is MAYBE
    # Half a mid would be another message's.
    assert vendor.understand(200, {}, b"0,123", trouble="cut").outcome is MAYBE


@pytest.mark.parametrize(
    "text",
    [
        r"(?P<code>(a+)+)$",
        r"(?P<code>(?:a*)*)b",
        r"(?P<code>a|aa|a|aa|a)(?:a+a+a+a+a+)+b",
        "(?P<code>" + "a?" * 40 + "a" * 40 + ")b",
        r"(?P<code>[^b]+[^b]+[^b]+[^b]+[^b]+)b",
        r"(?:(?:(?:b?){2,}){5}){10}(?P<code>b)",
    ],
)
def test_no_pattern_is_busy_for_ever(text: str) -> None:
    # As it is written, each of them takes longer than a test may.
    assert not pattern(text).search("a" * (MAX_READ - 1) + "c")


@pytest.mark.parametrize(
    "text",
    [
        r"(?P<code>a)\1",
        r"(?P<code>a)(?P=code)",
        r"(?=a)(?P<code>a)",
        r"(?i)(?P<code>a)",
        r"(?P<other>a)",
        r"(?P<code>a",
        r"code",
        r"(?P<code>a**)",
        r"(?P<code>a*?)",
        r"(?P<code>a)" + "|b" * 5,
        "(?P<code>a)" * 50,
        r"(?:(?:b?){99}){2}(?P<code>b)",
        None,
    ],
)
def test_a_pattern_that_is_not_allowed(text: object) -> None:
    with pytest.raises(ValueError, match="a regular expression of at most"):
        pattern(text)


def test_classes_and_escapes_are_read_as_they_are() -> None:
    found = pattern(r"[]*+?(]{2}\(\*\)(?P<mid>[^\]<]{1,5})\]").search("x]*(*)abc]")
    assert found
    assert found["mid"] == "abc"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", "{}"),
        ("/a", "1"),
        ("/b/0", "2"),
        ("/b/1", ""),
        ("/b/00", ""),
        ("/b/-1", ""),
        ("/b/x", ""),
        ("/b/99999999999999999999", ""),
        ("/c~1d/~0", "3"),
        ("/", "4"),
        ("/a/b/c", ""),
        ("/none", ""),
    ],
)
def test_a_pointer_leads_to_a_value_or_nowhere(text: str, value: str) -> None:
    document = {"a": 1, "b": [2], "c/d": {"~": "3"}, "": " 4 "}
    found = pointer(text)(document)
    assert (found is document) if value == "{}" else as_text(found) == value
