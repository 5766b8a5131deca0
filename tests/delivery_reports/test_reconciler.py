"""Reports and their messages: one act for several, and every form of their wake-up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from harness.scene import LONG_AGO, OTHER_PHONE, PHONE, Scene
from smsq import keys
from smsq.contract import RECONCILE_REPORT
from smsq_worker.celery_worker.app import WorkerApp
from smsq_worker.celery_worker.tasks import register
from smsq_worker.delivery_reports.reconciler import LEFT_FOR_S, Reconciler
from smsq_worker.domain.codes import Catalogue
from smsq_worker.domain.states import Outcome
from smsq_worker.ledger import Ledger
from smsq_worker.ledger.codes_seen import codes_seen


@pytest.fixture
def reports(ledger: Ledger) -> Reconciler:
    return Reconciler(ledger, {"": Catalogue.load()})


def accepted(scene: Scene, *names: str) -> list[str]:
    """Bring messages to where they await a report; give their mids."""
    for name in names:
        scene.call(name, Outcome.ACCEPTED)
    return [str(scene.field(name, "1:mid")) for name in names]


def test_several_are_applied_in_order_and_leave_the_inbox(
    scene: Scene, reports: Reconciler
) -> None:
    names = ("m1", "m2", "m3")
    mids = accepted(scene, *names)
    told = [*zip(mids, ["DELIVRD", "MA:0001", "MA:0001"], strict=True)]
    # Delivered outranks even the failure before it.
    told += [(mids[2], "DELIVRD"), ("nobody's", "自定义")]
    scene.ledger.take_in(told, wake_after_s=60)

    assert reports.reconcile(told) == "2 delivered, 2 failed, 1 parked"

    states = [scene.field(name, "state") for name in names]
    assert states == ["delivered", "failed", "delivered"]
    assert not scene.client.exists(keys.INBOX)


def test_none_at_all_are_no_mistake(reports: Reconciler) -> None:
    assert reports.reconcile([]) == ""


def test_invented_stats_do_not_fill_the_counters(scene: Scene, reports: Reconciler) -> None:
    (mid,) = accepted(scene, "m1")
    for stat in ("MO:0254", "MO:1234", "MK:0001", "MK:0777", "mk:8", "MO:999999", "自定义"):
        reports.reconcile([(mid, stat)])
    counted = {name for name in scene.ledger.counters() if name.startswith("reports:")}
    assert {name.split(":", 1)[1].rpartition(":")[0] for name in counted} == {
        *("MO:0254", "MO:*", "MK:0001", "MK:*", "other")
    }


@pytest.mark.parametrize("stat", ["EXPIRED", "MI:0054"])
def test_an_expired_one_may_have_been_delivered_so_its_policy_decides(
    scene: Scene, reports: Reconciler, stat: str
) -> None:
    for name, policy in (("asks", "hold"), ("repeats", "resend")):
        scene.enter(name, on_ambiguous=policy)
        scene.accept(name)
    assert reports.reconcile([("MID-asks-1", stat), ("MID-repeats-1", stat)]) == (
        "1 deferred, 1 held"
    )
    scene.wake("repeats")
    scene.go("repeats")
    assert scene.ledger.counters()["possible_duplicates"] == 1


def test_codes_that_nobody_knows_are_noted_with_a_mid(
    scene: Scene, reports: Reconciler, client: redis.Redis
) -> None:
    early, late, parked = "MID-m1-1", "MID-m2-1", "nobody's"
    scene.enter("m1")
    scene.go("m1")
    before = scene.now_ms()
    reports.reconcile([(early, "xa1"), (parked, "ZZ:0001")])
    scene.record("m1", Outcome.ACCEPTED)
    accepted(scene, "m2")
    reports.reconcile([(late, "XA:0001"), (late, "MO:0042"), (late, "MK:0777"), (late, "DELIVRD")])

    first, second = codes_seen(client, "")
    assert (first.stat, first.count, first.mid) == ("XA:0001", 2, late)
    assert (second.stat, second.count, second.mid) == ("MO:0042", 1, late)
    assert before <= first.first_at.timestamp() * 1000 <= first.last_at.timestamp() * 1000
    assert scene.client.pttl(keys.CODES_SEEN) > 0


def test_a_flood_of_invented_codes_is_bounded_and_leaves_the_frequent_ones(
    scene: Scene, reports: Reconciler, client: redis.Redis
) -> None:
    (mid,) = accepted(scene, "m1")
    reports.reconcile([(mid, "XA:0001")] * 2)
    reports.reconcile([(mid, f"ZZ:{n:04}") for n in range(300)])
    found = codes_seen(client, "")
    assert (len(found), found[0].stat) == (200, "XA:0001")
    assert {one.stat for one in found[1:]} <= {f"ZZ:{n:04}" for n in range(300)}
    assert "ZZ:0299" in {one.stat for one in found}


def test_a_broken_note_of_a_code_is_written_anew(
    scene: Scene, reports: Reconciler, client: redis.Redis
) -> None:
    (mid,) = accepted(scene, "m1")
    client.hset(keys.CODES_SEEN, "XA:0001", "no JSON")
    reports.reconcile([(mid, "XA:0001")])
    assert [(one.stat, one.count) for one in codes_seen(client, "")] == [("XA:0001", 1)]


def test_a_message_keeps_the_code_as_the_gateway_wrote_it(
    scene: Scene, reports: Reconciler
) -> None:
    accepted(scene, "m1", "m2")
    reports.reconcile([("MID-m1-1", "REJECTD"), ("MID-m2-1", "xa 1"), ("MID-m2-1", "UNKNOWN")])
    fields = [(scene.field(name, "stat"), scene.field(name, "raw")) for name in ("m1", "m2")]
    assert fields == [("REJECTED", "REJECTD"), ("UNKNOWN", None)]


def test_a_parked_one_means_the_same_once_its_mid_is_known(
    scene: Scene, reports: Reconciler
) -> None:
    ends = []
    for name, phone in (("early", PHONE), ("late", OTHER_PHONE)):
        told = [(f"MID-{name}-1", "MA:0001")]
        scene.enter(name, phone=phone)
        scene.go(name)
        if name == "early":
            assert reports.reconcile(told) == "1 parked"
        scene.record(name, Outcome.ACCEPTED)
        if name == "late":
            assert reports.reconcile(told) == "1 failed"
        ends.append([scene.field(name, field) for field in ("state", "reason", "stat")])
    assert ends == [["failed", "report:MA:0001", "MA:0001"]] * 2
    assert scene.client.hlen(keys.SUPPRESSED) == 2


def test_reports_are_due_only_after_the_time_that_was_given(scene: Scene, ledger: Ledger) -> None:
    before_ms = scene.now_ms()
    ledger.take_in([("1", "DELIVRD"), ("2", "DELIVRD")], wake_after_s=30)
    found: Any = scene.client.zrange(keys.INBOX, 0, -1, withscores=True)
    assert all(before_ms + 30_000 <= due <= scene.now_ms() + 30_000 for _, due in found)
    assert ledger.claim_reports(wake_after_s=30) == []
    scene.client.zadd(keys.INBOX, {member: LONG_AGO for member, _ in found})
    assert sorted(ledger.claim_reports(wake_after_s=30)) == [("1", "DELIVRD"), ("2", "DELIVRD")]


@pytest.fixture
def worker(environ: dict[str, str]) -> Iterator[WorkerApp]:
    app = WorkerApp("worker", set_as_current=False)
    register(app)
    yield app
    app.runtime.close()


def test_a_wake_up_carries_reports_or_as_once_a_single_one(scene: Scene, worker: WorkerApp) -> None:
    mids = accepted(scene, "m1", "m2", "m3")
    task = worker.tasks[RECONCILE_REPORT]
    assert task([[mids[0], "DELIVRD"], [mids[1], "DELIVRD"]]) == "2 delivered"
    assert task(mids[2], "DELIVRD") == "1 delivered"


def test_reports_of_an_account_that_is_not_known_here_stay_in_the_inbox(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """As on a worker with an older SMSQ_ACCOUNTS_FILE than others': its codes mean anything."""
    (mid,) = accepted(scene, "m1")
    known, unknown = (mid, "DELIVRD"), (f"{mid} backup", "7")
    scene.ledger.take_in([known, unknown, (f"{mid} ?", "7")], wake_after_s=60)
    reports = Reconciler(scene.ledger, {"": Catalogue.load()})

    for _ in range(2):
        assert reports.reconcile([unknown, (f"{mid} ?", "7")]) == "2 left"
    assert reports.reconcile([known, unknown]) == "1 delivered, 1 left"

    assert scene.client.zcard(keys.INBOX) == 2
    told = [line for line in caplog.messages if "SMSQ_ACCOUNTS_FILE" in line]
    assert [line.partition("reports of ")[2].partition(" wait:")[0] for line in told] == [
        "backup",
        "an account that cannot be one",
    ]


