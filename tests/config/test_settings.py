"""Settings: what stands without them, what is refused and how, what is never shown."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, fields, replace
from ipaddress import ip_network
from pathlib import Path

import kombu
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from harness.credentials import RELAY, SECRET, TOKEN
from harness.gateways import gateway_at
from smsq import SettingsError, SmsqError
from smsq.connection import connect
from smsq.redis_urls import ALLOWED, as_broker, read
from smsq.settings import (
    ProducerSettings,
    _warn_of_old_name,
    misspelt,
    names,
    shown_url,
    unknown,
)
from smsq_worker.config.rules import Rules
from smsq_worker.config.settings import Settings
from smsq_worker.doctor.machine import check_environment
from smsq_worker.domain.limits import Breaker, Hours, PhoneLimit
from smsq_worker.infra.ports import free_port

CONTRACT = (
    "SMSQ_REDIS_URL",
    "SMSQ_BROKER_URL",
    "SMSQ_GATEWAY_URL",
    "SMSQ_GATEWAY_ALLOW_PLAINTEXT",
    "SMSQ_APP_SECRET",
    "SMSQ_APP_SECRET_FILE",
    "SMSQ_GATEWAY_CA_BUNDLE",
    "SMSQ_GATEWAY_VERIFY_TLS",
    "SMSQ_CONNECT_TIMEOUT_S",
    "SMSQ_READ_TIMEOUT_S",
    "SMSQ_RATE_PER_S",
    "SMSQ_RATE_BURST",
    "SMSQ_PHONE_LIMITS",
    "SMSQ_RETRY_FIRST_S",
    "SMSQ_RETRY_MAX_S",
    "SMSQ_MAX_RESENDS",
    "SMSQ_LEASE_S",
    "SMSQ_REPORT_SPOOL_MB",
    "SMSQ_REPORT_WAIT_S",
    "SMSQ_INDEX",
    "SMSQ_RETENTION_S",
    "SMSQ_REDO_S",
    "SMSQ_REPORT_TOKEN",
    "SMSQ_RELAY_SECRET",
    "SMSQ_PAYLOAD_KEYS",
    "SMSQ_VERIFY_SECRET",
    "SMSQ_WEBHOOK_URL",
    "SMSQ_WEBHOOK_SECRET",
    "SMSQ_RETURN_URL",
    "SMSQ_OUTBOUND_ALLOW",
    "SMSQ_NOTIFY_BROKER_URL",
    "SMSQ_NOTIFY_QUEUE",
    "SMSQ_CODES_FILE",
    "SMSQ_BULK_HOURS",
    "SMSQ_API_BIND",
    "SMSQ_DOOR_BIND",
    "SMSQ_SANDBOX_BIND",
    "SMSQ_SANDBOX_REPORT_URL",
    "SMSQ_FLOWER_BIND",
    "SMSQ_HOME",
)
"""Every setting that the contract names, whether or not this version reads it."""

OURS = (
    "SMSQ_TEST_NUMBERS",
    "SMSQ_ENQUEUE_TIMEOUT_S",
    "SMSQ_IDLE_TIMEOUT_S",
    "SMSQ_SHOW_CODES",
    "SMSQ_LOG_FORMAT",
    "SMSQ_CAMPAIGN_WEBHOOK",
    "SMSQ_TRACES",
    "SMSQ_ALLOW_EVICTION",
    "SMSQ_REDIS_WAIT_REPLICAS",
    "SMSQ_BREAKER",
    "SMSQ_TEMPLATE_PAUSE",
    "SMSQ_PROBE_S",
    "SMSQ_REPORT_ALLOW",
    "SMSQ_TRUSTED_PROXIES",
    "SMSQ_RELAY_CALLERS_FILE",
    "SMSQ_NOTIFY_FOR_S",
    "SMSQ_OPERATOR",
    "SMSQ_ACCOUNTS_FILE",
)
"""What we read besides."""

PASSWORD = "hush-hush-77"
FERNET, OTHER_FERNET = (base64.urlsafe_b64encode(bytes([n]) * 32).decode() for n in (1, 2))
WEBHOOK_KEY = "whsec_" + base64.b64encode(b"k" * 24).decode()


def problems(environ: dict[str, str], *need: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        Settings.load(environ, need=need)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, SmsqError)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


# --- what stands without them ---------------------------------------------------------------

DEFAULTS = {
    "redis_url": "redis://127.0.0.1:6379/0",
    "broker_url": "redis://127.0.0.1:6379/0",
    "accounts_file": None,
    "gateway_url": "https://sms.1oc.cn/",
    "allow_plaintext": False,
    "app_secret": "",
    "ca_bundle": None,
    "verify_tls": True,
    "connect_timeout_s": 3.0,
    "read_timeout_s": 10.0,
    "idle_timeout_s": 30.0,
    "rate_per_s": 10.0,
    "rate_burst": 1,
    "phone_limits": (PhoneLimit(1, 60), PhoneLimit(5, 3600), PhoneLimit(10, 86_400)),
    "bulk_hours": None,
    "breaker": Breaker(20, 50, 60),
    "template_pause": (
        ("otp", (50, 90, 900)),
        ("notice", (5, 20, 900)),
        ("bulk", (5, 20, 900)),
    ),
    "probe_s": 30.0,
    "retry_first_s": 2.0,
    "retry_max_s": 300.0,
    "max_resends": 2,
    "lease_s": 60.0,
    "report_wait_s": 259_200,
    "retention_s": 604_800,
    "wait_replicas": 0,
    "report_token": "",
    "relay_secret": "",
    "payload_keys": (),
    "verify_secret": (),
    "report_allow": (),
    "trusted_proxies": (),
    "relay_callers": None,
    "return_url": "",
    "webhook_url": "",
    "campaign_webhook": "end",
    "webhook_keys": (),
    "outbound_allow": frozenset(),
    "notify_broker_url": "redis://127.0.0.1:6379/0",
    "notify_queue": "celery",
    "notify_for_s": 86_400,
    "codes_file": None,
    "api_bind": ("127.0.0.1", 8080),
    "sandbox_bind": ("127.0.0.1", 8090),
    "sandbox_report_url": "",
    "flower_bind": ("127.0.0.1", 5555),
    "home": Path(".smsq"),
}


def test_the_defaults_are_those_of_the_contract() -> None:
    settings = Settings.load({})
    assert {name: getattr(settings, name) for name in DEFAULTS} == DEFAULTS


def test_the_producer_and_the_worker_share_defaults() -> None:
    producer, worker = ProducerSettings.load({}), Settings.load({})
    for spec in fields(ProducerSettings):
        assert getattr(producer, spec.name) == getattr(worker, spec.name)


def test_settings_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings.load({}).lease_s = 5  # type: ignore[misc]


EMPTY_IS_OFF = {
    "SMSQ_PHONE_LIMITS": ("phone_limits", ()),
    "SMSQ_BREAKER": ("breaker", None),
    "SMSQ_TEMPLATE_PAUSE": ("template_pause", ()),
}


def test_an_empty_value_is_no_value() -> None:
    others = set(names(Settings)) - set(EMPTY_IS_OFF)
    assert Settings.load(dict.fromkeys(others, "  ")) == Settings.load({})


@pytest.mark.parametrize("env", EMPTY_IS_OFF)
@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_limit_is_off_and_only_one_that_is_not_set_has_its_default(
    env: str, text: str
) -> None:
    name, off = EMPTY_IS_OFF[env]
    assert Settings.load({env: text}) == replace(Settings.load({}), **{name: off})
    assert getattr(Settings.load({}), name) != off


def test_blanks_around_a_value_do_not_matter() -> None:
    settings = Settings.load({"SMSQ_LEASE_S": " 90\n", "SMSQ_APP_SECRET": f" {SECRET}\n"})
    assert (settings.lease_s, settings.app_secret) == (90.0, SECRET)


def test_the_broker_is_the_ledger_unless_it_is_set() -> None:
    ledger = {"SMSQ_REDIS_URL": "redis://ledger/1"}
    assert Settings.load(ledger).broker_url == "redis://ledger/1"
    both = Settings.load(ledger | {"SMSQ_BROKER_URL": "redis://broker/2"})
    assert (both.redis_url, both.broker_url) == ("redis://ledger/1", "redis://broker/2")


# --- what is taken --------------------------------------------------------------------------

# Setting: text, field, value.
GOOD: dict[str, tuple[str, str, str, object]] = {
    "whole": ("SMSQ_MAX_RESENDS", "0", "max_resends", 0),
    "fraction": ("SMSQ_CONNECT_TIMEOUT_S", "0.25", "connect_timeout_s", 0.25),
    "flag": ("SMSQ_GATEWAY_VERIFY_TLS", "0", "verify_tls", False),
    "bind-any-port": ("SMSQ_API_BIND", "0.0.0.0:0", "api_bind", ("0.0.0.0", 0)),
    "bind-name": ("SMSQ_API_BIND", "localhost:65535", "api_bind", ("localhost", 65535)),
    "bind-ipv6": ("SMSQ_API_BIND", "[::1]:8080", "api_bind", ("::1", 8080)),
    "campaign-webhook": ("SMSQ_CAMPAIGN_WEBHOOK", "each", "campaign_webhook", "each"),
    "log-format": ("SMSQ_LOG_FORMAT", "json", "log_format", "json"),
    "operator": ("SMSQ_OPERATOR", "李工", "operator", "李工"),
    "home": ("SMSQ_HOME", "var/smsq", "home", Path("var/smsq")),
    "https": (
        "SMSQ_GATEWAY_URL",
        "https://sms.example:8443/api",
        "gateway_url",
        "https://sms.example:8443/api",
    ),
    "token": ("SMSQ_REPORT_TOKEN", "abcDEF_123-45678", "report_token", "abcDEF_123-45678"),
    "rate-below-one": ("SMSQ_RATE_PER_S", "0.2", "rate_per_s", 0.2),
    "fastest": ("SMSQ_RATE_PER_S", "10000", "rate_per_s", 10_000.0),
    "burst": ("SMSQ_RATE_BURST", "10000", "rate_burst", 10_000),
    "one-limit": ("SMSQ_PHONE_LIMITS", "1/60", "phone_limits", ((1, 60),)),
    "limits-with-blanks": (
        "SMSQ_PHONE_LIMITS",
        " 10/86400 , 1/60 ",
        "phone_limits",
        ((10, 86_400), (1, 60)),
    ),
    "longest-limit": ("SMSQ_PHONE_LIMITS", "1000/2678400", "phone_limits", ((1000, 2_678_400),)),
    "hours": ("SMSQ_BULK_HOURS", "08:00-21:30", "bulk_hours", Hours(480, 1290)),
    "hours-over-midnight": ("SMSQ_BULK_HOURS", "22:00-06:00", "bulk_hours", Hours(1320, 360)),
    "hours-to-midnight": ("SMSQ_BULK_HOURS", "08:00-24:00", "bulk_hours", Hours(480, 0)),
    "hours-from-midnight": ("SMSQ_BULK_HOURS", "00:00-06:00", "bulk_hours", Hours(0, 360)),
    "breaker": ("SMSQ_BREAKER", "5/20/3600", "breaker", Breaker(5, 20, 3600)),
    "shyest-breaker": ("SMSQ_BREAKER", "1/10/1", "breaker", Breaker(1, 10, 1)),
    "breaker-of-all": ("SMSQ_BREAKER", "500/100/60", "breaker", Breaker(500, 100, 60)),
    "template-pause": (
        "SMSQ_TEMPLATE_PAUSE",
        "bulk=1/1/60, otp=off",
        "template_pause",
        (("notice", (5, 20, 900)), ("bulk", (1, 1, 60))),
    ),
    "probe": ("SMSQ_PROBE_S", "0.5", "probe_s", 0.5),
    "payload-keys": (
        "SMSQ_PAYLOAD_KEYS",
        f"{FERNET}, {OTHER_FERNET}",
        "payload_keys",
        (FERNET, OTHER_FERNET),
    ),
    "verify-secrets": (
        "SMSQ_VERIFY_SECRET",
        f"{'a' * 32}, {FERNET}",
        "verify_secret",
        ("a" * 32, FERNET),
    ),
    "networks": (
        "SMSQ_REPORT_ALLOW",
        "203.0.113.7, 10.0.0.0/8,2001:db8::/32",
        "report_allow",
        tuple(map(ip_network, ("203.0.113.7/32", "10.0.0.0/8", "2001:db8::/32"))),
    ),
    "proxy": (
        "SMSQ_TRUSTED_PROXIES",
        "127.0.0.1",
        "trusted_proxies",
        (ip_network("127.0.0.1/32"),),
    ),
    "return-url": (
        "SMSQ_RETURN_URL",
        "https://shop.example/sms?of=us",
        "return_url",
        "https://shop.example/sms?of=us",
    ),
    "hosts": (
        "SMSQ_OUTBOUND_ALLOW",
        "Hooks.Example.com, 10.0.0.7,[::1]",
        "outbound_allow",
        frozenset({"hooks.example.com", "10.0.0.7", "::1"}),
    ),
    "amqp": (
        "SMSQ_NOTIFY_BROKER_URL",
        f"amqps://shop:{PASSWORD}@rabbit:5671/shop",
        "notify_broker_url",
        f"amqps://shop:{PASSWORD}@rabbit:5671/shop",
    ),
    "queue": ("SMSQ_NOTIFY_QUEUE", "shop.sms:told-1", "notify_queue", "shop.sms:told-1"),
    "notify-for": ("SMSQ_NOTIFY_FOR_S", "3600", "notify_for_s", 3600),
}


@pytest.mark.parametrize(("env", "text", "name", "value"), GOOD.values(), ids=GOOD)
def test_a_good_value_is_taken(env: str, text: str, name: str, value: object) -> None:
    assert getattr(Settings.load({env: text}), name) == value


def test_the_ledger_is_told_what_is_set() -> None:
    texts = {name: (env, text) for env, text, name, _ in GOOD.values()}
    told = {spec.name for spec in fields(Rules)} & set(texts)
    assert {"rate_per_s", "rate_burst", "phone_limits", "bulk_hours", "breaker", "probe_s"} <= told
    settings = Settings.load(dict(texts[name] for name in told))
    for name in told:
        assert getattr(settings.rules, name) == getattr(settings, name) != DEFAULTS[name]


REDIS_URLS = {
    "host": "redis://redis",
    "port": "redis://redis:6380",
    "database": "redis://redis:6380/15",
    "ipv6": "redis://[::1]:6379/0",
    "password": f"redis://:{PASSWORD}@redis/0",
    "user": f"redis://worker:{PASSWORD}@redis/0",
    "odd-password": "redis://:p%40ss%2Fword%23@redis/0",
    "tls": "rediss://redis:6380/0?ssl_cert_reqs=required",
    "tls-with-files": (
        "rediss://redis/0?ssl_cert_reqs=required&ssl_ca_certs=ca.pem"
        "&ssl_certfile=own.pem&ssl_keyfile=own.key&ssl_check_hostname=true"
    ),
}


@pytest.mark.parametrize("url", REDIS_URLS.values(), ids=REDIS_URLS)
def test_a_redis_address_that_is_taken_is_one_that_redis_py_and_kombu_take(url: str) -> None:
    settings = Settings.load({"SMSQ_REDIS_URL": url})
    assert settings.broker_url == url
    with connect(settings.redis_url) as client:
        client.connection_pool.make_connection()
    assert kombu.Connection(settings.broker_url).hostname in {"redis", "::1"}


SENTINELS = "redis+sentinel://h1:26379,h2:26380,[::1]/main/3"
SENTINEL_URLS = {
    "hosts": SENTINELS,
    "login": SENTINELS.replace("//", f"//worker:{PASSWORD}%40@"),
    "no-database": "redis+sentinel://h1/main",
    "tls": "rediss+sentinel://h1,h2/main/0?ssl_cert_reqs=required&ssl_ca_certs=ca.pem"
    "&ssl_certfile=own.pem&ssl_keyfile=own.key&ssl_check_hostname=false"
    f"&sentinel_username=watch&sentinel_password={PASSWORD}",
}


@pytest.mark.parametrize("url", SENTINEL_URLS.values(), ids=SENTINEL_URLS)
def test_sentinels_that_are_taken_are_taken_by_redis_py_and_kombu_too(url: str) -> None:
    settings = Settings.load({"SMSQ_REDIS_URL": url, "SMSQ_NOTIFY_BROKER_URL": url})
    assert settings.broker_url == url
    with connect(settings.redis_url) as client:
        client.connection_pool.make_connection()
    broker = as_broker(settings.broker_url)
    connection = kombu.Connection(broker.url, ssl=broker.ssl, transport_options=broker.options)
    assert len(connection.alt or [""]) == len(read(url).hosts)
    assert PASSWORD not in shown_url(url) + repr(read(url)) + repr(broker)


def test_what_an_address_with_sentinels_says_is_understood() -> None:
    at = read(SENTINEL_URLS["login"])
    assert (at.service, at.db, at.username) == ("main", 3, "worker")
    assert at.password == f"{PASSWORD}@"
    assert at.hosts == (("h1", 26379), ("h2", 26380), ("::1", 26379))
    tls = read(SENTINEL_URLS["tls"])
    assert tls.tls["ssl_check_hostname"] is False
    assert tls.options["ssl_ca_certs"] == "ca.pem"
    assert (tls.options["username"], tls.options["password"]) == ("watch", PASSWORD)
    assert shown_url(SENTINEL_URLS["login"]) == SENTINELS


def test_calls_wait_for_a_replica_where_there_are_sentinels() -> None:
    assert Settings.load({"SMSQ_REDIS_URL": SENTINELS}).rules.wait_replicas == 1
    unsafe = {"SMSQ_REDIS_URL": SENTINELS, "SMSQ_REDIS_WAIT_REPLICAS": "0"}
    assert Settings.load(unsafe).rules.wait_replicas == 0


# --- what is refused ------------------------------------------------------------------------

REDIS_RULE = "redis://host:port/db or rediss://host:port/db?ssl_cert_reqs=required"
NETWORKS_RULE = "addresses or networks separated by commas, like 203.0.113.7,10.0.0.0/8"
TARGET_RULE = "https://host/path?query, without user or fragment"
BIND_RULE = "HOST:PORT"
URL_RULE = "https://host/path, without user, query or fragment"
SECRET_RULE = "printable ASCII on one line"
TOKEN_RULE = "at least 16 letters, digits, - and _"
PHONE_LIMITS_RULE = (
    "MESSAGES/SECONDS with commas between, like 1/60,5/3600,10/86400, from 1 to 1000 messages and "
    "2678400 seconds; empty turns it off"
)
THOUSANDS_OF_DIGITS = "9" * 5000

# Setting: what is allowed, whether it is secret, values that are not.
REFUSED: dict[str, tuple[str, bool, tuple[str, ...]]] = {
    "SMSQ_REDIS_URL": (
        REDIS_RULE,
        True,
        (
            PASSWORD,
            f"http://:{PASSWORD}@redis/0",
            f"redis:///{PASSWORD}",
            f"redis://:{PASSWORD}@redis:port/0",
            f"redis://:{PASSWORD}@redis:99999/0",
            f"redis://:{PASSWORD}@redis:0/0",
            f"redis://:{PASSWORD}#@redis/0",
            f"redis://:{PASSWORD}@part#word@redis/0",
            f"redis://redis/0#{PASSWORD}",
            f"redis://:{PASSWORD}/@redis/0",
            f"redis://redis/{PASSWORD}",
            f"redis://:{PASSWORD}@redis/²",
            f"redis://:{PASSWORD}@redis/-1",
            f"redis://:{PASSWORD}@re dis/0",
            f"redis://:{PASSWORD}@a..b/0",
            f"redis://:{PASSWORD}@{'a' * 64}.example/0",
            f"redis://:{PASSWORD}@[::1/0",
            f"redis://redis/0?password={PASSWORD}",
            f"redis://:{PASSWORD}@redis/0?socket_timeout=5",
            f"redis://:{PASSWORD}@redis/0?ssl_cert_reqs=required",
            f"REDIS://:{PASSWORD}@redis/0",
            f"unix://{PASSWORD}",
            f"sentinel://{PASSWORD}:26379",
        ),
    ),
    "SMSQ_BROKER_URL": (
        REDIS_RULE,
        True,
        (
            f"amqp://:{PASSWORD}@rabbit//",
            # kombu would encrypt, but trust anyone.
            f"rediss://:{PASSWORD}@redis/0",
            f"rediss://:{PASSWORD}@redis/0?ssl_cert_reqs=none",
            f"rediss://:{PASSWORD}@redis/0?ssl_cert_reqs=optional",
            f"rediss://:{PASSWORD}@redis/0?ssl_cert_reqs=",
            f"rediss://:{PASSWORD}@redis/0?ssl_cert_reqs=required&ssl_cert_reqs=none",
            f"rediss://:{PASSWORD}@redis/0?ssl_cert_reqs=required&db=3",
            f"rediss://:{PASSWORD}@redis/0?ssl_cert_reqs=required&ssl_min_version=x",
        ),
    ),
    "SMSQ_ENQUEUE_TIMEOUT_S": ("a number above 0 up to 300", False, ("0", "301", "-1", "3s")),
    "SMSQ_REDIS_WAIT_REPLICAS": ("a whole number from 0 to 9", False, ("10", "-1", "all")),
    "SMSQ_INDEX": ("0 or 1", False, ("-1", "2", "yes")),
    "SMSQ_REDO_S": ("a whole number from 0 to 2592000", False, ("2592001", "-1", "48h")),
    "SMSQ_RETENTION_S": (
        "a whole number from 60 to 31622400",
        False,
        ("59", "31622401", "60.5", "1_000", "１００", "week", "-60", THOUSANDS_OF_DIGITS),
    ),
    "SMSQ_GATEWAY_URL": (
        URL_RULE,
        False,
        (
            "sms.1oc.cn",
            "ftp://sms.1oc.cn/",
            "https://",
            "https:///path",
            "https://user@sms.1oc.cn/",
            "https://sms.1oc.cn/?module=sms",
            "https://sms.1oc.cn/#top",
            "https://sms.1oc.cn:0/",
            "https://sms.1oc.cn:99999/",
            "https://sms.1oc.cn:port/",
            "https://sms .1oc.cn/",
            "https://sms.1oc.cn/\x7f",
            "https://[::1/",
            "https://a..b/",
            "https://*.example/",
            f"https://{'a' * 64}.example/",
        ),
    ),
    "SMSQ_GATEWAY_ALLOW_PLAINTEXT": ("0 or 1", False, ("yes", "true", "2", "00", "１")),
    "SMSQ_GATEWAY_VERIFY_TLS": ("0 or 1", False, ("no", "off", "-1")),
    "SMSQ_APP_SECRET": (SECRET_RULE, True, (f"{PASSWORD}\n2", f"{PASSWORD}é", f"{PASSWORD}\x7f")),
    "SMSQ_APP_SECRET_FILE": (
        "the path of a readable file that holds the secret",
        True,
        (f"no/{PASSWORD}", f"/{PASSWORD}", f"{PASSWORD}\x00", f"{PASSWORD}\ud800", "x" * 5000),
    ),
    "SMSQ_GATEWAY_CA_BUNDLE": (
        "the path of a file",
        False,
        ("no/such.pem", ".", "/dev/null", __file__, "x" * 5000, "x\ud800"),
    ),
    "SMSQ_CONNECT_TIMEOUT_S": (
        "a number above 0 up to 60",
        False,
        ("0", "-1", "60.1", "nan", "inf", "3s", "three", THOUSANDS_OF_DIGITS),
    ),
    "SMSQ_READ_TIMEOUT_S": ("a number above 0 up to 300", False, ("0", "301", "nan")),
    "SMSQ_IDLE_TIMEOUT_S": ("a number from 0 to 3600", False, ("-1", "3601", "nan")),
    "SMSQ_RATE_PER_S": (
        "a number from 0.001 to 10000",
        False,
        ("0", "-1", "10000.5", "nan", "inf", "10/s", THOUSANDS_OF_DIGITS),
    ),
    "SMSQ_RATE_BURST": ("a whole number from 1 to 10000", False, ("0", "10001", "1.5", "-1")),
    "SMSQ_PHONE_LIMITS": (
        PHONE_LIMITS_RULE,
        False,
        (
            "1",
            "0/60",
            "1/0",
            "1001/60",
            "1/2678401",
            "1/60,",
            ",",
            "1/60,0/60",
            "1/60 5/3600",
            "1/60;5/3600",
            "1/60/1",
            "-1/60",
            "1.5/60",
            "1/1m",
            "1 / 60",
            "１/60",
            "off",
            f"1/{THOUSANDS_OF_DIGITS}",
        ),
    ),
    "SMSQ_BULK_HOURS": (
        "HH:MM-HH:MM, like 08:00-21:00, in Asia/Shanghai, of two different times",
        False,
        (
            "8:00-21:00",
            "08-21",
            "08:00",
            "08:00-",
            "08:00 - 21:00",
            "08:00–21:00",
            "08:00-08:00",
            "00:00-24:00",
            "24:00-08:00",
            "08:00-24:01",
            "08:00-25:00",
            "08:60-21:00",
            "08:00-21:00,22:00-23:00",
            "０8:00-21:00",
            "off",
        ),
    ),
    "SMSQ_TEMPLATE_PAUSE": (
        (
            "LANE=REPORTS/PERCENT/SECONDS or LANE=off with commas between, like "
            "otp=50/90/900,bulk=off, of 1 to 100000 reports, 1 to 100 percent and 60 to 86400 "
            "seconds, each of the lanes otp, notice and bulk at most once; empty turns it off"
        ),
        False,
        (
            "5/20/900",
            "otp",
            "otp=",
            "otpp=5/20/900",
            "otp=0/20/900",
            "otp=5/101/900",
            "otp=5/20/59",
            "otp=5/20",
            "otp=off,otp=5/20/900",
        ),
    ),
    "SMSQ_BREAKER": (
        (
            "CALLS/PERCENT/SECONDS, like 20/50/60, of 1 to 500 calls, 10 to 100 percent and 1 to "
            "3600 seconds; empty turns it off"
        ),
        False,
        (
            "10",
            "10/50",
            "20/50/60/1",
            "0/50/60",
            "501/50/60",
            "10/9/60",
            "10/0/60",
            "10/101/60",
            "10/50/0",
            "10/50/3601",
            "10/50%/60",
            "10 / 50 / 60",
            "-20/50/60",
            "10/50/1.5",
            "１0/50/60",
            "off",
            f"{THOUSANDS_OF_DIGITS}/50/60",
        ),
    ),
    "SMSQ_PROBE_S": ("a number above 0 up to 3600", False, ("0", "3601", "-1", "30s")),
    "SMSQ_RETRY_FIRST_S": ("a number above 0 up to 3600", False, ("0", "3601", "-inf")),
    "SMSQ_RETRY_MAX_S": ("a number above 0 up to 86400", False, ("0", "86401", "x")),
    "SMSQ_MAX_RESENDS": (
        "a whole number from 0 to 100",
        False,
        ("-1", "101", "2.0", "+2", "٢", "0x2", THOUSANDS_OF_DIGITS),
    ),
    "SMSQ_LEASE_S": ("a number above 0 up to 3600", False, ("0", "3601", "1m")),
    "SMSQ_REPORT_WAIT_S": ("a whole number from 1 to 2592000", False, ("0", "72h")),
    "SMSQ_REPORT_SPOOL_MB": ("a whole number from 1 to 1000000", False, ("0", "256M")),
    "SMSQ_CODES_FILE": ("the path of a file that exists", False, ("no/codes.toml", ".")),
    "SMSQ_TEST_NUMBERS": ("a number of 11 digits, or", True, ("1390000xxxxx", "12345678901")),
    "SMSQ_REPORT_TOKEN": (
        TOKEN_RULE,
        True,
        (PASSWORD, f"{PASSWORD}/{PASSWORD}", f"{PASSWORD}é{PASSWORD}", "-" * 16),
    ),
    "SMSQ_RELAY_SECRET": (SECRET_RULE, True, (f"{PASSWORD}é", f"{PASSWORD}\r\nX: 1")),
    "SMSQ_PAYLOAD_KEYS": (
        "Fernet keys separated by commas, each 32 bytes in URL-safe base64",
        True,
        (PASSWORD, FERNET[:-4], f"{FERNET},", f"{FERNET};{OTHER_FERNET}", FERNET * 2),
    ),
    "SMSQ_VERIFY_SECRET": (
        "1 to 5 secrets separated by commas, each of at least 32 characters",
        True,
        (PASSWORD[:31], f"{FERNET},", f"{FERNET},{PASSWORD[:31]}", ",".join([FERNET] * 6)),
    ),
    "SMSQ_REPORT_ALLOW": (
        NETWORKS_RULE,
        False,
        ("gateway.example", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/8,", "*"),
    ),
    "SMSQ_TRUSTED_PROXIES": (NETWORKS_RULE, False, ("*", "proxy")),
    "SMSQ_RELAY_CALLERS_FILE": ("the path of a file that exists", False, ("no/callers.toml",)),
    "SMSQ_RETURN_URL": (
        TARGET_RULE,
        True,
        (f"shop.example/{PASSWORD}", f"https://u:{PASSWORD}@shop.example/", "https://a/?x#y"),
    ),
    "SMSQ_WEBHOOK_URL": (TARGET_RULE, True, (f"ftp://shop.example/{PASSWORD}", "https://a/?x y")),
    "SMSQ_WEBHOOK_SECRET": (
        "whsec_ and 24 to 64 bytes in base64",
        True,
        (PASSWORD, f"whsec_{PASSWORD}", "whsec_c2hvcnQ=", f"{WEBHOOK_KEY},"),
    ),
    "SMSQ_OUTBOUND_ALLOW": (
        "hosts separated by commas",
        False,
        ("https://hooks.example.com", "*.example.com", "a b", "a,,b", "user@host", "host:8443"),
    ),
    "SMSQ_NOTIFY_BROKER_URL": (
        "redis://",
        True,
        (
            *(f"amqp://:{PASSWORD}", f"http://{PASSWORD}.example", f"rediss://:{PASSWORD}@redis/0"),
            *(f"amqp://:{PASSWORD}@rabbit:0/shop", f"redis://:{PASSWORD}@redis:0/0"),
            f"amqp://shop:{PASSWORD}@part#word@rabbit/shop",
        ),
    ),
    "SMSQ_NOTIFY_QUEUE": ("1 to 255 letters, digits and _ . : -", False, ("a b", "a/b", "é")),
    "SMSQ_NOTIFY_FOR_S": ("a whole number from 1 to 2592000", False, ("0", "1d")),
    "SMSQ_API_BIND": (
        BIND_RULE,
        False,
        (
            "8080",
            ":8080",
            "[]:8080",
            "127.0.0.1",
            "127.0.0.1:",
            "127.0.0.1:http",
            "127.0.0.1:-1",
            "127.0.0.1:65536",
            "127.0.0.1:８０",
            f"127.0.0.1:{THOUSANDS_OF_DIGITS}",
            "a..b:80",
            "ho st:80",
            "http://127.0.0.1:80/",
        ),
    ),
    "SMSQ_SANDBOX_BIND": (BIND_RULE, False, ("127.0.0.1:65536",)),
    "SMSQ_SANDBOX_REPORT_URL": (
        URL_RULE,
        True,
        (f"127.0.0.1/reports/{TOKEN}", f"http://127.0.0.1/reports/{TOKEN}?x=1"),
    ),
    "SMSQ_FLOWER_BIND": (BIND_RULE, False, ("127.0.0.1:65536",)),
    "SMSQ_CAMPAIGN_WEBHOOK": ("end or each", False, ("all", "END", "end,each")),
    "SMSQ_LOG_FORMAT": ("text or json", False, ("xml", "JSON", "text,json")),
    "SMSQ_TRACES": ("0 or 1", False, ("otlp",)),
    "SMSQ_SHOW_CODES": ("0 or 1", False, ("yes",)),
    "SMSQ_ALLOW_EVICTION": ("0 or 1", False, ("yes",)),
    "SMSQ_OPERATOR": (
        "printable text of at most 100 characters, on one line",
        False,
        ("a" * 101, "ann\x1b[2J"),
    ),
}

REFUSED_VALUES = [
    pytest.param(env, allowed, secret, value, id=f"{env}-{n}")
    for env, (allowed, secret, values) in REFUSED.items()
    for n, value in enumerate(values)
]


@pytest.mark.parametrize(
    "url",
    [
        f"redis+sentinel://:{PASSWORD}@h1,h2",
        f"redis+sentinel://:{PASSWORD}@h1,h2/0/main",
        f"redis+sentinel://:{PASSWORD}@h1,,h2/main/0",
        f"redis+sentinel://:{PASSWORD}@h1:x/main/0",
        f"redis+sentinel://:{PASSWORD}@h1:0/main/0",
        f"redis+sentinel://:{PASSWORD}@h 1/main/0",
        f"redis+sentinel://:{PASSWORD}@h1/main/0?ssl_cert_reqs=required",
        f"redis+sentinel://:{PASSWORD}@h1/main/0?password={PASSWORD}",
        f"redis+sentinel://:{PASSWORD}#@h1/main/0",
        f"rediss+sentinel://:{PASSWORD}@h1/main/0",
        f"rediss+sentinel://:{PASSWORD}@h1/main/0?ssl_cert_reqs=none",
    ],
)
def test_sentinels_that_are_refused_are_refused_with_an_example(url: str) -> None:
    (problem,) = problems({"SMSQ_REDIS_URL": url})
    assert problem == f"SMSQ_REDIS_URL: its value is not allowed; it takes {ALLOWED}"
    assert "host1:26379,host2:26379,host3:26379/service/db" in problem


def test_every_setting_that_can_be_wrong_is_tried() -> None:
    assert set(REFUSED) == set(names(Settings)) - {"SMSQ_HOME", "SMSQ_ACCOUNTS_FILE"}


@pytest.mark.parametrize(("env", "allowed", "secret", "value"), REFUSED_VALUES)
def test_a_bad_value_is_told_with_its_setting_and_what_is_allowed(
    env: str, allowed: str, secret: bool, value: str
) -> None:
    (problem,) = problems({env: value})

    shown = "its value" if secret else repr(value)
    assert problem.startswith(f"{env}: {shown} is not allowed; it takes ")
    assert allowed in problem
    if secret:
        assert value not in problem
        assert PASSWORD not in problem
        assert TOKEN not in problem


def test_all_bad_values_are_told_at_once() -> None:
    environ = {env: values[0] for env, (_, _, values) in REFUSED.items()}

    told = [problem.partition(":")[0] for problem in problems(environ)]

    assert sorted(told) == sorted(environ)


def test_missing_misspelt_bad_and_contradicting_are_told_at_once() -> None:
    told = problems(
        {
            "SMSQ_APP_SECRETS": "x",
            "SMSQ_MAX_RESENDS": "many",
            "SMSQ_RETRY_FIRST_S": "400",
            "SMSQ_LEASE_S": "5",
        },
        "report_token",
    )
    assert [problem.partition(":")[0] for problem in told] == [
        "SMSQ_APP_SECRETS",
        "SMSQ_MAX_RESENDS",
        "SMSQ_REPORT_TOKEN",
        "SMSQ_RETRY_FIRST_S",
        "SMSQ_LEASE_S",
    ]


def test_what_contradicts_only_the_default_of_a_bad_value_is_not_told() -> None:
    (problem,) = problems({"SMSQ_RETRY_FIRST_S": "400", "SMSQ_RETRY_MAX_S": "ten minutes"})
    assert problem.startswith("SMSQ_RETRY_MAX_S: 'ten minutes'")


@pytest.mark.parametrize(
    ("need", "env"), [("report_token", "SMSQ_REPORT_TOKEN"), ("app_secret", "SMSQ_APP_SECRET")]
)
def test_what_a_role_needs_must_be_set(need: str, env: str) -> None:
    assert problems({}, need) == (f"{env}: must be set; it has no default",)
    assert Settings.load({env: "x" * 16}, need=(need,))


def test_a_needed_setting_that_is_wrong_is_told_once() -> None:
    (problem,) = problems({"SMSQ_REPORT_TOKEN": "short"}, "report_token")
    assert TOKEN_RULE in problem


# --- misspelt names -------------------------------------------------------------------------

MISSPELT = {
    "SMSQ_REDIS_URI": "SMSQ_REDIS_URL",
    "SMSQ_REDISURL": "SMSQ_REDIS_URL",
    "SMSQ_APPSECRET": "SMSQ_APP_SECRET",
    "SMSQ_APP_SECRETFILE": "SMSQ_APP_SECRET_FILE",
    "SMSQ_GATEWAY_VERIFY_SSL": "SMSQ_GATEWAY_VERIFY_TLS",
    "SMSQ_READ_TIMEOUT": "SMSQ_READ_TIMEOUT_S",
    "SMSQ_LEASE": "SMSQ_LEASE_S",
    "SMSQ_MAX_RESEND": "SMSQ_MAX_RESENDS",
    "SMSQ_API_BIND_": "SMSQ_API_BIND",
    "SMSQ_DOOR_BINDS": "SMSQ_DOOR_BIND",
    "SMSQ_REPORTS_TOKEN": "SMSQ_REPORT_TOKEN",
    "SMSQ_RATES_PER_S": "SMSQ_RATE_PER_S",
    "SMSQ_PHONE_LIMIT": "SMSQ_PHONE_LIMITS",
    "SMSQ_BULK_HOUR": "SMSQ_BULK_HOURS",
    "SMSQ_BREAKERS": "SMSQ_BREAKER",
    "SMSQ_PROBE": "SMSQ_PROBE_S",
    "SMSQ_RATE": "SMSQ_RATE_BURST, SMSQ_RATE_PER_S",
    "SMSQ_GATEWAY_CA": "SMSQ_GATEWAY_CA_BUNDLE",
}


@pytest.mark.parametrize(("wrong", "right"), MISSPELT.items())
def test_a_misspelt_name_is_told_with_the_right_one_and_without_its_value(
    wrong: str, right: str
) -> None:
    assert problems({wrong: PASSWORD}) == (f"{wrong}: no such setting; did you mean {right}?",)


@pytest.mark.parametrize("cls", [ProducerSettings, Settings])
def test_no_name_of_the_contract_is_taken_for_a_misspelling(cls: type[ProducerSettings]) -> None:
    for name in CONTRACT + OURS:
        assert list(misspelt(cls, {name: "x"})) == []


def test_what_begins_a_setting_does_not_stop_a_producer_which_may_be_older_than_it() -> None:
    assert list(misspelt(ProducerSettings, {"SMSQ_RATE": "5", "SMSQ_PAYLOAD": "x"})) == []


def test_what_is_no_setting_is_listed_and_ignored() -> None:
    environ = {"SMSQ_SHOP_NAME": "x", "SMSQ_RATE_PER_S": "5", "SMSQ_DOOR_BIND": "h:1", "PATH": "/"}
    assert unknown(Settings, environ) == ["SMSQ_SHOP_NAME"]
    assert [one.level for one in check_environment(environ)] == ["warning"]
    assert [one.level for one in check_environment({"SMSQ_RATE_PER_S": "5"})] == ["ok"]


def test_no_name_is_read_that_is_not_listed_here() -> None:
    assert set(names(Settings)) <= set(CONTRACT + OURS)


@pytest.mark.parametrize("name", ["SMSQ_", "SMSQ_SHOP_NAME", "SMSQX_REDIS_URL", "REDIS_URL"])
def test_other_variables_are_nobodys_business(name: str) -> None:
    assert Settings.load({name: "x"}) == Settings.load({})


# --- renamed settings -----------------------------------------------------------------------

OLD, NEW = "SMSQ_DOOR_BIND", "SMSQ_API_BIND"


@pytest.mark.parametrize(
    "environ",
    [{OLD: "0.0.0.0:9"}, {OLD: "0.0.0.0:9", NEW: " "}, {OLD: " 0.0.0.0:9", NEW: "0.0.0.0:9"}],
)
def test_an_old_name_of_a_setting_is_accepted_with_one_warning(
    environ: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    _warn_of_old_name.cache_clear()
    for _ in range(2):
        assert Settings.load(environ).api_bind == ("0.0.0.0", 9)
    assert caplog.messages == [
        "SMSQ_DOOR_BIND is now SMSQ_API_BIND; the old name is accepted in this release only"
    ]


def test_an_old_and_a_new_name_that_differ_are_refused() -> None:
    (line,) = problems({OLD: "0.0.0.0:9", NEW: "0.0.0.0:8"})
    assert line == f"{OLD}: is now {NEW}, which is set too and differs; set {NEW} alone"


def test_a_bad_value_under_an_old_name_is_told_with_the_new_one() -> None:
    (line,) = problems({OLD: "8080"})
    assert line.startswith("SMSQ_API_BIND: '8080' is not allowed")


def test_a_backend_that_has_the_old_name_is_not_bothered(caplog: pytest.LogCaptureFixture) -> None:
    assert ProducerSettings.load({OLD: "0.0.0.0:9"}) == ProducerSettings.load({})
    assert not caplog.messages


def test_a_command_shows_the_warning_once_and_works(bare: dict[str, str]) -> None:
    away = f"redis://127.0.0.1:{free_port()}/0"
    environ = bare | {OLD: "127.0.0.1:9", "SMSQ_REDIS_URL": away}
    done = subprocess.run(
        [*SMSQ, "rate", "5"], env=environ, capture_output=True, text=True, check=False
    )
    assert done.stderr.count(f"{OLD} is now {NEW}") == 1, done.stderr


# --- secrets --------------------------------------------------------------------------------


def test_the_repr_shows_no_secret() -> None:
    settings = Settings.load(
        {
            "SMSQ_REDIS_URL": f"redis://:{PASSWORD}@redis/0",
            "SMSQ_BROKER_URL": f"redis://:{PASSWORD}@redis/1",
            "SMSQ_APP_SECRET": SECRET,
            "SMSQ_REPORT_TOKEN": TOKEN,
            "SMSQ_RELAY_SECRET": RELAY,
            "SMSQ_SANDBOX_REPORT_URL": f"http://127.0.0.1:8080/reports/{TOKEN}",
        }
    )
    for secret in (PASSWORD, SECRET, TOKEN, RELAY):
        assert secret not in repr(settings)
        assert secret not in repr(settings.address)
    assert "max_resends=2" in repr(settings)


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{PASSWORD}@redis:6379/0",
        f"redis://user:{PASSWORD}@redis:6379/0",
        f"redis://:a@{PASSWORD}@redis:6379/0",
        f"redis://redis:6379/0?password={PASSWORD}",
    ],
)
def test_an_address_is_shown_without_its_password(url: str) -> None:
    assert shown_url(url) == "redis://redis:6379/0"


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "app_secret"
    path.write_text(f"{SECRET}\n")
    return path


def test_a_secret_may_come_from_a_file(secret_file: Path) -> None:
    settings = Settings.load({"SMSQ_APP_SECRET_FILE": str(secret_file)}, need=("app_secret",))
    assert settings.app_secret == settings.address.secret == SECRET
    assert SECRET not in repr(settings)


def test_a_secret_may_be_set_twice_if_it_is_the_same(secret_file: Path) -> None:
    environ = {"SMSQ_APP_SECRET_FILE": str(secret_file), "SMSQ_APP_SECRET": SECRET}
    assert Settings.load(environ).app_secret == SECRET


def test_a_device_without_end_is_no_secret() -> None:
    (problem,) = problems({"SMSQ_APP_SECRET_FILE": "/dev/zero"})
    assert "the path of a readable file that holds the secret" in problem


def test_two_secrets_that_differ_are_refused_and_neither_is_shown(secret_file: Path) -> None:
    (problem,) = problems({"SMSQ_APP_SECRET_FILE": str(secret_file), "SMSQ_APP_SECRET": PASSWORD})
    assert problem.startswith("SMSQ_APP_SECRET_FILE: SMSQ_APP_SECRET is set too and differs")
    assert SECRET not in problem
    assert PASSWORD not in problem


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe", b"two\nlines", "é".encode()])
def test_a_file_without_a_usable_secret_is_refused(secret_file: Path, content: bytes) -> None:
    secret_file.write_bytes(content)
    (problem,) = problems({"SMSQ_APP_SECRET_FILE": str(secret_file)})
    assert problem.startswith("SMSQ_APP_SECRET_FILE: its value is not allowed; it takes ")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    for env in ("SMSQ_APP_SECRET_FILE", "SMSQ_CODES_FILE", "SMSQ_GATEWAY_CA_BUNDLE"):
        (problem,) = problems({env: str(tmp_path)})
        assert problem.startswith(f"{env}: ")


# --- settings that cannot stand together ----------------------------------------------------

PLAIN = {
    "loopback": ("http://127.0.0.1:8090/", True),
    "loopback-net": ("http://127.9.9.9/", True),
    "loopback-ipv6": ("http://[::1]:8090/", True),
    "localhost": ("http://localhost:8090/", True),
    "another-host": ("http://sms.1oc.cn/", False),
    "another-address": ("http://10.0.0.1/", False),
    "any-address": ("http://0.0.0.0/", False),
    "looks-like-loopback": ("http://127.0.0.1.example.com/", False),
    "looks-like-localhost": ("http://localhost.example.com/", False),
    "in-capitals": ("HTTP://sms.1oc.cn/", False),
}


@pytest.mark.parametrize(("url", "taken"), PLAIN.values(), ids=PLAIN)
def test_plain_http_goes_to_this_machine_alone_unless_it_is_allowed(url: str, taken: bool) -> None:
    allowed = {"SMSQ_GATEWAY_URL": url, "SMSQ_GATEWAY_ALLOW_PLAINTEXT": "1"}
    assert Settings.load(allowed).gateway_url == url
    if taken:
        assert Settings.load({"SMSQ_GATEWAY_URL": url}).gateway_url == url
    else:
        (problem,) = problems({"SMSQ_GATEWAY_URL": url})
        assert problem.startswith(f"SMSQ_GATEWAY_URL: {url!r} is plain http to another host")
        assert "SMSQ_GATEWAY_ALLOW_PLAINTEXT=1" in problem


def test_a_lease_must_outlast_the_longest_call() -> None:
    timeouts = {"SMSQ_CONNECT_TIMEOUT_S": "2", "SMSQ_READ_TIMEOUT_S": "15"}
    longest = Settings.load(timeouts).address.longest_call_s
    assert longest > 3 * 2 + 15

    (problem,) = problems(timeouts | {"SMSQ_LEASE_S": f"{longest}"})

    assert problem.startswith(f"SMSQ_LEASE_S: {longest:g} must be more than the longest call")
    assert "SMSQ_CONNECT_TIMEOUT_S and SMSQ_READ_TIMEOUT_S" in problem
    assert Settings.load(timeouts | {"SMSQ_LEASE_S": f"{longest + 0.5}"})


def test_timeouts_too_long_for_the_default_lease_are_told() -> None:
    (problem,) = problems({"SMSQ_READ_TIMEOUT_S": "300"})
    assert problem.startswith("SMSQ_LEASE_S: 60 must be more than the longest call")


def test_the_first_retry_waits_no_longer_than_the_last() -> None:
    (problem,) = problems({"SMSQ_RETRY_FIRST_S": "20", "SMSQ_RETRY_MAX_S": "10"})
    assert problem == "SMSQ_RETRY_FIRST_S: 20 is more than SMSQ_RETRY_MAX_S, 10"
    assert Settings.load({"SMSQ_RETRY_FIRST_S": "10", "SMSQ_RETRY_MAX_S": "10"})


@pytest.mark.parametrize(
    ("environ", "verify"),
    [
        ({}, True),
        ({"SMSQ_GATEWAY_VERIFY_TLS": "0"}, False),
        ({"SMSQ_GATEWAY_CA_BUNDLE": "ca.pem"}, "ca.pem"),
        ({"SMSQ_GATEWAY_CA_BUNDLE": "ca.pem", "SMSQ_GATEWAY_VERIFY_TLS": "0"}, False),
    ],
    ids=["system-cas", "off", "bundle", "bundle-and-off"],
)
def test_the_gateways_certificate_is_checked_as_the_settings_say(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    environ: dict[str, str],
    verify: bool | str,
) -> None:
    monkeypatch.chdir(tmp_path)
    trustme.CA().cert_pem.write_to_path("ca.pem")
    assert Settings.load(environ).address.verify == verify


# --- whatever comes -------------------------------------------------------------------------

VALUES = (
    st.text(st.characters(), max_size=40)
    | st.integers().map(str)
    | st.floats().map(str)
    | st.sampled_from(sorted({value for _, _, values in REFUSED.values() for value in values}))
    | st.builds(
        "{}://{}{}/{}{}".format,
        st.sampled_from(
            ["redis", "rediss", "redis+sentinel", "rediss+sentinel", "http", "https", "REDIS"]
        ),
        st.sampled_from(["", "user:pw@", ":%@", "@"]),
        st.sampled_from(
            ["h", "[::1]", "[", "a..b", "\u2100", "h:1", "h:x", "h:99999", " ", "%", "h,[::1]:1,"]
        ),
        st.sampled_from(["", "0", "²", "x", "0/0", "x/0", "%20/0"]),
        st.sampled_from(["", "?ssl_cert_reqs=required", "?db=x", "?a=%ff", "#", "?ssl_x=1"]),
    )
)
ENVIRONMENTS = st.dictionaries(
    st.sampled_from(CONTRACT + OURS) | st.text(max_size=9).map("SMSQ_{}".format), VALUES, max_size=6
)


@given(ENVIRONMENTS, st.sets(st.sampled_from(["app_secret", "report_token"])))
def test_load_raises_nothing_but_settings_error_and_what_it_takes_can_be_used(
    environ: dict[str, str], need: set[str]
) -> None:
    with contextlib.suppress(SettingsError):
        settings = Settings.load(environ, need=tuple(need))
        with connect(settings.redis_url) as client:
            client.connection_pool.make_connection()
        kombu.Connection(as_broker(settings.broker_url).url)
        gateway_at(settings.address).close()


# --- processes ------------------------------------------------------------------------------

CELERY = (sys.executable, "-m", "celery", "-A", "smsq_worker", "worker")
SMSQ = (sys.executable, "-m", "smsq_worker")


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """An environment without settings, and a home of its own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SMSQ_", "CELERY_"))}
    return kept | {"SMSQ_HOME": str(tmp_path)}


