"""smsq in a Django project: its settings, its checks, and messages that wait for the commit."""

from __future__ import annotations

import inspect
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import django
import pytest
import redis
from django.conf import settings
from django.db import connections, transaction
from django.db.utils import ConnectionDoesNotExist
from django.test import TestCase, override_settings

import smsq
from harness.backend import run
from smsq import configuring, send_sms, status
from smsq.app import app
from smsq.contract import signature_of_send_sms
from smsq.contrib.django import host_settings
from smsq.tasks import SendSms
from smsq_worker.infra.ports import free_port

PHONE = "13800138000"
SQLITE = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
PROJECT = f"""
SECRET_KEY = "x"
INSTALLED_APPS = ["smsq.contrib.django"]
DATABASES = {{"default": {SQLITE}}}
"""


@pytest.fixture(scope="module", autouse=True)
def project() -> Iterator[None]:
    """A Django project without the app, which would configure the process of all tests."""
    settings.configure(DATABASES={"default": SQLITE, "other": SQLITE}, LOGGING_CONFIG=None)
    django.setup()
    yield
    connections.close_all()


# Transactions


def test_a_message_is_sent_after_the_commit_and_its_id_is_known_before(
    client: redis.Redis,
) -> None:
    with transaction.atomic():
        result = send_sms.delay_on_commit(PHONE, "SMS_1001", "482913", lane="otp", key="k")
        assert status(result.id) is None
        assert client.llen("sms.otp") == 0
    found = status(result.id)
    assert found is not None
    assert (found.state, found.lane) == ("queued", "otp")
    assert client.llen("sms.otp") == 1


@pytest.mark.parametrize("inner", [False, True], ids=["transaction", "savepoint"])
def test_a_message_is_never_sent_after_a_rollback(client: redis.Redis, inner: bool) -> None:
    def fail() -> None:
        with transaction.atomic():
            send_sms.delay_on_commit(PHONE, "SMS_1001")
            raise LookupError

    with transaction.atomic():
        if inner:
            with pytest.raises(LookupError):
                fail()
    if not inner:
        with pytest.raises(LookupError):
            fail()
    assert client.keys("smsq:*") == []


def test_without_a_transaction_it_is_sent_at_once(client: redis.Redis) -> None:
    assert status(send_sms.delay_on_commit(PHONE, "SMS_1001").id) is not None


def test_it_waits_for_the_database_that_is_named(client: redis.Redis) -> None:
    with transaction.atomic(using="other"):
        with transaction.atomic():
            result = send_sms.delay_on_commit(PHONE, "SMS_1001", using="other")
        assert status(result.id) is None
    assert status(result.id) is not None
    with pytest.raises(ConnectionDoesNotExist):
        send_sms.delay_on_commit(PHONE, "SMS_1001", using="none")


def test_a_bad_argument_raises_in_the_transaction_which_can_roll_back(client: redis.Redis) -> None:
    with pytest.raises(smsq.InvalidMessage, match="phone must be"), transaction.atomic():
        send_sms.delay_on_commit("12", "SMS_1001")
    assert client.keys("smsq:*") == []