def test_each_account_has_its_own_catalogue(scene: Scene, tmp_path: Path) -> None:
    (mid,) = accepted(scene, "m1")
    own = tmp_path / "codes.toml"
    own.write_text('[codes.DELIVRD]\nclass = "pending"')
    of_accounts = {"": Catalogue.load(own), "backup": Catalogue.load()}
    reports = Reconciler(scene.ledger, of_accounts)
    assert reports.reconcile([(f"{mid} backup", "DELIVRD")]) == "1 parked"
    assert reports.reconcile([(mid, "DELIVRD")]) == "1 accepted"
    early = json.loads(scene.client.lrange(keys.early(f"{mid} backup"), 0, -1)[0])
    assert early["class"] == "delivered"


def test_a_report_that_nobody_knows_the_account_of_is_noted_in_the_end(scene: Scene) -> None:
    (mid,) = accepted(scene, "m1")
    scene.client.rename(keys.mid(mid), keys.mid(f"{mid} gone"))
    left = (f"{mid} gone", "DELIVRD")
    scene.ledger.take_in([left], wake_after_s=60)
    reports = Reconciler(scene.ledger, {"": Catalogue.load()})
    assert reports.reconcile([left]) == "1 left"
    reports._leaves_until -= LEFT_FOR_S
    assert reports.reconcile([left]) == "1 accepted"
    assert not scene.client.exists(keys.INBOX)
    assert scene.field("m1", "stat") == "DELIVRD"
