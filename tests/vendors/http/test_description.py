"""What a description may not say, and how that is told: at load, in a line for each mistake."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.descriptions import ANSWER, REQUEST, URL, Made
from smsq.errors import SettingsError
from smsq_worker import i18n
from smsq_worker.i18n import Lang
from smsq_worker.i18n.told import told as in_chinese
from smsq_worker.vendors.http.vendor import HttpVendor
from smsq_worker.vendors.vendor import VendorOptions

ENGLISH = re.compile(r"[a-z]{2,} [a-z]{2,}|[:;](?= |$)")
AS_WRITTEN = re.compile(r'"[^"]*"|\{[^ ]*\}')


def problems(
    described: Made, *parts: str, secret: str = "user:password", **settings: str
) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        described(*parts, secret=secret, **settings)
    return [one.partition("vendor.toml: ")[2] for one in caught.value.problems]


def request(**changes: str) -> str:
    fields = {"method": '"POST"', "url": f'"{URL}/send"'} | changes
    return "\n".join(["[request]", *(f"{name} = {value}" for name, value in fields.items())])


def reports(text: str = "", **changes: str) -> str:
    fields = {"mid": '"/id"', "stat": '"/stat"'} | changes
    lines = [f"{name} = {value}" for name, value in fields.items()]
    return "\n".join([REQUEST, ANSWER, "[reports]", *lines, text])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("", "[request] is missing", id="nothing"),
        pytest.param(REQUEST, "[answer] is missing", id="no answer"),
        pytest.param(REQUEST + ANSWER + "[anser]", 'table "anser" is unknown', id="a table"),
        pytest.param(request(metod='"GET"') + ANSWER, "[request], field metod: is unknown", id="a"),
        pytest.param(
            request(method='"PUT"') + ANSWER, "[request], field method: must be one of GET, POST"
        ),
        pytest.param(request(url='"ftp://h/"') + ANSWER, "[request], field url: must be https://"),
        pytest.param(request(url='"http://sms.example.com/"') + ANSWER, "[request], field url:"),
        pytest.param(request(url='"https://{phone}/"') + ANSWER, "[request], field url: must be"),
        pytest.param(request(url='"https://h/{phon}"') + ANSWER, "[request], field url: must be"),
        pytest.param(request(url='"https://u:p@h/x"') + ANSWER, "[request], field url: must be"),
        pytest.param(
            request(form='{ to = "{phon}" }') + ANSWER,
            "[request], field form: must be a table of texts, and each text; a placeholder is one",
            id="a placeholder that is not there",
        ),
        pytest.param(request(form='{ to = "{" }') + ANSWER, "[request], field form:", id="a brace"),
        pytest.param(
            request(form='{ to = "{phone.__class__}" }') + ANSWER, "[request], field form:"
        ),
        pytest.param(request(form='{ to = "{0}" }') + ANSWER, "[request], field form:"),
        pytest.param(request(form="{ to = 1 }") + ANSWER, "[request], field form:", id="a number"),
        pytest.param(
            request(json="{ at = 2026-01-01 }") + ANSWER, "[request], field json:", id="a date"
        ),
        pytest.param(request(json="{ at = nan }") + ANSWER, "[request], field json:", id="nan"),
        pytest.param(
            request(json=f"{{ at = {'9' * 400} }}") + ANSWER, "[request], field json:", id="long"
        ),
        pytest.param(
            request(headers='{ X = "{phone}" }') + ANSWER,
            "[request], field headers: must be a table of headers",
            id="a number in a header",
        ),
        pytest.param(request(headers='{ X = "a\\r\\nB: c" }') + ANSWER, "[request], field headers"),
        pytest.param(request(headers='{ "X: Y" = "a" }') + ANSWER, "[request], field headers"),
        pytest.param(request(headers='{ Host = "a" }') + ANSWER, "[request], field headers"),
        pytest.param(request(headers='{ X = "名" }') + ANSWER, "[request], field headers"),
        pytest.param(
            request(form='{ a = "1" }', json='{ a = "1" }') + ANSWER,
            "[request]: form and json are both there; a request has one body",
            id="two bodies",
        ),
        pytest.param(
            request(method='"GET"', form='{ a = "1" }') + ANSWER,
            "[request]: a GET has no body; use query instead of form and json",
            id="a GET with a body",
        ),
        pytest.param(
            REQUEST + ANSWER + '[variables]\nnames = ["a", "b"]',
            '[variables]: several names need split, like split = ","',
            id="names without a split",
        ),
        pytest.param(REQUEST + ANSWER + 'mids = "/x"', "[answer], field mids: is unknown", id="b"),
        pytest.param(
            REQUEST + '[answer]\ncode = "code"\naccepted = [0]',
            '[answer], field code: "code" is not allowed; it must be a JSON pointer',
            id="a pointer without a slash",
        ),
        pytest.param(REQUEST + '[answer]\ncode = "/a~2"\naccepted = [0]', "[answer], field code:"),
        pytest.param(REQUEST + '[answer]\ncode = "/code"', "[answer], field accepted:", id="c"),
        pytest.param(
            REQUEST + ANSWER + "account = [7]\nroute = [8, 7]",
            "[answer]: code 7 is both account and route",
            id="a code with two meanings",
        ),
        pytest.param(
            REQUEST + "[answer]\naccepted = [0]",
            "[answer]: nothing says where code 0 is; set code or pattern",
            id="codes without a place",
        ),
        pytest.param(
            REQUEST + ANSWER + "pattern = '(?P<code>[0-9]+)'",
            "[answer]: pattern has code, mid and words as its groups",
            id="a pattern and pointers",
        ),
        pytest.param(
            REQUEST + "[answer]\npattern = '(a+)+(?P<code>.'\naccepted = [0]",
            "[answer], field pattern: ",
            id="a pattern that is none",
        ),
        pytest.param(reports(mid='"id"'), "[reports], field mid: ", id="a report's pointer"),
        pytest.param(reports(stat="[]"), "[reports], field stat: [] is not allowed", id="no stat"),
        pytest.param(reports(field='"f"'), '[reports], field field: is for in = "form"', id="d"),
        pytest.param(
            reports(stats='{ ok = "DELIVERD" }'),
            "[reports.stats]: ok is to be DELIVERD, which the catalogue does not have; "
            "add [codes.DELIVERD], or did you mean DELIVRD",
            id="a stat that is not in the catalogue",
        ),
        pytest.param(
            reports("[codes.X1]\nclass = 'gone'"),
            'code "X1", field class: "gone" is not allowed; it must be one of delivered',
            id="a code's class",
        ),
        pytest.param(reports("[reports.answer]\nstatus = 404"), "[reports.answer], field status:"),
        pytest.param(reports("[reports.answer]\ncontent_type = 1"), "[reports.answer], field con"),
        pytest.param(
            reports("[reports.signature]\nkind = 'hmac-sha1'\nkey = 'k'\nover = ['body']"),
            "[reports.signature]: it needs header or field, where the signature is",
            id="a signature without a place",
        ),
        pytest.param(
            reports("[reports.signature]\nkind = 'hmac-sha1'\nkey = 'k'\nheader = 'X'"),
            "[reports.signature]: over says what is signed",
            id="nothing is signed",
        ),
        pytest.param(
            reports("[reports.signature]\nkind = 'md5'\nkey = 'k'\nheader = 'X'\nover = ['body']"),
            "[reports.signature]: over has no key, so anybody could sign",
            id="a digest without a secret",
        ),
        pytest.param(
            reports("[reports.signature]\nkind = 'token'\nkey = '{secret.password}'\nheader = 'X'"),
            "[reports.signature], field key: is empty, so anybody could sign",
            id="no secret",
        ),
    ],
)  # fmt: skip
def test_each_mistake_is_told(described: Made, text: str, told: str) -> None:
    secret = "user:" if told.endswith("anybody could sign") else "user:password"
    found = problems(described, text, secret=secret)
    assert any(one.startswith(told) for one in found), found
    with i18n.speaking(Lang.ZH):
        for shown in (in_chinese(f"vendor.toml: {one}") for one in found):
            own = AS_WRITTEN.sub("", shown.removeprefix("vendor.toml: "))
            assert not ENGLISH.search(own), shown


def test_all_mistakes_are_told_at_once(described: Made) -> None:
    wrong = REQUEST + "[answer]\ncode = 1\nmid = 2\naccepted = 3\n[reports]\nin = 'xml'"
    found = problems(described, wrong, unused="x")
    assert len(found) == 7


def test_settings_and_the_form_of_the_secret_are_checked(described: Made) -> None:
    of_settings = request(form='{ from = "{settings.sender}", user = "{secret.user}" }')
    found = problems(described, of_settings, ANSWER, secret="no-colon-here", sendr="x")
    assert found == [
        "{secret.user} and {secret.password} need a secret like USER:PASSWORD",
        "{settings.sender}: the account's settings have no sender",
        "the account's setting sendr is used nowhere; did you mean sender?",
    ]


def test_no_mistake_shows_a_secret_that_was_written_into_the_file(described: Made) -> None:
    text = request(headers='{ Authorization = "Bearer s3cr3t", X = "{phone}" }') + ANSWER
    assert "s3cr3t" not in str(problems(described, text, secret="other-s3cr3t"))


def test_what_an_account_says_is_not_shown_in_a_repr(described: Made) -> None:
    vendor = described(request(headers='{ A = "Basic {secret.base64}" }'), ANSWER)
    assert "password" not in repr(VendorOptions("", "user:password"))
    # Each shows what it is a method of.
    for bound in (vendor.request, vendor.understand):
        assert "dXNlcjpwYXNzd29yZA" not in repr(bound)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        pytest.param(None, "cannot be read: No such file", id="no file"),
        pytest.param(b"\xff", "is not TOML in UTF-8", id="another charset"),
        pytest.param(b"a = ", "is not TOML in UTF-8", id="no TOML"),
        pytest.param(b"a = " + b"[" * 10_000, "is not TOML in UTF-8", id="nested"),
        pytest.param(b"#" * 70_000, "has more than 65536 bytes", id="large"),
    ],
)
def test_a_file_that_is_no_description(tmp_path: Path, data: bytes | None, told: str) -> None:
    file = tmp_path / "vendor.toml"
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(SettingsError, match=told):
        HttpVendor(VendorOptions("", "secret", file))
    with pytest.raises(SettingsError, match="needs `description`"):
        HttpVendor(VendorOptions("", "secret"))


def test_codes_may_be_in_a_file_of_their_own(described: Made, tmp_path: Path) -> None:
    (tmp_path / "codes.toml").write_text('[codes.X1]\nclass = "permanent"\n')
    vendor = described('codes = "codes.toml"', REQUEST, ANSWER)
    assert vendor.codes[-1] == tmp_path / "codes.toml"
    (tmp_path / "codes.toml").write_text('[codes.X1]\nclas = "permanent"\n')
    (problem,) = problems(described, 'codes = "codes.toml"', REQUEST, ANSWER)
    assert 'codes.toml: code "X1", field clas: is unknown' in problem


def test_an_accounts_url_takes_the_place_of_the_host(tmp_path: Path) -> None:
    file = tmp_path / "vendor.toml"
    file.write_text(REQUEST + ANSWER)
    vendor = HttpVendor(VendorOptions("http://127.0.0.1:8090/proxy/", "secret", file))
    assert vendor.url == "http://127.0.0.1:8090/proxy/"
    assert vendor.request("1", "T", "2").url == "http://127.0.0.1:8090/proxy/send"
