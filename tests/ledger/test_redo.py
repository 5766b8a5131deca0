"""What is kept to be sent again, what is sent again, and that it is sent once."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import redis
from cryptography.fernet import Fernet

import smsq
from harness.scene import DELIVRD, PHONE, TEMPLATE, Scene, stat
from smsq import audit, keys
from smsq.connection import perform
from smsq.contract import parse
from smsq.errors import CampaignCancelled, KeyConflict
from smsq.failpoints import VARIABLE
from smsq_worker.cli.helpers import selecting
from smsq_worker.config.settings import Settings
from smsq_worker.domain.codes import Catalogue, Catalogues
from smsq_worker.domain.states import Outcome
from smsq_worker.ledger.campaigns import Campaigns
from smsq_worker.ledger.message_view import read_trace
from smsq_worker.ledger.redo import Redo
from smsq_worker.ledger.redoable import Left, Tally, Wish, redone_as
from smsq_worker.ledger.selecting import Selection

DAY_S = 86_400
EMPTY_NUMBER = stat("MK:0001", "permanent")
MAYBE = stat("MO:0254", "permanent", maybe_sent=True)
ALL = Wish(Selection())


@pytest.fixture
def environ(environ: dict[str, str]) -> dict[str, str]:
    return environ | {"SMSQ_REDO_S": str(2 * DAY_S)}


@pytest.fixture
def again(scene: Scene) -> Redo:
    return redo_of(scene)


def redo_of(scene: Scene) -> Redo:
    client, settings = scene.client, scene.settings
    chooser = selecting.selector(client, settings)
    return Redo(
        client,
        settings,
        catalogues=Catalogues({"": Catalogue.load()}),
        selector=chooser,
        enter=lambda entries: perform(client, scene.entrance.entering_entries(entries)),
    )


def run(again: Redo, wish: Wish = ALL, campaign: str = "again", **options: Any) -> Tally:
    return again.run(wish, campaign, act=audit.act("redo"), **options)


def kept(scene: Scene, name: str = "m1") -> int:
    """Give for how many seconds a message's payload is kept: -2 for one that is erased."""
    return int(scene.client.ttl(keys.payload(name)))


def expire(scene: Scene, name: str, **options: Any) -> None:
    scene.enter(name, **options)
    scene.run_out_of_ttl(name)


# What is kept


@pytest.mark.parametrize("lane", ["notice", "bulk", "otp"])
def test_what_failed_keeps_its_number_for_that_long_and_an_otp_never(
    scene: Scene, lane: str
) -> None:
    expire(scene, "m1", lane=lane)
    assert scene.state() == "expired"
    left_s = kept(scene)
    assert left_s == -2 if lane == "otp" else 0 <= 2 * DAY_S - left_s < 60
    # With it goes all that is known of the number, and no more is in the message itself.
    assert not {"who", "key", "fp", "hold"} & set(scene.client.hgetall(keys.message("m1")))


@pytest.mark.parametrize("outcome", [Outcome.ACCEPTED, Outcome.REFUSED])
def test_what_arrived_keeps_none_and_a_late_delivered_erases_it(
    scene: Scene, outcome: Outcome
) -> None:
    scene.call("m1", Outcome.ACCEPTED)
    scene.report("m1", DELIVRD if outcome is Outcome.REFUSED else EMPTY_NUMBER)
    if outcome is Outcome.ACCEPTED:
        assert (scene.state(), kept(scene) > 0) == ("failed", True)
        scene.report("m1", DELIVRD)
    assert (scene.state(), kept(scene)) == ("delivered", -2)


def test_a_later_failure_does_not_make_the_number_stay_longer(scene: Scene) -> None:
    scene.call("m1", Outcome.ACCEPTED)
    scene.client.zadd(keys.TIMERS, {"m1": 1})
    scene.claim()
    assert (scene.state(), kept(scene) > 0) == ("unreported", True)
    payload = scene.client.get(keys.payload("m1"))
    scene.client.expire(keys.payload("m1"), 1000)
    scene.report("m1", EMPTY_NUMBER)
    assert (scene.state(), kept(scene) <= 1000) == ("failed", True)
    assert scene.client.get(keys.payload("m1")) == payload


@pytest.mark.parametrize("redo_s", ["0", ""])
def test_without_the_setting_nothing_is_kept(
    client: redis.Redis, environ: dict[str, str], redo_s: str
) -> None:
    scene = Scene(client, Settings.load(environ | {"SMSQ_REDO_S": redo_s}))
    expire(scene, "m1")
    assert kept(scene) == -2