def test_bad_settings_raise_in_the_transaction_too(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def settle() -> None:
        raise smsq.SettingsError(["SMSQ_REDIS_URL: bad"])

    monkeypatch.delitem(app.__dict__, "settings", raising=False)
    monkeypatch.setattr(configuring, "settle", settle)
    with transaction.atomic(), pytest.raises(smsq.SettingsError):
        send_sms.delay_on_commit(PHONE, "SMS_1001")


def test_a_duplicate_is_known_after_the_commit(client: redis.Redis) -> None:
    first = send_sms.delay(PHONE, "SMS_1001", key="k")
    with transaction.atomic():
        second = send_sms.delay_on_commit(PHONE, "SMS_1001", key="k")
        assert second.duplicate_of is None
    assert second.duplicate_of == first.id


def test_a_key_of_another_message_raises_from_the_block_whose_transaction_is_committed(
    client: redis.Redis,
) -> None:
    send_sms.delay(PHONE, "SMS_1001", key="k")
    committed = []

    @transaction.atomic
    def view() -> None:
        transaction.on_commit(lambda: committed.append(1))
        send_sms.delay_on_commit(PHONE, "SMS_1002", key="k")

    with pytest.raises(smsq.KeyConflict):
        view()
    assert committed


def test_redis_away_raises_from_the_block_and_the_id_sends_it_later(
    environ: dict[str, str],
) -> None:
    """The row is committed with the id, by which the call is repeated as often as needed."""
    shown = run(
        f"""
        import os, django, redis, smsq
        from django.conf import settings
        settings.configure(DATABASES={{"default": {SQLITE}}})
        django.setup()
        from django.db import connection, transaction
        connection.cursor().execute("create table t (id text)")
        try:
            with transaction.atomic():
                result = smsq.send_sms.delay_on_commit("13800138000", "SMS_1001")
                connection.cursor().execute("insert into t values (%s)", [result.id])
        except smsq.LedgerUnavailable as error:
            assert error.__notes__ == [
                "The transaction has committed: call apply_async(..., "
                f"task_id={{result.id!r}}) with the same arguments until it gets through."
            ]
        else:
            raise SystemExit("no error")
        cursor = connection.cursor()
        cursor.execute("select id from t")
        print(cursor.fetchall() == [(result.id,)], result.id)
        """,
        environ | {"SMSQ_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"},
    )
    stored, message_id = shown.split()
    assert stored == "True"
    for _ in range(2):
        result = send_sms.apply_async((PHONE, "SMS_1001"), task_id=message_id)
        assert result.duplicate_of is None
    found = status(message_id)
    assert found is not None
    assert found.state == "queued"


def test_a_test_case_that_never_commits_captures_what_waits(client: redis.Redis) -> None:
    with TestCase.captureOnCommitCallbacks(execute=True), transaction.atomic():
        result = send_sms.delay_on_commit(PHONE, "SMS_1001")
    assert status(result.id) is not None


def test_it_takes_what_delay_takes_and_the_database() -> None:
    # Not of the task, which Celery makes a partial function.
    own = inspect.signature(SendSms.delay_on_commit)
    assert own.replace(
        parameters=[p for name, p in own.parameters.items() if name != "using"]
    ) == inspect.signature(SendSms.delay)
    assert own.parameters.keys() - {"self", "using"} == set(
        inspect.signature(signature_of_send_sms).parameters
    )


def test_without_django_it_says_so_and_nothing_else_needs_it(environ: dict[str, str]) -> None:
    shown = run(
        """
        import sys, smsq
        sys.modules["django"] = None
        smsq.configure(retention_s=600)
        assert smsq.send_sms.delay("13800138000", "SMS_1001").id
        assert not any(name.startswith("smsq.contrib") for name in sys.modules)
        try:
            smsq.send_sms.delay_on_commit("13800138000", "SMS_1001")
        except ImportError as error:
            print(error)
        """,
        environ,
    )
    assert shown.startswith("send_sms.delay_on_commit needs Django, which is not installed")


# Settings


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({}, []),
        (None, []),
        ({"REDIS_URL": "redis://127.0.0.1:1/0", "ENQUEUE_TIMEOUT_S": 2, "BROKER_URL": None}, []),
        ("redis://:s3cret@h/0", [("E001", "SMSQ: must be a dict of REDIS_URL, BROKER_URL, ")]),
        ({"redis_url": "s3cret"}, [("E002", 'SMSQ["redis_url"]: no such key; write "REDIS_URL"')]),
        ({"SMSQ_REDIS_URL": ""}, [("E002", 'SMSQ["SMSQ_REDIS_URL"]: no such key; write "REDIS_')]),
        ({"WAIT_REPLICAS": 1}, [("E002", 'SMSQ["WAIT_REPLICAS"]: no such key; write "REDIS_WAI')]),
        ({"REDIS_UR": "s3cret"}, [("E002", 'SMSQ["REDIS_UR"]: no such key; did you mean REDIS_')]),
        ({7: 1}, [("E002", 'SMSQ[a value of type int]: no such key; there are REDIS_URL, BROK')]),
        # Not "did you mean VERIFY_SECRET?": it would be put there.
        ({"APP_SECRET": "s3cret"}, [("E002", 'SMSQ["APP_SECRET"]: no such key; there are REDIS_')]),
        (
            {"REDIS_URL": "http://:s3cret@h", "RETENTION_S": 1, "RATE": 9},
            [
                ("E002", 'SMSQ["RATE"]: no such key; '),
                ("E003", 'SMSQ["REDIS_URL"]: its value is not allowed; it takes redis://'),
                ("E003", "SMSQ[\"RETENTION_S\"]: '1' is not allowed; it takes a whole number from"),
            ],
        ),
        ({"PAYLOAD_KEYS": {"s3cret"}}, [("E003", 'SMSQ["PAYLOAD_KEYS"]: a value of type set is')]),
    ],
)  # fmt: skip
def test_each_mistake_is_an_error_of_its_own(value: object, found: list[tuple[str, str]]) -> None:
    with override_settings(SMSQ=value):
        errors = host_settings.check()
    assert [error.id for error in errors] == [f"smsq.{number}" for number, _ in found]
    for error, (_, told) in zip(errors, found, strict=True):
        assert error.msg.startswith(told)
        assert "s3cret" not in error.msg


