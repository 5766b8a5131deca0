"""Reading delivery reports: every form one may take, and every hostile one."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from smsq_worker.vendors.mids import clean_mid
from smsq_worker.vendors.oneoc.delivery_report import read
from smsq_worker.vendors.text import MAX_STAT
from smsq_worker.vendors.vendor import Reports

MID = "1151894566D2EDD9"
ONE = (MID, "DELIVRD")
GOOD = '{"mid":"1151894566D2EDD9","stat":"DELIVRD"}'
BOM = "\ufeff"
JSON_TYPE = "application/json"
FORM_TYPE = "application/x-www-form-urlencoded"
MULTIPART_TYPE = "multipart/form-data; boundary=limit"
NOTHING = Reports((), 1)


def taken(body: str | bytes, content_type: str = JSON_TYPE) -> Reports:
    return read(content_type, body.encode() if isinstance(body, str) else body)


def report(mid: Any = MID, stat: Any = "DELIVRD") -> str:
    return json.dumps({"mid": mid, "stat": stat})


def part(name: str, value: str, *more: str) -> str:
    head = [f'Content-Disposition: form-data; name="{name}"', *more]
    return "\r\n".join(["--limit", *head, "", value, ""])


def multipart(*parts: str) -> str:
    return "".join(parts) + "--limit--\r\n"


# --- what is read ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(GOOD, id="as documented"),
        pytest.param(f"[{GOOD}]", id="an array of one"),
        pytest.param(BOM + GOOD, id="a BOM"),
        pytest.param(f" \r\n{BOM}\t{GOOD}\r\n\v", id="blanks and a BOM"),
        pytest.param(GOOD[:-1] + ',"phone":"13800138000","x":[{}]}', id="more than documented"),
        pytest.param('{"mid":"X","stat":"EXPIRED",' + GOOD[1:], id="each field twice"),
        pytest.param(report(f" {MID}\n"), id="a mid with blanks"),
        pytest.param(report(stat=" DELIVRD\r\n"), id="a stat with blanks"),
        pytest.param(f"mid={MID}&stat=DELIVRD", id="a form"),
        pytest.param(f"\ufeff\r\nstat=DELIVRD&mid=%20{MID}+&x=\r\n", id="a form with blanks"),
        pytest.param(f"mid=X&mid={MID}&stat=DELIVRD", id="a form with a field twice"),
    ],
)
@pytest.mark.parametrize(
    "content_type",
    [
        JSON_TYPE,
        FORM_TYPE,
        "",
        "text/html; charset=gbk",
        "text/plain",
        "APPLICATION/JSON",
        "no type",
        "\xff\x00",
    ],
)
def test_a_report_is_read_under_any_content_type(body: str, content_type: str) -> None:
    assert taken(body, content_type) == Reports((ONE,), 0)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        pytest.param(
            MULTIPART_TYPE, multipart(part("mid", MID), part("stat", "DELIVRD")), id="a form"
        ),
        pytest.param(
            'Multipart/Form-Data; boundary="limit"; charset=utf-8',
            multipart(part("stat", "DELIVRD"), part("mid", MID)),
            id="other letters and quotes",
        ),
        pytest.param(
            MULTIPART_TYPE,
            multipart(part("mid", MID), part("stat", "DELIVRD")).replace("\r\n", "\n"),
            id="short ends of lines",
        ),
        pytest.param(
            MULTIPART_TYPE,
            part("mid", MID) + part("stat", "DELIVRD"),
            id="no last boundary",
        ),
        pytest.param(
            MULTIPART_TYPE,
            multipart(
                part("mid", MID, "Content-Type: text/plain; charset=utf-8"),
                part("stat", " DELIVRD "),
                part("x", "y"),
            ),
            id="more than documented",
        ),
        pytest.param(
            MULTIPART_TYPE,
            multipart(
                part("mid", MID, "Content-Type: message/rfc822"),
                part("stat", "REVMSVZSRA==", "Content-Transfer-Encoding: base64"),
            ),
            id="parts of other kinds",
        ),
        pytest.param(
            MULTIPART_TYPE,
            multipart(part("mid", "X"), part("mid", MID), part("stat", "DELIVRD")),
            id="a field twice",
        ),
        pytest.param(MULTIPART_TYPE, GOOD, id="JSON after all"),
    ],
)
def test_a_multipart_form_is_read(content_type: str, body: str) -> None:
    assert taken(body, content_type) == Reports((ONE,), 0)


def test_an_array_gives_its_reports_in_order_and_counts_the_rest() -> None:
    items = [
        {"mid": "A", "stat": "DELIVRD"},
        {"mid": "", "stat": "DELIVRD"},
        None,
        {"mid": "B", "stat": "MO:0254"},
        [{"mid": "C", "stat": "DELIVRD"}],
        "mid=D&stat=DELIVRD",
        {"mid": "A", "stat": "DELIVRD"},
    ]
    good = (("A", "DELIVRD"), ("B", "MO:0254"), ("A", "DELIVRD"))
    assert taken(json.dumps(items)) == Reports(good, 4)


def test_a_huge_array_is_read_to_its_end() -> None:
    items = [{"mid": f"M{number}", "stat": "DELIVRD"} for number in range(20_000)]
    assert taken(json.dumps(items)).good[-1] == ("M19999", "DELIVRD")
    assert taken(json.dumps([0] * 100_000)) == Reports((), 100_000)
    assert taken("[]") == Reports((), 0)


# --- values ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_mid", "mid"),
    [
        pytest.param(1151894566, "1151894566", id="a number"),
        pytest.param("x" * 64, "x" * 64, id="the longest"),
        pytest.param("a:{}*$", "a:{}*$", id="odd signs"),
    ],
)
def test_a_mid_of_this_kind_is_good(given_mid: Any, mid: str) -> None:
    assert taken(report(given_mid)) == Reports(((mid, "DELIVRD"),), 0)


@pytest.mark.parametrize(
    "mid",
    [
        pytest.param("", id="empty"),
        pytest.param(" ", id="blank"),
        pytest.param(None, id="null"),
        pytest.param(True, id="true"),
        pytest.param(1.5, id="a fraction"),
        pytest.param([MID], id="a list"),
        pytest.param({"mid": MID}, id="an object"),
        pytest.param("x" * 65, id="too long"),
        pytest.param("A B", id="a blank inside"),
        pytest.param("A\nB", id="a line's end inside"),
        pytest.param("A\x00B", id="a zero inside"),
        pytest.param("编号", id="not ASCII"),
        pytest.param("\ud800", id="half a surrogate pair"),
        pytest.param("A\u202eB", id="a turn of direction inside"),
    ],
)
def test_a_mid_of_that_kind_is_bad(mid: Any) -> None:
    assert taken(report(mid)) == NOTHING


@pytest.mark.parametrize(
    "stat",
    [
        pytest.param("MA:00011", id="more zeros"),
        pytest.param("MO:9", id="fewer zeros"),
        pytest.param("rejectd", id="small letters"),
        pytest.param("x" * MAX_STAT, id="the longest"),
        pytest.param("投递 成功", id="words"),
    ],
)
def test_a_stat_is_kept_as_it_came(stat: str) -> None:
    assert taken(report(stat=stat)) == Reports(((MID, stat),), 0)
    assert taken(urlencode({"mid": MID, "stat": stat}), FORM_TYPE).good == ((MID, stat),)


@pytest.mark.parametrize(
    "stat",
    [
        pytest.param("", id="empty"),
        pytest.param(" \t", id="blank"),
        pytest.param(None, id="null"),
        pytest.param(7, id="a number"),
        pytest.param(["DELIVRD"], id="a list"),
        pytest.param("x" * (MAX_STAT + 1), id="too long"),
        pytest.param("DELI\nVRD", id="a line's end inside"),
        pytest.param("DELI\x00VRD", id="a zero inside"),
        pytest.param("DELI\x1b[2JVRD", id="an escape inside"),
        pytest.param("\ud800", id="half a surrogate pair"),
        pytest.param("DELI\u202eVRD", id="a turn of direction inside"),
    ],
)
def test_a_stat_of_that_kind_is_bad(stat: Any) -> None:
    assert taken(report(stat=stat)) == NOTHING


# --- what is no report ----------------------------------------------------------------------

DEEP = "".join(
    f"--b{depth}\r\nContent-Type: multipart/mixed; boundary=b{depth + 1}\r\n\r\n"
    for depth in range(1000)
)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        pytest.param(JSON_TYPE, "", id="nothing"),
        pytest.param(FORM_TYPE, "", id="an empty form"),
        pytest.param(MULTIPART_TYPE, "", id="an empty multipart form"),
        pytest.param(JSON_TYPE, BOM, id="a BOM alone"),
        pytest.param(JSON_TYPE, "{}", id="an empty object"),
        pytest.param(JSON_TYPE, "null", id="null"),
        pytest.param(JSON_TYPE, "7", id="a number"),
        pytest.param(JSON_TYPE, json.dumps(GOOD), id="JSON in a text"),
        pytest.param(JSON_TYPE, f"[[{GOOD}]]", id="an array in an array"),
        pytest.param(JSON_TYPE, f'{{"data":{GOOD}}}', id="deeper than documented"),
        pytest.param(JSON_TYPE, GOOD[:-1], id="cut off"),
        pytest.param(JSON_TYPE, GOOD + GOOD, id="two in a row"),
        pytest.param(JSON_TYPE, GOOD.upper(), id="large letters"),
        pytest.param(JSON_TYPE, '{"mid":"A1"}', id="no stat"),
        pytest.param(JSON_TYPE, '{"stat":"DELIVRD"}', id="no mid"),
        pytest.param(JSON_TYPE, "<xml/>", id="XML"),
        pytest.param(JSON_TYPE, "[" * 100_000, id="nested without end"),
        pytest.param(JSON_TYPE, '{"mid":' + "9" * 5000 + "}", id="a number without end"),
        pytest.param(JSON_TYPE, GOOD.encode().replace(b"VRD", b"\xff"), id="no UTF-8"),
        pytest.param(FORM_TYPE, b"mid=A1&stat=\xff", id="a form that is no UTF-8"),
        pytest.param(FORM_TYPE, "mid=A1&stat=%00", id="a zero in a form"),
        pytest.param(FORM_TYPE, "mid=A1", id="a form without a stat"),
        pytest.param(FORM_TYPE, "a=b&" * 5000 + "mid=A1&stat=x", id="a form of many fields"),
        pytest.param(FORM_TYPE, "&=;%", id="signs"),
        pytest.param(JSON_TYPE, multipart(part("mid", MID)), id="multipart by another name"),
        pytest.param("multipart/form-data", multipart(part("mid", MID)), id="no boundary"),
        pytest.param(
            "multipart/form-data; boundary=other",
            multipart(part("mid", MID), part("stat", "DELIVRD")),
            id="another boundary",
        ),
        pytest.param(MULTIPART_TYPE, multipart(part("mid", MID)), id="multipart without a stat"),
        pytest.param(MULTIPART_TYPE, "--limit--", id="multipart without parts"),
        pytest.param(
            MULTIPART_TYPE,
            multipart(
                *[part(f"x{n}", "") for n in range(200)], part("mid", MID), part("stat", "x")
            ),
            id="a form of many parts",
        ),
        pytest.param(
            MULTIPART_TYPE,
            multipart(part("mid", MID, f"X: {'x' * 2000}"), part("stat", "DELIVRD")),
            id="a part with a long head",
        ),
        pytest.param(
            "multipart/form-data; boundary=limit; charset=idna", b"\xdc\xbb", id="an odd charset"
        ),
        pytest.param("multipart/form-data; boundary=b0", DEEP, id="multipart without end"),
        pytest.param(
            MULTIPART_TYPE,
            "--limit\r\nContent-Disposition: x; name*=a''b; name*0*=a''c; name=mid\r\n\r\nA1",
            id="names that contradict",
        ),
        pytest.param("multipart/form-data; boundary=\r\n\r\n中\ud800", GOOD[1:], id="odd type"),
    ],
)
def test_what_is_no_report_is_one_bad_one(content_type: str, body: str | bytes) -> None:
    assert taken(body, content_type) == NOTHING


# --- for all --------------------------------------------------------------------------------

pieces = st.sampled_from(
    [
        b"--x",
        b"--",
        b"\r\n",
        b"\r\n\r\n",
        b'Content-Disposition: form-data; name="mid"',
        b"Content-Disposition: form-data; name=stat",
        b"Content-Disposition: form-data; name*=utf-8''%ff",
        b"Content-Disposition: form-data; name*0*=a''b; name*1=c",
        b"Content-Type: multipart/mixed; boundary=x",
        b"Content-Type: message/rfc822",
        b"Content-Type: text/plain; charset=idna",
        b"Content-Transfer-Encoding: base64",
        b"mid=A1&stat=DELIVRD",
        GOOD.encode(),
        b"[",
        b"]",
        b",",
        b"\xff",
        b"\xef\xbb\xbf",
    ]
)
bodies = st.lists(pieces | st.binary(max_size=4), max_size=20).map(b"".join)
content_types = (
    st.sampled_from([JSON_TYPE, FORM_TYPE, "multipart/form-data; boundary=x"])
    | st.text()
    | st.text().map(lambda text: f"multipart/form-data; boundary=x; {text}")
)


@settings(max_examples=500)
@given(content_types, st.binary() | bodies)
@example("multipart/form-data; boundary=x; charset=idna", b"\xdc\xbb")
def test_reading_never_fails_and_what_it_gives_is_clean(content_type: str, body: bytes) -> None:
    reports = read(content_type, body)
    assert reports.bad >= 0
    for mid, stat in reports.good:
        assert mid == clean_mid(mid) != ""
        assert stat == stat.strip() != ""
        assert stat.isprintable()
        assert len(stat) <= MAX_STAT


items = st.one_of(
    st.builds(lambda mid, stat: {"mid": mid, "stat": stat}, st.text(), st.text()),
    st.builds(
        lambda mid, stat: {"mid": mid, "stat": stat},
        st.from_regex("[0-9A-F]{16}", fullmatch=True),
        st.from_regex("DELIVRD|M[AO]:[0-9]{3,5}", fullmatch=True),
    ),
    st.none() | st.integers() | st.text() | st.lists(st.integers(), max_size=2),
)


@given(st.lists(items, max_size=20))
def test_every_item_of_an_array_is_either_good_or_bad(array: list[Any]) -> None:
    reports = taken(json.dumps(array))
    assert len(reports.good) + reports.bad == len(array)


@given(
    st.from_regex("[0-9A-F]{16}", fullmatch=True),
    st.from_regex("DELIVRD|M[AO]:[0-9]{3,5}", fullmatch=True),
)
def test_each_form_of_a_report_says_the_same(mid: str, stat: str) -> None:
    fields = {"mid": mid, "stat": stat}
    assert {
        taken(json.dumps(fields)),
        taken(json.dumps([fields]), "text/plain"),
        taken(urlencode(fields), FORM_TYPE),
        taken(multipart(part("mid", mid), part("stat", stat)), MULTIPART_TYPE),
    } == {Reports(((mid, stat),), 0)}
