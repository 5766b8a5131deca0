"""What waits for an operator: held messages, parked reports, and the numbers that show them."""

from __future__ import annotations

import json

import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families

from harness.cli import run
from harness.waiting import known
from smsq import keys
from smsq.contract import parse
from smsq.ledger_writer import LedgerWriter
from smsq_worker.api.metrics import render
from smsq_worker.config.settings import Settings
from smsq_worker.domain.states import Outcome
from smsq_worker.inspection.snapshot import Inspector
from smsq_worker.ledger import Admitted, Ledger, Report

PHONE = "13800138000"
DELIVRD = Report(
    "DELIVRD", "delivered", 0, maybe_sent=False, counted_as="reports:DELIVRD:delivered"
)
FAILED = Report("MA:0001", "permanent", 0, maybe_sent=False, counted_as="reports:MA:0001:permanent")


@pytest.fixture
def held(client: redis.Redis, ledger: Ledger, settings: Settings) -> list[str]:
    """Three messages in doubt."""
    ids = ["m1", "m2", "m3"]
    for message_id in ids:
        message = parse((PHONE, "SMS_1001", "482913"), {"on_ambiguous": "hold"})
        LedgerWriter(client, settings).enter(message_id, message)
        go = ledger.admit(message_id)
        assert isinstance(go, Admitted)
        ledger.record(message_id, go.attempt, Outcome.MAYBE_SENT, detail="ReadTimeout")
    return ids


def test_held_messages_are_listed_with_the_reason_and_a_masked_number(
    environ: dict[str, str], held: list[str]
) -> None:
    listed = run(environ, "held")
    assert listed.returncode == 0
    assert listed.stdout.endswith("3 held\n")
    assert listed.stdout.count("ReadTimeout") == 3
    rows = json.loads(run(environ, "held", "--json").stdout)
    assert [row["id"] for row in rows] == held
    assert {row["phone"] for row in rows} == {"138****8000"}
    assert PHONE not in listed.stdout


def test_a_held_message_is_resent_as_a_possible_duplicate(
    environ: dict[str, str], held: list[str], ledger: Ledger, client: redis.Redis
) -> None:
    done = run(environ, "held", "resend", "m2")
    assert (done.returncode, done.stdout) == (0, "m2  done, now deferred\n")
    ledger.claim(resend_wait_s=1, empty=[])
    assert isinstance(ledger.admit("m2"), Admitted)
    assert ledger.counters()["possible_duplicates"] == 1
    assert known("m1").state == "held"
    assert client.zrange(keys.HELD, 0, -1) == ["m1", "m3"]


def test_all_held_messages_are_dropped_and_a_late_report_still_delivers_one(
    environ: dict[str, str], held: list[str], ledger: Ledger
) -> None:
    assert run(environ, "held", "drop", "--all").returncode == 0
    for message_id in held:
        assert (known(message_id).state, known(message_id).reason) == ("failed", "local:dropped")
    ledger.record("m1", 1, Outcome.ACCEPTED, detail="", mid="A1")
    ledger.report("A1", "DELIVRD", DELIVRD)
    assert known("m1").state == "delivered"
    assert run(environ, "held").stdout == "0 held\n"
    assert run(environ, "held", "resend", "--all").stdout == "0 held\n"


def test_what_cannot_be_resent_is_said(
    environ: dict[str, str], held: list[str], client: redis.Redis
) -> None:
    client.hset(keys.message("m1"), "expires", 1)
    run(environ, "held", "drop", "m2")
    done = run(environ, "held", "resend", "m1", "m2", "nobody")
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "m1  its ttl is over, it can only be dropped, now held",
        "m2  not held, now failed",
        "nobody  unknown",
    ]


@pytest.mark.parametrize("words", [["resend"], ["drop"], ["drop", "--all", "m1"], ["rsend", "m1"]])
def test_a_decision_names_its_messages(
    environ: dict[str, str], held: list[str], words: list[str]
) -> None:
    done = run(environ, "held", *words)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert known("m1").state == "held"


def test_reports_for_unknown_mids_are_listed(
    environ: dict[str, str], ledger: Ledger, client: redis.Redis
) -> None:
    for report in (FAILED, DELIVRD):
        ledger.report("B7", report.stat, report)
    listed = run(environ, "parked")
    assert "B7" in listed.stdout
    assert "MA:0001 DELIVRD" in listed.stdout
    (row,) = json.loads(run(environ, "parked", "--json").stdout)
    assert (row["mid"], row["stats"]) == ("B7", ["MA:0001", "DELIVRD"])


def test_a_flood_of_unknown_mids_is_bounded_and_what_it_drops_is_counted(
    ledger: Ledger, client: redis.Redis
) -> None:
    client.zadd(keys.PARKED, {f"F{n}": 4_000_000_000_000 for n in range(100_000)})
    ledger.report("F-last", "DELIVRD", DELIVRD)
    assert client.zcard(keys.PARKED) == 100_000
    assert ledger.counters()["reports_dropped"] == 1


def test_the_metrics_are_those_of_the_ledger(
    ledger: Ledger, held: list[str], client: redis.Redis, settings: Settings
) -> None:
    ledger.report("B7", "MA:0001", FAILED)
    ledger.decide("m1", "resend")
    ledger.claim(resend_wait_s=1, empty=[])
    ledger.admit("m1")
    lookout = Inspector(client, settings.rules, settings.broker_url)
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(render(lookout).decode())
        for sample in family.samples
    }
    assert samples["smsq_messages_total", "notice", "held"] == 3
    assert samples["smsq_calls_total", "maybe_sent"] == 3
    assert samples["smsq_reports_total", "permanent", "MA:0001"] == 1
    assert samples["smsq_possible_duplicates_total",] == 1
    assert samples["smsq_held",] == 2
    assert samples["smsq_parked",] == 1
