"""A test number's message goes every way but to the gateway, and says nothing of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from cryptography.fernet import Fernet

from harness.api import RunningApi, inbox, serving
from harness.machine import Machine, dies
from harness.scene import (
    DELIVRD,
    LONG_AGO,
    NO_BALANCE,
    OTHER_PHONE,
    Scene,
)
from harness.scopes import template_scope
from harness.vendor_server import VendorServer
from harness.waiting import becomes, known
from harness.wakeups import send
from smsq import keys, send_sms
from smsq.contract import Lane, parse
from smsq.failpoints import VARIABLE
from smsq.ledger_writer import LedgerWriter
from smsq_worker.config.settings import Settings
from smsq_worker.delivery_reports.reconciler import Reconciler
from smsq_worker.domain.codes import Catalogue
from smsq_worker.domain.states import Outcome
from smsq_worker.domain.testnumbers import MID_PREFIX, new_mid
from smsq_worker.ledger import Admitted
from smsq_worker.ledger.admin import ACCOUNT, BREAKER
from smsq_worker.runtime import Runtime

TESTED = "13800001234"
NUMBERS = (("13800001299", "MK:0001"), ("1380000", "DELIVRD"))


@pytest.fixture(params=["plain", "encrypted"])
def scene(
    request: pytest.FixtureRequest, client: redis.Redis, environ: dict[str, str]
) -> Iterator[Scene]:
    if request.param == "encrypted":
        environ["SMSQ_PAYLOAD_KEYS"] = Fernet.generate_key().decode()
    return Scene(client, Settings.load(environ), test_numbers=NUMBERS)


def accept(scene: Scene, name: str = "m1") -> str:
    """Let an entered message of a test number go, and record its attempt; give the mid."""
    admitted = scene.admitted(name)
    assert admitted.is_test
    mid = new_mid()
    scene.record(name, Outcome.ACCEPTED, mid=mid, detail="test number, not sent")
    return mid


def counted(scene: Scene) -> dict[str, int]:
    """Give what is counted, but the entry, which is counted by a process that knows no setting."""
    found = scene.ledger.counters()
    return {name: n for name, n in found.items() if n and not name.endswith(":queued")}


def test_it_is_reported_of_in_the_act_that_records_it_and_counts_as_nothing_else(
    scene: Scene,
) -> None:
    scene.enter(phone=TESTED)
    mid = accept(scene)
    assert inbox(scene.client) == {(mid, "DELIVRD")}
    assert scene.report_on(mid, DELIVRD) == "delivered"
    assert not inbox(scene.client)
    status = scene.status()
    assert (status.is_test, status.state, status.stat) == (True, "delivered", "DELIVRD")
    assert (status.attempts[0].mid, status.attempts[0].detail) == (mid, "test number, not sent")
    states = ("sending", "accepted", "delivered")
    assert counted(scene) == {f"test_messages:notice:{state}": 1 for state in states}
    assert not scene.client.exists(keys.CALLS, keys.HEALTH, keys.RECENT_ATTEMPTS)
    scene.check_live("m1")


def test_any_other_number_is_sent(scene: Scene) -> None:
    for n, phone in enumerate(["13800011234", "13811111234", OTHER_PHONE]):
        scene.enter(f"m{n}", phone=phone)
        assert not scene.admitted(f"m{n}").is_test
        assert not scene.status(f"m{n}").is_test
    assert scene.client.zcard(keys.CALLS) == 3


def test_many_are_admitted_at_once_each_as_what_it_is(scene: Scene) -> None:
    phones = [OTHER_PHONE, TESTED, "13811111234", "13800001299", "13800000000"]
    for n, phone in enumerate(phones):
        scene.enter(f"m{n}", phone=phone)
    answers = scene.ledger.admit_many([(f"m{n}", "") for n in range(len(phones))])
    assert [isinstance(one, Admitted) and one.is_test for one in answers] == [
        *(False, True, False, True, True)
    ]
    assert [isinstance(one, Admitted) and one.phone for one in answers] == phones


def test_the_code_of_the_override_file_is_reported(scene: Scene) -> None:
    scene.enter(phone="13800001299")
    assert inbox(scene.client) == set()
    mid = accept(scene)
    assert inbox(scene.client) == {(mid, "MK:0001")}
    Reconciler(scene.ledger, {"": Catalogue.load()}).reconcile([(mid, "MK:0001")])
    assert (scene.state(), scene.status().reason) == ("failed", "report:MK:0001")


@pytest.mark.parametrize("code", [code.stat for code in Catalogue.load() if code.pause][:2])
def test_no_code_of_a_test_stops_anything(scene: Scene, code: str) -> None:
    catalogue = Catalogue.load()
    for n in range(60):
        scene.enter(f"m{n}", phone=TESTED)
        Reconciler(scene.ledger, {"": catalogue}).reconcile([(accept(scene, f"m{n}"), code)])
    assert scene.paused() == {}


def test_no_code_of_a_test_suppresses_its_number_or_slows_sending_down(scene: Scene) -> None:
    codes = [code for code in Catalogue.load() if code.suppress_s or code.slow_down]
    for n, code in enumerate(codes):
        scene.enter(f"m{n}", phone=TESTED)
        Reconciler(scene.ledger, {"": Catalogue.load()}).reconcile(
            [(accept(scene, f"m{n}"), code.stat)]
        )
    assert codes
    assert not scene.client.exists(keys.SUPPRESSED)
    assert scene.control.rate().now == scene.control.rate().limit


def test_a_full_rate_and_a_silent_gateway_do_not_concern_it(scene: Scene) -> None:
    scene.client.hset(keys.RATE, "tat", scene.now_us() + 3_600_000_000)
    scene.client.hset(keys.RATE, "unanswered", 1_000_000)
    scene.client.hset(keys.LIVE, "bulk:sending", 1_000_000)
    scene.enter(phone=TESTED)
    assert accept(scene)
    assert scene.client.hget(keys.RATE, "unanswered") == "1000000"


@pytest.mark.parametrize("scope", [ACCOUNT, BREAKER, template_scope("SMS_1001")])
def test_it_waits_for_a_pause_and_is_no_probe(scene: Scene, scope: str) -> None:
    scene.enter("m1", phone=TESTED)
    scene.enter("m2", phone=OTHER_PHONE)
    pause = {"cause": "outage", "detail": "", "since": LONG_AGO, "probe_at": LONG_AGO}
    scene.client.hset(keys.PAUSES, scope, json.dumps(pause | {"permit": scene.now_ms()}))
    assert scene.stays("m1") == "deferred"
    assert scene.go("m2") == 1  # the one behind it is the probe
    assert "permit" not in scene.stored_pause(scope)


def test_a_lost_answer_is_answered_again_as_that_of_a_test(scene: Scene) -> None:
    scene.enter(phone=TESTED)
    scene.admitted()
    asker = str(scene.field("m1", "by"))
    scene.ledger._unanswered["m1"] = asker, float("inf")
    assert scene.admitted().is_test
    assert scene.field("m1", "n") == "1"


def test_a_number_that_is_none_any_more_is_sent_again_for_real(
    scene: Scene, client: redis.Redis
) -> None:
    scene.enter(phone=TESTED)
    scene.go()
    scene.record("m1", Outcome.NOT_SENT)
    scene.wake()
    after = Scene(client, scene.settings)
    assert not after.admitted().is_test
    assert not after.status().is_test


@pytest.mark.parametrize("policy", ["resend", "hold"])
def test_a_lease_that_runs_out_leaves_no_doubt(scene: Scene, policy: str) -> None:
    scene.enter(phone=TESTED, on_ambiguous=policy)
    scene.go()
    assert scene.run_out() == []
    (attempt,) = scene.status().attempts
    assert (scene.state(), attempt.outcome) == ("deferred", "not_sent")
    # It lived: its result comes late, and another attempt is to be made.
    scene.record("m1", Outcome.ACCEPTED, attempt=1, mid=new_mid())
    assert (scene.state(), inbox(scene.client)) == ("deferred", set())
    scene.wake()
    accept(scene)
    assert "possible_duplicates" not in counted(scene)
    assert len(inbox(scene.client)) == 1


def test_the_result_of_a_call_before_it_counts_as_that_of_a_call(
    scene: Scene, client: redis.Redis
) -> None:
    before = Scene(client, scene.settings)
    before.call("m1", Outcome.MAYBE_SENT)
    assert counted(before)["calls:maybe_sent"] == 1
    before.wake()
    assert scene.go() == 2
    before.record("m1", Outcome.ACCEPTED, attempt=1, mid="1151894566D2EDD9")
    assert counted(scene)["calls:accepted"] == 1


def test_a_report_from_nowhere_on_a_test_is_dropped(scene: Scene) -> None:
    assert scene.report_on(new_mid(), NO_BALANCE) == "parked"
    assert not scene.client.exists(keys.PARKED)
    assert counted(scene) == {}


# --- with a sender, workers and an API ------------------------------------------------------------


@pytest.fixture
def vendor() -> Iterator[VendorServer]:
    with VendorServer() as vendor:
        yield vendor


def test_the_gateway_is_not_called(
    vendor: VendorServer,
    environ: dict[str, str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    codes = tmp_path / "codes.toml"
    codes.write_text('[test_numbers]\n13800001299 = "MK:0001"\n')
    own = {"SMSQ_TEST_NUMBERS": "1380000xxxx", "SMSQ_CODES_FILE": str(codes)}
    own |= {"SMSQ_GATEWAY_URL": vendor.url, "SMSQ_HOME": str(tmp_path)}
    runtime = Runtime(Settings.load(environ | own))
    try:
        with caplog.at_level("INFO"):
            for phone in (TESTED, "13800001299"):
                message = parse((phone, "SMS_1001", "482913"), {})
                LedgerWriter(runtime.client, runtime.settings).enter(phone[-4:], message)
                assert send(runtime, phone[-4:], Lane.NOTICE) == "accepted"
        found = runtime.ledger.claim_reports(wake_after_s=30)
        assert sorted(stat for _, stat in found) == ["DELIVRD", "MK:0001"]
        assert all(mid.startswith(MID_PREFIX) for mid, _ in found)
        assert runtime.reconciler.reconcile(found) == "1 delivered, 1 failed"
    finally:
        runtime.close()
    assert vendor.calls == []
    assert "1234 attempt 1: accepted (test number, not sent), now accepted" in caplog.messages
    assert not any("1380000" in line for line in caplog.messages)


def test_a_worker_that_dies_after_admit_leaves_no_doubt_and_the_next_reports_it(
    host: Machine,
) -> None:
    host.environ["SMSQ_TEST_NUMBERS"] = "1380000xxxx"
    worker = host.start_worker(**{VARIABLE: "after admit"})
    message_id = send_sms.delay(TESTED, "SMS_1001", on_ambiguous="hold").id
    dies(worker)
    assert known(message_id).state == "sending"
    # It dies once more, with the attempt recorded: what is left is in the inbox.
    worker = host.start_worker(**{VARIABLE: "before report"})
    host.run_out(message_id)
    dies(worker)
    assert known(message_id).state == "accepted"
    host.client.zadd(keys.INBOX, dict.fromkeys(host.client.zrange(keys.INBOX, 0, -1), 0))
    host.start_worker()
    status = becomes(message_id, "delivered")
    assert [one.outcome for one in status.attempts] == ["not_sent", "accepted"]
    assert host.vendor.calls == []
    assert host.possible_duplicates() == 0


@pytest.fixture
def api(environ: dict[str, str], tmp_path: Path) -> Iterator[RunningApi]:
    with serving(environ, tmp_path / "api.log") as running:
        yield running


def test_a_forged_report_does_no_harm(scene: Scene, api: RunningApi) -> None:
    scene.enter(phone=TESTED)
    mid = accept(scene)
    before = inbox(scene.client)
    assert api.report({"mid": mid, "stat": "MA:0001"}).status_code == 400
    assert inbox(scene.client) == before
    assert scene.state() == "accepted"
