"""Outcomes on their way to receivers: noted with the end itself, told until they are taken."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from threading import Timer
from typing import Any

import pytest
import redis
from click.testing import CliRunner

import smsq
from harness.scene import DELIVRD, LONG_AGO, PHONE, PHONE_IS_OFF, Scene, mid_of, stat
from smsq import keys
from smsq.connection import connect
from smsq.contract import parse
from smsq.entries import Origin
from smsq_worker.callbacks.dispatcher import Dispatcher
from smsq_worker.callbacks.poster import Posted, Trouble
from smsq_worker.cli.commands.notices import notices as command
from smsq_worker.config.settings import Settings
from smsq_worker.domain.backoff import Backoff
from smsq_worker.domain.states import Outcome
from smsq_worker.ledger.callbacks import Callback, Callbacks
from smsq_worker.sending.consumer_gate import ConsumerGate, RequeueLater

BLACKLISTED = stat("MA:0001", "permanent")
HOUR = 3600.0
HOUR_MS = 3_600_000


class Desk(Scene):
    """A scene with receivers."""

    def __init__(self, client: redis.Redis, settings: Settings, **rules: Any) -> None:
        super().__init__(client, settings, **rules)
        self.notices = Callbacks(client, self.rules)
        self.told: list[Callback] = []
        self.answer: Callable[[Callback], Posted] = lambda _: Posted(done=True, detail="")

        def tell(notice: Callback) -> Posted:
            self.told.append(notice)
            return self.answer(notice)

        self.notifier = Dispatcher(
            self.notices,
            dict.fromkeys(("task", "returnurl", "webhook"), tell),
            Backoff(60, 60),
            give_up_s=HOUR,
        )

    def deliver(self, name: str = "m1", **options: Any) -> None:
        """Take a message to its end."""
        self.enter(name, **options)
        self.go(name)
        self.record(name, Outcome.ACCEPTED)
        self.report(name, DELIVRD)

    def waiting(self) -> list[str]:
        return [str(name) for name in self.client.zrange(keys.NOTICES, 0, -1)]

    def rest_is_over(self) -> None:
        """Let all that waits be due."""
        for name in self.waiting():
            self.client.zadd(keys.NOTICES, {name: LONG_AGO})
        for who, text in self.client.hgetall("smsq:receivers").items():
            self.client.hset("smsq:receivers", who, f"{text.split()[0]} {LONG_AGO}")

    def tell_all(self) -> list[str]:
        return [self.notifier.dispatch(name) for name in self.notices.claim(100)]

    def outcomes_kept(self) -> int:
        return len(list(self.client.scan_iter("smsq:o:*")))


@pytest.fixture
def desk(client: redis.Redis, settings: Settings) -> Desk:
    return Desk(client, settings)


@pytest.fixture
def hooked(client: redis.Redis, settings: Settings) -> Desk:
    return Desk(client, settings, webhook=True)


def test_a_message_nobody_asked_about_leaves_nothing(desk: Desk) -> None:
    desk.deliver()
    assert not desk.waiting()
    assert not desk.outcomes_kept()


def test_a_code_that_settled_nothing_is_told_as_the_gateway_wrote_it(desk: Desk) -> None:
    desk.enter("m1", notify="shop.tasks.told")
    desk.accept()
    desk.report("m1", stat("XA:0001", "unknown", raw="xa1", unlisted=True))
    desk.run_out()
    assert desk.state() == "unreported"
    desk.tell_all()
    (notice,) = desk.told
    assert (notice.outcome["stat"], notice.outcome["raw_stat"]) == ("XA:0001", "xa1")
    assert notice.last_stat == "XA:0001"


def test_a_code_of_an_attempt_before_the_last_is_not_the_end_of_an_unreported_one(
    desk: Desk,
) -> None:
    desk.enter("m1", notify="shop.tasks.told")
    desk.accept()
    desk.report("m1", stat("EXPIRED", "transient", 60, maybe_sent=True))
    desk.wake()
    desk.accept()
    desk.run_out()
    desk.tell_all()
    (notice,) = desk.told
    assert (notice.outcome["state"], notice.outcome["stat"]) == ("unreported", "EXPIRED")
    assert notice.last_stat is None


@pytest.mark.parametrize("state", ["delivered", "unreported"])
def test_one_that_was_sent_before_an_attempt_that_came_to_nothing_has_that_ones_mid(
    desk: Desk, state: str
) -> None:
    desk.enter("m1", notify="shop.tasks.told", ttl_s=24 * HOUR)
    desk.go()
    desk.run_out()
    desk.run_out()
    desk.call("m1", Outcome.NOT_SENT)
    desk.record("m1", Outcome.ACCEPTED, attempt=1, detail="")
    if state == "delivered":
        desk.report_on(mid_of("m1", 1), DELIVRD)
    else:
        desk.report_on(mid_of("m1", 1), stat("XA:0001", "unknown"))
        desk.run_out()
    assert desk.state() == state
    desk.tell_all()
    (notice,) = desk.told
    assert notice.outcome["mid"] == mid_of("m1", 1)
    assert notice.last_stat == ("XA:0001" if state == "unreported" else None)


@pytest.fixture
def in_producers_ledger(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMSQ_REDIS_URL", desk.settings.redis_url)


@pytest.mark.usefixtures("in_producers_ledger")
def test_late_news_of_what_a_producer_ended_costs_it_no_callback(desk: Desk) -> None:
    desk.enter("m1", notify="shop.tasks.told", ttl_s=HOUR)
    desk.go()
    desk.run_out()
    smsq.cancel("m1")
    # No scheduler has looked at its callbacks by then.
    desk.record("m1", Outcome.ACCEPTED, detail="")
    desk.tell_all()
    assert desk.tell_all() == ["told"]
    (notice,) = desk.told
    outcome = notice.outcome
    assert (outcome["state"], outcome["reason"], outcome["lane"], outcome["phone"]) == (
        *("failed", "local:cancelled", "notice"),
        "138****8000",
    )
    assert outcome["detail"] == "learnt later: call 1 was accepted after all"


@pytest.mark.usefixtures("in_producers_ledger")
def test_what_came_to_another_end_before_its_first_was_announced_tells_that_one_once(
    desk: Desk,
) -> None:
    desk.enter("m1", notify="shop.tasks.told", ttl_s=24 * HOUR)
    desk.accept()
    desk.report("m1", PHONE_IS_OFF)
    smsq.cancel("m1")
    desk.report("m1", DELIVRD)
    assert desk.waiting() == ["new:failed:m1", "task:delivered:m1"]
    assert desk.tell_all() == ["told"]
    assert not desk.waiting()
    (notice,) = desk.told
    assert (notice.id, notice.outcome["lane"]) == ("m1.delivered", "notice")


def test_an_outcome_is_told_with_all_that_is_known(desk: Desk) -> None:
    desk.deliver(notify="shop.tasks.told", reference="order 7", lane="otp")
    assert desk.waiting() == ["task:delivered:m1"]
    assert desk.tell_all() == ["told"]
    (notice,) = desk.told
    assert (notice.id, notice.notify) == ("m1.delivered", "shop.tasks.told")
    outcome = dict(notice.outcome)
    for name in ("enqueued_at", "accepted_at", "finished_at"):
        assert outcome.pop(name).endswith("+00:00")
    assert outcome == {
        "id": "m1",
        "state": "delivered",
        "lane": "otp",
        "reason": None,
        "stat": "DELIVRD",
        "raw_stat": "DELIVRD",
        "detail": None,
        "template": "SMS_1001",
        "phone": "138****8000",
        "reference": "order 7",
        "mid": "MID-m1-1",
        "allowed_at": None,
    }
    assert not desk.waiting()
    assert not desk.outcomes_kept()


def test_each_way_is_told_by_itself(hooked: Desk) -> None:
    hooked.answer = lambda notice: Posted(done=notice.kind == "task", detail="HTTP 500")
    hooked.deliver(notify="told")
    assert sorted(hooked.tell_all()) == ["told", "waits"]
    assert hooked.waiting() == ["webhook:delivered:m1"]
    hooked.rest_is_over()
    hooked.answer = lambda _: Posted(done=True, detail="")
    assert hooked.tell_all() == ["told"]
    assert not hooked.outcomes_kept()


@pytest.mark.parametrize(
    ("bring", "expected"),
    [
        (lambda d: d.call("m1", Outcome.REFUSED), ("failed", "gateway:400")),
        (lambda d: (d.call("m1", Outcome.NOT_SENT), d.run_out_of_ttl()), ("expired", None)),
        (lambda d: (d.call("m1", Outcome.ACCEPTED), d.run_out()), ("unreported", None)),
        (
            lambda d: (d.call("m1", Outcome.ACCEPTED), d.report("m1", BLACKLISTED)),
            ("failed", "report:MA:0001"),
        ),
    ],
    ids=["refused", "expired", "unreported", "reported"],
)
def test_every_end_is_told(
    hooked: Desk, bring: Callable[[Desk], object], expected: tuple[str, str | None]
) -> None:
    bring(hooked)
    assert hooked.tell_all() == ["told"]
    (notice,) = hooked.told
    assert (notice.outcome["state"], notice.outcome["reason"]) == expected


def test_what_waits_is_not_told(hooked: Desk) -> None:
    hooked.call("m1", Outcome.ACCEPTED)
    hooked.report("m1", PHONE_IS_OFF)
    assert not hooked.waiting()


def test_better_news_is_told_too_and_each_says_what_was_known_then(hooked: Desk) -> None:
    hooked.call("m1", Outcome.ACCEPTED)
    hooked.run_out()
    hooked.report("m1", DELIVRD)
    assert hooked.tell_all() == ["told", "told"]
    # In any order: the receiver goes by finished_at.
    assert {(n.outcome["state"], n.outcome["stat"]) for n in hooked.told} == {
        ("unreported", None),
        ("delivered", "DELIVRD"),
    }


def test_duplicates_and_invalid_ones_are_told(hooked: Desk) -> None:
    hooked.enter("m1", key="k", notify="told")
    hooked.enter("m2", key="k", notify="told")
    hooked.entrance.refuse("m3", "bad")
    hooked.notices.claim(100)  # finds out whom to tell
    assert hooked.tell_all() == ["told"] * 3
    assert sorted((n.kind, n.outcome["id"], n.outcome["reason"]) for n in hooked.told) == [
        ("task", "m2", "duplicate:m1"),
        ("webhook", "m2", "duplicate:m1"),
        ("webhook", "m3", "local:invalid"),
    ]


def test_without_receivers_duplicates_leave_nothing(desk: Desk) -> None:
    desk.enter("m1", key="k")
    desk.enter("m2", key="k")
    assert desk.notices.claim(100) == []
    assert not desk.waiting()


def test_what_was_taken_is_not_told_again_by_a_copy(hooked: Desk) -> None:
    hooked.deliver()
    (name,) = hooked.notices.claim(100)
    assert [hooked.notifier.dispatch(name) for _ in range(2)] == ["told", "gone"]
    assert len(hooked.told) == 1


def test_two_copies_at_once_are_one(hooked: Desk) -> None:
    hooked.deliver()
    (name,) = hooked.notices.claim(100)
    copies: list[str] = []

    def answer(_: Callback) -> Posted:
        copies.extend([str(hooked.notices.take(name)), *hooked.notices.claim(100)])
        return Posted(done=True, detail="")

    hooked.answer = answer
    assert hooked.notifier.dispatch(name) == "told"
    assert copies == ["copy"]


def test_a_teller_that_died_leaves_a_lease(hooked: Desk) -> None:
    hooked.deliver()
    (name,) = hooked.notices.claim(100)
    assert isinstance(hooked.notices.take(name), Callback)
    # The lease runs out.
    hooked.client.zadd(keys.NOTICES, {name: LONG_AGO})
    hooked.client.hincrby(keys.callback("delivered", "m1"), "webhook:taken", -HOUR_MS)
    assert hooked.tell_all() == ["told"]


def test_a_receiver_that_is_down_costs_one_try_at_a_time(hooked: Desk) -> None:
    hooked.answer = lambda _: Posted(done=False, detail="HTTP 500")
    for n in range(5):
        hooked.deliver(f"m{n}")
    assert hooked.tell_all() == ["waits", "wait", "wait", "wait", "wait"]
    hooked.rest_is_over()
    assert sorted(hooked.tell_all()) == ["wait", "wait", "wait", "wait", "waits"]
    assert len(hooked.told) == 2
    assert hooked.told[-1].failures == 1
    hooked.rest_is_over()
    hooked.answer = lambda _: Posted(done=True, detail="")
    assert hooked.tell_all() == ["told"] * 5
    assert not hooked.client.hgetall("smsq:receivers")


def test_nor_does_it_wait_behind_all_that_waits_for_that_one(hooked: Desk) -> None:
    count = 700
    for n in range(count):
        name = f"{keys.CALLBACK}failed:m{n}"
        outcome = json.dumps({"id": f"m{n}", "state": "failed", "lane": "bulk"})
        hooked.client.hset(name, mapping={"outcome": outcome, "since": hooked.now_ms()})
        hooked.client.zadd(keys.NOTICES, {f"webhook:failed:m{n}": LONG_AGO})
    hooked.client.hset(keys.RECEIVERS, "webhook", f"1 {hooked.now_ms() + HOUR_MS}")
    hooked.client.hset(
        f"{keys.CALLBACK}failed:other",
        mapping={
            "outcome": json.dumps({"id": "other", "state": "failed", "lane": "bulk"}),
            "since": hooked.now_ms(),
        },
    )
    hooked.client.zadd(keys.NOTICES, {"task:failed:other": LONG_AGO + 1})
    assert hooked.tell_all() == ["told"]
    assert [one.name for one in hooked.told] == ["task:failed:other"]
    # They come when its backoff is over, so many at a time.
    hooked.rest_is_over()
    told = [hooked.notices.claim(100) for _ in range(8)]
    assert [len(names) for names in told] == [*[100] * 7, 0]
    assert len({name for names in told for name in names}) == count


def test_another_receiver_does_not_wait_for_one_that_is_down(hooked: Desk) -> None:
    hooked.answer = lambda n: Posted(done=n.kind != "webhook", detail="HTTP 500")
    for n in range(3):
        hooked.deliver(f"m{n}", notify="told")
    told = dict.fromkeys(hooked.notices.claim(100))
    ends = {name: hooked.notifier.dispatch(name) for name in told}
    assert {end for name, end in ends.items() if name.startswith("task:")} == {"told"}


# --- whose trouble it is ---------------------------------------------------------------------


def told(desk: Desk, name: str, caller: str, url: str) -> None:
    """Take a message of a caller of the relay to its end."""
    desk.entrance.enter(name, parse((PHONE, "SMS_1001", ""), {}), Origin(caller, url))
    desk.go(name)
    desk.record(name, Outcome.ACCEPTED)
    desk.report(name, DELIVRD)


def ends(desk: Desk) -> dict[str, str]:
    """Dispatch what is due; give what follows by message."""
    return {name.rpartition(":")[2]: desk.notifier.dispatch(name) for name in claimed(desk)}


def claimed(desk: Desk) -> list[str]:
    return sorted(desk.notices.claim(100))


BAD, GOOD = "https://hooks.example/bad?t=1", "https://hooks.example/good"


@pytest.mark.parametrize("why", ["failed", "unreached", "hindered"])
def test_one_callers_failing_url_delays_no_other_callers(desk: Desk, why: Trouble) -> None:
    desk.answer = lambda n: Posted(done=n.caller != "a", detail="trouble", why=why)
    for n in range(3):
        told(desk, f"a{n}", "a", BAD)
        told(desk, f"b{n}", "b", BAD)
    found = ends(desk)
    assert [found[f"b{n}"] for n in range(3)] == ["told"] * 3
    # A hindered one says nothing of the others, either.
    assert [found[f"a{n}"] for n in range(3)] == (
        ["waits"] * 3 if why == "hindered" else ["waits", "wait", "wait"]
    )
    assert "hooks.example" not in str(desk.client.hgetall(keys.RECEIVERS))


@pytest.mark.parametrize(("why", "other"), [("failed", "told"), ("unreached", "wait")])
def test_a_url_that_answers_badly_delays_no_other_on_its_host(
    desk: Desk, why: Trouble, other: str
) -> None:
    desk.answer = lambda n: Posted(done=n.return_url == GOOD, detail="trouble", why=why)
    told(desk, "m1", "a", BAD)
    told(desk, "m2", "a", GOOD)
    assert ends(desk) == {"m1": "waits", "m2": other}
    desk.rest_is_over()
    desk.answer = lambda _: Posted(done=True, detail="")
    ends(desk)
    assert not desk.client.exists(keys.RECEIVERS)


def test_urls_without_end_leave_nothing_when_they_are_given_up(desk: Desk) -> None:
    desk.answer = lambda _: Posted(done=False, detail="HTTP 500")
    for n in range(3):
        told(desk, f"m{n}", "a", f"{BAD}&n={n}")
    ends(desk)
    assert desk.client.hlen(keys.RECEIVERS) == 3
    for n in range(3):
        desk.client.hincrby(keys.callback("delivered", f"m{n}"), "since", -HOUR_MS)
    desk.rest_is_over()
    assert set(ends(desk).values()) == {"dead"}
    assert not desk.client.exists(keys.RECEIVERS)


def test_what_can_never_be_sent_is_given_up_with_its_reason_and_delays_nothing(
    hooked: Desk,
) -> None:
    def answer(notice: Callback) -> Posted:
        if notice.outcome["id"] == "m1":
            raise UnicodeEncodeError("latin-1", "章", 0, 1, "138 0013 8000")
        return Posted(done=True, detail="")

    hooked.answer = answer
    hooked.deliver("m1")
    hooked.deliver("m2")
    assert ends(hooked) == {"m1": "dead", "m2": "told"}
    (one,) = hooked.notices.dead(10)
    assert one.error == "cannot be sent: UnicodeEncodeError"
    assert hooked.ledger.counters()["notices:webhook:dead"] == 1


def test_a_bug_is_no_fault_of_the_endpoints_and_ends(
    hooked: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(_: Callback) -> Posted:
        raise RuntimeError("https://hooks.example/secret")

    hooked.answer = answer
    hooked.deliver("m1")
    hooked.deliver("m2")
    assert ends(hooked) == {"m1": "waits", "m2": "waits"}
    assert not hooked.client.exists(keys.RECEIVERS)
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text
    hooked.client.hincrby(keys.callback("delivered", "m1"), "since", -HOUR_MS)
    hooked.rest_is_over()
    assert ends(hooked) == {"m1": "dead", "m2": "waits"}


def test_a_worker_without_the_webhook_makes_it_rest_for_none(hooked: Desk) -> None:
    without = Dispatcher(hooked.notices, {}, Backoff(60, 60), give_up_s=HOUR)
    hooked.deliver("m1")
    hooked.deliver("m2")
    first, second = claimed(hooked)
    assert (without.dispatch(first), hooked.notifier.dispatch(second)) == ("waits", "told")


def test_a_caller_whose_urls_hang_leaves_half_of_the_dispatches_to_others(desk: Desk) -> None:
    desk.notifier.room = lambda: 4
    for n in range(4):
        told(desk, f"a{n}", "a", f"{BAD}&n={n}")
    told(desk, "b1", "b", GOOD)
    names = claimed(desk)
    found: list[str] = []

    def answer(notice: Callback) -> Posted:
        # While this one hangs, the next begins.
        if names:
            found.append(desk.notifier.dispatch(names.pop(0)))
        return Posted(done=True, detail="")

    desk.answer = answer
    found.append(desk.notifier.dispatch(names.pop(0)))
    while names:
        found.append(desk.notifier.dispatch(names.pop(0)))
    assert sorted(found) == ["told"] * 4 + ["waits"]
    (waiting,) = desk.waiting()
    # It is tried again soon, and was not tried yet.
    assert int(desk.client.hget(keys.callback("delivered", waiting[-2:]), "returnurl:tries")) == 0
    assert not desk.notifier._of_callers
    assert not desk.client.exists(keys.RECEIVERS)


def test_a_receiver_that_wants_to_rest_longer_may(hooked: Desk) -> None:
    hooked.answer = lambda _: Posted(done=False, detail="HTTP 503", retry_after_s=600)
    hooked.deliver()
    hooked.tell_all()
    due: Any = hooked.client.zscore(keys.NOTICES, "webhook:delivered:m1")
    assert due - hooked.now_ms() == pytest.approx(600_000, abs=30_000)


@pytest.fixture
def dead(hooked: Desk) -> Desk:
    """One outcome that has been given up."""
    hooked.answer = lambda _: Posted(done=False, detail="HTTP 500")
    hooked.deliver()
    hooked.client.hincrby(keys.callback("delivered", "m1"), "since", -int(HOUR * 1000))
    assert hooked.tell_all() == ["dead"]
    return hooked


def test_what_was_tried_too_long_is_given_up_and_listed(dead: Desk) -> None:
    (one,) = dead.notices.dead(10)
    assert (one.name, one.tries, one.error) == ("webhook:delivered:m1", 1, "HTTP 500")
    assert dead.notices.counts() == {"waiting": 0, "dead": 1}
    assert dead.notifier.dispatch(one.name) == "gone"


def test_a_receiver_that_is_gone_is_given_up_at_once(hooked: Desk) -> None:
    hooked.answer = lambda _: Posted(done=False, detail="HTTP 410", gone=True)
    hooked.deliver()
    assert hooked.tell_all() == ["dead"]


def test_what_was_given_up_is_forgotten_in_time(dead: Desk) -> None:
    dead.client.zadd("smsq:notices:dead", {"webhook:delivered:m1": LONG_AGO})
    dead.deliver("m2")
    dead.client.hincrby(keys.callback("delivered", "m2"), "since", -int(HOUR * 1000))
    dead.rest_is_over()
    assert dead.tell_all() == ["dead"]
    assert [one.name for one in dead.notices.dead(10)] == ["webhook:delivered:m2"]
    assert dead.outcomes_kept() == 1


def run(environ: dict[str, str], *words: str) -> tuple[int, str]:
    done = CliRunner().invoke(command, list(words), env=environ)
    return done.exit_code, done.output


def test_the_operator_lists_and_replays(dead: Desk, environ: dict[str, str]) -> None:
    code, shown = run(environ)
    assert code == 0
    assert "webhook:delivered:m1" in shown
    assert "1 given up, 0 waiting" in shown
    rows = json.loads(run(environ, "--json")[1])
    assert rows["given_up"][0]["error"] == "HTTP 500"
    assert run(environ, "replay", "--all") == (0, "webhook:delivered:m1  done\n")
    dead.answer = lambda _: Posted(done=True, detail="")
    assert dead.tell_all() == ["told"]
    assert not dead.outcomes_kept()


def test_the_operator_drops(dead: Desk, environ: dict[str, str]) -> None:
    assert run(environ, "drop", "webhook:delivered:m1")[0] == 0
    assert not dead.outcomes_kept()
    code, shown = run(environ, "drop", "webhook:delivered:m1")
    assert (code, shown) == (1, "webhook:delivered:m1  is not among those given up\n")
    assert run(environ, "drop")[0] == 2


def test_the_ledger_is_told_though_it_was_away(client: redis.Redis, settings: Settings) -> None:
    desk = Desk(client, settings, webhook=True)
    desk.deliver()
    own = connect(settings.redis_url)
    desk.notifier.callbacks = Callbacks(own, replace(desk.rules))
    (name,) = desk.notices.claim(100)

    def answer(_: Callback) -> Posted:
        # A server that takes no writes for a while.
        client.config_set("min-replicas-to-write", 1)
        Timer(0.3, lambda: client.config_set("min-replicas-to-write", 0)).start()
        return Posted(done=True, detail="")

    desk.answer = answer
    assert desk.notifier.dispatch(name) == "told"
    assert len(desk.told) == 1


def test_so_many_threads_tell_outcomes_and_no_more() -> None:
    gate = ConsumerGate()
    gate.set_threads(12)
    queues = ["sms.otp", "sms.notify", "sms.bulk"]
    with gate.dispatching():
        assert "sms.notify" in gate.open_queues(queues)
        with gate.dispatching():
            assert gate.open_queues(queues) == ["sms.otp", "sms.bulk"]
            assert gate.crowded()
            with pytest.raises(RequeueLater), gate.dispatching():
                raise AssertionError("a third")
    assert "sms.notify" in gate.open_queues(queues)
