"""The ledger's schema: who may work there, and how a start brings it up to date."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from cryptography.fernet import Fernet

import smsq
from harness import extra_migration
from harness.cli import here, run
from harness.extra_migration import EXTRA, NEWEST
from harness.machine import dies, machine
from harness.paths import ROOT
from harness.scene import DELIVRD, LONG_AGO, PHONE, TEMPLATE, Scene
from harness.senders import sender
from harness.waiting import becomes, eventually, known
from harness.wakeups import Source
from smsq import keys
from smsq.contract import Lane
from smsq.errors import LedgerUnavailable, SettingsError
from smsq.failpoints import VARIABLE
from smsq_worker.config.settings import Settings
from smsq_worker.doctor.ledger import check_schema
from smsq_worker.domain.states import Outcome
from smsq_worker.infra.ports import free_port
from smsq_worker.ledger import migrations
from smsq_worker.ledger.errors import SchemaTooNew
from smsq_worker.ledger.migrations import MIGRATIONS, Schema, migrate
from smsq_worker.runtime import Runtime
from smsq_worker.sending.consumer_gate import ConsumerGate
from smsq_worker.sending.wakeup import WakeUp

SOON = datetime.now(UTC) + timedelta(days=3)


def mark(client: redis.Redis, version: int, readable_by: int) -> None:
    client.hset(keys.SCHEMA, mapping={"version": version, "readable_by": readable_by})


# --- what a start does ----------------------------------------------------------------------


def test_versions_follow_each_other_to_that_of_the_keys() -> None:
    assert [one.version for one in MIGRATIONS] == list(range(2, keys.VERSION + 1))


def test_the_page_on_upgrades_names_each() -> None:
    page = (ROOT / "docs" / "operate" / "upgrade.md").read_text()
    for one in MIGRATIONS:
        assert re.search(rf"^\| {one.version} \| \S+ \| {one.name}", page, re.MULTILINE)


def test_an_empty_ledger_has_the_newest_schema_and_is_not_migrated(
    client: redis.Redis, settings: Settings
) -> None:
    assert migrations.read(client) is None
    assert migrate(client, settings.rules) == migrations.read(client) == Schema(NEWEST, 1)


def test_a_ledger_in_use_without_a_schema_is_migrated_from_the_first(
    client: redis.Redis, scene: Scene
) -> None:
    scene.enter("scheduled", send_at=SOON)
    scene.enter("waits")
    scene.control.pause(f"template:{TEMPLATE}", "")
    assert scene.stays("waits") == "deferred"
    client.hdel(keys.message("scheduled"), "due")
    assert migrations.read(client) == Schema(1, 1)
    assert migrate(client, scene.rules) == migrations.read(client) == Schema(NEWEST, 1)
    assert scene.field("scheduled", "due") == f"{SOON.timestamp() * 1000:.0f}"
    assert scene.field("waits", "due") is None


def test_a_message_that_was_called_or_woken_up_keeps_its_own_time(
    client: redis.Redis, scene: Scene
) -> None:
    scene.call("called", Outcome.NOT_SENT)
    scene.enter("woken", send_at=SOON)
    client.hdel(keys.message("woken"), "due")
    scene.run_out("woken")
    scene.enter("known", send_at=SOON)
    client.zadd(keys.TIMERS, {"known": 1})
    migrate(client, scene.rules)
    assert [scene.field(name, "due") for name in ("called", "woken")] == [None, None]
    assert scene.field("known", "due") == f"{SOON.timestamp() * 1000:.0f}"


def test_a_migration_goes_on_where_one_was_killed(
    client: redis.Redis, environ: dict[str, str], settings: Settings
) -> None:
    client.sadd("smsq:x", *range(5))
    mark(client, NEWEST, 1)
    left = []
    for point in ("before migration", "in migration", "after migration"):
        command = [sys.executable, extra_migration.__file__]
        dies(subprocess.Popen(command, env=environ | {VARIABLE: point}))
        left.append(client.scard("smsq:x"))
        assert migrations.read(client) == Schema(NEWEST, 1)
    assert left == [5, 4, 0]
    assert migrate(client, settings.rules, EXTRA) == Schema(NEWEST + 1, 1)
    assert client.smembers("smsq:y") == {str(n) for n in range(5)}


def test_many_may_migrate_at_once_and_none_lowers_what_another_raised(
    client: redis.Redis, settings: Settings
) -> None:
    client.sadd("smsq:x", *range(200))
    mark(client, 1, 1)
    with ThreadPoolExecutor(6) as starts:
        several = [MIGRATIONS, EXTRA] * 6
        found = list(starts.map(lambda some: migrate(client, settings.rules, some), several))
    assert migrations.read(client) == Schema(NEWEST + 1, 1)
    assert {one.version for one in found} <= {NEWEST, NEWEST + 1}
    assert client.scard("smsq:y") == 200


def test_the_first_use_of_a_feature_raises_readable_by_and_no_start_lowers_it(
    client: redis.Redis, settings: Settings
) -> None:
    migrate(client, settings.rules)
    assert migrations.read(client) == Schema(NEWEST, 1)
    assert migrations.require(client, settings.rules, NEWEST) == Schema(NEWEST, NEWEST)
    assert migrations.require(client, settings.rules, 2) == Schema(NEWEST, NEWEST)
    migrate(client, settings.rules, EXTRA)
    assert migrations.read(client) == Schema(NEWEST + 1, NEWEST)


# --- a ledger of a newer release ------------------------------------------------------------


def test_one_that_older_workers_may_work_in_stays_as_it_is(
    client: redis.Redis, scene: Scene
) -> None:
    mark(client, 99, NEWEST)
    assert migrate(client, scene.rules) == migrations.read(client) == Schema(99, NEWEST)
    scene.enter()
    assert scene.go() == 1


def test_one_that_is_too_new_is_refused_and_not_touched(
    client: redis.Redis, settings: Settings
) -> None:
    mark(client, 99, 98)
    runtime = Runtime(settings)
    for start in (runtime.check, runtime.unlock):
        with pytest.raises(SettingsError, match=r"schema 98; this smsq \S+ knows up to 3: upgrade"):
            start()
    runtime.close()
    assert client.keys() == [keys.SCHEMA]
    assert migrations.read(client) == Schema(99, 98)


def stored(client: redis.Redis) -> dict[str, Any]:
    return {key: client.dump(key) for key in client.scan_iter()}


TOO_NEW = re.compile(
    r"smsq: the ledger at redis://\S+ \(SMSQ_REDIS_URL\) is for releases that know its schema 99; "
    r"this smsq \S+ knows up to 3: upgrade this process, or name another ledger\n"
)


@pytest.mark.parametrize("words", [["worker"], ["serve"]], ids=" ".join)
def test_no_process_starts_on_one_that_is_too_new(
    client: redis.Redis, environ: dict[str, str], words: list[str]
) -> None:
    mark(client, 99, 99)
    before = stored(client)
    own = {
        "SMSQ_API_BIND": f"127.0.0.1:{free_port()}",
        "SMSQ_PAYLOAD_KEYS": Fernet.generate_key().decode(),
    }
    done = run(environ | own, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert TOO_NEW.fullmatch(done.stderr)
    assert stored(client) == before


@pytest.mark.parametrize(
    "words",
    [
        ["pause"],
        ["resume"],
        ["rate", "5"],
        ["rate", "--reset"],
        ["held", "drop", "--all"],
        ["notices", "replay", "--all"],
        ["suppressed", "add", PHONE],
        ["suppressed", "remove", PHONE],
    ],
    ids=" ".join,
)
def test_no_command_writes_to_one_that_is_too_new(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    outgrown: Scene,
    words: list[str],
) -> None:
    before = stored(outgrown.client)
    code, shown, told = here(monkeypatch, capsys, *words)
    assert (code, shown) == (2, "")
    assert TOO_NEW.fullmatch(told)
    assert stored(outgrown.client) == before


@pytest.fixture
def outgrown(client: redis.Redis, scene: Scene) -> Scene:
    """A worker under which the schema went up; a message is queued, and one is being sent."""
    scene.enter("queued")
    scene.enter("sending", phone="13900139000")
    scene.go("sending")
    client.zadd(keys.TIMERS, {"queued": LONG_AGO, "sending": LONG_AGO})
    mark(client, 99, 99)
    return scene


def test_no_act_of_an_older_worker_changes_anything(client: redis.Redis, outgrown: Scene) -> None:
    before = stored(client)
    for act in (
        lambda: outgrown.admit("queued"),
        lambda: outgrown.record("sending", Outcome.ACCEPTED),
        lambda: outgrown.report("sending", DELIVRD),
        outgrown.claim,
    ):
        with pytest.raises(SchemaTooNew, match="upgrade this process"):
            act()
    with pytest.raises(LedgerUnavailable):
        outgrown.control.pause("account", "")
    assert stored(client) == before


def test_what_producers_enter_is_valid_all_the_same(outgrown: Scene) -> None:
    assert outgrown.enter("new") == "queued"
    outgrown.ledger.take_in([("MID", "DELIVRD")], wake_after_s=0)
    mark(outgrown.client, 2, 2)
    assert outgrown.go("new") == 1
    assert outgrown.ledger.claim_reports(wake_after_s=30) == [("MID", "DELIVRD")]


def test_a_wake_up_that_an_older_worker_took_is_given_back(outgrown: Scene, tmp_path: Path) -> None:
    gate = ConsumerGate()
    with sender(outgrown, tmp_path, gate) as running:
        source = Source()
        running.take(WakeUp(Lane.NOTICE, ["queued"], source))
        assert source.came.get(timeout=60) is None
    assert gate.open_queues(["sms.report"]) == []


def test_a_worker_under_which_it_goes_up_waits_and_says_why(
    client: redis.Redis, environ: dict[str, str], tmp_path: Path
) -> None:
    with machine(environ, tmp_path) as here:
        here.start_worker()
        eventually(lambda: migrations.read(client) == Schema(NEWEST, 1))
        mark(client, 99, 99)
        log = tmp_path / "worker0.log"
        eventually(lambda: "schema 99; this smsq" in log.read_text())
        message_id = smsq.send_sms.delay(PHONE, TEMPLATE).id
        # One wake-up was asked for before, and is given back.
        eventually(lambda: client.llen(Lane.NOTICE.queue) == 1)
        assert known(message_id).state == "queued"
        mark(client, NEWEST, 1)
        becomes(message_id, "accepted")
        assert len(here.vendor.calls) == 1
        assert "Traceback" not in log.read_text()


def test_the_doctor_says_what_to_do(client: redis.Redis, scene: Scene) -> None:
    def found() -> tuple[str, str]:
        (finding,) = check_schema(client)
        assert ("Redis was started empty" in finding.advice) == ("schema 1;" in finding.what)
        return finding.level, finding.what

    assert found() == ("ok", "the ledger is empty; the first worker records its schema")
    scene.enter()
    assert found() == ("warning", "the ledger has schema 1; this release knows up to 3")
    migrate(client, scene.rules)
    assert found() == ("ok", "the ledger has schema 3, as this release")
    mark(client, 4, 3)
    assert found()[0] == "warning"
    mark(client, 4, 4)
    assert found()[0] == "error"
