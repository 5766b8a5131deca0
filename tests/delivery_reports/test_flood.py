"""A leaked report address: a flood fills neither Redis nor the disk, and true reports come in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
import redis
import requests

import smsq
from harness.api import application, in_process, inbox
from harness.cli import run
from harness.credentials import TOKEN
from harness.scene import PHONE, Scene, mid_of
from harness.waiting import eventually
from smsq import keys
from smsq.errors import LedgerUnavailable
from smsq_worker.api.server import configured
from smsq_worker.config.settings import Settings
from smsq_worker.delivery_reports import coalescer
from smsq_worker.delivery_reports.inbox import Inbox
from smsq_worker.delivery_reports.reconciler import Reconciler
from smsq_worker.doctor.ledger import check_messages
from smsq_worker.doctor.machine import check_spool
from smsq_worker.domain.codes import Catalogue
from smsq_worker.domain.states import Outcome
from smsq_worker.infra.spool import BLOCK, Spool, SpoolFull
from smsq_worker.ledger import Ledger
from smsq_worker.ledger import reports as report_acts
from smsq_worker.runtime import Runtime
from smsq_worker.scheduler.scheduler import MAX_QUEUED_REPORTS, Scheduler
from smsq_worker.sending.consumer_gate import ConsumerGate

DELIVRD = "DELIVRD"
Reports = Sequence[tuple[str, str]]


def made_up(count: int, start: int = 0) -> list[tuple[str, str]]:
    return [(f"{n:016X}", DELIVRD) for n in range(start, start + count)]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for 20 reports, of which 10 may be on mids that no message has; 8 are woken up."""
    monkeypatch.setattr(report_acts, "INBOX_UNKNOWN", 10)
    monkeypatch.setattr(report_acts, "INBOX_AT_MOST", 20)
    monkeypatch.setattr(report_acts, "WOKEN_AT_ONCE", 8)


def known_mids(scene: Scene, count: int) -> list[tuple[str, str]]:
    """Reports on messages that the gateway has."""
    for n in range(count):
        scene.client.set(keys.mid(f"KNOWN{n}"), f"1 m{n}")
    return [(f"KNOWN{n}", DELIVRD) for n in range(count)]


# --- the inbox -------------------------------------------------------------------------------


def test_a_flood_of_made_up_mids_leaves_room_for_the_gateways(scene: Scene, small: None) -> None:
    flood, true = made_up(15), known_mids(scene, 15)

    taken = scene.ledger.take_in(flood, wake_after_s=30)
    assert (taken.wake, taken.refused) == (flood[:8], flood[10:])
    mixed = [flood[12], *true[:5], flood[13], *true[5:]]
    assert scene.ledger.take_in(mixed, wake_after_s=30).refused == [
        *(flood[12], flood[13]),
        *true[10:],
    ]
    assert inbox(scene.client) == {*flood[:10], *true[:10]}


def test_what_waits_is_neither_refused_nor_woken_up_again(scene: Scene, small: None) -> None:
    flood = made_up(10)
    scene.ledger.take_in(flood[:1], wake_after_s=30)
    assert scene.ledger.take_in(flood[:1] * 3, wake_after_s=30) == ([], [])
    scene.ledger.take_in(flood, wake_after_s=30)
    assert scene.ledger.take_in(flood, wake_after_s=30) == ([], [])
    assert scene.ledger.waiting().inbox == 10


def test_one_report_a_million_times_is_one_wake_up(scene: Scene, tmp_path: Path) -> None:
    published: list[Reports] = []
    box = Inbox(scene.ledger, Spool(tmp_path, "reports"), published.append)
    for _ in range(10):
        assert box.keep([("A1", DELIVRD)] * 100) == []
    assert published == [[("A1", DELIVRD)]]


def test_unknown_mids_in_a_crowd_have_room_for_few_reports_each(scene: Scene) -> None:
    reconciler = Reconciler(scene.ledger, {"": Catalogue.load()})
    stats = ("DELIVRD", "MA:0001", "MO:0254")
    reconciler.reconcile([("alone", stat) for stat in stats])
    scene.client.zadd(keys.PARKED, {f"x{n}": scene.now_ms() for n in range(10_000)})
    reconciler.reconcile([("crowded", stat) for stat in stats])
    assert scene.ledger.parked_stats("alone") == ["DELIVRD", "MA:0001", "MO:0254"]
    assert scene.ledger.parked_stats("crowded") == ["MA:0001", "MO:0254"]


def test_where_memory_is_short_unknown_mids_keep_no_message_out(scene: Scene) -> None:
    reconciler = Reconciler(scene.ledger, {"": Catalogue.load()})
    scene.client.zadd(keys.PARKED, {f"x{n}": scene.now_ms() + n / 1e6 for n in range(10_500)})
    reconciler.reconcile([("1", DELIVRD)])
    assert scene.client.zcard(keys.PARKED) == 10_501
    scene.client.config_set("maxmemory", int(scene.client.info("memory")["used_memory"] / 0.76))
    try:
        reconciler.reconcile([("2", DELIVRD)])
        assert scene.client.zcard(keys.PARKED) == 10_482
        reconciler.reconcile([(f"{n}", DELIVRD) for n in range(3, 33)])
        assert scene.client.zcard(keys.PARKED) == 10_000
    finally:
        scene.client.config_set("maxmemory", 0)
    # The oldest go, and it is counted.
    assert scene.ledger.parked_stats("2") == [DELIVRD]
    assert scene.ledger.counters()["reports_dropped"] == 532


