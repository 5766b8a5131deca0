"""The outbox of a backend's tests: what it holds, and the end that a test decides."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery, shared_task

import smsq
from harness.backend import run
from smsq import (
    CampaignCancelled,
    InvalidMessage,
    LedgerFull,
    LedgerUnavailable,
    ledgers,
    send_many,
    send_sms,
    status,
)
from smsq.memory import MemoryLedger, Rules, campaigns, reports
from smsq.testing import Outbox, outbox
from smsq_worker.config.settings import Settings

PHONE = "13800138000"


@pytest.fixture
def box() -> Iterator[Outbox]:
    with outbox() as box:
        yield box


def sent(**options: Any) -> smsq.SendResult:
    return send_sms.delay(PHONE, "SMS_1001", "482913", **options)


def state(result: smsq.SendResult) -> str:
    found = status(result.id)
    assert found is not None
    return found.state


def test_what_was_sent_is_a_list(box: Outbox) -> None:
    at = datetime.now(UTC) + timedelta(hours=1)
    first = sent(lane="otp", key="login-1", ttl_s=60, reference="r1", notify="a.b", send_at=at)
    second = send_sms.delay("+86 139 0013 9000", "SMS_2", on_ambiguous="hold")
    assert [one.id for one in box] == [first.id, second.id]
    one = box[0]
    assert (one.phone, one.template, one.code, one.lane) == (PHONE, "SMS_1001", "482913", "otp")
    assert (one.key, one.ttl_s, one.reference, one.notify) == ("login-1", 60, "r1", "a.b")
    assert one.send_at == at.timestamp()
    assert (box[-1].phone, box[-1].on_ambiguous, box[-1].lane) == ("13900139000", "hold", "notice")
    assert box.to("139-0013-9000") == box[1:] == [box[1]]
    box.clear()
    assert len(box) == 0
    assert state(second) == "queued"


def test_what_is_not_sent_is_not_in_it(box: Outbox) -> None:
    first = sent(key="k")
    assert sent(key="k").duplicate_of == first.id
    with pytest.raises(smsq.KeyConflict):
        send_sms.delay(PHONE, "SMS_2", key="k")
    with pytest.raises(smsq.InvalidMessage):
        send_sms.delay("1", "SMS_2")
    send_sms.apply_async((PHONE, "SMS_1001"), task_id=first.id)
    assert [one.id for one in box] == [first.id]


def test_many_are_in_it_too(box: Outbox) -> None:
    rows = [{"phone": PHONE, "template": "T", "key": key} for key in "abca"]
    found = send_many(rows)
    assert [one.key for one in box] == ["a", "b", "c"]
    assert found.duplicates[0].duplicate_of == box[0].id


def test_no_repr_shows_a_number_or_a_code(box: Outbox) -> None:
    sent(key=f"{PHONE}-1")
    told = f"{box!r} {box[0]!r} {box[:]!r}"
    assert told.startswith(f"<Outbox [<SentMessage {box[0].id}: 'SMS_1001' to 138****8000 on lane")
    assert not any(secret in told for secret in (PHONE, "482913"))


# --- the end ------------------------------------------------------------------------------------


def test_a_message_is_delivered_by_its_result_its_id_or_its_entry(box: Outbox) -> None:
    results = [sent() for _ in range(3)]
    box.deliver(results[0])
    box.deliver(results[1].id)
    box.deliver(box[2])
    assert [state(one) for one in results] == ["delivered"] * 3


@pytest.mark.parametrize(
    ("stat", "reason"),
    [
        ("MA:0001", "report:MA:0001"),
        ("ma:1", "report:MA:0001"),
        ("report:MA:0001", "report:MA:0001"),
        ("MA:0003", "report:MA:0003"),
        ("gateway:400 no such template", "gateway:400"),
    ],
)
def test_a_message_fails(box: Outbox, stat: str, reason: str) -> None:
    result = sent()
    box.fail(result, stat)
    found = status(result.id)
    assert found is not None
    assert (found.state, found.reason) == ("failed", reason)


def test_a_code_that_fails_nothing_is_told_with_the_one_that_is_meant(box: Outbox) -> None:
    with pytest.raises(ValueError, match=r"MA:O001 is of class unknown.*did you mean MA:00"):
        box.fail(sent(), "MA:O001")
    with pytest.raises(
        ValueError, match="DELIVRD is of class delivered and fails no message; MA:0001 does"
    ):
        box.fail(sent(), "DELIVRD")


def test_what_has_an_id_or_a_name_instead_of_it_is_told_what_to_pass(box: Outbox) -> None:
    @shared_task(name="shop.named")
    def named(_: dict[str, Any]) -> None: ...

    with pytest.raises(smsq.InvalidMessage, match="type SendResult; pass its id"):
        smsq.cancel(sent())  # type: ignore[arg-type]
    with pytest.raises(smsq.InvalidMessage, match="; pass the task's name"):
        sent(notify=named)


def test_what_else_a_code_means_follows_too(box: Outbox) -> None:
    box.fail(sent(), "MA:0001")
    campaign = sent(lane="bulk")
    with pytest.raises(AssertionError, match="local:suppressed"):
        box.deliver(campaign)
    box.deliver(sent(lane="otp"))


def test_late_news_is_news(box: Outbox) -> None:
    result = sent()
    box.fail(result, "MA:0001")
    box.deliver(result)
    assert state(result) == "delivered"
    with pytest.raises(AssertionError, match="cannot be failed: it is delivered"):
        box.fail(result, "MA:0001")


def test_a_transient_report_is_resent_when_its_time_comes(box: Outbox) -> None:
    result = sent()
    box.report(result, "MA:0003")
    assert state(result) == "deferred"
    box.advance(601)
    assert state(result) == "queued"
    box.deliver(result)
    found = status(result.id)
    assert found is not None
    assert [one.stat for one in found.attempts] == ["MA:0003", "DELIVRD"]


def test_a_message_expires(box: Outbox) -> None:
    mine, other = sent(), sent(lane="otp")
    box.expire(mine)
    assert [state(mine), state(other)] == ["expired", "queued"]
    box.advance(301)
    assert state(other) == "expired"
    with pytest.raises(AssertionError, match="cannot be expired: it is expired"):
        box.expire(mine)


@pytest.mark.parametrize(("policy", "first"), [("resend", "deferred"), ("hold", "held")])
def test_a_doubt_follows_the_policy(box: Outbox, policy: str, first: str) -> None:
    result = sent(on_ambiguous=policy)
    box.doubt(result)
    assert state(result) == first
    if policy == "hold":
        box.decide(result, "resend")
    box.advance(60)
    box.doubt(result)
    box.deliver(result)
    assert state(result) == "delivered"
    with pytest.raises(AssertionError, match="not held"):
        box.decide(result, "drop")


def test_without_a_report_a_message_is_unreported(box: Outbox) -> None:
    result = sent()
    box.accept(result)
    assert state(result) == "accepted"
    box.advance(3 * 86_400 + 1)
    assert state(result) == "unreported"


def test_what_stops_a_message_is_said(box: Outbox) -> None:
    box.deliver(sent(lane="otp"))
    second = sent(lane="otp")
    with pytest.raises(AssertionError, match=r"local:frequency.*box\.advance\(60\) between"):
        box.deliver(second)
    later = sent(send_at=datetime.now(UTC) + timedelta(hours=1))
    with pytest.raises(AssertionError, match=r"deferred; let its time come with box\.advance"):
        box.deliver(later)
    box.advance(3601)
    box.deliver(later)
    with pytest.raises(AssertionError, match="no message nobody"):
        box.deliver("nobody")
    with pytest.raises(ValueError, match="class pending and fails no message"):
        box.fail(later, "ACCEPTD")
    with pytest.raises(smsq.InvalidMessage):
        box.deliver(17)


def test_the_limits_may_be_those_of_ones_own_settings() -> None:
    with outbox(Rules(phone_limits=())) as box:
        for _ in range(12):
            box.deliver(sent(lane="otp"))


def test_by_default_the_rules_are_those_of_a_worker() -> None:
    rules, settings = Rules(), Settings()
    assert rules.phone_limits == settings.phone_limits
    assert rules.max_resends == settings.max_resends
    assert rules.lease_s == settings.lease_s
    assert rules.report_wait_s == settings.report_wait_s
    assert rules.retention_s == settings.retention_s


def test_a_suppressed_number_gets_nothing_until_it_is_over(box: Outbox) -> None:
    box.suppress("138 0013 8000", "asked us to", seconds=60, lanes=["bulk"])
    with pytest.raises(AssertionError, match="local:suppressed"):
        box.deliver(sent(lane="bulk"))
    box.advance(61)
    box.deliver(sent(lane="bulk"))


# --- a ledger that does not answer --------------------------------------------------------------


def test_the_next_call_finds_no_ledger(box: Outbox) -> None:
    box.unavailable()
    with pytest.raises(LedgerUnavailable, match="may or may not be in"):
        sent()
    assert (len(box), state(sent())) == (0, "queued")


def test_every_call_may_be_the_next(box: Outbox) -> None:
    result = sent()
    box.unavailable(calls=2)
    with pytest.raises(LedgerUnavailable):
        status(result.id)
    with pytest.raises(LedgerUnavailable, match="of the next 1 it is not known") as raised:
        send_many([{"phone": PHONE, "template": "T"}])
    assert raised.value.enqueued == 0
    assert state(result) == "queued"


def test_a_campaign_is_paused_and_cancelled(box: Outbox) -> None:
    first, second = (sent(campaign="spring", key=key) for key in "ab")
    assert (box[0].campaign, len(box)) == ("spring", 2)
    box.pause_campaign("spring")
    with pytest.raises(AssertionError, match=r"paused: box.resume_campaign\('spring'\)"):
        box.deliver(first)
    box.resume_campaign("spring")
    box.deliver(first)
    box.cancel_campaign("spring")
    assert (state(first), state(second)) == ("delivered", "cancelled")
    with pytest.raises(CampaignCancelled):
        sent(campaign="spring")
    assert sent(campaign="autumn", key="b").duplicate_of is None
    with pytest.raises(AssertionError, match="stays so"):
        box.resume_campaign("spring")
    with pytest.raises(AssertionError, match="no campaign summer"):
        box.cancel_campaign("summer")


def test_campaigns_are_bounded_and_go_with_their_messages(
    box: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaigns, "AT_MOST", 2)
    [sent(campaign=f"c{n}", ttl_s=60) for n in range(2)]
    with pytest.raises(InvalidMessage, match="c2 would be one too many"):
        sent(campaign="c2")
    box.advance(60)
    box.advance(604_800)
    assert sent(campaign="c2").state == "queued"


def test_a_lost_answer_is_no_lost_message(box: Outbox) -> None:
    box.unavailable(entered=True)
    with pytest.raises(LedgerUnavailable):
        sent(key="k")
    assert len(box) == 1
    assert sent(key="k").duplicate_of == box[0].id


# --- the callback -------------------------------------------------------------------------------


class Told(list[tuple[str, dict[str, Any]]]):
    """What a task of the host's app was called with, and under which ids; and its name."""

    name: str
    shop: Celery


