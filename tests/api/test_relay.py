"""The relay, as clients of the gateway use it: what they send, what they get, what they may."""

from __future__ import annotations

import hmac
import json
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import redis
import requests
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

import smsq
from harness.api import CODE, PATIENCE_S, PHONE, RunningApi, connection, serving
from harness.credentials import RELAY
from harness.relay_requests import (
    AUTHORIZATION,
    ROUTE,
    SENDING,
    SHAPES,
    TEMPLATE,
    bare,
    multipart,
)
from harness.waiting import eventually
from smsq import keys
from smsq.errors import InvalidMessage, SettingsError
from smsq_worker.api.app import RELAY_OFF
from smsq_worker.api.clients import Callers
from smsq_worker.api.ignored import NAMES_AT_MOST, IgnoredParameters
from smsq_worker.api.relay import allowed_target
from smsq_worker.config.settings import Settings
from smsq_worker.doctor.machine import check_api
from smsq_worker.infra.ports import free_port
from smsq_worker.ledger import Ledger
from smsq_worker.ledger.campaigns import Campaigns
from smsq_worker.vendors.oneoc import relay_request as gateway

SHOP = "shop-secret-0123456789"
OTHER = "other-secret-0123456789"
SLOW = "slow-secret-0123456789"
CALLERS = f"""
[callers.shop]
secret = "{SHOP}"
lanes = ["otp", "notice"]
[callers.other]
secret = "{OTHER}"
[callers.slow]
secret = "{SLOW}"
rate_per_s = 0.01
"""
OUTBOUND = "hooks.example.com,10.0.0.7"
RETURN = "https://shop.example.com/sms?token=t"


@pytest.fixture(scope="module")
def module_api(
    base_environ: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningApi]:
    home = tmp_path_factory.mktemp("relay")
    (home / "callers.toml").write_text(CALLERS)
    environ = {
        **base_environ,
        "SMSQ_RELAY_CALLERS_FILE": str(home / "callers.toml"),
        "SMSQ_OUTBOUND_ALLOW": OUTBOUND,
        "SMSQ_RETURN_URL": RETURN,
    }
    with serving(environ, home / "log") as api:
        yield api


def ask(
    api: RunningApi, secret: str | None = RELAY, language: str = "", **more: str
) -> requests.Response:
    query = f"{ROUTE}&{urlencode({**SENDING, **more})}"
    return api.get(f"/?{query}", secret, language)


def mid(answer: requests.Response) -> str:
    """The id of a message that was taken."""
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    told = answer.json()
    assert (told["code"], told["msg"]) == (200, "ok")
    return str(told["mid"])


def why(answer: requests.Response, status: int = 200) -> str:
    """The reason for which a message was not taken."""
    assert answer.status_code == status
    told = answer.json()
    assert (told["code"], told["mid"]) == (400, "")
    return str(told["msg"])


def fields(client: redis.Redis, message_id: str) -> dict[str, str]:
    found: Any = client.hgetall(keys.message(message_id))
    return dict(found)


# --- clients of the gateway -----------------------------------------------------------------


def raw(api: RunningApi, request: bytes) -> dict[str, Any]:
    """Send bytes; give the answer's JSON."""
    with connection(api.url) as sock:
        sock.sendall(request)
        with HTTPResponse(sock) as answer:
            answer.begin()  # which leaves out a 100
            assert answer.status == 200
            told: dict[str, Any] = json.loads(answer.read())
            return told


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_request_as_a_client_of_the_gateway_sends_it_is_enqueued(
    api: RunningApi, client: redis.Redis, shape: bytes
) -> None:
    told = raw(api, shape)

    assert list(told) == ["code", "msg", "mid"]
    assert (told["code"], told["msg"]) == (200, "ok")
    found = fields(client, told["mid"])
    assert (found["state"], found["lane"], found["template"]) == ("queued", "notice", TEMPLATE)
    assert found["returnurl"] == RETURN
    assert "caller" not in found
    assert json.loads(str(client.get(keys.payload(told["mid"])))) == [PHONE, CODE]
    assert client.llen("sms.notice") == 1
    assert len(told["mid"]) == 32
    assert int(told["mid"], 16)


CURL = shutil.which("curl")