# --- the memory limit ------------------------------------------------------------------------


@pytest.fixture
def full(client: redis.Redis) -> Iterator[Callable[[], object]]:
    """Fill Redis; there is room again when the test has ended."""
    yield lambda: client.config_set("maxmemory", 1)
    client.config_set("maxmemory", 0)


def test_at_the_limit_true_reports_go_in_and_others_to_a_spool_that_is_bounded(
    scene: Scene, full: Callable[[], object], tmp_path: Path
) -> None:
    scene.call("m1", Outcome.ACCEPTED)
    true, false = (mid_of("m1", 1), DELIVRD), made_up(400)
    box = Inbox(scene.ledger, Spool(tmp_path, "reports", max_bytes=2 * BLOCK), lambda _: None)
    full()
    refused = [one for n in range(0, 400, 100) if (one := box.keep([*false[n : n + 100], true]))]
    assert inbox(scene.client) == {true}
    # What was refused was so as a whole: the spool holds an entry or does not.
    assert refused == [false[n : n + 100] for n in range(200, 400, 100)]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2 * BLOCK

    scene.client.config_set("maxmemory", 0)
    stop = Event()
    thread = Thread(target=box.run, args=(stop,))
    thread.start()
    try:
        eventually(lambda: inbox(scene.client) == {true, *false[:200]})
    finally:
        stop.set()
        thread.join(30)
    assert not [*tmp_path.iterdir()]


def test_what_is_in_is_reconciled_though_the_broker_takes_no_wake_up(
    scene: Scene, settings: Settings, full: Callable[[], object]
) -> None:
    scene.call("m1", Outcome.ACCEPTED)
    scene.ledger.take_in([(mid_of("m1", 1), DELIVRD)], wake_after_s=-1)
    runtime = Runtime(settings)
    full()
    scheduler = scheduler_of(runtime, is_full=True)
    scheduler.tick()
    assert scene.field("m1", "state") == "delivered"


class Queues:
    """A broker with so many wake-ups of reports."""

    wakeups = ""

    def __init__(self, waiting: int, *, is_full: bool) -> None:
        self.reports, self.full = waiting, is_full
        self.published: list[str] = []

    def oldest(self) -> dict[Any, list[str]]:
        return {}

    def is_full(self) -> bool:
        return self.full

    def waiting(self, queue: str) -> int:
        return self.reports if queue == "sms.report" else 0

    def publish_messages(self, *_: object) -> None:
        raise AssertionError

    def publish_callback(self, name: str) -> None:
        raise AssertionError

    def publish_report(self, mid: str, stat: str) -> None:
        self.published.append(mid)


def scheduler_of(runtime: Runtime, waiting: int = 0, *, is_full: bool = False) -> Scheduler:
    parts = (runtime.ledger, runtime.callbacks, runtime.backoff, runtime.result_spool)
    return Scheduler(
        *parts,
        gate=ConsumerGate(),
        queues=Queues(waiting, is_full=is_full),
        reconcile=runtime.reconciler.reconcile,
    )


@pytest.mark.parametrize(
    ("waiting", "woken"), [(0, 1), (MAX_QUEUED_REPORTS - 1, 1), (MAX_QUEUED_REPORTS, 0)]
)
def test_a_long_queue_of_reports_is_not_made_longer(
    scene: Scene, settings: Settings, waiting: int, woken: int
) -> None:
    scene.ledger.take_in([("A1", DELIVRD)], wake_after_s=-1)
    scheduler = scheduler_of(Runtime(settings), waiting)
    scheduler.tick()
    assert len(scheduler.queues.published) == woken  # type: ignore[attr-defined]
    late = scene.client.zcount(keys.INBOX, "-inf", scene.now_ms())
    assert late == 1 - woken


# --- the spool -------------------------------------------------------------------------------


def test_a_bounded_spool_counts_what_all_of_its_name_hold(tmp_path: Path) -> None:
    (tmp_path / "reports-1-aa.ready").write_bytes(b"x" * (BLOCK + 1))
    (tmp_path / "reports-2-aa.bad").write_bytes(b"x")
    (tmp_path / "calls-1-aa.ready").write_bytes(b"x" * 10 * BLOCK)
    with pytest.raises(SpoolFull, match="the spool is full"):
        Spool(tmp_path, "reports", max_bytes=3 * BLOCK).append({"n": 1})
    roomy = Spool(tmp_path, "reports", max_bytes=4 * BLOCK)
    others = Spool(tmp_path, "calls")
    for one in (roomy, others):
        one.append({"n": 1})
        one.replay(lambda _: None)