@pytest.fixture
def told() -> Told:
    calls = Told()
    calls.name = f"shop.done_{uuid4().hex}"
    calls.shop = shop = Celery("shop", set_as_current=False)

    @shop.task(bind=True, name=calls.name)
    def done(self: Any, outcome: dict[str, Any]) -> None:
        calls.append((self.request.id, outcome))

    return calls


def test_the_hosts_task_is_called_with_what_a_worker_sends(box: Outbox, told: Told) -> None:
    result = sent(notify=told.name, reference="order 5")
    box.accept(result)
    assert told == []
    box.fail(result, "MA:0001")
    box.deliver(result)
    ids, outcomes = zip(*told, strict=True)
    assert ids == (f"{result.id}.failed", f"{result.id}.delivered")
    found = status(result.id)
    assert found is not None
    assert found.accepted_at is not None
    assert found.finished_at is not None
    # In the order in which a worker writes them: tests/behaviour holds the rest to the real one.
    assert [*outcomes[1].items()] == [
        ("id", result.id),
        ("state", "delivered"),
        ("lane", "notice"),
        ("reason", None),
        ("stat", "DELIVRD"),
        ("detail", None),
        ("template", "SMS_1001"),
        ("phone", "138****8000"),
        ("reference", "order 5"),
        ("mid", f"outbox.1.{result.id}"),
        ("raw_stat", "DELIVRD"),
        ("enqueued_at", found.enqueued_at.isoformat()),
        ("accepted_at", found.accepted_at.isoformat()),
        ("finished_at", found.finished_at.isoformat()),
        ("allowed_at", None),
    ]