@pytest.mark.skipif(CURL is None, reason="the raw requests above stand for it")
@pytest.mark.parametrize("more", [[], ["--data", bare()]], ids=["get", "post"])
def test_the_vendors_curl_line_is_taken(
    api: RunningApi, client: redis.Redis, more: list[str]
) -> None:
    line = ["-i", "-k", *(more or ["--get"]), "--include", "--silent", "--noproxy", "*"]
    url = f"{api.url}/?{bare()}" if not more else f"{api.url}/"
    done = subprocess.run(
        [str(CURL), *line, url, "-H", AUTHORIZATION], capture_output=True, check=True
    )
    told = json.loads(done.stdout.partition(b"\r\n\r\n")[2])
    assert told["code"] == 200
    assert fields(client, told["mid"])["template"] == TEMPLATE


def test_the_vendors_python_is_taken(api: RunningApi, client: redis.Redis) -> None:
    asked = urllib.request.Request(f"{api.url}/?{quote(bare(), safe='=&')}")
    asked.add_header("Authorization", RELAY)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(asked, timeout=PATIENCE_S) as answer:
        told = json.loads(answer.read())
    assert fields(client, told["mid"])["template"] == TEMPLATE


@given(st.text(min_size=1, max_size=40).filter(lambda text: text.strip()), st.sampled_from("+ "))
def test_any_text_survives_in_both_charsets(text: str, blank: str) -> None:
    for charset in ("utf-8", "gb18030"):
        query = f"{ROUTE}&code={quote(text, encoding=charset).replace('%20', blank)}&smstemplate="
        # Without a text that only GB18030 has, what looks like UTF-8 is taken for it.
        query += quote("短信验证码", encoding=charset)
        assert gateway.read(query.encode(), "", b"")["code"] == text


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(InvalidMessage, match="UTF-8 or GB18030"):
        gateway.read(f"{ROUTE}&code=%ff%ff".encode(), "", b"")
    gateway.read(f"{ROUTE}&unknown=%ff%ff".encode(), "", b"")


# --- what is refused ------------------------------------------------------------------------


def test_a_wrong_secret_is_answered_in_the_vendors_words(
    api: RunningApi, client: redis.Redis
) -> None:
    for secret in (None, "", "wrong", RELAY[:-1], f"Bearer {RELAY}"):
        assert why(ask(api, secret)) == "校验失败"
    assert client.dbsize() == 0


REFUSED = {
    "phone": ({"mobphone": "12800138000"}, "mobphone must be a mainland mobile number"),
    "no-phone": ({"mobphone": ""}, "mobphone must be a mainland mobile number"),
    "no-template": ({"smstemplate": ""}, "smstemplate must be a text of 1 to 64 characters"),
    "long-code": ({"code": "1" * 501}, "code must be a text of 0 to 500 characters"),
    "lane": ({"lane": "fast"}, "lane must be one of otp, notice, bulk; got 'fast'"),
    "long-key": ({"key": "k" * 257}, "key must be a text of 1 to 256 characters"),
    "ttl-text": ({"ttl_s": "soon"}, "ttl_s must be a number of seconds"),
    "ttl-nan": ({"ttl_s": "nan"}, "ttl_s must be a number of seconds"),
    "ttl-0": ({"ttl_s": "0"}, "ttl_s must be a number of seconds"),
    "module": ({"module": "voice"}, "module is there more than once: send it once"),
    "many": ({f"x{n}": "1" for n in range(100)}, "at most 100 parameters"),
}


@pytest.mark.parametrize(("more", "told"), REFUSED.values(), ids=REFUSED)
def test_a_bad_argument_is_named_and_nothing_is_enqueued(
    api: RunningApi, client: redis.Redis, more: dict[str, str], told: str
) -> None:
    assert told in why(ask(api, **more))
    chinese = why(ask(api, language="zh-CN,zh;q=0.9,en;q=0.8", **more))
    assert re.search("[\u4e00-\u9fff]", chinese)
    assert ("mobphone" in chinese, "smstemplate" in chinese) == (
        *("mobphone" in told, "smstemplate" in told),
    )
    assert client.dbsize() == 0