def test_with_payload_keys_two_days_are_the_default_and_never_longer_than_the_message(
    client: redis.Redis, environ: dict[str, str]
) -> None:
    own = environ | {"SMSQ_REDO_S": "", "SMSQ_PAYLOAD_KEYS": Fernet.generate_key().decode()}
    scene = Scene(client, Settings.load(own))
    expire(scene, "m1")
    assert 0 <= 2 * DAY_S - kept(scene) < 60
    assert PHONE not in str(client.get(keys.payload("m1")))
    hour = Scene(client, Settings.load(own | {"SMSQ_RETENTION_S": "3600"}))
    expire(hour, "m2")
    assert kept(hour, "m2") <= 3600


@pytest.mark.parametrize("deed", ["cancelled", "dropped"])
def test_what_an_operator_ended_is_not_kept(scene: Scene, deed: str) -> None:
    scene.enter("m1", on_ambiguous="hold")
    scene.go("m1")
    scene.record("m1", Outcome.MAYBE_SENT)
    if deed == "dropped":
        scene.ledger.decide("m1", "drop")
    else:
        smsq.cancel("m1")
    assert (scene.status().reason, kept(scene)) == (f"local:{deed}", -2)


def test_keys_that_come_later_seal_what_is_kept_and_it_is_erased_in_time_all_the_same(
    scene: Scene, environ: dict[str, str]
) -> None:
    scene.call("m1", Outcome.ACCEPTED)
    scene.report("m1", EMPTY_NUMBER)
    own = environ | {"SMSQ_PAYLOAD_KEYS": Fernet.generate_key().decode()}
    sealed = Scene(scene.client, Settings.load(own))
    suppressing = replace(EMPTY_NUMBER, suppress_ms=60_000)
    sealed.report("m1", suppressing)
    assert PHONE not in str(scene.client.get(keys.payload("m1")))
    payload = str(scene.client.get(keys.payload("m1")))
    assert (len(json.loads(payload)), kept(scene) > 0) == (6, True)
    assert run(redo_of(sealed)).taken == {"report:MK:0001": 1}


# What is sent again


def test_what_certainly_did_not_arrive_is_sent_again_once_as_it_was(
    scene: Scene, again: Redo
) -> None:
    options: dict[str, Any] = {"key": "order-7", "reference": "r", "notify": "shop.told"}
    expire(scene, "m1", lane="bulk", on_ambiguous="hold", campaign="spring", **options)
    assert run(again).taken == {"expired": 1}
    new = redone_as("m1")
    assert scene.field("m1", "redone_by") == new
    found = scene.client.hgetall(keys.message(new))
    expected = {"state": "queued", "lane": "bulk", "hold": "1", "campaign": "again"}
    expected |= {"redo_of": "m1", "reference": "r", "notify": "shop.told", "template": TEMPLATE}
    assert expected.items() <= found.items()
    assert again._cipher().open(str(scene.client.get(keys.payload(new)))) == (PHONE, "482913")
    assert 0 <= scene.now_ms() + 86_400_000 - int(found["expires"]) < 60_000
    scene.accept(new)
    for _ in range(2):
        assert run(again) == Tally(left=Counter({Left.REDONE: 1, Left.STATE: 1}))
    # Its backend comes with the key.
    assert scene.enter("m2", lane="bulk", key="order-7") == "duplicate"
    assert scene.field("m2", "reason") == f"duplicate:{new}"


def test_it_has_its_own_ttl_and_fails_and_is_sent_again_in_its_turn(
    scene: Scene, again: Redo
) -> None:
    expire(scene, "m1")
    run(again, ttl_s=60)
    new = redone_as("m1")
    assert int(str(scene.field(new, "expires"))) <= scene.now_ms() + 60_000
    scene.run_out_of_ttl(new)
    for _ in range(2):  # Whoever repeats it means what failed at first.
        assert run(again).left == {Left.REDONE: 1, Left.OF_REDO: 1}
    tally = run(again, Wish(Selection({"campaign": ["again"]})), "third")
    assert (tally.taken, tally.left) == ({"expired": 1}, {})
    assert scene.field(redone_as(new), "redo_of") == new


CASES: tuple[tuple[str, str], ...] = (
    ("expired", "taken"),
    ("refused then expired", "taken"),
    ("reported", "taken"),
    ("reported, may have been sent", "doubtful"),
    ("in doubt, then reported", "doubtful"),
    ("in doubt", "doubtful"),
    ("unreported", "doubtful"),
    ("delivered", "left"),
    ("an otp", "left"),
)