def test_the_end_of_a_campaign_is_told_at_once(box: Outbox, told: Told) -> None:
    sent(campaign="spring", notify=told.name)
    box.cancel_campaign("spring")
    assert [outcome["state"] for _, outcome in told] == ["cancelled"]


def test_it_is_called_whatever_ends_a_message(box: Outbox, told: Told) -> None:
    box.expire(sent(notify=told.name))
    sent(notify=told.name, lane="otp")
    box.advance(301)
    box.deliver(sent(key="k"))
    sent(key="k", notify=told.name)
    box.advance()
    box.suppress(PHONE)
    with pytest.raises(AssertionError):
        box.deliver(sent(notify=told.name))
    ends = [(outcome["state"], outcome["reason"]) for _, outcome in told]
    assert [one[0] for one in ends] == ["expired", "expired", "duplicate", "failed"]
    assert ends[-1][1] == "local:suppressed"


def test_a_task_may_send_and_ask_itself(box: Outbox) -> None:
    @shared_task(name="shop.again")
    def again(outcome: dict[str, Any]) -> None:
        if outcome["reference"] == "first":
            assert state(smsq.SendResult(outcome["id"])) == "failed"
            sent(reference="second", notify="shop.again")

    box.fail(sent(reference="first", notify="shop.again"), "MA:0002")
    assert [one.reference for one in box] == ["first", "second"]


