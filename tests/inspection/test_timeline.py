"""`smsq explain`: a message's story, told in order and in plain words, and what is next."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
import redis
from cryptography.fernet import Fernet

import smsq
import smsq_worker.ledger
from harness.cli import here
from harness.scene import (
    BAD_TEMPLATE,
    DELIVRD,
    NO_BALANCE,
    OTHER_PHONE,
    PHONE,
    TEMPLATE,
    Scene,
    mid_of,
    stat,
)
from harness.scopes import template_scope
from harness.timeline import LOOKALIKE, Explain, lines_of
from smsq import keys
from smsq.cipher import PlaintextCipher
from smsq.contract import mask_phone
from smsq_worker.config.settings import Settings
from smsq_worker.domain.limits import hours
from smsq_worker.domain.states import Outcome
from smsq_worker.inspection import state_text
from smsq_worker.inspection.formatting import instant, local_instant, scope_words
from smsq_worker.ledger import selecting
from smsq_worker.ledger.admin import ACCOUNT
from smsq_worker.ledger.callbacks import Callbacks
from smsq_worker.ledger.campaigns import Campaigns
from smsq_worker.ledger.timestamps import at

MASKED = mask_phone(PHONE)

Step = Callable[[Scene], None]


def in_shanghai(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the story where the vendor does."""
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    time.tzset()


@pytest.fixture(autouse=True)
def _the_zone_of_before() -> Iterator[None]:
    yield
    time.tzset()


def texts(explain: Explain, name: str, part: str = "events") -> list[str]:
    """Give the words of a story as JSON has them."""
    code, out, errors = explain(name, "--json")
    assert (code, errors) == (0, "")
    return [event["text"] for event in json.loads(out)[part]]


# --- what happened --------------------------------------------------------------------------


def test_a_story_is_told_in_order_with_every_call_every_wait_and_every_report(
    explain: Explain, scene: Scene
) -> None:
    scene.enter(lane="otp")
    # As an older release took it.
    scene.client.hset(keys.message("m1"), "reference", f"asked for by {OTHER_PHONE}\x1b[2J")
    scene.go()
    scene.record("m1", Outcome.NOT_SENT, detail="ConnectTimeout")
    scene.run_out()
    scene.go()
    scene.record("m1", Outcome.MAYBE_SENT, detail="ReadTimeout")
    scene.run_out()
    scene.go()
    scene.record("m1", Outcome.ACCEPTED, detail="")
    scene.report("m1", stat("MO:0254", "transient", 60, maybe_sent=True))
    scene.claim()
    scene.client.hset(keys.message("m1"), "resends", 0)
    scene.run_out()
    scene.go()
    scene.record("m1", Outcome.ACCEPTED, detail="")
    scene.report("m1", DELIVRD)

    lines = lines_of(explain("m1"))
    assert lines[:3] == [
        "message  m1",
        f"to       {MASKED}, template {TEMPLATE}",
        "state    delivered: a report says that it reached the phone",
    ]
    told, following = lines[4 : lines.index("Next") - 1], lines[lines.index("Next") + 1 :]
    times = [line[:29] for line in told if line.strip() and not line.startswith(" ")]
    assert times == sorted(times)
    assert times[0] == local_instant(scene.status().enqueued_at)
    words = [re.sub(r"\d+\.\d\d s", "N s", line[29:]).strip() for line in told]
    assert words == [
        f"enqueued in lane otp; reference: asked for by {mask_phone(OTHER_PHONE)}\\x1b[2J",
        "attempt 1: the gateway certainly did not take it (ConnectTimeout)",
        "N s later tried again, as the gateway certainly did not take the attempt before",
        "attempt 2: it may or may not have reached the gateway (ReadTimeout)",
        (
            "N s later sent again, though the attempt before may have reached the gateway: "
            "a possible duplicate"
        ),
        f"attempt 3: the gateway accepted it, mid {mid_of('m1', 3)}",
        "report MO:0254: submit to the upstream gateway timed out (转发提交超时)",
        "class transient: sending it again later may succeed",
        "action: none, as a later attempt counts",
        "N s later sent again because of report MO:0254: a possible duplicate",
        f"attempt 4: the gateway accepted it after N s, mid {mid_of('m1', 4)}",
        "report DELIVRD: delivered (短信投递成功)",
        "class delivered: the SMS reached the phone",
        "action: finish as delivered",
        "delivered: a report says that it reached the phone",
    ]
    (forgotten,) = following
    assert forgotten.endswith("  it is removed from the ledger")