def test_a_mistake_of_the_environment_is_an_error_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMSQ_RETENTION_S", "x")
    (error,) = host_settings.check()
    assert (error.id, error.msg.partition(":")[0]) == ("smsq.E004", "SMSQ_RETENTION_S")
    with override_settings(SMSQ={"RETENTION_S": 600}):
        assert host_settings.check() == []


def test_settings_with_a_prefix_as_celerys_have_are_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = "redis://:s3cret@h/0"
    with override_settings(SMSQ_REDIS_URL=url, SMSQ_RETENTION_S=600, SMSQ_INDEX=None):
        first, second = host_settings.check()
        assert (first.id, first.is_serious()) == ("smsq.W001", False)
        words = (
            'SMSQ_REDIS_URL of Django\'s settings is read by nobody; write SMSQ = {"REDIS_URL": '
        )
        assert first.msg.startswith(words)
        assert second.msg.startswith("SMSQ_RETENTION_S of")
        # Where they are named to be used, or the environment says the same, nothing is amiss.
        monkeypatch.setenv("SMSQ_RETENTION_S", "600")
        with override_settings(SMSQ={"REDIS_URL": url}):
            assert host_settings.check() == []


def test_manage_py_check_tells_mistakes_without_a_traceback(
    environ: dict[str, str], tmp_path: Path
) -> None:
    done = in_project(
        'SMSQ = {"REDIS_URI": "redis://h/0"}', environ, tmp_path, "-m", "django", "check"
    )
    assert done.returncode == 1
    assert '?: (smsq.E002) SMSQ["REDIS_URI"]: no such key; did you mean REDIS_URL?' in done.stderr
    assert "Traceback" not in done.stderr


def test_a_mistake_never_lets_the_environment_take_its_place(
    client: redis.Redis, environ: dict[str, str], tmp_path: Path
) -> None:
    """A server runs no checks: it says so when it starts, and each call raises."""
    code = """
    import django, smsq
    django.setup()
    for _ in range(2):
        try:
            smsq.send_sms.delay("13800138000", "SMS_1001")
        except smsq.SettingsError as error:
            print(error)
    """
    done = in_project(
        'SMSQ = {"REDIS_URI": "redis://h/0"}', environ, tmp_path, "-c", textwrap.dedent(code)
    )
    told = 'SMSQ["REDIS_URI"]: no such key; did you mean REDIS_URL?'
    assert done.stdout.splitlines() == [told, told], done.stderr
    assert done.stderr == f"no SMS can be sent: {told}\n"
    assert client.dbsize() == 0


def test_the_projects_settings_are_used_and_nothing_changes_them_later(
    client: redis.Redis, environ: dict[str, str], tmp_path: Path
) -> None:
    code = """
    import django, smsq
    django.setup()
    from django.conf import settings
    from django.test import override_settings
    assert smsq.send_sms.app.settings.retention_s == 600  # the environment's
    smsq.send_sms.delay("13800138000", "SMS_1001")
    smsq.configure(**{"redis_url": settings.SMSQ["REDIS_URL"]})
    with override_settings(SMSQ=dict(settings.SMSQ)):
        pass
    for change in (
        lambda: smsq.configure(retention_s=60),
        override_settings(SMSQ={"REDIS_URL": "redis://h/0"}).enable,
        override_settings(SMSQ={"REDIS_URI": "redis://h/0"}).enable,
    ):
        try:
            change()
        except smsq.SettingsError as error:
            print(error.problems[0])
    assert settings.SMSQ["REDIS_URL"].endswith("/5")
    """
    url = environ["SMSQ_REDIS_URL"].removesuffix("/0") + "/5"
    away = environ | {"SMSQ_REDIS_URL": "redis://127.0.0.1:1/0", "SMSQ_RETENTION_S": "600"}
    done = in_project(
        f'SMSQ = {{"REDIS_URL": {url!r}}}', away, tmp_path, "-c", textwrap.dedent(code)
    )
    assert done.returncode == 0, done.stderr
    rule = "smsq was configured by SMSQ of Django's settings, and cannot be configured otherwise in"
    assert done.stdout.splitlines() == [
        f"{rule} the same process; what differs: redis_url, retention_s",
        f"{rule} the same process; what differs: redis_url",
        'SMSQ["REDIS_URI"]: no such key; did you mean REDIS_URL?',
    ]


def in_project(
    smsq_settings: str, environ: dict[str, str], folder: Path, *args: str
) -> subprocess.CompletedProcess[str]:
    (folder / "shop_settings.py").write_text(f"{PROJECT}\n{smsq_settings}\n")
    own = {"DJANGO_SETTINGS_MODULE": "shop_settings", "PYTHONPATH": str(folder)}
    return subprocess.run(
        [sys.executable, "-W", "error", *args],
        env=environ | own,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
