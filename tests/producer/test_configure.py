"""`smsq.configure`: what a backend's code says of the settings, once and for all."""

from __future__ import annotations

import inspect
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from threading import Barrier

import pytest
import redis

import smsq
from harness.backend import run
from smsq import configuring
from smsq.errors import SettingsError
from smsq.settings import ProducerSettings
from smsq_worker.infra.ports import free_port

URL = "redis://user:s3cret@127.0.0.1:1/0"
HERE = Path(__file__).name


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, base_environ: dict[str, str]) -> None:
    """As in a process that has not used smsq."""
    monkeypatch.setattr(configuring, "_in_force", {})


def problems(**given: object) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as raised:
        smsq.configure(**given)  # type: ignore[arg-type]
    return raised.value.problems


def test_its_keywords_are_the_settings() -> None:
    assert list(inspect.signature(smsq.configure).parameters) == [
        spec.metadata["env"].removeprefix("SMSQ_").lower() for spec in fields(ProducerSettings)
    ]


def test_the_environment_fills_what_is_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMSQ_RETENTION_S", "600")
    monkeypatch.setenv("SMSQ_ENQUEUE_TIMEOUT_S", "9")
    smsq.configure(redis_url=URL, enqueue_timeout_s=1.5)
    settings = configuring.settle()
    assert (settings.redis_url, settings.broker_url) == (URL, URL)
    assert (settings.enqueue_timeout_s, settings.retention_s) == (1.5, 600)


def test_an_empty_text_means_the_default_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SMSQ_BROKER_URL", "redis://127.0.0.1:2/0")
    smsq.configure(broker_url="")
    assert configuring.settle().is_one_redis


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ({"redis_wait_replicas": 0}, 0),
        ({"redis_wait_replicas": "2"}, 2),
        ({"retention_s": 3600}, 3600),
        ({"enqueue_timeout_s": 2}, 2.0),
        ({"idle_timeout_s": " 0 "}, 0.0),
        ({"payload_keys": ["A" * 43 + "=", "B" * 42 + "A="]}, ("A" * 43 + "=", "B" * 42 + "A=")),
        ({"payload_keys": "A" * 43 + "="}, ("A" * 43 + "=",)),
        ({"verify_secret": ["v" * 32, "w" * 40]}, ("v" * 32, "w" * 40)),
        ({"show_codes": True}, True),
        ({"redis_url": "memory://"}, "memory://"),
    ],
)
def test_values_are_of_natural_types_or_texts(given: dict[str, object], value: object) -> None:
    smsq.configure(**given)  # type: ignore[arg-type]
    (name,) = given
    settings = configuring.settle()
    assert getattr(settings, name.replace("redis_wait", "wait")) == value


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"redis_url": "http://x"}, "redis_url (SMSQ_REDIS_URL): its value is not allowed; it "),
        ({"redis_wait_replicas": 10}, "redis_wait_replicas (SMSQ_REDIS_WAIT_REPLICAS): '10' is "),
        ({"retention_s": 86400.5}, "retention_s (SMSQ_RETENTION_S): '86400.5' is not allowed; it "),
        ({"enqueue_timeout_s": float("nan")}, "enqueue_timeout_s (SMSQ_ENQUEUE_TIMEOUT_S): 'nan' "),
        ({"idle_timeout_s": True}, "idle_timeout_s (SMSQ_IDLE_TIMEOUT_S): a value of type bool is"),
        ({"redis_url": b"redis://x"}, "redis_url (SMSQ_REDIS_URL): a value of type bytes is not"),
        ({"payload_keys": ["s3cret"]}, "payload_keys (SMSQ_PAYLOAD_KEYS): its value is not allo"),
    ],
)
def test_a_bad_value_is_told_with_both_names(given: dict[str, object], told: str) -> None:
    (line,) = problems(**given)
    assert line.startswith(told)
    assert "s3cret" not in line


def test_all_that_is_bad_is_told_at_once_the_environment_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SMSQ_IDLE_TIMEOUT_S", "soon")
    lines = problems(redis_url="x", retention_s=1)
    assert [line.partition(":")[0] for line in lines] == [
        "redis_url (SMSQ_REDIS_URL)",
        "retention_s (SMSQ_RETENTION_S)",
        "SMSQ_IDLE_TIMEOUT_S",
    ]