def test_calls_that_the_ledger_has_forgotten_are_counted(explain: Explain, scene: Scene) -> None:
    for _ in range(12):
        scene.call("m1", Outcome.NOT_SENT, detail="ConnectTimeout")
        scene.run_out()
    told = texts(explain, "m1")
    assert told[1] == "2 earlier attempts are no longer kept: the gateway took none of them"
    assert told[2].startswith("attempt 3: ")


def test_a_long_wait_for_the_first_call_names_the_pause_that_ended_meanwhile(
    explain: Explain, scene: Scene
) -> None:
    scene.enter()
    scene.client.hincrby(keys.message("m1"), "enqueued", -90_000)
    scene.control.pause(ACCOUNT, "")
    scene.control.resume(ACCOUNT, "an operator")
    scene.go()
    wait = texts(explain, "m1")[1]
    # Some seconds more where the machine is busy.
    assert wait.startswith("waited 1 min ")
    assert " s for its first attempt: account was paused until 20" in wait
    scene.client.delete(keys.RESUMED)
    wait = texts(explain, "m1")[1]
    assert wait.endswith("it is not recorded whether for the rate limit, a time or a pause")


# Each of these brings m1 to an end.


def refused(scene: Scene) -> None:
    scene.call("m1", Outcome.REFUSED, detail="gateway:400 wrong ****")


def reported(scene: Scene) -> None:
    scene.call("m1", Outcome.ACCEPTED, detail="")
    scene.report("m1", stat("MA:0001", "permanent"))


def expired(scene: Scene) -> None:
    scene.enter()
    scene.run_out_of_ttl()


def unreported(scene: Scene) -> None:
    scene.call("m1", Outcome.ACCEPTED, detail="")
    scene.run_out()


def too_often(scene: Scene) -> None:
    scene.enter("first", lane="otp")
    scene.go("first")
    scene.enter(lane="otp")
    scene.stays()


def suppressed(scene: Scene) -> None:
    scene.control.suppress(PHONE, "asked for it", at(4e12))
    scene.enter()
    scene.stays()


def duplicate(scene: Scene) -> None:
    scene.enter("first", key="k")
    scene.enter(key="k")


def invalid(scene: Scene) -> None:
    scene.entrance.refuse("m1", "phone must be a number")


def dropped(scene: Scene) -> None:
    held(scene)
    scene.ledger.decide("m1", "drop")


def held(scene: Scene) -> None:
    scene.enter(on_ambiguous="hold")
    scene.go()
    scene.record("m1", Outcome.MAYBE_SENT)


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (refused, "reason gateway:400: the gateway's own response to the attempt"),
        (reported, "reason report:MA:0001: number is on the global blacklist (全局黑名单号码)"),
        (expired, "expired: its ttl ran out; it certainly was not sent"),
        (unreported, "unreported: the gateway accepted it, and no final report came in time"),
        (
            too_often,
            "reason local:frequency: too many messages were sent to its number; it would be all",
        ),
        (suppressed, "its number is suppressed, see smsq suppressed; suppressed: asked for"),
        (duplicate, "the first message with its key, see smsq explain first"),
        (invalid, "local:invalid: it broke the rules of a message; phone must be a number"),
        (dropped, "local:dropped: an operator dropped it while it was held"),
    ],
)
def test_an_end_is_told_with_its_reason(
    explain: Explain, scene: Scene, end: Step, told: str
) -> None:
    end(scene)
    assert told in texts(explain, "m1")[-1]


def test_every_reason_of_the_ledger_has_words() -> None:
    folder = Path(smsq_worker.ledger.__file__).parent / "lua"
    scripts = "".join(path.read_text() for path in folder.rglob("*.lua"))
    elsewhere = {"local:invalid", "local:key-conflict", "local:campaign-cancelled", "local:unfit"}
    assert set(re.findall(r"'(local:[\w-]+)'", scripts)) | elsewhere == set(state_text._REASONS)


# --- whom its end is told -------------------------------------------------------------------