def make(scene: Scene, name: str, case: str, **options: Any) -> None:
    if case == "an otp":
        options["lane"] = "otp"
    scene.enter(name, **options)
    if case in {"expired", "an otp"}:
        scene.run_out_of_ttl(name)
        return
    scene.go(name)
    if case == "refused then expired":
        scene.record(name, Outcome.NOT_SENT)
        scene.run_out_of_ttl(name)
    elif case in {"in doubt", "in doubt, then reported"}:
        scene.record(name, Outcome.MAYBE_SENT, wait_s=0.0)
        if case == "in doubt":
            scene.run_out_of_ttl(name)
            return
        scene.wake(name)
        scene.accept(name)
        scene.report(name, EMPTY_NUMBER)
    else:
        scene.record(name, Outcome.ACCEPTED)
        if case == "unreported":
            scene.client.zadd(keys.TIMERS, {name: 1})
            scene.claim()
        else:
            report = {"delivered": DELIVRD, "reported": EMPTY_NUMBER}.get(case, MAYBE)
            scene.report(name, report)


@pytest.mark.parametrize(("case", "verdict"), CASES)
def test_only_what_certainly_did_not_arrive_is_taken(
    scene: Scene, again: Redo, case: str, verdict: str
) -> None:
    make(scene, "m1", case, key="k")
    tally = again.survey(ALL)
    found = (tally.taken.total(), tally.may_have_arrived.total(), tally.left.total())
    assert found == (verdict == "taken", verdict == "doubtful", verdict == "left")
    if verdict == "doubtful":
        assert run(again).taken.total() == 0
    assert run(again, replace(ALL, also_doubtful=True)).taken.total() == (verdict != "left")


@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize("case", ["reported", "unreported"])
def test_news_that_it_arrived_after_all_are_of_a_possible_duplicate(
    scene: Scene,
    again: Redo,
    caplog: pytest.LogCaptureFixture,
    case: str,
    key: str | None,
) -> None:
    make(scene, "m1", case, key=key)
    run(again, replace(ALL, also_doubtful=True))
    for _ in range(2):
        assert scene.report("m1", DELIVRD) == "delivered"
        assert scene.ledger.counters()["possible_duplicates"] == 1
    assert f"m1 was sent after all, and a redo sends it again as {redone_as('m1')}" in caplog.text


def test_what_was_not_redone_is_no_duplicate(scene: Scene, again: Redo) -> None:
    make(scene, "m1", "reported", key="k")
    scene.enter("m2", key="k")
    scene.report("m1", DELIVRD)
    assert run(again).taken.total() == 0
    assert "possible_duplicates" not in scene.ledger.counters()


def test_what_its_backend_sent_meanwhile_is_left_out(scene: Scene, again: Redo) -> None:
    for name in ("m1", "m2"):
        expire(scene, name, key=name)
    scene.enter("new", key="m1")
    tally = run(again)
    assert (tally.taken, tally.left) == ({"expired": 1}, {Left.SENT_AGAIN: 1, Left.STATE: 1})
    assert scene.enter("late", key="m2") == "duplicate"


def test_what_its_backend_sends_between_the_two_steps_is_not_doubled(
    scene: Scene, again: Redo, monkeypatch: pytest.MonkeyPatch
) -> None:
    expire(scene, "m1", key="k")
    enter = again._enter

    def late(entries: Any) -> Any:
        assert scene.enter("theirs", key="k") == "queued"
        return enter(entries)

    monkeypatch.setattr(again, "_enter", late)
    tally = run(again)
    assert (tally.taken.total(), tally.left) == (0, {Left.SENT_AGAIN: 1})
    assert scene.state(redone_as("m1")) == "duplicate"


