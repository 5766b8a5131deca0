"""The descriptions in examples/vendors, each against a server written from its API's page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from harness.documents import blocks, page
from harness.paths import ROOT
from harness.public_apis import Receiver, Submail, Twilio, Yunpian
from smsq_worker import vendors
from smsq_worker.config.gateway_address import Address
from smsq_worker.domain.codes import Catalogue, CodeClass
from smsq_worker.domain.states import Outcome
from smsq_worker.vendors.client import Gateway
from smsq_worker.vendors.vendor import Vendor, VendorOptions

EXAMPLES = sorted((ROOT / "examples" / "vendors").glob("*.toml"))
PHONE = "13800000001"
KEY = "9b11127a9701975c734b8aee81ee3526"
ORIGIN = "https://sms.example.com"
TOKEN = "token-of-twilio"
HOSTILE = '1234"}&mobile=13900000009\r\nX: {phone}{{%s%25#=|'


def made(example: str, url: str, secret: str, **settings: str) -> Vendor:
    file = ROOT / "examples" / "vendors" / example
    return vendors.find("http")(VendorOptions(url, secret, file, settings))


def gateway(vendor: Vendor, secret: str) -> closing[Gateway]:
    return closing(Gateway(Address(vendor.url, secret), vendor))


@pytest.fixture(scope="module")
def yunpian() -> Iterator[Yunpian]:
    with Yunpian(KEY, {"1": ["code"], "1855094": ["name", "code"]}) as server:
        yield server


@pytest.fixture(scope="module")
def twilio() -> Iterator[Twilio]:
    with Twilio("AC1", TOKEN) as server:
        yield server


@pytest.fixture(autouse=True)
def as_documented(yunpian: Yunpian, twilio: Twilio) -> None:
    twilio.token = TOKEN
    for server in (yunpian, twilio):
        server.fails_with = None
        server.sent.clear()
        server.extra_headers.clear()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_a_vendor_takes_fewer_than_40_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 40


def test_the_guide_shows_all_of_one_and_a_vendor_in_python_that_sends() -> None:
    guide = page("guides/vendors.md")
    assert EXAMPLES[-1].read_text(encoding="utf-8").strip() in guide
    names: dict[str, Any] = {}
    exec("\n".join(blocks(guide, "py")), names)
    acme: Vendor = names["Acme"](VendorOptions("", "secret"))
    headers = {"X-Message-Id": "A1"}
    assert acme.request(PHONE, "T", "1").url == "https://api.acme.example/v1/sms"
    assert acme.understand(202, headers, b"").mid == "A1"
    assert acme.understand(402, {}, b"").scope == "account"
    assert acme.report_answer("taken").status == 200


# --- SUBMAIL: status or code, reports one by one with a signed token ---------------------------


@pytest.fixture
def submail() -> Iterator[Submail]:
    with Submail("10001", "app-key", "hook-key") as server:
        yield server


def of_submail(server: Submail, secret: str = "app-key:hook-key") -> Vendor:
    return made("submail.toml", server.url, secret, appid="10001")


def test_submail_says_success_in_one_place_and_errors_in_another(submail: Submail) -> None:
    with gateway(of_submail(submail), "app-key:hook-key") as client:
        good = client.submit(PHONE, "MhZ9", "1234")
        found = []
        for code in (904, 420, 114, 251, 405, 777):
            submail.fails_with = submail.error(code, "no")
            found.append(client.submit(PHONE, "MhZ9", "1234"))
        submail.fails_with = (200, b"<html>")
        page = client.submit(PHONE, "MhZ9", "1234")
        submail.fails_with = (429, b"")
        slow = client.submit(PHONE, "MhZ9", "1234")
    assert (good.outcome, good.mid) == (Outcome.ACCEPTED, f"{1:032x}")
    assert submail.sent == [{"to": PHONE, "code": "1234"}]
    assert {one.outcome for one in found} == {Outcome.REFUSED}
    scopes = ["account", "template", "route", "recipient", "content", ""]
    assert [one.scope for one in found] == scopes
    assert page.outcome is Outcome.MAYBE_SENT
    assert (slow.outcome, slow.too_fast) == (Outcome.NOT_SENT, True)
    submail.fails_with = None
    with gateway(of_submail(submail, "wrong:hook-key"), "wrong:hook-key") as client:
        assert client.submit(PHONE, "MhZ9", "1234").scope == "account"


def test_submail_signs_a_token_of_each_report(submail: Submail) -> None:
    with Receiver(of_submail(submail)) as receiver:
        assert submail.push(receiver.url, "sending", "a1")[0] == 200
        assert submail.push(receiver.url, "delivered", "a1")[0] == 200
        assert submail.push(receiver.url, "dropped", "a2", report="MK:0001")[0] == 200
        assert submail.push(receiver.url, "dropped", "a3")[0] == 200
        submail.hook_key = "another"
        assert submail.push(receiver.url, "delivered", "a4")[0] == 403
    assert receiver.taken == [
        ("a1", "ACCEPTD"),
        ("a1", "DELIVRD"),
        ("a2", "MK:0001"),
        ("a3", "UNDELIV"),
    ]


# --- 云片: a form with several variables, reports pushed as an array --------------------------


def of_yunpian(server: Yunpian, secret: str = KEY) -> Vendor:
    return made("yunpian.toml", server.url, secret)


def test_yunpian_sends_a_template_of_one_variable_and_of_several(yunpian: Yunpian) -> None:
    with gateway(of_yunpian(yunpian), KEY) as client:
        one = client.submit(PHONE, "1", "1234")
        two = client.submit(PHONE, "1855094", "张三|1234")
    assert (one.outcome, one.mid) == (Outcome.ACCEPTED, "9007199254740994")
    assert (two.outcome, two.mid) == (Outcome.ACCEPTED, "9007199254740995")
    assert yunpian.sent == [
        {"#code#": "1234", "mobile": PHONE},
        {"#name#": "张三", "#code#": "1234", "mobile": PHONE},
    ]


def test_a_hostile_code_stays_a_code(yunpian: Yunpian) -> None:
    with gateway(of_yunpian(yunpian), KEY) as client:
        client.submit(PHONE, "1", HOSTILE)
    assert yunpian.sent == [{"#code#": HOSTILE, "mobile": PHONE}]


@pytest.mark.parametrize(
    ("code", "scope"),
    [(3, "account"), (-1, "account"), (7, "template"), (10, "route"), (4, "content"), (2, "")],
)
def test_yunpians_refusals_say_whose_they_are(yunpian: Yunpian, code: int, scope: str) -> None:
    yunpian.fails_with = yunpian.error(code, f"{PHONE} 不行")
    with gateway(of_yunpian(yunpian), KEY) as client:
        call = client.submit(PHONE, "1", "1234")
    assert (call.outcome, call.scope, call.detail) == (
        Outcome.REFUSED,
        scope,
        f"gateway:{code} **** 不行",
    )


def test_a_wrong_apikey_and_an_unknown_template_are_refused(yunpian: Yunpian) -> None:
    with gateway(of_yunpian(yunpian, "wrong"), "wrong") as client:
        assert client.submit(PHONE, "1", "1234").scope == "account"
    with gateway(of_yunpian(yunpian), KEY) as client:
        assert client.submit(PHONE, "2", "1234").scope == "template"
        unfit = client.submit(PHONE, "1855094", "1234")
    assert (unfit.outcome, unfit.scope) == (Outcome.REFUSED, "template")
    assert unfit.detail == "local:unfit its code has 1 of the 2 variables that the template has"
    assert yunpian.sent == []


def test_yunpians_flow_control_is_not_sent_and_its_errors_are_doubt(yunpian: Yunpian) -> None:
    with gateway(of_yunpian(yunpian), KEY) as client:
        yunpian.fails_with = yunpian.error(-5, "访问频率超限")
        slow = client.submit(PHONE, "1", "1234")
        yunpian.fails_with = yunpian.error(-50, "未知异常")
        doubt = client.submit(PHONE, "1", "1234")
    assert (slow.outcome, slow.too_fast, slow.trouble) == (Outcome.NOT_SENT, True, False)
    assert (doubt.outcome, doubt.detail) == (Outcome.MAYBE_SENT, "gateway:-50")


def test_yunpian_pushes_an_array_of_reports_perhaps_twice(yunpian: Yunpian) -> None:
    reports = (
        {"sid": 9007199254740994, "mobile": PHONE, "error_msg": "", "report_status": "SUCCESS"},
        {"sid": 2, "mobile": PHONE, "error_msg": "DB:0103", "report_status": "FAIL"},
        {"sid": 3, "mobile": PHONE, "error_msg": None, "report_status": "FAIL"},
    )
    expected = [("9007199254740994", "DELIVRD"), ("2", "DB:0103"), ("3", "UNDELIV")]
    with Receiver(of_yunpian(yunpian)) as receiver:
        for twice in (False, True):
            assert yunpian.push(receiver.url, *reports, twice=twice) == (200, b"SUCCESS")
        assert yunpian.push(receiver.url) == (200, b"SUCCESS")
        assert yunpian.push(receiver.url, {"sid": 4})[0] == 400
    assert receiver.taken == expected * 2


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"code":0,' + b" " * 200_000 + b'"sid":1}', id="huge"),
        pytest.param(bytes(range(256)) * 100, id="binary"),
        pytest.param(b'{"code":' + b"[" * 10_000, id="nested"),
    ],
)
def test_an_answer_that_nobody_can_read_is_doubt(yunpian: Yunpian, body: bytes) -> None:
    yunpian.fails_with = 200, body
    with gateway(of_yunpian(yunpian), KEY) as client:
        call = client.submit(PHONE, "1", "1234")
    assert (call.outcome, call.mid) == (Outcome.MAYBE_SENT, "")


# --- Twilio: HTTP Basic, a status callback form and its signature -----------------------------

SECRET = f"AC1:{TOKEN}"


def of_twilio(server: Twilio, secret: str = SECRET) -> Vendor:
    return made("twilio.toml", server.url, secret, service="MG1", origin=ORIGIN)


def test_twilio_sends_with_http_basic_and_variables_as_json(twilio: Twilio) -> None:
    with gateway(of_twilio(twilio), SECRET) as client:
        call = client.submit(PHONE, "HX1", f'a "b"|{HOSTILE[:-1]}')
    assert (call.outcome, call.mid) == (Outcome.ACCEPTED, f"SM{1:032x}")
    (sent,) = twilio.sent
    assert sent["variables"] == {"1": 'a "b"', "2": HOSTILE[:-1]}
    assert (sent["To"], sent["ContentSid"]) == (f"+86{PHONE}", "HX1")
    assert sent["MessagingServiceSid"] == "MG1"


def test_twilios_refusals_say_whose_they_are_and_show_no_token(twilio: Twilio) -> None:
    wrong = "AC1:wrong-token-0"
    with gateway(of_twilio(twilio, wrong), wrong) as client:
        assert client.submit(PHONE, "HX1", "1234").scope == "account"
    with gateway(of_twilio(twilio), SECRET) as client:
        twilio.fails_with = twilio.error(400, 21211, f"+86{PHONE} is wrong, token-of-twilio")
        bad = client.submit(PHONE, "HX1", "1234")
        twilio.fails_with = twilio.error(400, 99999, "something new")
        new = client.submit(PHONE, "HX1", "1234")
    assert (bad.outcome, bad.scope) == (Outcome.REFUSED, "recipient")
    assert bad.detail == "gateway:21211 +**** is wrong, ****"
    assert (new.outcome, new.scope) == (Outcome.REFUSED, "")


def test_twilio_asks_for_patience_and_may_break_in_mid_call(twilio: Twilio) -> None:
    with gateway(of_twilio(twilio), SECRET) as client:
        twilio.extra_headers["Retry-After"] = "7"
        twilio.fails_with = twilio.error(429, 20429, "Too Many Requests")
        slow = client.submit(PHONE, "HX1", "1234")
        twilio.fails_with = 503, b"<html>"
        away = client.submit(PHONE, "HX1", "1234")
        twilio.fails_with = 500, {"code": 20500, "message": "Internal", "status": 500}
        broken = client.submit(PHONE, "HX1", "1234")
        twilio.fails_with = 201, b"<html>a captive portal"
        portal = client.submit(PHONE, "HX1", "1234")
    assert (slow.outcome, slow.too_fast, slow.retry_after_s) == (Outcome.NOT_SENT, True, 7)
    assert (away.outcome, away.too_fast, away.trouble) == (Outcome.NOT_SENT, True, True)
    assert (broken.outcome, broken.detail) == (Outcome.MAYBE_SENT, "gateway:20500")
    assert (portal.outcome, portal.mid) == (Outcome.MAYBE_SENT, "")


def test_twilios_callbacks_count_if_they_are_signed_for_the_address_that_it_knows(
    twilio: Twilio,
) -> None:
    path = "/reports/token?account=main"
    fields = {"MessageSid": "SM1", "MessageStatus": "delivered", "To": f"+86{PHONE}", "Empty": ""}
    with Receiver(of_twilio(twilio)) as receiver:

        def call_back(signature: str | None = None, known_as: str = ORIGIN, **more: str) -> int:
            return twilio.call_back(
                receiver.url + path, known_as + path, signature, **(fields | more)
            )[0]

        assert [call_back(), call_back()] == [200, 200]
        assert call_back(MessageStatus="sent") == 200
        assert call_back(MessageStatus="undelivered", ErrorCode="30003") == 200
        for wrong in ("", "bm9wZQ==", "\xff"):
            assert call_back(wrong, MessageStatus="failed") == 403
        assert call_back(known_as="https://other.example.com") == 403
    delivered = ("SM1", "DELIVRD")
    assert receiver.taken == [delivered, delivered, ("SM1", "ACCEPTD"), ("SM1", "30003")]


def test_without_the_secret_no_signature_is_right_and_the_rest_can_be_read(twilio: Twilio) -> None:
    """As by commands: they know what codes mean, and have no secret."""
    vendor = made("twilio.toml", twilio.url, "", service="MG1", origin=ORIGIN)
    assert vendor.reports_need == "secret, with which reports are signed"
    assert of_twilio(twilio).reports_need == ""
    assert Catalogue.load(None, vendor.codes).get("30003")
    with Receiver(vendor) as receiver:
        twilio.token = ""
        status, _ = twilio.call_back(receiver.url, ORIGIN, MessageSid="SM1", MessageStatus="sent")
    assert (status, receiver.taken) == (403, [])


def test_the_catalogue_of_a_description_has_its_codes_and_smpps(twilio: Twilio) -> None:
    catalogue = Catalogue.load(None, of_twilio(twilio).codes)
    assert catalogue.classify("30003").code_class is CodeClass.TRANSIENT
    assert catalogue.classify("delivrd").code_class is CodeClass.DELIVERED
    # The default vendor's own.
    assert catalogue.get("MA:0001") is None
