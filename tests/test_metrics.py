"""GET /metrics: what is now, beside what was counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import redis
import requests
from prometheus_client.parser import text_string_to_metric_families

import smsq
from smsq import keys
from smsq.errors import LedgerUnavailable
from smsq_worker.door.metrics import render
from smsq_worker.ledger import Ledger
from smsq_worker.ledger.control import ACCOUNT, Control, template_scope
from smsq_worker.local.ports import free_port
from smsq_worker.overview import Lookout
from smsq_worker.settings import Settings
from test_door import serving

Samples = dict[tuple[str, ...], float]
NOBODY = "redis://127.0.0.1:{}/0"


def samples(text: bytes) -> Samples:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


@pytest.fixture
def lookout(client: redis.Redis, settings: Settings) -> Lookout:
    return Lookout(client, settings.rules, settings.broker_url)


def test_of_an_empty_ledger_every_gauge_is_there(lookout: Lookout) -> None:
    found = samples(render(lookout))
    assert {name: value for name, value in found.items() if name[0] != "smsq_queue_depth"} == {
        ("smsq_possible_duplicates_total",): 0,
        ("smsq_reports_dropped_total",): 0,
        ("smsq_held",): 0,
        ("smsq_parked",): 0,
        ("smsq_paused", "account"): 0,
        ("smsq_paused", "breaker"): 0,
        ("smsq_paused", "template"): 0,
        ("smsq_rate_limit",): 10_000,
        ("smsq_inflight",): 0,
        ("smsq_deferred",): 0,
        ("smsq_notices_pending", "waiting"): 0,
        ("smsq_notices_pending", "dead"): 0,
    }
    assert {name[1:]: value for name, value in found.items() if name[0] == "smsq_queue_depth"} == {
        (queue,): 0 for queue in ("sms.otp", "sms.report", "sms.notify", "sms.notice", "sms.bulk")
    }


def test_what_waits_and_what_is_under_way_is_counted(lookout: Lookout, ledger: Ledger) -> None:
    ids = [smsq.send_sms.delay(f"1380013800{n}", "SMS_1", lane="otp").id for n in range(4)]
    for message_id in ids[:2]:
        ledger.admit(message_id)
    later = lookout.look().at.timestamp() + 3600
    for lane in ("notice", "bulk", "bulk"):
        smsq.send_sms.delay("13800138000", "SMS_1", lane=lane, send_at=later)
    found = samples(render(lookout))
    assert found["smsq_inflight",] == 2
    assert found["smsq_deferred",] == 3
    assert found["smsq_queue_depth", "sms.otp"] == 4
    assert found["smsq_queue_depth", "sms.bulk"] == 0


def test_each_pause_is_a_change_and_each_resumption_another(
    client: redis.Redis, lookout: Lookout, settings: Settings
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
    control.resume(ACCOUNT, "")
    control.resume(template_scope("SMS_1"), "")
    found = samples(render(lookout))
    assert [found["smsq_paused", scope] for scope in ("account", "breaker", "template")] == [
        *(0, 1, 1)
    ]


def test_the_rate_is_that_of_now(client: redis.Redis, lookout: Lookout) -> None:
    lookout.control.set_rate(50, 5)
    assert samples(render(lookout))["smsq_rate_limit",] == 50
    client.hset(keys.RATE, mapping={"slow": 12.5, "slow_at": client.time()[0] * 1000})
    assert samples(render(lookout))["smsq_rate_limit",] == 12.5


def test_without_the_ledger_there_are_none(settings: Settings) -> None:
    nobody = redis.Redis.from_url(NOBODY.format(free_port()), decode_responses=True)
    with pytest.raises(LedgerUnavailable):
        render(Lookout(nobody, settings.rules, settings.broker_url))


@pytest.mark.parametrize("broker_there", [True, False])
def test_the_door_serves_them_even_without_the_broker(
    environ: dict[str, str], client: redis.Redis, tmp_path: Path, broker_there: bool
) -> None:
    smsq.send_sms.delay("13800138000", "SMS_1", lane="otp")
    own = {} if broker_there else {"SMSQ_BROKER_URL": NOBODY.format(free_port())}
    with serving(environ | own, tmp_path / "log") as door:
        answer = requests.get(f"{door.url}/metrics", timeout=60)
    assert answer.status_code == 200
    found = samples(answer.content)
    assert found["smsq_messages_total", "otp", "queued"] == 1
    assert found["smsq_paused", "account"] == 0
    depths = {name[1]: value for name, value in found.items() if name[0] == "smsq_queue_depth"}
    assert depths.get("sms.otp") == (1 if broker_there else None)