def test_an_outcome_is_told_as_waiting_given_up_or_done(explain: Explain, scene: Scene) -> None:
    notices = Callbacks(scene.client, scene.rules)
    scene.enter(notify="shop.tasks.done")
    scene.go()
    scene.record("m1", Outcome.ACCEPTED, detail="")
    scene.report("m1", DELIVRD)
    name = "task:delivered:m1"
    first = texts(explain, "m1", "next")[0]
    assert first == "delivered is still to be reported to the task shop.tasks.done"

    notices.take(name)
    notices.settle(name, "failed", error="OperationalError", wait_s=60, give_up_s=3600)
    first = texts(explain, "m1", "next")[0]
    assert first.endswith("the task shop.tasks.done; 1 try, the last: OperationalError")

    notices.settle(name, "refused", error="http 410", wait_s=0, give_up_s=3600)
    assert texts(explain, "m1")[-1] == (
        "delivered was not taken by the task shop.tasks.done, abandoned after 1 try "
        f"(http 410): smsq notices replay {name}"
    )
    notices.revive(name, "drop")
    told = texts(explain, "m1")[-1]
    assert told.startswith("delivered was put into the queue celery for the task shop.tasks.done")
    assert "or an operator dropped it; the application's own worker must run it" in told


def test_of_an_end_at_the_entry_a_worker_finds_out_whom_to_tell(
    explain: Explain, scene: Scene
) -> None:
    duplicate(scene)
    assert texts(explain, "m1", "next")[0] == "a worker determines who is to be told of its end"


# --- what is next ---------------------------------------------------------------------------


def coming(explain: Explain, name: str = "m1") -> list[str]:
    return texts(explain, name, "next")