def test_what_the_task_raises_the_test_sees(box: Outbox) -> None:
    @shared_task(name="shop.bug")
    def bug(outcome: dict[str, Any]) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        box.deliver(sent(notify="shop.bug"))
    with pytest.raises(LookupError, match=r"notify='shop\.typo' names no task"):
        box.deliver(sent(notify="shop.typo"))


# --- threads, tasks, boxes in boxes -------------------------------------------------------------


def test_all_threads_write_to_it_and_one_of_them_gets_a_key(box: Outbox) -> None:
    with ThreadPoolExecutor(8) as pool:
        results = [*pool.map(lambda n: sent(key=f"k{n % 50}"), range(400))]
    assert len(box) == 50
    first = {one.key: one.id for one in box}
    assert all(one.duplicate_of in {None, first[f"k{n % 50}"]} for n, one in enumerate(results))
    with ThreadPoolExecutor(8) as pool:
        [*pool.map(box.deliver, box)]
    assert {state(smsq.SendResult(one.id)) for one in box} == {"delivered"}


def test_async_tasks_do_too(box: Outbox) -> None:
    async def view() -> None:
        result = await send_sms.adelay(PHONE, "SMS_1001", key="a")
        assert (await send_sms.adelay(PHONE, "SMS_1001", key="a")).duplicate_of == result.id
        await smsq.asend_many([{"phone": PHONE, "template": "T"}])
        await asyncio.to_thread(sent)
        box.deliver(result)
        found = await smsq.astatus(result.id)
        assert found is not None
        assert found.state == "delivered"
        box.unavailable()
        with pytest.raises(LedgerUnavailable, match="did not answer"):
            await smsq.acancel(result.id)
        cancellation = await smsq.acancel(result.id)
        assert cancellation is not None
        assert cancellation.answer == "too_late"
        box.unavailable()
        with pytest.raises(LedgerUnavailable):
            await send_sms.adelay(PHONE, "SMS_1001")

    asyncio.run(view())
    assert len(box) == 3