def test_a_bounded_spool_leaves_room_on_its_disk_to_what_has_no_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smsq_worker.infra.spool.SPARE_SHARE", 1.0)
    monkeypatch.setattr("smsq_worker.infra.spool.SPARE_BYTES", 1 << 60)
    with pytest.raises(SpoolFull):
        Spool(tmp_path, "reports", max_bytes=1 << 40).append({"n": 1})
    others = Spool(tmp_path, "calls")
    others.append({"n": 1})
    others.replay(lambda _: None)


def test_an_outage_does_not_make_a_file_at_each_try(tmp_path: Path) -> None:
    own = Spool(tmp_path, "reports")

    def away(_: object) -> None:
        raise LedgerUnavailable("away")

    for n in range(20):
        own.append({"n": n})
        with pytest.raises(LedgerUnavailable):
            own.replay(away)
    assert len([*tmp_path.iterdir()]) == 2
    seen: list[int] = []
    own.replay(lambda entry: seen.append(entry["n"]))
    assert seen == [*range(20)]


def test_a_spool_with_more_than_there_is_room_for_comes_in_bit_by_bit(
    scene: Scene, small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the beginning again at each try it would never end: what is reconciled is new again."""
    monkeypatch.setattr("smsq_worker.delivery_reports.inbox.POLL_S", 0.01)
    # 25 reports that are confirmed, for 10 that may wait.
    left = [made_up(5, start) for start in range(0, 25, 5)]
    (tmp_path / "reports-1-aa.ready").write_text(
        "".join(json.dumps({"reports": reports}) + "\n" for reports in left)
    )
    box = Inbox(scene.ledger, Spool(tmp_path, "reports"), lambda _: None)
    beats, stop, reconciled = [0], Event(), set[tuple[str, str]]()

    def beat() -> None:
        beats[0] += 1

    thread = Thread(target=box.run, args=(stop, beat))
    thread.start()
    try:
        while len(reconciled) < 25:
            waiting = eventually(lambda: inbox(scene.client))
            assert len(waiting) <= 10
            assert not waiting & reconciled
            reconciled |= waiting
            # Meanwhile what comes is not kept waiting behind them.
            assert not box.keep([])
            scene.client.zrem(keys.INBOX, *(json.dumps([*report]) for report in waiting))
        eventually(lambda: not [*tmp_path.iterdir()])
    finally:
        stop.set()
        thread.join(30)
    assert beats[0] > 0


# --- the HTTP API ----------------------------------------------------------------------------


@pytest.fixture
def api(scene: Scene, small: None, tmp_path: Path) -> Iterator[str]:
    ledger = Ledger(scene.client, scene.settings.rules)
    web = application(scene.settings, ledger, scene.client, tmp_path / "spool")
    with in_process(configured(web, ())) as url:
        yield url


def send(url: str, reports: Reports) -> requests.Response:
    body = [{"mid": mid, "stat": stat} for mid, stat in reports]
    return requests.post(f"{url}/reports/{TOKEN}", json=body, timeout=60)


def test_a_flood_is_answered_503_and_a_true_report_200_and_sending_goes_on(
    api: str, scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    true = known_mids(scene, 2)
    assert send(api, made_up(10)).status_code == 200
    answer = send(api, made_up(30, 100))
    assert (answer.status_code, answer.json()["code"]) == (503, 503)
    assert int(answer.headers["Retry-After"]) > 0
    assert send(api, [*made_up(1, 200), true[0]]).status_code == 503
    assert send(api, true[1:]).status_code == 200
    # The good one of a body that was refused is safe, too.
    assert {*true} <= inbox(scene.client)
    assert smsq.send_sms.delay(PHONE, "SMS_1001", "1").id
    assert caplog.text.count("refused with 503 (full)") == 1
    metrics = requests.get(f"{api}/metrics", timeout=60).text
    assert "smsq_inbox 12.0" in metrics
    assert 'smsq_reports_refused_total{why="full"}' in metrics


def test_one_source_that_sends_very_many_does_not_fill_the_memory(
    api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coalescer, "OF_ONE_SOURCE", 5)
    assert send(api, made_up(6)).status_code == 503
    assert send(api, made_up(5)).status_code == 200


# --- what an operator is told ----------------------------------------------------------------


def test_doctor_and_status_say_that_the_inbox_is_full(
    scene: Scene, environ: Mapping[str, str]
) -> None:
    scene.client.zadd(keys.INBOX, {f'["{n}", "D"]': 9e12 for n in range(10_000)})
    (found,) = [one for one in check_messages(scene.client) if "to be reconciled" in one.what]
    assert (found.level, "SmsqReportFlood" in found.advice) == ("warning", True)
    assert (
        "inbox     10000 reports wait, too many: see smsq doctor"
        in run(dict(environ), "status").stdout
    )


def test_doctor_says_that_the_spool_is_full(tmp_path: Path) -> None:
    (tmp_path / "reports-1-aa.ready").write_bytes(b"x\n" * BLOCK)
    found = [one.what for one in check_spool(tmp_path, 2 * BLOCK) if one.level == "error"]
    assert "SMSQ_REPORT_SPOOL_MB" in found[0]
