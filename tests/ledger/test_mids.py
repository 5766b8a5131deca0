"""One mid for two messages, or for two calls: nothing is concluded that could be the other's."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import redis

from harness.scene import OTHER_PHONE, PHONE_IS_OFF, Scene
from harness.timeline import Explain, lines_of
from smsq import keys
from smsq_worker.config.settings import Settings
from smsq_worker.delivery_reports.reconciler import Reconciler
from smsq_worker.domain.codes import Catalogue
from smsq_worker.domain.states import Outcome
from smsq_worker.ledger.message_view import read_trace

MID = "1151894566D2EDD9"
BLACKLISTED = "MA:0001"


class Reused(Scene):
    """A gateway that answers every call with one and the same mid."""

    def accepts(self, name: str, *, phone: str = OTHER_PHONE) -> None:
        self.enter(name, phone=phone)
        self.accepts_again(name)

    def accepts_again(self, name: str) -> None:
        self.ledger.record(name, self.go(name), Outcome.ACCEPTED, detail="", mid=MID)

    def says(self, stat: str) -> str:
        return Reconciler(self.ledger, {"": Catalogue.load()}).reconcile([(MID, stat)])

    def counted(self) -> int:
        return self.ledger.counters().get("mids_reused", 0)


@pytest.fixture
def scene(client: redis.Redis, settings: Settings) -> Reused:
    return Reused(client, settings)


def warnings(caplog: pytest.LogCaptureFixture) -> Iterator[str]:
    return (line for line in caplog.messages if line.startswith("the gateway gave mid"))


def test_a_report_settles_neither_of_two_messages_and_suppresses_nobody(
    scene: Reused, caplog: pytest.LogCaptureFixture
) -> None:
    scene.accepts("m1")
    scene.accepts("m2")
    for stat in (BLACKLISTED, "DELIVRD", "MA:0022", "MA:0015"):
        assert scene.says(stat) == "1 parked"
    assert [scene.state(name) for name in ("m1", "m2")] == ["accepted", "accepted"]
    assert not scene.client.exists(keys.SUPPRESSED, keys.PAUSES)
    assert not list(scene.client.scan_iter("smsq:hold:*"))
    assert scene.ledger.parked_stats(MID) == [BLACKLISTED, "DELIVRD", "MA:0022", "MA:0015"]
    assert scene.counted() == 1
    (told,) = warnings(caplog)
    assert told == (
        f"the gateway gave mid {MID} to m1 and to m2: a report on it cannot be told apart"
    )
    for name in ("m1", "m2"):
        assert scene.run_out(name) == []
        assert scene.state(name) == "unreported"
    scene.check_live("m1", "m2")


def test_a_gateway_with_one_mid_for_all_is_told_of_once_and_counted_each_time(
    scene: Reused, caplog: pytest.LogCaptureFixture
) -> None:
    for n in range(5):
        scene.accepts(f"m{n}")
    for _ in range(30):
        scene.says("DELIVRD")
    assert scene.counted() == 4
    assert len([*warnings(caplog)]) == 1
    assert {scene.state(f"m{n}") for n in range(5)} == {"accepted"}
    assert len(scene.ledger.parked_stats(MID)) == 16
    assert len(str(scene.client.get(keys.mid(MID)))) < 30


def test_one_that_is_long_delivered_stays_so_and_the_next_is_not_settled(scene: Reused) -> None:
    scene.accepts("m1")
    assert scene.says("DELIVRD") == "1 delivered"
    scene.accepts("m2")
    for stat in ("DELIVRD", BLACKLISTED):
        assert scene.says(stat) == "1 parked"
    assert [scene.state(name) for name in ("m1", "m2")] == ["delivered", "accepted"]
    assert scene.counted() == 1


def test_of_a_message_that_is_forgotten_the_mid_is_free(scene: Reused) -> None:
    scene.accepts("m1")
    scene.says("DELIVRD")
    scene.client.delete(keys.message("m1"))
    scene.accepts("m2")
    assert (scene.says("DELIVRD"), scene.counted()) == ("1 delivered", 0)


def test_reports_that_came_early_are_of_the_first_and_later_ones_of_nobody(scene: Reused) -> None:
    for name in ("m1", "m2"):
        scene.enter(name, phone=OTHER_PHONE)
    attempts = {name: scene.go(name) for name in ("m1", "m2")}
    assert scene.says(BLACKLISTED) == "1 parked"
    for name, n in attempts.items():
        scene.ledger.record(name, n, Outcome.ACCEPTED, detail="", mid=MID)
    assert [scene.state(name) for name in attempts] == ["failed", "accepted"]
    scene.says("DELIVRD")
    scene.accepts("m3", phone="13700137000")
    assert scene.ledger.parked_stats(MID) == ["DELIVRD"]
    assert scene.state("m3") == "accepted"


def test_a_command_sent_twice_or_replayed_from_the_spool_is_no_second_call(
    scene: Reused, caplog: pytest.LogCaptureFixture
) -> None:
    scene.accepts("m1")
    scene.enter("m2")
    n = scene.go("m2")
    for _ in range(2):
        scene.ledger.record("m1", 1, Outcome.ACCEPTED, detail="", mid=MID)
        scene.ledger.record("m2", n, Outcome.ACCEPTED, detail="", mid=MID)
    assert scene.counted() == 1
    assert len([*warnings(caplog)]) == 1
    assert [scene.state(name) for name in ("m1", "m2")] == ["accepted", "accepted"]


def test_of_two_calls_of_one_message_delivered_counts_and_a_repeated_report_does_not(
    scene: Reused, caplog: pytest.LogCaptureFixture
) -> None:
    scene.accepts("m1")
    scene.ledger.report(MID, "EXPIRED", PHONE_IS_OFF)
    scene.run_out("m1")
    scene.accepts_again("m1")
    # The gateway repeats what it said of the first call: that is no reason for a third.
    assert scene.ledger.report(MID, "EXPIRED", PHONE_IS_OFF)[0] == "accepted"
    assert scene.used_up("m1") == ("2", "1")
    assert scene.says("DELIVRD") == "1 delivered"
    assert scene.counted() == 1
    (told,) = warnings(caplog)
    assert told.startswith(f"the gateway gave mid {MID} to more than one call of m1: ")


def test_an_answer_that_comes_after_the_next_call_gives_no_way_to_that_one(scene: Reused) -> None:
    scene.enter("m1")
    late = scene.go("m1")
    scene.run_out("m1")  # its lease
    scene.run_out("m1")
    scene.accepts_again("m1")
    scene.ledger.record("m1", late, Outcome.ACCEPTED, detail="", mid=MID)
    assert scene.client.get(keys.mid(MID)) == "1 m1"
    assert scene.says(BLACKLISTED) == "1 accepted"
    assert scene.says("DELIVRD") == "1 delivered"


def test_earlier_releases_park_reports_on_such_a_mid(scene: Reused) -> None:
    """They ask for `^(%d+) (.*)$`, and `explain` for what follows a blank."""
    scene.accepts("with a blank")
    scene.accepts("m2")
    leads_to = str(scene.client.get(keys.mid(MID)))
    assert not leads_to[0].isdigit()
    assert " " not in leads_to
    assert 0 < scene.client.pttl(keys.mid(MID)) <= (259_200 + 604_800) * 1000


def test_explain_says_why_no_report_is_matched(scene: Reused, explain: Explain) -> None:
    scene.accepts("one of 2")
    scene.accepts("m2")
    before = lines_of(explain(MID))
    assert before[0] == f"mid      {MID}"
    assert before[1].startswith(
        "state    reused: The gateway assigned this mid to more than one message: one of 2 and m2"
    )
    scene.says(BLACKLISTED)
    assert f"report {BLACKLISTED}" in "\n".join(lines_of(explain(MID)))
    assert json.loads(explain(MID, "--json")[1])["messages"] == ["one of 2", "m2"]
    for name in ("one of 2", "m2"):
        (attempt,) = [line for line in lines_of(explain(name)) if "attempt 1" in line]
        assert attempt.endswith("which it gave to another message too: no report can be matched")
        trace = read_trace(scene.client, "", name)
        assert trace
        assert trace.report_until is None
