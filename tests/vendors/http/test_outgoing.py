"""Whatever a message holds comes out on the other side as it was, and nowhere else."""

from __future__ import annotations

import json
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.descriptions import ANSWER, URL, Made
from smsq_worker.vendors.vendor import Unfit

HOSTILE = [
    "a&b=c#d?e/f%2F+g",
    "line\r\nX-Injected: 1\r\n\r\nGET / HTTP/1.1",
    "{phone}{{%s%(x)s${y}}}",
    '","to":"13900000009"}',
    "'\"\\\x00\x1b\u2028",
    "..",
    "张三 😀",
]
EVERYWHERE = f"""
[request]
method = "POST"
url = "{URL}/v1/{{code}}/end"
query = {{ q = "<{{code}}>" }}
headers = {{ Authorization = "Basic {{secret.base64}}" }}
[request.json]
text = "<{{code}}>"
brace = "{{{{}}}}"
deep = [{{ to = "+86{{phone}}", fixed = 7, yes = true }}]
object = "{{variables}}"
array = "{{values}}"
inner = "{{variables.json}}"
[variables]
names = ["code"]
"""
ANY_TEXT = st.text(min_size=1, max_size=500)
UNHURRIED = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.mark.parametrize("code", HOSTILE)
def test_a_hostile_code_is_a_code_everywhere(described: Made, code: str) -> None:
    check(described, code)


@UNHURRIED
@given(code=ANY_TEXT)
def test_any_code_is_a_code_everywhere(described: Made, code: str) -> None:
    check(described, code)


def check(described: Made, code: str) -> None:
    sent = described(EVERYWHERE, ANSWER).request("13800000001", "T", code)
    parts = urlsplit(sent.url)
    assert sent.url.isascii()
    assert sent.url.isprintable()
    assert " " not in sent.url
    assert (parts.scheme, parts.netloc) == ("https", "sms.example.com")
    _, v1, segment, end = parts.path.split("/")
    assert (v1, unquote(segment), end) == ("v1", code, "end")
    assert segment not in {".", ".."}
    assert parse_qsl(parts.query) == [("q", f"<{code}>")]
    assert sent.headers["Authorization"] == "Basic dXNlcjpwYXNzd29yZA=="
    assert json.loads(sent.body) == {
        "text": f"<{code}>",
        "brace": "{}",
        "deep": [{"to": "+8613800000001", "fixed": 7, "yes": True}],
        "object": {"code": code},
        "array": [code],
        "inner": json.dumps({"code": code}, ensure_ascii=False, separators=(",", ":")),
    }


SPLIT = f"""
[request]
method = "POST"
url = "{URL}"
form = {{ a = "{{code.1}}-{{code.2}}", v = "{{variables.form}}", l = "{{values.json}}" }}
[variables]
split = ","
names = ["x", "y"]
templates = {{ ONE = ["z"], NONE = [] }}
"""


def test_a_code_is_cut_into_the_variables_of_its_template(described: Made) -> None:
    vendor = described(SPLIT.replace("{code.1}-{code.2}", "-"), ANSWER)

    def form(template: str, code: str) -> dict[str, str]:
        request = vendor.request("1", template, code)
        assert request.url == f"{URL}/"
        return dict(parse_qsl(request.body.decode(), keep_blank_values=True))

    assert form("T", "1&,2=") == {"a": "-", "v": "x=1%26&y=2%3D", "l": '["1&","2="]'}
    assert form("ONE", "1,2") == {"a": "-", "v": "z=1%2C2", "l": '["1,2"]'}
    assert form("NONE", "") == {"a": "-", "v": "", "l": "[]"}


@pytest.mark.parametrize(
    ("template", "code", "told"),
    [
        ("T", "13800000001", "its code has 1 of the 2 variables that the template has"),
        ("T", "", "its code has 0 of the 2 variables that the template has"),
        ("T", "1,2,3", "its code has 3 of the 2 variables that the template has"),
        ("ONE", "", "its code has 0 of the 1 variables that the template has"),
        ("NONE", "1", "its code has 1 variables, and no number 2"),
        ("NONE", "," * 30, "its code has more than 20 variables"),
    ],
)
def test_a_code_without_the_templates_variables_is_not_sent(
    described: Made, template: str, code: str, told: str
) -> None:
    with pytest.raises(Unfit) as caught:
        described(SPLIT, ANSWER).request("13800000001", template, code)
    assert str(caught.value) == told