def test_one_box_inside_another_takes_its_place(box: Outbox) -> None:
    first = sent()
    with outbox() as inner:
        assert status(first.id) is None
        sent()
        assert (len(box), len(inner)) == (1, 1)
    sent()
    assert (len(box), len(inner)) == (2, 1)


def test_it_is_over_when_the_block_is_whatever_ends_it(base_environ: object) -> None:
    before = ledgers.current()
    with pytest.raises(ZeroDivisionError), outbox():
        raise ZeroDivisionError
    assert ledgers.current() is before


# --- bounds -------------------------------------------------------------------------------------


def test_it_is_bounded_and_forgets_what_has_ended_first() -> None:
    with outbox(Rules(at_most=3)) as box:
        first, second, third = sent(), sent(), sent()
        with pytest.raises(LedgerFull, match="3 messages at most"):
            sent()
        box.deliver(second)
        assert state(sent()) == "queued"
        assert status(second.id) is None
        assert [state(first), state(third)] == ["queued"] * 2
        with pytest.raises(LedgerFull):
            send_many([{"phone": PHONE, "template": "T"}])
        assert len(box) == 3


def test_what_is_kept_of_numbers_keys_and_mids_is_bounded() -> None:
    with outbox(Rules(at_most=10)) as box:
        for n in range(40):
            one = send_sms.delay(f"1380013{n:04d}", "T", lane="otp", key=f"k{n}")
            box.fail(one, "MK:0008" if n % 2 else "MA:0001")
            ledger = ledgers.current()
            assert isinstance(ledger, MemoryLedger)
            ledger.act(reports.report, f"nobody's {n}", ledger_report())
    book = ledger._book
    numbers = book.numbers
    rooms = (book.messages, book.keys, book.mids, book.early, box._ledger.sent)
    assert all(len(room) <= 10 for room in rooms)
    assert all(len(room) <= 10 for room in (numbers._suppressed, numbers._held, numbers._sent))
    assert len(book._timers) < 200


def ledger_report() -> Any:
    from smsq.memory.rules import DELIVRD

    return DELIVRD


# --- what its user has installed -----------------------------------------------------------------

WITHOUT_EXTRAS = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {extras}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
import smsq
assert not {"smsq.testing", "smsq.verify"} & sys.modules.keys()
with smsq.testing.outbox() as box:
    challenge = smsq.verify.start("13800138000", "SMS_1001")
    assert smsq.verify.check(challenge.id, box[0].code)
    for act, text in ((box.fail, "MA:0001"), (box.report, "MA:0003"), (box.fail, "gateway:400")):
        act(smsq.send_sms.delay("13800138000", "SMS_1001"), text)
    print([smsq.status(one.id).state for one in box])
"""


def test_an_outbox_needs_no_extra(base_environ: dict[str, str]) -> None:
    # Which extras there are is in pyproject.toml; these are what its worker imports first.
    extras = {"requests", "urllib3", "tenacity", "starlette", "cachetools", "anyio"}
    told = run(WITHOUT_EXTRAS.replace("{extras}", repr(extras)), base_environ)
    assert told == "['queued', 'failed', 'deferred', 'failed']"


def test_a_wait_ends_though_a_test_has_stopped_the_clock(
    box: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = sent()
    monkeypatch.setattr("time.monotonic", lambda: 1.0)  # As freezegun does.
    with pytest.raises(smsq.ResultTimeout, match="it is queued"):
        result.get(timeout=0.2)