FORM_OF = "application/x-www-form-urlencoded"
REPEATED = {
    "in the query": (f"{bare()}&mobphone=13900139000", "", ""),
    "in the form": ("", FORM_OF, f"{bare()}&mobphone=13900139000"),
    "in both": (bare(), FORM_OF, "mobphone=13900139000"),
    "in a multipart form": (
        "",
        "multipart/form-data; boundary=b0",
        multipart()
        .decode()
        .replace(
            "--b0--",
            '--b0\r\nContent-Disposition: form-data; name="mobphone"\r\n\r\n13900139000\r\n--b0--',
        ),
    ),
}


@pytest.mark.parametrize(("query", "content_type", "body"), REPEATED.values(), ids=REPEATED)
def test_a_parameter_with_two_values_is_refused(query: str, content_type: str, body: str) -> None:
    with pytest.raises(InvalidMessage, match=r"^mobphone is there more than once: send it once$"):
        gateway.read(query.encode(), content_type, body.encode())


@pytest.mark.parametrize(("query", "body"), [(bare(), bare()), (bare(), "mobphone=&code=")])
def test_the_same_value_twice_is_one_and_an_empty_one_is_none(query: str, body: str) -> None:
    given = gateway.read(query.encode(), FORM_OF, body.encode())
    assert (given["mobphone"], given["code"]) == (PHONE, CODE)


def test_the_same_value_twice_is_one_in_a_multipart_form_too() -> None:
    again = f'--b0\r\nContent-Disposition: form-data; name="mobphone"\r\n\r\n{PHONE}\r\n--b0--'
    body = multipart().replace(b"--b0--", again.encode())
    assert gateway.read(b"", "multipart/form-data; boundary=b0", body)["mobphone"] == PHONE


@pytest.mark.parametrize("content_type", ["application/json", FORM_OF, ""])
def test_a_client_that_sends_json_is_told_to_send_a_form(content_type: str) -> None:
    named = {"module": "sms", "file": "send", "action": "send", **SENDING}
    with pytest.raises(InvalidMessage, match="the body is JSON: send a form"):
        gateway.read(b"", content_type, json.dumps(named).encode())
    assert gateway.read(bare().encode(), content_type, b"{}")["mobphone"] == PHONE


def test_unknown_parameters_are_ignored_and_their_names_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen = IgnoredParameters()
    more = {"sign": "x", "extno": "1", "order13800138000": "x", "短信": "y", CODE: "z", "X9K2": ""}
    query = f"{bare()}&{urlencode(more)}".encode()
    for _ in range(2):
        assert gateway.read(query, "", b"", ignored=seen.note)["code"] == CODE
    logged = [record.getMessage() for record in caplog.records]
    assert [text.split("parameter ")[1].split(",")[0] for text in logged] == [
        *("'sign'", "'extno'", "'order****'", "(with a name that is no word)"),
    ]
    assert not any(secret in caplog.text for secret in (PHONE, CODE, "短信", "X9K2"))
    seen.note(f"a{n}b" for n in range(200))
    assert len(caplog.records) == NAMES_AT_MOST
    assert caplog.records[-1].getMessage().endswith("and no more than these")


def test_a_client_with_parameters_of_its_own_goes_on_working(
    api: RunningApi, client: redis.Redis
) -> None:
    assert fields(client, mid(ask(api, sign="x", timestamp="1")))["state"] == "queued"
    assert "the relay ignores the parameter 'sign'" in api.log.read_text()


TARGETS = {
    "https://hooks.example.com/sms?x=1": True,
    "http://hooks.example.com:8080/sms": True,
    "HTTPS://HOOKS.example.com/": True,
    "http://10.0.0.7/sms": True,
    "https://shop.example.com/elsewhere": True,
    "http://shop.example.com/sms": False,
    "https://10.0.0.8/": False,
    "https://example.com/": False,
    "https://evil.hooks.example.com/": False,
    "https://hooks.example.com.evil/": False,
    "https://hooks.example.com@evil.example/": False,
    "https://evil.example/?@hooks.example.com": False,
    "https://evil.example\\@hooks.example.com/": False,
    "https://hooks.example.com\\.evil.example/": False,
    "https://hooks.example.com/#x": False,
    "https://hooks.example.com/\n": False,
    "https://hooks.example.com:0/": False,
    "https://hooks.example.com:x/": False,
    "ftp://hooks.example.com/": False,
    "file:///etc/passwd": False,
    "//hooks.example.com/": False,
    "hooks.example.com": False,
    "https://": False,
    "https://[::1/": False,
    f"https://hooks.example.com/{'x' * 2048}": False,
}