def test_a_call_that_was_refused_leaves_room_for_the_right_one() -> None:
    problems(redis_url="x")
    smsq.configure(redis_url=URL)
    assert configuring.settle().redis_url == URL


def test_the_same_call_again_is_fine_before_and_after_the_use() -> None:
    smsq.configure(redis_url=URL, enqueue_timeout_s=2)
    smsq.configure(redis_url=f" {URL}", enqueue_timeout_s="2.0")
    configuring.settle()
    smsq.configure(redis_url=URL, enqueue_timeout_s=2.0)


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize(
    "second", [{"redis_url": URL + "1"}, {}, {"redis_url": URL, "retention_s": 60}]
)
def test_another_call_is_an_error_that_says_where_the_first_was(
    used: bool, second: dict[str, object]
) -> None:
    smsq.configure(redis_url=URL)
    line = inspect.getframeinfo(inspect.currentframe()).lineno - 1  # type: ignore[arg-type]
    if used:
        configuring.settle()
    (told,) = problems(**second)
    assert f"{HERE}:{line}, and cannot be configured otherwise" in told
    assert told.endswith(f"differs: {'retention_s' if 'retention_s' in second else 'redis_url'}")
    assert "s3cret" not in told


def test_after_a_use_by_the_environment_only_what_is_in_use_may_be_named() -> None:
    configuring.settle()
    url = os.environ["SMSQ_REDIS_URL"]
    smsq.configure(redis_url=url, broker_url=url, redis_wait_replicas=0, enqueue_timeout_s=3)
    smsq.configure(broker_url="")
    (told,) = problems(redis_url=URL)
    assert told.startswith("smsq was first used at ")
    assert HERE in told
    assert told.endswith("what differs: redis_url")


def test_a_use_that_failed_at_a_bad_environment_fixes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SMSQ_RETENTION_S", "x")
    with pytest.raises(SettingsError, match="SMSQ_RETENTION_S"):
        configuring.settle()
    smsq.configure(redis_url=URL, retention_s=60)
    assert configuring.settle().retention_s == 60


def test_of_threads_that_differ_one_wins_and_all_others_are_told() -> None:
    at_once = Barrier(8)

    def configure(number: int) -> bool:
        at_once.wait()
        try:
            smsq.configure(redis_url=f"redis://127.0.0.1:{number + 1}/0")
        except SettingsError:
            return False
        return configuring.settle().redis_url == f"redis://127.0.0.1:{number + 1}/0"

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(configure, range(8))) == 1


def test_a_repr_shows_no_value() -> None:
    smsq.configure(redis_url=URL)
    (configuration,) = configuring._in_force.values()
    assert "s3cret" not in repr(configuration)


def test_messages_go_where_configure_says_also_in_forked_processes(
    client: redis.Redis, environ: dict[str, str]
) -> None:
    url = environ["SMSQ_REDIS_URL"].removesuffix("/0") + "/5"
    away = environ | {"SMSQ_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    shown = run(
        f"""
        import os, smsq
        smsq.configure(redis_url={url!r})
        child = os.fork()
        result = smsq.send_sms.delay("13800138000", "SMS_1001")
        assert smsq.status(result.id).state == "queued"
        if child:
            assert os.waitpid(child, 0)[1] == 0
            try:
                smsq.configure(redis_url={url!r} + "1")
            except smsq.SettingsError as error:
                print(error)
        """,
        away,
    )
    assert shown == (
        "smsq was configured at <string>:3, and cannot be configured otherwise in the same "
        "process; what differs: redis_url"
    )
    with redis.Redis.from_url(url) as there:
        assert there.llen("sms.notice") == 2
    assert client.dbsize() == 0


def test_the_place_of_the_first_use_is_the_backends(environ: dict[str, str]) -> None:
    shown = run(
        """
        import smsq
        smsq.send_sms.delay("13800138000", "SMS_1001")
        try:
            smsq.configure(retention_s=60)
        except smsq.SettingsError as error:
            print(error)
        """,
        environ,
    )
    assert shown.startswith("smsq was first used at <string>:3, with its settings from the environ")
