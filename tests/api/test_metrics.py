"""GET /metrics: what is now, beside what was counted; and its page, docs/operate/metrics.md."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from math import inf
from pathlib import Path
from typing import Any

import pytest
import redis
import requests
from prometheus_client.parser import text_string_to_metric_families

import smsq
from harness.accounts import BACKUP, MAIN, ROUTES, accounts_file, backup
from harness.api import RunningApi, serving
from harness.campaigns import sweep
from harness.machine import machine
from harness.ops_docs import documented
from harness.scene import DELIVRD, PHONE_IS_OFF, Scene, mid_of, stat
from harness.scopes import template_scope
from harness.waiting import becomes, eventually
from smsq import keys
from smsq.connection import connect
from smsq.contract import Lane
from smsq.errors import LedgerUnavailable
from smsq_worker.api.metrics import MAX_SERIES, render
from smsq_worker.config.settings import Settings
from smsq_worker.domain.states import Outcome
from smsq_worker.infra.ports import free_port
from smsq_worker.inspection.snapshot import Inspector
from smsq_worker.ledger import Ledger, accounts, quality
from smsq_worker.ledger.admin import ACCOUNT, Control
from smsq_worker.ledger.campaigns import Campaigns
from smsq_worker.ledger.histograms import BOUNDS_MS

Samples = dict[tuple[str, ...], float]
NOBODY = "redis://127.0.0.1:{}/0"


def samples(text: bytes) -> Samples:
    """Give each value by its metric's name and the values of its labels, in the labels' order."""
    return {
        (sample.name, *(sample.labels[label] for label in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


@pytest.fixture
def lookout(client: redis.Redis, settings: Settings) -> Iterator[Inspector]:
    with closing(Inspector(client, settings.rules, settings.broker_url)) as lookout:
        yield lookout


def test_of_an_empty_ledger_all_is_there_and_nothing_has_happened(lookout: Inspector) -> None:
    found = samples(render(lookout))
    assert {name[0] for name, value in found.items() if value} == {
        *("smsq_rate_limit", "smsq_redis_memory_bytes")
    }
    assert found["smsq_rate_limit",] == 10_000
    for name in (
        ("smsq_messages_total", "bulk", "unreported"),
        ("smsq_calls_total", "maybe_sent"),
        ("smsq_notices_total", "webhook", "dead"),
        ("smsq_reports_total", "unknown", "other"),
        ("smsq_possible_duplicates_total",),
        ("smsq_doubts_resolved_total", "not_sent"),
        ("smsq_pause_cause", "report", "account"),
        ("smsq_oldest_seconds", "otp"),
        ("smsq_accept_seconds_count", "otp"),
        ("smsq_redis_memory_max_bytes",),
        *(("smsq_queue_depth", f"sms.{name}") for name in ("otp", "report", "notify")),
    ):
        assert found[name] == 0, name


def test_what_waits_and_what_is_under_way_is_counted(lookout: Inspector, ledger: Ledger) -> None:
    ids = [smsq.send_sms.delay(f"1380013800{n}", "SMS_1", lane="otp").id for n in range(4)]
    for message_id in ids[:2]:
        ledger.admit(message_id)
    later = lookout.take_snapshot().at.timestamp() + 3600
    for lane in ("notice", "bulk", "bulk"):
        smsq.send_sms.delay("13800138000", "SMS_1", lane=lane, send_at=later)
    found = samples(render(lookout))
    assert found["smsq_inflight",] == 2
    assert found["smsq_deferred",] == 3
    assert found["smsq_queue_depth", "sms.otp"] == 4
    assert found["smsq_queue_depth", "sms.bulk"] == 0


def test_each_pause_is_a_change_and_each_resumption_another(
    client: redis.Redis, lookout: Inspector, settings: Settings
) -> None:
    control = Control(client, settings.rules)
    control.pause(ACCOUNT, "")
    control.pause(template_scope("SMS_1"), "")
    control.pause(template_scope("SMS_2"), "")
    breaker = {"cause": "outage", "detail": "ReadTimeout", "since": 1, "probe_at": 2}
    client.hset(keys.PAUSES, "breaker", json.dumps(breaker))
    found = samples(render(lookout))
    assert [found["smsq_paused", scope] for scope in ("account", "breaker", "template")] == [
        *(1, 1, 2)
    ]
    causes = {name[1:]: n for name, n in found.items() if name[0] == "smsq_pause_cause" and n}
    assert causes == {
        ("operator", "account"): 1,
        ("outage", "breaker"): 1,
        ("operator", "template"): 2,
    }
    control.resume(ACCOUNT, "")
    control.resume(template_scope("SMS_1"), "")
    found = samples(render(lookout))
    assert [found["smsq_paused", scope] for scope in ("account", "breaker", "template")] == [
        *(0, 1, 1)
    ]


def test_the_rate_is_that_of_now(client: redis.Redis, lookout: Inspector) -> None:
    lookout.control.set_rate(50, 5)
    assert samples(render(lookout))["smsq_rate_limit",] == 50
    client.hset(keys.RATE, mapping={"slow": 12.5, "slow_at": client.time()[0] * 1000})
    assert samples(render(lookout))["smsq_rate_limit",] == 12.5


def test_without_the_ledger_there_are_none(settings: Settings) -> None:
    nobody = redis.Redis.from_url(NOBODY.format(free_port()), decode_responses=True)
    with pytest.raises(LedgerUnavailable):
        render(Inspector(nobody, settings.rules, settings.broker_url))


@pytest.mark.parametrize("broker_there", [True, False])
def test_the_api_serves_them_even_without_the_broker(
    environ: dict[str, str], client: redis.Redis, tmp_path: Path, broker_there: bool
) -> None:
    smsq.send_sms.delay("13800138000", "SMS_1", lane="otp")
    own = {} if broker_there else {"SMSQ_BROKER_URL": NOBODY.format(free_port())}
    with serving(environ | own, tmp_path / "log") as api:
        answer = requests.get(f"{api.url}/metrics", timeout=60)
    assert answer.status_code == 200
    found = samples(answer.content)
    assert found["smsq_messages_total", "otp", "queued"] == 1
    assert found["smsq_paused", "account"] == 0
    depths = {name[1]: value for name, value in found.items() if name[0] == "smsq_queue_depth"}
    assert depths.get("sms.otp") == (1 if broker_there else None)
    assert (("smsq_oldest_seconds", "otp") in found) is broker_there


# --- the table ------------------------------------------------------------------------------


def test_the_table_is_what_the_api_tells_of_real_traffic(
    environ: dict[str, str], client: redis.Redis, tmp_path: Path
) -> None:
    with machine(environ, tmp_path) as running, serving(environ, tmp_path / "log") as api:
        running.start_worker()
        ids = [smsq.send_sms.delay(f"1380013800{n}", "SMS_1", lane="otp").id for n in range(5)]
        smsq.send_many({"phone": f"1390013900{n}", "template": "SMS_1"} for n in range(4))
        eventually(lambda: running.ledger.counters().get("messages:bulk:accepted") == 4)
        for message_id in ids:
            mid = becomes(message_id, "accepted").attempts[-1].mid
            api.report({"mid": str(mid), "stat": "DELIVRD"}).raise_for_status()
            becomes(message_id, "delivered")
        text = requests.get(f"{api.url}/metrics", timeout=60).content
    told = {
        family.name + "_total" * (family.type == "counter"): (
            family.type,
            {label for sample in family.samples for label in sample.labels} - {"le"},
        )
        for family in text_string_to_metric_families(text.decode())
    }
    assert told == {
        name: (row.kind, row.labels)
        for name, row in documented().items()
        if not name.startswith("smsq_account_")  # those are of several accounts
    }

    found = samples(text)
    assert found["smsq_accept_seconds_count", "otp"] == 5
    assert found["smsq_accept_seconds_count", "bulk"] == 4
    assert found["smsq_delivery_seconds_count", "otp"] == 5
    assert found["smsq_delivery_seconds_count", "bulk"] == 0
    for name in ("accept", "delivery"):
        for lane in Lane:
            check_histogram(found, name, lane)


def check_histogram(found: Samples, name: str, lane: str) -> None:
    metric = f"smsq_{name}_seconds"
    buckets = {
        float(key[2]): value
        for key, value in found.items()
        if key[0] == f"{metric}_bucket" and key[1] == lane
    }
    assert list(buckets) == [*(ms / 1000 for ms in BOUNDS_MS[name]), inf]
    assert list(buckets.values()) == sorted(buckets.values())
    count = found[f"{metric}_count", lane]
    assert buckets[inf] == count
    assert (found[f"{metric}_sum", lane] > 0) is (count > 0)


@pytest.mark.parametrize("name", documented())
def test_each_metric_is_described(name: str) -> None:
    row = documented()[name]
    assert row.kind in {"counter", "gauge", "histogram"}
    assert row.unit
    assert row.meaning


# --- durations ------------------------------------------------------------------------------


def times(scene: Scene) -> dict[str, int]:
    """Give what was counted of durations, but the sums."""
    counters = scene.ledger.counters().items()
    return {
        name: count
        for name, count in counters
        if name.startswith(("accept:", "delivery:")) and not name.endswith(":sum")
    }


def earlier(scene: Scene, field: str, seconds: float) -> None:
    """Let what a field holds have been so long ago."""
    at = scene.now_ms() - round(seconds * 1000)
    scene.client.hset(keys.message("m1"), field, at)


def test_a_duration_falls_into_the_bucket_whose_bound_it_does_not_pass(scene: Scene) -> None:
    scene.enter(lane="otp")
    earlier(scene, "enqueued", 4)
    scene.call("m1", Outcome.ACCEPTED)
    earlier(scene, "accepted", 100)
    earlier(scene, "1:at", 100)
    scene.report("m1", DELIVRD)
    assert times(scene) == {"accept:otp:5000": 1, "delivery:otp:120000": 1}
    counters = scene.ledger.counters()
    assert 4_000 <= counters["accept:otp:sum"] < 5_000
    assert 100_000 <= counters["delivery:otp:sum"] < 120_000


def test_what_is_longer_than_all_bounds_is_counted_too(scene: Scene, lookout: Inspector) -> None:
    scene.enter()
    earlier(scene, "enqueued", 90_000)
    scene.call("m1", Outcome.ACCEPTED)
    assert times(scene) == {"accept:notice:inf": 1}
    found = samples(render(lookout))
    assert found["smsq_accept_seconds_bucket", "notice", "86400.0"] == 0
    check_histogram(found, "accept", "notice")


def test_a_message_that_may_go_later_is_measured_from_then_on(scene: Scene) -> None:
    scene.enter(send_at=scene.now_ms() / 1000 + 3600)
    scene.run_out()
    earlier(scene, "enqueued", 7200)
    earlier(scene, "due", 20)
    scene.go()
    scene.record("m1", Outcome.ACCEPTED)
    assert times(scene) == {"accept:notice:30000": 1}
    assert scene.field("m1", "due") is None


def test_a_message_that_ends_before_it_could_go_keeps_nothing_of_it(scene: Scene) -> None:
    scene.enter(send_at=scene.now_ms() / 1000 + 3600)
    scene.run_out_of_ttl()
    assert scene.state() == "expired"
    assert scene.field("m1", "due") is None


def test_an_answer_that_is_written_twice_is_counted_once(scene: Scene) -> None:
    scene.call("m1", Outcome.ACCEPTED)
    scene.record("m1", Outcome.ACCEPTED)
    assert sum(times(scene).values()) == 1


def test_a_message_that_is_accepted_again_is_counted_once(scene: Scene) -> None:
    scene.call("m1", Outcome.ACCEPTED)
    scene.report("m1", PHONE_IS_OFF)
    scene.run_out()
    scene.call("m1", Outcome.ACCEPTED)
    assert scene.state() == "accepted"
    assert sum(times(scene).values()) == 1


@pytest.mark.parametrize("report", [DELIVRD, stat("MA:0001", "permanent")])
def test_a_report_that_is_repeated_is_counted_once(scene: Scene, report: Any) -> None:
    scene.call("m1", Outcome.ACCEPTED)
    scene.report("m1", report)
    scene.report("m1", report)
    found = times(scene)
    assert sorted((name.split(":")[0], n) for name, n in found.items()) == [
        *(("accept", 1), ("delivery", 1)),
    ]


def test_a_report_on_an_older_call_is_measured_from_that(scene: Scene) -> None:
    scene.call("m1", Outcome.ACCEPTED)
    scene.report("m1", PHONE_IS_OFF)
    scene.run_out()
    scene.call("m1", Outcome.ACCEPTED)
    earlier(scene, "1:at", 50)
    scene.ledger.report(mid_of("m1", 1), "DELIVRD", DELIVRD)
    assert times(scene)["delivery:notice:60000"] == 1


@pytest.mark.parametrize(
    "end",
    [
        lambda scene: scene.run_out_of_ttl(),
        lambda scene: scene.report("m1", stat("ACCEPTD", "pending")),
        lambda scene: scene.report("m1", stat("MO:9999", "unknown")),
        lambda scene: scene.report("m1", PHONE_IS_OFF),
    ],
    ids=["none", "pending", "unknown", "transient"],
)
def test_what_no_report_has_ended_has_no_time_of_delivery(
    scene: Scene, end: Callable[[Scene], object]
) -> None:
    scene.call("m1", Outcome.ACCEPTED)
    end(scene)
    assert [(name.split(":")[0], n) for name, n in times(scene).items()] == [("accept", 1)]


def test_what_was_counted_under_other_bounds_stays_true(
    client: redis.Redis, lookout: Inspector
) -> None:
    client.hset(keys.COUNTERS, mapping={"accept:otp:700": 2, "accept:otp:1000": 1})
    client.hset(keys.COUNTERS, "accept:otp:sum", 2100)
    client.hset(keys.COUNTERS, "of_a_newer_worker:x", 1)
    found = samples(render(lookout))
    bucket = {
        key[2]: n for key, n in found.items() if key[:2] == ("smsq_accept_seconds_bucket", "otp")
    }
    assert (bucket["0.5"], bucket["1.0"], bucket["+Inf"]) == (0, 3, 3)
    assert found["smsq_accept_seconds_sum", "otp"] == 2.1


# --- what waits -----------------------------------------------------------------------------


def published(client: redis.Redis, message_id: str, seconds_ago: int) -> None:
    at = (client.time()[0] - seconds_ago) * 1000
    client.hset(keys.message(message_id), "published", at)


def waits(lookout: Inspector, lane: str) -> float | None:
    return samples(render(lookout)).get(("smsq_oldest_seconds", lane))


def test_the_oldest_is_the_wake_up_that_has_waited_longest(
    client: redis.Redis, lookout: Inspector
) -> None:
    ended, first, _ = (smsq.send_sms.delay("13800138000", "SMS_1", lane="otp").id for _ in "abc")
    client.hset(keys.message(ended), "state", "expired")
    published(client, ended, 500)
    published(client, first, 90)
    # It had to wait for a time before.
    client.hset(keys.message(first), "enqueued", 1)
    assert 90 <= (waits(lookout, "otp") or 0) < 150
    assert waits(lookout, "notice") == 0


def test_a_batch_waits_like_a_message(client: redis.Redis, lookout: Inspector) -> None:
    ids: list[str] = []
    smsq.send_many(
        ({"phone": f"1380013800{n}", "template": "SMS_1"} for n in range(3)), on_batch=ids.extend
    )
    for message_id in ids:
        published(client, message_id, 60)
    assert 60 <= (waits(lookout, "bulk") or 0) < 120
    client.hset(keys.message(ids[-1]), "state", "sending")
    assert waits(lookout, "bulk") == 0


def test_of_a_queue_that_begins_with_ended_messages_nothing_is_told(
    client: redis.Redis, lookout: Inspector
) -> None:
    client.lpush("sms.otp", *['{"headers": {"id": "ended"}}'] * 1000)
    assert waits(lookout, "otp") == 0
    client.lpush("sms.otp", *['{"headers": {"id": "ended"}}'] * 200)
    assert waits(lookout, "otp") is None
    assert waits(lookout, "notice") == 0


def lag(lookout: Inspector) -> float:
    return samples(render(lookout))["smsq_clock_lag_seconds",]


def test_the_scheduler_lags_by_the_most_overdue_timer(
    client: redis.Redis, lookout: Inspector, scene: Scene
) -> None:
    for name in ("early", "late"):
        scene.enter(name)
    assert lag(lookout) == 0
    client.zadd(keys.TIMERS, {"early": scene.now_ms() - 40_000, "late": scene.now_ms() - 2_000})
    assert 40 <= lag(lookout) < 100
    client.zadd(keys.TIMERS, {"early": scene.now_ms() + 3_600_000})
    assert 2 <= lag(lookout) < 40


def test_a_timer_that_is_due_at_once_is_due_since_the_entry(
    client: redis.Redis, lookout: Inspector, scene: Scene
) -> None:
    scene.enter()
    scene.entrance.unpublished("m1")
    earlier(scene, "enqueued", 60)
    assert 60 <= lag(lookout) < 120


def test_the_memory_is_that_of_the_ledger(client: redis.Redis, lookout: Inspector) -> None:
    client.config_set("maxmemory", "256mb")
    try:
        found = samples(render(lookout))
    finally:
        client.config_set("maxmemory", "0")
    assert found["smsq_redis_memory_max_bytes",] == 256 * 1024 * 1024
    assert found["smsq_redis_memory_bytes",] > 100_000


def test_a_server_that_tells_nothing_of_its_memory_is_no_obstacle(
    client: redis.Redis, settings: Settings
) -> None:
    client.acl_setuser("blind", True, nopass=True, keys=["*"], commands=["+@all", "-info"])
    url = settings.redis_url.replace("://", "://blind:any@")
    try:
        with connect(url) as blind, closing(Inspector(blind, settings.rules, url)) as lookout:
            found = samples(render(lookout))
    finally:
        client.acl_deluser("blind")
    assert found["smsq_held",] == 0
    assert not any("memory" in name[0] for name in found)


def test_what_is_printed_is_bounded_whatever_has_been_counted(
    client: redis.Redis, lookout: Inspector
) -> None:
    most = MAX_SERIES + 100
    made_up = {f"reports:X:{n:04}:permanent": n for n in range(1, most + 1)}
    client.hset(keys.COUNTERS, mapping=made_up | {f"set_aside:{'x' * 1000}": 9})
    text = render(lookout)
    found = [name for name in samples(text) if name[0] == "smsq_reports_total"]
    assert len(found) == MAX_SERIES + 1
    assert ("smsq_reports_total", "permanent", f"X:{most:04}") in found
    assert ("smsq_reports_total", "permanent", "X:0001") not in found
    assert ("smsq_reports_total", "unknown", "other") in found
    assert b"x" * 1000 not in text


def test_a_producer_cannot_end_the_metrics(api: RunningApi, client: redis.Redis) -> None:
    made_up = (b"accept:otp:soon", b"delivery:otp:", b"messages:\xff", b"messages", b"\xff")
    for counter in made_up:
        client.hincrby(keys.COUNTERS, counter)  # type: ignore[arg-type]
        client.hincrby(keys.LIVE, counter)  # type: ignore[arg-type]
    client.hincrby(keys.COUNTERS, "accept:otp:100")
    told = api.get("/metrics")
    assert told.status_code == 200
    assert 'smsq_accept_seconds_bucket{lane="otp",le="+Inf"} 1.0' in told.text


def test_the_cost_of_a_scrape_is_bounded(client: redis.Redis, lookout: Inspector) -> None:
    ids = [smsq.send_sms.delay("13800138000", "SMS_1", lane="otp").id for _ in range(300)]
    render(lookout)  # the script is loaded

    def commands() -> int:
        client.config_resetstat()
        render(lookout)
        stats: Any = client.info("commandstats")
        return sum(one["calls"] for one in stats.values())

    usual = commands()
    assert usual < 80
    for lane in ("otp", "notice", "bulk"):
        client.lpush(f"sms.{lane}", *['{"headers": {"id": "ended"}}'] * 3000)
    client.rpush("sms.otp", *['{"headers": {"id": "ended"}}'] * 3000)
    client.zadd(keys.TIMERS, dict.fromkeys(ids, 0))
    assert commands() < usual + 100 + 3 * 1030


def test_campaigns_are_summed_up_by_what_an_operator_decided(
    scene: Scene, lookout: Inspector
) -> None:
    for campaign in ("open", "slow", "stopped", "wrong"):
        for n in range(2):
            scene.enter(f"{campaign}-{n}", lane="bulk", campaign=campaign)
    campaigns = Campaigns(scene.client, scene.rules)
    campaigns.do("rate", "slow", rate=1)
    campaigns.do("pause", "stopped")
    scene.accept("wrong-1")
    campaigns.do("cancel", "wrong")
    found = samples(render(lookout))
    names = ("open", "slowed", "paused", "cancelled")
    assert [found["smsq_campaigns", one] for one in names] == [1] * 4
    assert [found["smsq_campaign_messages", one] for one in names] == [2, 2, 2, 1]
    sweep(scene)
    scene.report("wrong-1", DELIVRD)
    found = samples(render(lookout))
    assert [found["smsq_campaigns", one] for one in names] == [1, 1, 1, 0]
    assert found["smsq_campaign_messages", "cancelled"] == 0


# --- several accounts -----------------------------------------------------------------------


def test_several_accounts_have_metrics_of_their_own(
    environ: dict[str, str], client: redis.Redis, tmp_path: Path
) -> None:
    file = accounts_file(tmp_path, MAIN, backup(rate_per_s=20), ROUTES)
    settings = Settings.load(environ | {"SMSQ_ACCOUNTS_FILE": file})
    accounts.introduce(client, settings.rules)
    scene = Scene(client, settings)
    scene.control.pause(ACCOUNT, "")
    scene.enter("m1")
    assert scene.admitted("m1").account == BACKUP
    delivered = {"notice\taccepted\t@backup\tT": 4, "notice\tdelivered:60\t@backup\tT": 3}
    for hour in (quality.last_hour(client, ""), quality.last_hour(client, "") + 1):
        client.hset(keys.quality(hour), mapping=delivered)
    with closing(Inspector(client, settings.rules, settings.broker_url)) as lookout:
        found = samples(render(lookout))
    assert found["smsq_account_hour_delivered_ratio", "backup"] == 0.75
    assert found["smsq_account_hour_accepted", "backup"] == 4
    assert found["smsq_account_hour_accepted", "main"] == 0
    assert ("smsq_account_hour_delivered_ratio", "main") not in found
    assert found["smsq_account_state", "main", "paused"] == 1
    assert found["smsq_account_state", "backup", "open"] == 1
    assert found["smsq_account_state", "backup", "outage"] == 0
    assert found["smsq_account_inflight", "backup"] == 1
    assert found["smsq_account_rate_limit", "backup"] == 20
    assert found["smsq_rate_limit",] == settings.rate_per_s + 20
    assert found["smsq_paused", "account"] == 1
