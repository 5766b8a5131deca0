"""The suite itself: a rule that is broken on either side makes a case of it red."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis

from behaviour import test_entry, test_numbers, test_reports, test_sending
from harness.sides import Play, in_memory, in_redis
from smsq import functions
from smsq.app import app
from smsq.ledger_writer import LedgerWriter
from smsq.memory import entry, reports, sending
from smsq.memory.book import Book
from smsq.memory.message import Stored
from smsq_worker.config.settings import Settings
from smsq_worker.ledger import scripts

Case = Callable[..., None]

A_DUPLICATE = test_entry.test_a_second_message_with_a_key_is_a_duplicate_of_the_first
A_DAY = test_entry.test_a_key_holds_for_a_day
LATER = test_entry.test_a_message_for_later_waits_and_its_ttl_begins_then
TOO_OFTEN = test_numbers.test_a_second_otp_within_the_minute_fails_and_says_when_it_would_be_allowed
SUPPRESSED = test_numbers.test_nothing_is_sent_to_a_suppressed_number
SHIELDED = test_numbers.test_a_report_suppresses_its_number
HELD_BACK = test_numbers.test_the_gateways_limit_lets_others_wait
OLDER = test_reports.test_a_failure_of_an_older_attempt_does_not_stop_the_newer
EARLY = test_reports.test_a_report_that_comes_before_the_answer_is_applied_with_it
TOLD = test_reports.test_a_task_is_told_the_end
DOUBT = test_sending.test_a_doubt_is_resent_within_the_budget
DOUBLED = test_sending.test_a_result_recorded_twice_counts_once


def frees_its_key(play: Play) -> None:
    test_entry.test_what_certainly_was_not_sent_frees_its_key(play, test_entry.is_refused)


def keeps_its_key(play: Play) -> None:
    test_entry.test_what_may_have_been_sent_keeps_its_key(play, test_entry.is_delivered, {})


def conflicts(play: Play) -> None:
    test_entry.test_a_key_does_not_stand_for_two_messages(play, {"template": "SMS_2"})


def red(case: Case, play: Play) -> None:
    with pytest.raises((AssertionError, ValueError, pytest.fail.Exception)):
        case(play)


def nothing(*_: Any, **__: Any) -> str:
    return ""


@pytest.mark.parametrize(
    ("where", "rule", "broken", "case"),
    [
        (Book, "holder_of", lambda *_: None, A_DUPLICATE),
        (
            entry,
            "_is_another",
            lambda *_: False,
            test_entry.test_an_id_does_not_stand_for_two_messages,
        ),
        (sending, "_suppressed", nothing, SUPPRESSED),
        (sending, "_held_by_gateway", nothing, HELD_BACK),
        (sending, "_too_frequent", nothing, TOO_OFTEN),
        (sending, "early_reports", lambda *_: [], EARLY),
        (reports, "_shield_number", nothing, SHIELDED),
        (Stored, "is_last_sent", lambda *_: True, OLDER),
        (Stored, "certainly_not_sent", True, keeps_its_key),
        (Stored, "certainly_not_sent", False, frees_its_key),
        (Stored, "resends", 0, DOUBT),
    ],
)
def test_a_rule_that_the_outbox_breaks_is_found(
    where: Any, rule: str, broken: Any, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    with in_memory() as play:
        case(play)
    monkeypatch.setattr(where, rule, broken)
    with in_memory() as play:
        red(case, play)


@pytest.mark.parametrize(
    ("change", "case"),
    [
        (("admit", "suppressed, number_held", "number_held"), SUPPRESSED),
        (("admit", "number_held_by_gateway,", ""), HELD_BACK),
        (("admit", "number_too_frequent,", ""), TOO_OFTEN),
        (("record", "known ~= 'maybe_sent')", "false)"), DOUBLED),
        (("record", "redis.call('LRANGE', early, 0, -1)", "{}"), EARLY),
        (("shared/announce", "if f.notify then", "if false then"), TOLD),
        (("shared/ends", "not certainly_not_sent(m)", "true"), frees_its_key),
        (("shared/ends", "not certainly_not_sent(m)", "false"), keeps_its_key),
        (("shared/ends", "m.resends >= MAX_RESENDS", "false"), DOUBT),
        (("shared/reports", "not is_last_sent(m, n)", "false"), OLDER),
        (("shared/reports", "(r.suppress_ms or 0) > 0", "false"), SHIELDED),
    ],
)
def test_a_rule_that_a_workers_act_breaks_is_found(
    change: tuple[str, str, str],
    case: Case,
    client: redis.Redis,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = dict(scripts._files())
    file, line, broken = change
    assert line in texts[file]
    texts[file] = texts[file].replace(line, broken)
    monkeypatch.setattr(scripts, "_files", lambda: texts)
    with in_redis(client, settings) as play:
        red(case, play)


@pytest.mark.parametrize(
    ("change", "case"),
    [
        (("if holder then", "if false then"), A_DUPLICATE),
        (("taken_for ~= fingerprint", "false"), conflicts),
        (("ARGV[2], ARGV[3]", "ARGV[2], 1"), A_DAY),
        (("math.max(now, send_at)", "now"), LATER),
    ],
)
def test_a_rule_that_the_entry_breaks_is_found(
    change: tuple[str, str],
    case: Case,
    client: redis.Redis,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = functions.lua
    assert change[0] in given("enqueue")
    monkeypatch.setattr(functions, "lua", lambda name: given(name).replace(*change))
    monkeypatch.setattr(functions, "LIBRARY", "smsq_broken")  # Not loaded, so the script is run.
    monkeypatch.setattr(app, "ledger_writer", LedgerWriter(client, settings))
    with in_redis(client, settings) as play:
        red(case, play)