def test_what_is_reported_between_looking_and_sending_is_left_out(
    scene: Scene, again: Redo, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(scene, "m1", "reported")
    send = again._send

    def late(*args: Any) -> Any:
        scene.report("m1", DELIVRD)
        return send(*args)

    monkeypatch.setattr(again, "_send", late)
    tally = run(again)
    assert (tally.taken.total(), tally.left) == (0, {Left.STATE: 1})
    assert not scene.client.exists(keys.message(redone_as("m1")))


def test_what_has_another_number_under_the_key_is_a_conflict_as_ever(
    scene: Scene, again: Redo
) -> None:
    make(scene, "m1", "reported", key="k")
    run(again)
    with pytest.raises(KeyConflict):
        scene.enter("m2", template="SMS_2", key="k")


def test_a_key_whose_last_holder_may_be_forgotten_makes_it_doubtful(
    scene: Scene, again: Redo
) -> None:
    expire(scene, "m1", key="k")
    expire(scene, "m2")
    for name in ("m1", "m2"):
        stored = str(scene.client.hget(keys.message(name), "fold")).split(" ")
        stored[0] = str(int(stored[0]) - 4 * DAY_S * 1000)
        scene.client.hset(keys.message(name), "fold", " ".join(stored))
    tally = again.survey(ALL)
    assert (tally.taken, tally.may_have_arrived) == ({"expired": 1}, {"expired": 1})


def test_keys_are_kept_as_long_as_what_they_are_for(scene: Scene) -> None:
    scene.enter("m1", key="k")
    for name in scene.client.scan_iter(f"{keys.IDEMPOTENCY}*"):
        assert 0 <= 2 * DAY_S - scene.client.ttl(name) < 60


def test_a_relays_key_goes_over_too(scene: Scene, again: Redo) -> None:
    message = replace(parse((PHONE, TEMPLATE, "1"), {"key": "k"}), key_space="relay:shop")
    scene.entrance.enter("m1", message)
    scene.run_out_of_ttl("m1")
    run(again)
    found = scene.entrance.enter("m2", message)
    assert found.duplicate_of == redone_as("m1")


def test_a_cancelled_campaign_takes_nothing_and_another_goes_on(scene: Scene, again: Redo) -> None:
    expire(scene, "m1", key="k", campaign="spring")
    Campaigns(scene.client, scene.rules).do("cancel", "spring")
    with pytest.raises(CampaignCancelled):
        run(again, campaign="spring")
    assert run(again, campaign="again").taken == {"expired": 1}
    assert scene.state(redone_as("m1")) == "queued"


# Who dies when


POINTS = ("before redo", "after redo", "after redo entry")
CODE = """
import os
from smsq.connection import connect
from smsq import audit
from smsq.ledgers import do
from smsq.redis_ledger import RedisLedger
from smsq_worker.cli.helpers import selecting
from smsq_worker.config.settings import Settings
from smsq_worker.domain.codes import Catalogue, Catalogues
from smsq_worker.ledger.redo import Redo
from smsq_worker.ledger.redoable import Wish
from smsq_worker.ledger.selecting import Selection
s = Settings.load(os.environ)
c = connect(s.redis_url)
l = RedisLedger()
r = Redo(c, s, catalogues=Catalogues({"": Catalogue.load()}), selector=selecting.selector(c, s),
         enter=lambda entries: do(l.entering_entries(entries)))
r.run(Wish(Selection()), "again", act=audit.act("redo"))
"""


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("backend", ["", "comes before the second redo"])
def test_whoever_dies_in_the_middle_is_completed_by_the_same_command(
    scene: Scene, again: Redo, environ: dict[str, str], point: str, backend: str
) -> None:
    for n in range(3):
        make(scene, f"m{n}", "reported", key=f"k{n}")
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environ | {VARIABLE: point}, check=False
    )
    assert done.returncode == -signal.SIGKILL
    is_in = point == "after redo entry"
    # A report says that it failed, so the key is its own until the first step frees it.
    theirs = scene.enter("theirs", key="k0") if backend else None
    if theirs:
        assert theirs == ("queued" if point == "after redo" else "duplicate")
    taken = 0 if is_in else 2 if theirs == "queued" else 3
    tally = run(again)
    assert tally.taken.total() == taken
    for n in range(3):
        new = redone_as(f"m{n}")
        is_theirs = n == 0 and theirs == "queued"
        assert scene.client.exists(keys.message(new)) == (not is_theirs)
        trace = read_trace(scene.client, "", f"m{n}")
        assert trace is not None
        assert trace.redone_by == (None if is_theirs else new)
        assert scene.enter(f"late{n}", key=f"k{n}") == "duplicate"
    assert run(again).taken.total() == 0


def test_a_day_of_all_kinds_in_any_order_is_sent_again_once(scene: Scene, again: Redo) -> None:
    chance = random.Random(2025)
    expected = set()
    for n in range(120):
        case, verdict = chance.choice(CASES)
        name, repeats = f"m{n}", chance.random() < 0.2
        make(scene, name, case, key=f"k{n}")
        is_theirs = repeats and scene.enter(f"again{n}", key=f"k{n}") == "queued"
        if verdict == "taken" and not is_theirs:
            expected.add(redone_as(name))
    for _ in range(2):
        run(again)
    found = {
        str(name).removeprefix(keys.MESSAGE)
        for name in scene.client.scan_iter(f"{keys.MESSAGE}*")
        if scene.client.hexists(name, "redo_of")
    }
    assert found == expected
    records = Campaigns(scene.client, scene.rules).read("again")
    assert records is not None
    assert records.states == {"queued": len(expected)}


# What is found


def test_what_may_be_redone_is_found_by_its_very_number_and_key(scene: Scene) -> None:
    expire(scene, "m1", phone="13800138000", key="order-7")
    expire(scene, "m2", phone="13800148000", key="order-8")
    expire(scene, "m3", phone="13800138000", lane="otp")
    chooser = selecting.selector(scene.client, scene.settings)
    found = chooser.page(Selection(phone="13800138000"), 10)
    assert ([name for name, _at in found.rows], found.by_mask) == (["m3", "m1"], 1)
    # It certainly was not sent, so nobody holds its key any more.
    assert [name for name, _at in chooser.page(Selection(key="order-8"), 10).rows] == ["m2"]