def test_one_that_is_queued_is_told_how_many_go_before_it(
    explain: Explain, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.enter("alone", lane="bulk")
    assert coming(explain, "alone")[0].startswith("no other message is ahead of it")
    for n in range(20):
        scene.enter(f"m{n}", lane="otp", ttl_s=60)
    scene.enter("last", lane="notice")
    monkeypatch.setenv("SMSQ_RATE_PER_S", "10")
    scene.client.delete(keys.RATE)
    turn, wake_up, ttl, *_ = coming(explain, "last")
    assert turn == (
        "it waits in its lane: at most 20 messages are ahead of it; they take 2 s at 10/s"
    )
    assert wake_up.startswith("if no worker has taken it by then, smsq checks whether its wake-up")
    assert ttl.endswith("its ttl is over, and it ends as expired")


def test_one_whose_wake_up_was_not_published_waits_for_the_scheduler(
    explain: Explain, scene: Scene
) -> None:
    scene.enter()
    scene.entrance.unpublished("m1")
    assert coming(explain)[1].startswith("its wake-up could not be published; the scheduler")


def test_without_the_broker_that_is_said(
    explain: Explain, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.enter()
    monkeypatch.setenv("SMSQ_BROKER_URL", "redis://127.0.0.1:1/0")
    assert coming(explain)[-1] == "the broker does not answer: wake-ups cannot be taken"


@pytest.mark.parametrize("scope", [ACCOUNT, template_scope(TEMPLATE)])
def test_one_that_is_queued_behind_a_pause_is_told_which_and_how_it_ends(
    explain: Explain, scene: Scene, scope: str
) -> None:
    scene.enter()
    scene.control.pause(scope, "wrong text")
    first = coming(explain)[0]
    assert f"it waits for the end of the pause of {scope_words(scope)} (operator: wrong " in first
    assert first.endswith(f"; until smsq resume {scope_words(scope)}")


def test_behind_a_pause_that_began_by_itself_the_next_probe_is_told(
    explain: Explain, scene: Scene
) -> None:
    scene.call("m1", Outcome.ACCEPTED, detail="")
    scene.report("m1", NO_BALANCE)
    again, pause, ttl, *_ = coming(explain)
    assert again == "it is sent again because of the last report"
    assert "pause of account (report: MA:0015, since 20" in pause
    assert "; next probe 20" in pause
    assert ttl.endswith("and it ends as failed, report:MA:0015")


def test_in_a_templates_waiting_room_its_pause_is_told(explain: Explain, scene: Scene) -> None:
    for n in range(5):
        scene.call(f"b{n}", Outcome.ACCEPTED, detail="")
        scene.report(f"b{n}", BAD_TEMPLATE)
    scene.enter()
    scene.stays()
    first = coming(explain)[0]
    assert f"pause of template {TEMPLATE} (report: MA:0024 in lane notice, since 20" in first
    assert "; next probe 20" in first
    scene.client.delete(keys.PAUSES)
    assert coming(explain)[0] == "the pause of its template is over: it continues in a moment"


# Each of these lets m1 wait for a time.


def schedule(scene: Scene) -> None:
    scene.enter(send_at=time.time() + 3600)


def retry(scene: Scene) -> None:
    scene.call("m1", Outcome.NOT_SENT)


def doubt(scene: Scene) -> None:
    scene.call("m1", Outcome.MAYBE_SENT)


def report(scene: Scene) -> None:
    scene.call("m1", Outcome.ACCEPTED, detail="")
    scene.report("m1", stat("MA:0003", "transient", 600))


def refusal(scene: Scene) -> None:
    scene.enter()
    scene.go()
    scene.control.pause(ACCOUNT, "")
    scene.record("m1", Outcome.REFUSED)


def number(scene: Scene) -> None:
    scene.call("other", Outcome.ACCEPTED, detail="")
    scene.report("other", stat("MA:0022", "transient", 600, hold_ms=600_000))
    scene.enter()
    scene.stays()


def closed(scene: Scene) -> None:
    own = Scene(scene.client, scene.settings, bulk_hours=hours(an_hour_from_now(scene)))
    own.enter(lane="bulk")
    own.stays()


def end_of_ttl(scene: Scene) -> None:
    scene.call("m1", Outcome.NOT_SENT, wait_s=90_000)


def an_hour_from_now(scene: Scene) -> str:
    """Give half an hour of the day in Asia/Shanghai as the setting takes it."""
    now = scene.now_ms() // 60_000 + 480
    return "-".join(f"{m // 60 % 24:02}:{m % 60:02}" for m in (now + 60, now + 90))


@pytest.mark.parametrize(
    ("why", "told"),
    [
        (schedule, "it is scheduled for then, and joins its lane"),
        (retry, "it is tried again, as the gateway did not take the last attempt"),
        (
            doubt,
            "it is sent again, though the last attempt may have reached the gateway: a possible",
        ),
        (report, "it is sent again because of the last report"),
        (refusal, "it is tried again: the account was paused, so the refusal did not count"),
        (number, "it continues: a report said that the gateway refuses its number until then"),
        (closed, "lane bulk is sent from then (SMSQ_BULK_HOURS)"),
        (end_of_ttl, "its ttl ends before its wait does: it is not sent any more"),
    ],
)
def test_one_that_waits_for_a_time_is_told_which_and_why(
    explain: Explain, scene: Scene, monkeypatch: pytest.MonkeyPatch, why: Step, told: str
) -> None:
    monkeypatch.setenv("SMSQ_BULK_HOURS", an_hour_from_now(scene))
    why(scene)
    _, out, _ = explain("m1", "--json")
    first = json.loads(out)["next"][0]
    assert first["text"].startswith(told)
    assert first["at"] == instant(at(scene.timer()))


def test_a_timer_that_nobody_looks_at_is_told_to_be_overdue(explain: Explain, scene: Scene) -> None:
    scene.call("m1", Outcome.NOT_SENT)
    scene.client.zadd(keys.TIMERS, {"m1": scene.now_ms() - 40_000})
    assert re.search(
        r" \(overdue for 4\d s: is a worker running\? smsq doctor\)$", coming(explain)[0]
    )


@pytest.mark.parametrize(
    ("policy", "then"), [("hold", "is held for an"), ("resend", "is sent aga")]
)
def test_a_call_under_way_is_told_with_its_lease(
    explain: Explain, scene: Scene, policy: str, then: str
) -> None:
    scene.enter(on_ambiguous=policy)
    scene.go()
    assert texts(explain, "m1")[-1] == "attempt 1: in progress"
    (lease,) = coming(explain)
    assert (
        f"without a result by then its worker is presumed dead: it is in doubt, and {then}" in lease
    )


@pytest.mark.parametrize("policy", ["hold", "resend"])
@pytest.mark.parametrize("deed", ["message", "campaign"])
def test_a_call_under_way_of_what_was_cancelled_is_told_to_be_the_last(
    explain: Explain, scene: Scene, policy: str, deed: str
) -> None:
    scene.enter(on_ambiguous=policy, campaign="spring")
    scene.go()
    if deed == "message":
        smsq.cancel("m1")
    else:
        Campaigns(scene.client, scene.rules).do("cancel", "spring")
    (lease,) = coming(explain)
    assert "as it was cancelled it ends as failed, local:cancelled" in lease


@pytest.mark.parametrize("why", [None, retry])
def test_one_of_a_paused_campaign_is_told_to_wait_for_it(
    explain: Explain, scene: Scene, why: Step | None
) -> None:
    scene.enter(campaign="spring")
    if why:
        why(scene)
    Campaigns(scene.client, scene.rules).do("pause", "spring")
    first, *_ = found = coming(explain)
    told = "it waits for its campaign, which is paused or slowed: smsq campaign show spring"
    assert (told in found[1]) if why else (first == told)


def test_one_of_lane_bulk_is_told_to_wait_for_its_hours_before_it_is_asked_for(
    explain: Explain, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMSQ_BULK_HOURS", an_hour_from_now(scene))
    scene.enter(lane="bulk")
    _, out, _ = explain("m1", "--json")
    first = json.loads(out)["next"][0]
    assert first["text"] == "lane bulk is sent from then (SMSQ_BULK_HOURS)"
    opens, in_an_hour = datetime.fromisoformat(first["at"]), at(scene.now_ms() + 3_600_000)
    assert 0 <= (in_an_hour - opens).total_seconds() < 120


def test_one_that_was_accepted_is_told_until_when_its_report_is_awaited(
    explain: Explain, scene: Scene
) -> None:
    scene.call("m1", Outcome.ACCEPTED, detail="")
    (report,) = coming(explain)
    assert report == "until then a delivery report is awaited; without one it ends as unreported"


def test_one_that_is_held_is_told_with_the_command_to_type(explain: Explain, scene: Scene) -> None:
    held(scene)
    assert texts(explain, "m1")[-1].startswith("held: nobody can know whether it was sent")
    assert "smsq held resend m1 (a possible duplicate), or smsq held drop m1" in coming(explain)[0]
    scene.client.hset(keys.message("m1"), "expires", 1)
    assert coming(explain)[0] == "its ttl is over, so it can only be dropped: smsq held drop m1"


@pytest.mark.parametrize(
    ("end", "late"),
    [
        (reported, "until then a late report of its delivery would still make it deliv"),
        (unreported, "until then a late report still changes its state"),
        (refused, "it is removed from the ledger"),
        (expired, "it is removed from the ledger"),
    ],
)
def test_of_one_that_ended_it_is_told_what_could_still_move_it(
    explain: Explain, scene: Scene, end: Step, late: str
) -> None:
    end(scene)
    assert coming(explain)[0].startswith(late)
    times = [event["at"] for event in json.loads(explain("m1", "--json")[1])["next"]]
    assert times == sorted(times), "nothing moves a message that is removed"


# --- by mid ---------------------------------------------------------------------------------


def test_a_mid_finds_its_message_at_every_call(explain: Explain, scene: Scene) -> None:
    scene.call("m1", Outcome.ACCEPTED, detail="")
    scene.report("m1", stat("MA:0003", "transient", 600))
    scene.run_out()
    scene.go()
    scene.record("m1", Outcome.ACCEPTED, detail="")
    for n in (1, 2):
        lines = lines_of(explain(mid_of("m1", n)))
        assert lines[0] == "message  m1"
        assert lines[2] == f"mid      {mid_of('m1', n)}"


def test_a_parked_mid_is_explained_as_such(explain: Explain, scene: Scene) -> None:
    scene.ledger.report("1151894566D2EDD9", "DELIVRD", DELIVRD)
    lines = lines_of(explain("1151894566D2EDD9"))
    assert lines[1].startswith("state    parked: No message is known to have this mid")
    assert lines[3].endswith("report DELIVRD: delivered (短信投递成功)")
    told = json.loads(explain("1151894566D2EDD9", "--json")[1])
    assert (told["mid"], told["state"]) == ("1151894566D2EDD9", "parked")
    assert len(told["events"]) == 1


def test_a_mid_whose_message_is_forgotten_says_so(explain: Explain, scene: Scene) -> None:
    scene.call("m1", Outcome.ACCEPTED, detail="")
    scene.client.delete(keys.message("m1"))
    code, out, errors = explain(mid_of("m1", 1))
    assert (code, out) == (1, "")
    assert "was assigned to attempt 1 of m1, which is forgotten" in errors


# --- by number ------------------------------------------------------------------------------


def test_of_one_message_to_a_number_the_story_is_told(explain: Explain, scene: Scene) -> None:
    scene.enter()
    scene.enter("other", phone=OTHER_PHONE)
    scene.enter("lookalike", phone=LOOKALIKE)
    for written in (PHONE, "+86 138-0013-8000"):
        lines = lines_of(explain(written))
        assert lines[0] == "message  m1"
        assert lines[-1].startswith(f"{MASKED}: the newest 1 of 1 messages; of those that have en")
    told = json.loads(explain(PHONE, "--json")[1])
    assert [row["id"] for row in told["messages"]] == ["m1"]
    assert told["story"]["id"] == "m1"


def test_of_several_the_newest_are_listed_and_ended_ones_look_alike(
    explain: Explain, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n, phone in enumerate((PHONE, LOOKALIKE, PHONE, LOOKALIKE, OTHER_PHONE)):
        scene.enter(f"m{n}", phone=phone)
        scene.client.hset(keys.message(f"m{n}"), "enqueued", 1_700_000_000_000 + n * 60_000)
    for name in ("m0", "m1", "m4"):
        scene.go(name)
        scene.record(name, Outcome.REFUSED)
    in_shanghai(monkeypatch)
    *rows, note, hint = lines_of(explain(PHONE))
    assert [row.split() for row in rows] == [
        ["m2", "2023-11-15", "06:15:20+08:00", "queued"],
        ["m1", "2023-11-15", "06:14:20+08:00", "failed", "gateway:400"],
        ["m0", "2023-11-15", "06:13:20+08:00", "failed", "gateway:400"],
    ]
    assert note == (
        f"{MASKED}: the newest 3 of 3 messages; of those that have ended the middle digits are "
        "not kept, so another number's may be among them"
    )
    assert hint == "one of them: smsq explain ID"
    told = json.loads(explain(PHONE, "--last", "2", "--json")[1])
    assert [row["id"] for row in told["messages"]] == ["m2", "m1"]
    assert (told["phone"], told["found"]) == (MASKED, 3)
    assert told["messages"][0]["enqueued_at"] == "2023-11-14T22:15:20+00:00"


def test_a_folded_message_is_found_by_its_number_and_by_nothing_that_looks_like_it(
    explain: Explain, scene: Scene
) -> None:
    scene.call("m1", Outcome.REFUSED)
    fold = "1700000000000 1388000 1388000 1 n 1399000 1388000 "
    scene.client.hset(keys.message("m2"), mapping={"state": "failed", "fold": fold})
    assert lines_of(explain(PHONE))[0] == "message  m1"


def test_the_whole_ledger_is_looked_through_in_slices(
    explain: Explain, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(60):
        scene.enter(f"m{n}", phone=PHONE if n % 3 == 0 else OTHER_PHONE)
    monkeypatch.setattr(selecting, "SLICE", 10)
    selector = selecting.Selector(scene.client, scene.rules, [PlaintextCipher()])
    slices: list[tuple[int, int]] = []
    found = selector.page(
        selecting.Selection(phone=PHONE),
        5,
        scan=True,
        on_slice=lambda *step: slices.append(step),
    )
    assert len(slices) > 5
    assert [looked for looked, _ in slices] == [10 * n for n in range(1, len(slices) + 1)]
    names = [name for name, _ in found.rows]
    assert names == sorted(names, key=lambda name: scene.status(name).enqueued_at, reverse=True)
    assert len(names) == 5
    told = json.loads(explain(PHONE, "--last", "5", "--json")[1])
    assert (told["found"], [row["id"] for row in told["messages"]]) == (20, names)


def test_live_messages_of_an_encrypted_ledger_are_found_too(
    explain: Explain, client: redis.Redis, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed = {"SMSQ_PAYLOAD_KEYS": Fernet.generate_key().decode()}
    monkeypatch.setenv(*sealed.copy().popitem())
    scene = Scene(client, Settings.load(environ | sealed))
    scene.enter()
    scene.enter("lookalike", phone=LOOKALIKE)
    assert lines_of(explain(PHONE))[0] == "message  m1"
    monkeypatch.delenv("SMSQ_PAYLOAD_KEYS")
    code, _, errors = explain(PHONE)
    assert code == 2
    assert "SMSQ_PAYLOAD_KEYS: must be set" in errors


# --- by a campaign, a key, a reference ------------------------------------------------------


def test_a_reference_leads_to_its_messages_the_newest_first(explain: Explain, scene: Scene) -> None:
    for n in (1, 2, 3):
        scene.enter(f"m{n}", reference="order 7")
    scene.enter("m4", reference="order 8")
    code, out, _ = explain("order 7")
    *rows, note, end = out.splitlines()
    assert (code, [row.split()[0] for row in rows]) == (0, ["m3", "m2", "m1"])
    assert note == "reference order 7: the newest 3 messages; all: smsq list --reference"
    assert end == "one of them: smsq explain ID"
    code, out, _ = explain("order 8", "--json")
    assert (code, json.loads(out)["id"]) == (0, "m4")
    assert explain("order *")[0] == 1


def test_a_reference_of_digits_is_found(explain: Explain, scene: Scene) -> None:
    scene.enter("m1", reference="20250706")
    assert "m1" in explain("20250706")[1]


def test_a_key_leads_to_its_holder(explain: Explain, scene: Scene) -> None:
    scene.enter("m1", key="order-7")
    scene.enter("m2", key="order-7")
    code, out, _ = explain("order-7")
    assert (code, out.splitlines()[0].split()) == (0, ["message", "m1"])


def test_a_campaign_leads_to_its_newest_messages(explain: Explain, scene: Scene) -> None:
    for n in (1, 2, 3):
        scene.enter(f"m{n}", campaign="spring")
    code, out, _ = explain("spring", "--last", "2")
    *rows, note, _end = out.splitlines()
    assert (code, [row.split()[0] for row in rows]) == (0, ["m3", "m2"])
    assert note.startswith("campaign spring: the newest 2 of 3 messages")


# --- what is unknown, or wrong --------------------------------------------------------------


@pytest.mark.parametrize("word", ["unknown", "4dd2cb4e-3b39", "a b", "*", PHONE])
def test_what_is_unknown_ends_with_1_and_what_may_be_the_reason(
    explain: Explain, word: str
) -> None:
    code, out, errors = explain(word, "--json")
    assert (code, out) == (1, "")
    (line,) = errors.splitlines()
    assert line.startswith("smsq: no")
    assert "a message is kept for 7 d after its end, SMSQ_RETENTION_S" in line
    assert "another Redis than that of SMSQ_REDIS_URL" in line


@pytest.mark.parametrize(
    "word", ["", " ", "\n", "\udcff", "x" * 256, "12345", "+8613800", f"{PHONE}0", "138 0013"]
)
def test_what_is_no_id_no_mid_and_no_number_ends_with_2(explain: Explain, word: str) -> None:
    code, out, errors = explain(word)
    assert (code, out) == (2, "")
    assert re.search("it takes a message's id, a mid, a number, a campaign|phone must", errors)


@pytest.mark.parametrize("last", ["0", "1001", "x"])
def test_a_bad_last_ends_with_2(explain: Explain, last: str) -> None:
    assert explain(PHONE, "--last", last)[0] == 2


# --- in Chinese -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "locale"), [(("--lang", "zh"), "C"), ((), "zh_CN.UTF-8"), ((), "zh")]
)
def test_reports_are_told_in_chinese(
    explain: Explain,
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    locale: str,
) -> None:
    reported(scene)
    monkeypatch.setenv("LC_ALL", locale)
    _, out, _ = explain("m1", *options)
    for words in (
        "状态报告 MA:0001：全局黑名单号码\n",
        "类别：永久失败（重发也不会成功）\n",
        "失败：smsq 不再重发；状态报告表明未送达；原因 report:MA:0001：全局黑名单号码\n",
    ):
        assert words in out


def test_the_catalogue_is_shown_in_chinese(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = here(monkeypatch, capsys, "codes", "MA:0001", "--lang", "zh")
    assert "类别      permanent 永久失败：重发也不会成功\n" in out
    assert "blacklist" not in out
    _, out, _ = here(monkeypatch, capsys, "codes", "--lang", "zh")
    assert "永久失败" in out
    assert "blacklist" not in out


def test_english_wins_where_it_is_asked_for(
    explain: Explain, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported(scene)
    monkeypatch.setenv("LC_ALL", "")
    monkeypatch.setenv("LC_MESSAGES", "C.UTF-8")
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    assert "blacklist" in explain("m1")[1]
    monkeypatch.delenv("LC_MESSAGES")
    assert "blacklist" not in explain("m1")[1]
    assert "blacklist" in explain("m1", "--lang", "en")[1]