@pytest.mark.parametrize(("url", "allowed"), TARGETS.items())
def test_outcomes_go_only_where_the_operator_allows(url: str, allowed: bool) -> None:
    assert allowed_target(url, frozenset(OUTBOUND.split(",")), RETURN) is allowed


def test_without_a_default_and_a_list_no_url_is_allowed() -> None:
    assert not any(allowed_target(url, frozenset(), "") for url in TARGETS)


def test_a_returnurl_is_kept_or_refused(api: RunningApi, client: redis.Redis) -> None:
    assert "SMSQ_OUTBOUND_ALLOW" in why(ask(api, returnurl="https://evil.example/"))
    assert client.dbsize() == 0
    url = "http://10.0.0.7/sms?shop=1"
    assert fields(client, mid(ask(api, returnurl=url)))["returnurl"] == url


def test_without_secrets_there_is_no_relay(
    base_environ: Mapping[str, str], client: redis.Redis, tmp_path: Path
) -> None:
    environ = {k: v for k, v in base_environ.items() if k != "SMSQ_RELAY_SECRET"}
    with serving(environ, tmp_path / "log") as api:
        for secret in (None, "", RELAY):
            answer = ask(api, secret)
            assert (answer.status_code, answer.json()["msg"]) == (404, RELAY_OFF)
        # What came through a proxy of this machine is no business of this machine's.
        for name in ("X-Forwarded-For", "Forwarded", "Via"):
            answer = requests.get(
                f"{api.url}/?x=1", headers={name: "192.0.2.1"}, timeout=PATIENCE_S
            )
            assert (answer.status_code, answer.json()["msg"]) == (404, "Not Found")
        assert api.get("/elsewhere").json()["msg"] == "Not Found"
        assert "/" not in api.get("/openapi.json").json()["paths"]
    assert client.dbsize() == 0