def refusal(command: tuple[str, ...], environ: dict[str, str]) -> list[str]:
    """Run a command that must not start; give what it says on stderr."""
    done = subprocess.run(
        command, env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()


ROLES = {
    "celery-worker": (CELERY, "SMSQ_APP_SECRET"),
    "smsq-worker": ((*SMSQ, "worker"), "SMSQ_APP_SECRET"),
    "smsq-serve": ((*SMSQ, "serve"), "SMSQ_REPORT_TOKEN"),
    "smsq-sandbox": ((*SMSQ, "sandbox"), "SMSQ_APP_SECRET"),
}


@pytest.mark.parametrize(("command", "missing"), ROLES.values(), ids=ROLES)
def test_a_process_without_what_it_needs_exits_with_2(
    bare: dict[str, str], command: tuple[str, ...], missing: str
) -> None:
    (line,) = refusal(command, bare | {"LC_ALL": "zh_CN.UTF-8"})
    assert line.startswith(f"smsq: {missing}：必须设置")


def test_up_with_a_real_gateway_needs_its_secret(bare: dict[str, str]) -> None:
    environ = bare | {"SMSQ_GATEWAY_URL": "https://sms.1oc.cn/"}
    (line,) = refusal((*SMSQ, "up", "--redis-port", str(free_port())), environ)
    assert line == "smsq: SMSQ_APP_SECRET: must be set; it has no default"


@pytest.mark.parametrize(
    "command",
    [CELERY, *((*SMSQ, name) for name in ("worker", "serve", "sandbox", "up", "flower"))],
    ids=["celery-worker", "smsq-worker", "smsq-serve", "smsq-sandbox", "smsq-up", "smsq-flower"],
)
def test_a_process_with_wrong_settings_tells_all_of_them_and_exits_with_2(
    bare: dict[str, str], command: tuple[str, ...]
) -> None:
    told = refusal(
        command,
        bare
        | {
            "SMSQ_REDIS_URL": f"http://:{PASSWORD}@redis/0",
            "SMSQ_LEASE": "90",
            "SMSQ_MAX_RESENDS": "-1",
            "SMSQ_API_BIND": "8080",
            "SMSQ_APP_SECRET": f"{PASSWORD}é",
            "SMSQ_REPORT_TOKEN": PASSWORD,
        },
    )
    assert [line.split(": ")[:3] for line in told] == [
        ["smsq", "SMSQ_LEASE", "no such setting; did you mean SMSQ_LEASE_S?"],
        ["smsq", "SMSQ_REDIS_URL", f"its value is not allowed; it takes {REDIS_RULE}"],
        ["smsq", "SMSQ_APP_SECRET", f"its value is not allowed; it takes {SECRET_RULE}"],
        ["smsq", "SMSQ_MAX_RESENDS", "'-1' is not allowed; it takes a whole number from 0 to 100"],
        ["smsq", "SMSQ_REPORT_TOKEN", f"its value is not allowed; it takes {TOKEN_RULE}"],
        [
            "smsq",
            "SMSQ_API_BIND",
            "'8080' is not allowed; it takes HOST:PORT, like 127.0.0.1:8080",
        ],
    ]
    assert PASSWORD not in "".join(told)


@pytest.fixture
def taken() -> Iterator[str]:
    """A HOST:PORT on which somebody listens already."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


IN_USE = {
    "serve": ("serve", "SMSQ_API_BIND"),
    "sandbox": ("sandbox", "SMSQ_SANDBOX_BIND"),
    "flower": ("flower", "SMSQ_FLOWER_BIND"),
    "up-door": ("up", "SMSQ_API_BIND"),
    "up-sandbox": ("up", "SMSQ_SANDBOX_BIND"),
    "up-flower": ("up", "SMSQ_FLOWER_BIND"),
    "up-redis": ("up", "SMSQ_REDIS_URL"),
}


@pytest.mark.parametrize(("name", "setting"), IN_USE.values(), ids=IN_USE)
def test_a_port_in_use_is_told_with_the_setting_to_change(
    bare: dict[str, str], taken: str, name: str, setting: str
) -> None:
    binds = ("SMSQ_API_BIND", "SMSQ_SANDBOX_BIND", "SMSQ_FLOWER_BIND")
    environ = bare | {bind: f"127.0.0.1:{free_port()}" for bind in binds}
    environ |= {"SMSQ_APP_SECRET": SECRET, "SMSQ_REPORT_TOKEN": TOKEN}
    redis_port = str(free_port())
    if setting == "SMSQ_REDIS_URL":
        redis_port = taken.rpartition(":")[2]
    else:
        environ[setting] = taken

    (line,) = refusal((*SMSQ, name, *(["--redis-port", redis_port] * (name == "up"))), environ)

    assert setting in line
    assert f"cannot listen on {taken}: Address already in use" in line


# --- where outcomes go ----------------------------------------------------------------------


def test_outcomes_need_a_key_and_a_key_needs_outcomes() -> None:
    url = "https://hooks.example.com/sms"
    for environ in ({"SMSQ_WEBHOOK_URL": url}, {"SMSQ_WEBHOOK_SECRET": WEBHOOK_KEY}):
        (problem,) = problems(environ)
        assert "SMSQ_WEBHOOK_URL" in problem
        assert "SMSQ_WEBHOOK_SECRET" in problem
    both = Settings.load({"SMSQ_WEBHOOK_URL": url, "SMSQ_WEBHOOK_SECRET": WEBHOOK_KEY})
    assert both.webhook_keys == (b"k" * 24,)
    assert both.rules.webhook


@pytest.mark.parametrize("name", ["SMSQ_WEBHOOK_URL", "SMSQ_RETURN_URL"])
def test_outcomes_go_over_plain_http_only_where_that_is_allowed(name: str) -> None:
    environ = {name: "http://10.0.0.7/sms"}
    if name == "SMSQ_WEBHOOK_URL":
        environ["SMSQ_WEBHOOK_SECRET"] = WEBHOOK_KEY
    (problem,) = problems(environ)
    assert problem.startswith(f"{name}: plain http")
    Settings.load(environ | {"SMSQ_OUTBOUND_ALLOW": "10.0.0.7"})


def test_a_lease_on_an_outcome_is_longer_than_telling_it() -> None:
    slow = Settings.load({"SMSQ_CONNECT_TIMEOUT_S": "7", "SMSQ_READ_TIMEOUT_S": "3"})
    assert slow.rules.notice_lease_s > 6 * 7 + 3