def test_without_redis_the_client_is_asked_to_try_again(
    base_environ: Mapping[str, str], tmp_path: Path
) -> None:
    environ = {**base_environ, "SMSQ_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    with serving(environ, tmp_path / "log") as api:
        assert why(ask(api), 503) == "try again"


def test_with_other_payload_keys_than_the_ledgers_nothing_is_taken(
    base_environ: Mapping[str, str], client: redis.Redis, tmp_path: Path
) -> None:
    client.set(keys.LOOKUP, "made with a key that this door has not")
    environ = {**base_environ, "SMSQ_PAYLOAD_KEYS": Fernet.generate_key().decode()}
    with serving(environ, tmp_path / "log") as api:
        assert why(ask(api), 503) == "try again"
    assert "SMSQ_PAYLOAD_KEYS" in (tmp_path / "log").read_text()
    assert client.keys() == [keys.LOOKUP]


def test_a_broker_that_is_away_costs_no_message(
    base_environ: Mapping[str, str], client: redis.Redis, tmp_path: Path
) -> None:
    environ = {**base_environ, "SMSQ_BROKER_URL": f"redis://127.0.0.1:{free_port()}/0"}
    with serving(environ, tmp_path / "log") as api:
        assert fields(client, mid(ask(api)))["state"] == "queued"


# --- campaigns ------------------------------------------------------------------------------


def test_a_message_is_of_its_caller_s_campaign(
    api: RunningApi, client: redis.Redis, settings: Settings
) -> None:
    assert fields(client, mid(ask(api, campaign="spring")))["campaign"] == "spring"
    assert fields(client, mid(ask(api, SHOP, campaign="spring")))["campaign"] == "shop:spring"
    campaigns = Campaigns(client, settings.rules)
    assert {one.by for one in campaigns.all()} >= {"relay:shop"}
    campaigns.do("cancel", "spring")
    told = "campaign spring was cancelled: nothing was enqueued; send it in another campaign"
    assert why(ask(api, campaign="spring")) == told
    assert mid(ask(api, SHOP, campaign="spring"))
    assert "must not hold a phone number" in why(ask(api, campaign="13800138000"))


def test_a_caller_has_only_so_many_campaigns_and_takes_none_from_others(
    api: RunningApi, client: redis.Redis, settings: Settings
) -> None:
    assert mid(ask(api, SHOP, campaign="spring"))
    assert client.hgetall(keys.CAMPAIGN_CALLERS) == {"shop": "1", "of shop:spring": "shop"}
    client.hset(keys.CAMPAIGN_CALLERS, "shop", 1000)
    told = why(ask(api, SHOP, campaign="summer"))
    assert told.startswith("campaign shop:summer would be one too many of this caller's: it may")
    assert mid(ask(api, SHOP, campaign="spring"))
    assert mid(ask(api, OTHER, campaign="summer"))
    assert mid(ask(api, campaign="summer"))
    # What is forgotten makes room.
    client.hset(keys.campaign("shop:spring"), mapping={"ended": 1, "told": 1})
    client.zadd(keys.CAMPAIGNS, {"shop:spring": 1})
    Ledger(client, settings.rules).claim(resend_wait_s=1.0, empty=[])
    assert client.hget(keys.CAMPAIGN_CALLERS, "shop") == "999"
    assert mid(ask(api, SHOP, campaign="summer"))


def test_the_holder_of_the_one_secret_has_no_more_campaigns_than_a_caller(
    api: RunningApi, client: redis.Redis, settings: Settings
) -> None:
    assert mid(ask(api, campaign="spring"))
    assert client.hgetall(keys.CAMPAIGN_CALLERS) == {"": "1", "of spring": ""}
    assert {one.by for one in Campaigns(client, settings.rules).all()} == {"relay:"}
    client.hset(keys.CAMPAIGN_CALLERS, "", 1000)
    assert "one too many of this caller's" in why(ask(api, campaign="summer"))
    assert mid(ask(api, campaign="spring"))
    assert mid(ask(api, SHOP, campaign="summer"))


def test_what_redis_evicts_of_a_campaign_does_not_count_for_ever(
    api: RunningApi, client: redis.Redis, settings: Settings
) -> None:
    for name in ("spring", "summer"):
        assert mid(ask(api, SHOP, campaign=name))
        client.delete(keys.campaign(f"shop:{name}"))
    # The same one once more is none more.
    assert mid(ask(api, SHOP, campaign="spring"))
    assert client.hget(keys.CAMPAIGN_CALLERS, "shop") == "2"
    client.delete(keys.campaign("shop:spring"))
    client.zadd(keys.CAMPAIGNS, {"shop:spring": 1})
    Ledger(client, settings.rules).claim(resend_wait_s=1.0, empty=[])
    assert client.hgetall(keys.CAMPAIGN_CALLERS) == {"shop": "1", "of shop:summer": "shop"}
    client.delete(keys.CAMPAIGNS)
    assert mid(ask(api, SHOP, campaign="autumn"))
    assert client.hgetall(keys.CAMPAIGN_CALLERS) == {"shop": "1", "of shop:autumn": "shop"}


# --- keys -----------------------------------------------------------------------------------


def test_a_repeated_key_gets_the_first_answer_again(api: RunningApi, client: redis.Redis) -> None:
    first = mid(ask(api, key="login-7781"))
    assert mid(ask(api, key="login-7781", code="000000")) == first
    assert mid(ask(api, key="login-7782")) != first
    assert client.llen("sms.notice") == 2


def test_of_many_with_one_key_at_once_one_is_sent_and_all_hear_of_it(
    api: RunningApi, client: redis.Redis
) -> None:
    with ThreadPoolExecutor(16) as pool:
        mids = {mid(answer) for answer in pool.map(lambda _: ask(api, key="k"), range(32))}
    assert len(mids) == 1
    assert client.llen("sms.notice") == 1


def test_callers_do_not_meet_each_others_keys(api: RunningApi) -> None:
    mids = {mid(ask(api, secret, key="k")) for secret in (RELAY, SHOP, OTHER)}
    assert len(mids) == 3
    longest = "键" * 256
    assert mid(ask(api, SHOP, key=longest)) == mid(ask(api, SHOP, key=longest))


# --- callers --------------------------------------------------------------------------------


def test_a_callers_first_lane_is_its_default_and_others_are_refused(
    api: RunningApi, client: redis.Redis
) -> None:
    found = fields(client, mid(ask(api, SHOP)))
    assert (found["lane"], found["caller"]) == ("otp", "shop")
    assert fields(client, mid(ask(api, SHOP, lane="notice", ttl_s="60")))["lane"] == "notice"
    assert why(ask(api, SHOP, lane="bulk")).startswith("lane must be one of otp, notice for")
    assert fields(client, mid(ask(api, OTHER)))["lane"] == "notice"


def test_a_caller_sees_its_own_messages_alone(api: RunningApi) -> None:
    own, foreign = mid(ask(api, SHOP)), mid(ask(api, OTHER))
    producers = smsq.send_sms.delay(PHONE, TEMPLATE).id

    def seen(secret: str) -> list[int]:
        return [
            api.get(f"/messages/{message}", secret).status_code
            for message in (own, foreign, producers)
        ]

    assert seen(SHOP) == [200, 404, 404]
    assert seen(OTHER) == [404, 200, 404]
    assert seen(RELAY) == [200, 200, 200]
    assert api.delete(f"/messages/{foreign}", SHOP).status_code == 404
    assert api.get(f"/messages/{foreign}", OTHER).json()["state"] == "queued"
    assert api.delete(f"/messages/{own}", SHOP).status_code == 200
    unknown = api.get("/messages/unknown", SHOP)
    assert unknown.content == api.get(f"/messages/{foreign}", SHOP).content


def test_a_caller_beyond_its_rate_is_told_when_to_come_again(
    api: RunningApi, client: redis.Redis
) -> None:
    mid(ask(api, SLOW))
    answer = ask(api, SLOW)
    assert why(answer, 429) == "at most 0.01 requests a second"
    assert 1 <= int(answer.headers["Retry-After"]) <= 100
    assert client.llen("sms.notice") == 1
    mid(ask(api, OTHER))


@pytest.mark.parametrize(("rate", "at_once"), [(0.01, 1), (1, 1), (5, 5), (2.5, 2), (1000, 1000)])
def test_a_rate_allows_a_seconds_worth_at_once_over_all_apis(
    client: redis.Redis, settings: Settings, rate: float, at_once: int
) -> None:
    apis = [Ledger(client, settings.rules) for _ in range(2)]
    begun = now_us(client)
    waits = [apis[n % 2].relay_wait_s("shop", rate) for n in range(at_once + 1)]
    taken_s = (now_us(client) - begun) / 1_000_000
    passed = waits.count(0)
    assert at_once <= passed <= at_once + taken_s * rate + 1
    if passed == at_once:
        assert 0 < waits[-1] <= max(1, 1 / rate)


def test_a_rate_recovers_and_survives_a_clock_that_was_set_back(
    client: redis.Redis, settings: Settings
) -> None:
    ledger = Ledger(client, settings.rules)
    assert ledger.relay_wait_s("shop", 10) == 0
    eventually(lambda: not client.exists(keys.RELAY + "shop"))
    client.set(keys.RELAY + "shop", now_us(client) + 3_600_000_000)
    assert ledger.relay_wait_s("shop", 10) == 0
    assert 0 < client.pttl(keys.RELAY + "shop") <= 1000


def now_us(client: redis.Redis) -> int:
    seconds, micros = client.time()
    return int(seconds) * 1_000_000 + int(micros)


# --- the file of callers --------------------------------------------------------------------

SECRET_LINE = 'secret = "0123456789abcdef"\n'
MISTAKES = {
    "not-toml": ("[callers.shop", ["is not TOML"]),
    "not-utf-8": ("[callers.\udcff]", ["is not TOML in UTF-8"]),
    "empty": ("", ["names no caller"]),
    "other-table": (
        f"[caller.shop]\n{SECRET_LINE}",
        ['table "caller" is unknown', "names no caller"],
    ),
    "no-table": ("callers = 1", ["callers: is not a table"]),
    "caller-no-table": ("[callers]\nshop = 1", ["callers.shop: is not a table"]),
    "bad-name": (f'[callers."a:b"]\n{SECRET_LINE}', ["a name has 1 to 64 letters"]),
    "no-secret": ("[callers.shop]", ["field secret: must be at least 16"]),
    "short-secret": ('[callers.shop]\nsecret = "hunter2"', ["field secret: must be at least 16"]),
    "secret-with-blank": (
        '[callers.shop]\nsecret = " hunter2hunter2hunter2"',
        ["without blanks at the ends"],
    ),
    "relay-secret": (f'[callers.shop]\nsecret = "{RELAY}"', ["is that of SMSQ_RELAY_SECRET"]),
    "same-secret": (
        f"[callers.a]\n{SECRET_LINE}[callers.b]\n{SECRET_LINE}",
        ["callers.b, field secret: is that of callers.a"],
    ),
    "lane": (f'[callers.a]\n{SECRET_LINE}lanes = ["fast"]', ["one or more of otp, notice, bulk"]),
    "no-lanes": (f"[callers.a]\n{SECRET_LINE}lanes = []", ["one or more of otp, notice, bulk"]),
    "rate-0": (f"[callers.a]\n{SECRET_LINE}rate_per_s = 0", ["a number from 0.001 to 10000"]),
    "rate-nan": (f"[callers.a]\n{SECRET_LINE}rate_per_s = nan", ["a number from 0.001"]),
    "rate-true": (f"[callers.a]\n{SECRET_LINE}rate_per_s = true", ["a number from 0.001"]),
    "unknown-field": (f"[callers.a]\n{SECRET_LINE}lane = 1", ["did you mean lanes?"]),
    "several": (
        '[callers.a]\nsecret = "x"\nlanes = 1\n[callers.b]\nrate_per_s = -1',
        ["callers.a, field secret", "a, field lanes", "b, field secret", "b, field rate_per_s"],
    ),
}


@pytest.mark.parametrize(("text", "told"), MISTAKES.values(), ids=MISTAKES)
def test_every_mistake_in_the_file_is_told_at_once_and_no_secret(
    tmp_path: Path, text: str, told: list[str]
) -> None:
    file = tmp_path / "callers.toml"
    file.write_text(text, errors="surrogateescape")
    with pytest.raises(SettingsError) as raised:
        Callers.load(file, RELAY)
    assert len(raised.value.problems) == len(told)
    for problem, part in zip(raised.value.problems, told, strict=True):
        assert problem.startswith(f"SMSQ_RELAY_CALLERS_FILE: {file}: ")
        assert part in problem
        assert "hunter2" not in problem
        assert RELAY not in problem


def test_the_api_does_not_start_with_a_bad_file(
    base_environ: Mapping[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "callers.toml"
    file.write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "smsq_worker", "serve"],
        env={**base_environ, "SMSQ_RELAY_CALLERS_FILE": str(file)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "names no caller" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("secret", ["?", "fifteen-letters"])
def test_the_api_does_not_start_with_a_weak_relay_secret_and_says_what_is_needed(
    base_environ: Mapping[str, str], secret: str
) -> None:
    """A worker that shares the environment goes on sending."""
    with pytest.raises(SettingsError) as raised:
        Callers.load(None, secret)
    (problem,) = raised.value.problems
    assert problem.startswith("SMSQ_RELAY_SECRET: must be at least 16 printable ASCII characters")
    assert secret not in problem
    settings = Settings.load({**base_environ, "SMSQ_RELAY_SECRET": secret})
    found = [one for one in check_api(settings) if one.level == "error"]
    assert "SMSQ_RELAY_SECRET is weak" in found[0].what


def test_a_weak_secret_and_a_bad_file_are_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "callers.toml"
    file.write_text("")
    with pytest.raises(SettingsError) as raised:
        Callers.load(file, "long enough with a blank at its end ")
    assert [line.partition(":")[0] for line in raised.value.problems] == [
        *("SMSQ_RELAY_SECRET", "SMSQ_RELAY_CALLERS_FILE"),
    ]


def test_callers_alone_make_a_relay_and_are_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "callers.toml"
    file.write_bytes(b"\xef\xbb\xbf" + CALLERS.encode())
    callers = Callers.load(file, "")
    assert callers
    shop = callers.find(SHOP)
    assert shop is not None
    assert shop.name == "shop"
    assert SHOP not in repr(shop)
    assert callers.find("") is None
    assert not Callers.load(None, "")


def test_every_secret_is_compared_in_constant_time_whichever_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "callers.toml"
    file.write_text(CALLERS)
    callers = Callers.load(file, RELAY)
    compared: list[int] = []
    compare = hmac.compare_digest

    def counting(a: bytes, b: bytes) -> bool:
        compared.append(len(a) - len(b))
        return compare(a, b)

    monkeypatch.setattr(hmac, "compare_digest", counting)
    for secret in (RELAY, SLOW, "x", "é"):
        compared.clear()
        callers.find(secret)
        assert compared == [0] * 4
