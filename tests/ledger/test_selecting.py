"""Messages are found and counted by what is known of them, as if all had been read one by one."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, Final

import pytest
import redis
from hypothesis import HealthCheck, given, strategies
from hypothesis import settings as trying

from harness.scene import DELIVRD, PHONE, Scene, stat
from smsq import keys
from smsq.cipher import PlaintextCipher
from smsq.compaction import unfolded
from smsq.contract import Lane, mask_phone, parse
from smsq.entries import Origin
from smsq.ledger_writer import LedgerWriter
from smsq_worker.config.settings import Settings
from smsq_worker.domain.states import Outcome
from smsq_worker.ledger.selecting import BadCursor, Selection, Selector

PHONES = ("13800138000", "13800148000", "13900139000")
"""The first two have one mask."""
TEMPLATES = ("SMS_1", "SMS_2", "SMS.%d[1]")
ENDS = ("waits", "goes", "accepted", "delivered", "failed", "refused", "doubt", "expired")


@pytest.fixture
def selector(client: redis.Redis, settings: Settings) -> Selector:
    return Selector(client, settings.rules, [PlaintextCipher()], ["shop"])


@pytest.fixture
def ids(scene: Scene) -> list[str]:
    """Messages of all kinds, entered over some hours."""
    chance = random.Random(1)
    names = [f"m{n}" for n in range(60)]
    for n, name in enumerate(names):
        if n % 2 == 0:  # Those with one key are alike.
            caller, phone = chance.choice(("", "shop")), chance.choice(PHONES)
            template = chance.choice(TEMPLATES)
        options = {
            "lane": chance.choice(list(Lane)),
            "reference": chance.choice((None, "order 7", "order 8")),
            "key": f"k{n // 2}" if n % 3 else None,
        }
        message = parse((phone, template, "1"), options)
        if caller:
            message = replace(message, key_space=f"relay:{caller}")
        LedgerWriter(scene.client, scene.settings).enter(name, message, Origin(caller=caller))
        if scene.state(name) == "queued":
            end(scene, name, ENDS[n % len(ENDS)])
    spread_over_hours(scene.client, names)
    return names


def end(scene: Scene, name: str, how: str) -> None:
    if how in {"waits", "expired"}:
        if how == "expired":
            scene.run_out_of_ttl(name)
        return
    scene.client.delete(keys.RATE)  # Each has its slot.
    if not hasattr(scene.admit(name), "attempt") or how == "goes":
        return
    if how == "doubt":
        scene.record(name, Outcome.MAYBE_SENT)
    elif how == "refused":
        scene.record(name, Outcome.REFUSED)
    else:
        scene.record(name, Outcome.ACCEPTED)
        if how == "delivered":
            scene.report(name, DELIVRD)
        elif how == "failed":
            scene.report(name, stat("MO:0254", "permanent"))


def spread_over_hours(client: redis.Redis, names: Sequence[str]) -> None:
    """Rewrite ledger and index as if 20 messages had been entered in each of the last hours."""
    (newest,) = map(int, client.zrange(keys.IDS, 0, -1))  # type: ignore[arg-type]
    client.delete(keys.ids_of(newest))
    for n, name in enumerate(names):
        hour = newest - len(names) // 20 + 1 + n // 20
        client.zadd(keys.IDS, {str(hour): hour})
        client.rpush(keys.ids_of(hour), name)
        at = hour * 3_600_000 + n * 1000
        fold = client.hget(keys.message(name), "fold")
        if fold:
            client.hset(keys.message(name), "fold", f"{at} {str(fold).split(' ', 1)[1]}")
        else:
            client.hset(keys.message(name), "enqueued", at)


# --- brute force ----------------------------------------------------------------------------


def read(client: redis.Redis, name: str) -> dict[str, str]:
    stored: dict[str, str] = dict(client.hgetall(keys.message(name)))  # type: ignore[arg-type]
    return unfolded(stored) | {"id": name}


def is_meant(client: redis.Redis, fields: dict[str, str], selection: Selection) -> bool:
    at = datetime.fromtimestamp(int(fields["enqueued"]) / 1000).astimezone()
    cipher = PlaintextCipher()
    if selection.phone:
        who = fields.get("who")
        digest, masked = cipher.phone_hash(selection.phone), mask_phone(selection.phone)
        if (who != digest) if who else (fields.get("phone") != masked):
            return False
    if selection.key:
        digest = cipher.idempotency(selection.key, "", "")[0]
        holders = client.mget(f"smsq:k:{digest}", f"smsq:k:relay:shop:{digest}")
        if fields["id"] not in holders and not fields.get("key", "").endswith(digest):  # type: ignore[operator]
            return False
    return (
        all(
            any(fnmatchcase(fields.get(name, ""), bare(one)) for one in words)
            for name, words in selection.patterns.items()
        )
        and (not selection.since or at >= selection.since)
        and (not selection.until or at < selection.until)
    )


def bare(words: str) -> str:
    """The pattern of fnmatch, in which more than * is special."""
    return words.replace("[", "[[]")


WORDS = {
    "state": ("queued", "failed", "*ed", "sending"),
    "reason": ("report:MO:*", "report:MO:0254", "*", "", "gateway*"),
    "template": (*TEMPLATES, "SMS*", "SMS.*", "sms_1"),
    "lane": ("otp", "bulk", "*t*"),
    "caller": ("shop", "", "*"),
    "reference": ("order 7", "order*", ""),
}
HOURS = strategies.none() | strategies.integers(-4, 1)
SELECTIONS = strategies.builds(
    lambda patterns, since, until, phone, key: (patterns, since, until, phone, key),
    strategies.fixed_dictionaries(
        {},
        optional={
            name: strategies.lists(strategies.sampled_from(words), min_size=1, max_size=2)
            for name, words in WORDS.items()
        },
    ),
    HOURS,
    HOURS,
    strategies.sampled_from(("", "", "", *PHONES)),
    strategies.sampled_from(("", "", "", "k1", "k2", "k20")),
)


def selection_of(asked: Any, newest: datetime) -> Selection:
    patterns, since, until, phone, key = asked

    def moment(hours: int | None) -> datetime | None:
        return None if hours is None else newest + timedelta(hours=hours, minutes=1, seconds=5)

    return Selection(patterns, moment(since), moment(until), phone, key)


def test_every_selection_finds_and_counts_what_reading_all_would(
    client: redis.Redis, selector: Selector, ids: list[str]
) -> None:
    messages = [read(client, name) for name in ids]
    newest = datetime.fromtimestamp(int(messages[-1]["enqueued"]) / 1000).astimezone()

    @trying(max_examples=60, suppress_health_check=list(HealthCheck))
    @given(SELECTIONS, strategies.sampled_from((1, 7, 100)))
    def check(asked: Any, limit: int) -> None:
        selection = selection_of(asked, newest.replace(minute=0, second=0, microsecond=0))
        meant = [one for one in reversed(messages) if is_meant(client, one, selection)]
        for scan in (False, True):
            found, after = [], ""
            while True:
                page = selector.page(selection, limit, after, scan=scan)
                found += [name for name, _at in page.rows]
                after = page.after
                if not after:
                    break
                assert len(page.rows) == limit
            assert found == [one["id"] for one in meant]
            counts = selector.count(selection, ["state", "template"], scan=scan)
            assert counts.groups == Counter((one["state"], one["template"]) for one in meant)
            if selection.phone:
                assert counts.by_mask == sum("who" not in one for one in meant)

    check()


def test_a_page_goes_on_where_the_last_ended_whatever_happens_meanwhile(
    scene: Scene, selector: Selector, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smsq_worker.ledger.selecting.SLICE", 10)
    first = selector.page(Selection(), 25)
    for n in range(30):
        scene.enter(f"later{n}")
    scene.client.delete(keys.message(ids[3]))
    rest = selector.page(Selection(), 1000, first.after)
    assert [name for name, _ in first.rows] == ids[:34:-1]
    assert [name for name, _ in rest.rows] == [name for name in ids[34::-1] if name != ids[3]]
    assert rest.after == ""


def test_duplicates_are_counted_as_one_reason_by_which_they_are_found(
    scene: Scene, selector: Selector
) -> None:
    for n in range(4):
        scene.enter(f"m{n}", key=f"k{n // 2}")
    assert selector.count(Selection(), ["reason"]).groups == {("",): 2, ("duplicate:*",): 2}
    found = selector.page(Selection({"reason": ["duplicate:*"]}), 10).rows
    assert [name for name, _at in found] == ["m3", "m1"]


@pytest.mark.parametrize("scan", [False, True])
def test_what_cannot_be_understood_hides_no_other(
    scene: Scene, selector: Selector, *, scan: bool
) -> None:
    for name in ("none", "m1", "folded"):
        scene.call(name, Outcome.REFUSED)
    scene.client.hset(keys.message("folded"), "fold", "in no form")
    scene.client.delete(keys.message("none"))
    scene.client.set(keys.message("none"), "no hash")
    for selection in (Selection(), Selection({"state": ["failed"]}, phone=PHONE)):
        rows = selector.page(selection, 10, scan=scan).rows
        assert [name for name, _ in rows] == ["m1"]
    assert selector.count(Selection(), ["lane"], scan=scan).groups == {("notice",): 1}


@pytest.mark.parametrize(("after", "scan"), [("1", False), ("a.b", False), ("1.2", True)])
def test_a_page_that_never_was_is_refused(selector: Selector, after: str, scan: bool) -> None:
    with pytest.raises(BadCursor):
        selector.page(Selection(), 1, after, scan=scan)


def test_a_day_is_local_and_groups_are_bounded(
    selector: Selector, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = selector.count(Selection(), ["day"]).groups
    assert sum(counts.values()) == len(ids)
    assert all((at.hour, at.minute) == (0, 0) for (at,) in counts)
    monkeypatch.setattr("smsq_worker.ledger.selecting.GROUPS_AT_MOST", 2)
    counts = selector.count(Selection(), ["state", "template"]).groups
    assert len(counts) == 3
    assert counts["other", "other"] == len(ids) - sum(
        n for group, n in counts.items() if group != ("other", "other")
    )


# --- the index ------------------------------------------------------------------------------


def test_a_list_is_kept_until_its_messages_are_forgotten(scene: Scene, selector: Selector) -> None:
    retention_ms = scene.settings.retention_s * 1000
    scene.enter("m1", ttl_s=60)
    (hour,) = map(int, scene.client.zrange(keys.IDS, 0, -1))  # type: ignore[arg-type]
    first = scene.client.pexpiretime(keys.ids_of(hour))
    scene.enter("m2", ttl_s=86_400)
    second = scene.client.pexpiretime(keys.ids_of(hour))
    scene.enter("m3", ttl_s=60)
    assert scene.client.pexpiretime(keys.ids_of(hour)) == second > first > scene.now_ms()  # type: ignore[operator]
    assert second >= scene.now_ms() + 86_300_000 + 2 * retention_ms  # type: ignore[operator]
    old = hour - 801 * 24
    scene.client.zadd(keys.IDS, {str(old): old})
    scene.client.delete(keys.ids_of(hour))
    scene.enter("m4")
    assert scene.client.zrange(keys.IDS, 0, -1) == [str(hour)]


def test_what_is_repeated_or_in_conflict_is_listed_once(scene: Scene, selector: Selector) -> None:
    scene.enter("m1", key="k")
    scene.enter("m1", key="k")
    scene.enter("m2", key="k")
    with pytest.raises(ValueError, match="another phone or template"):
        scene.enter("m3", key="k", template="OTHER")
    assert [name for name, _ in selector.page(Selection(), 10).rows] == ["m2", "m1"]


def test_without_the_index_only_a_scan_finds_it(scene: Scene, selector: Selector) -> None:
    LedgerWriter(scene.client, replace(scene.settings, index=False)).enter(
        "m1", parse((PHONE, "SMS_1", "1"), {})
    )
    assert not scene.client.exists(keys.IDS)
    assert selector.page(Selection(), 10).rows == []
    assert [name for name, _ in selector.page(Selection(), 10, scan=True).rows] == ["m1"]


def test_what_cannot_be_listed_is_entered_all_the_same(scene: Scene, selector: Selector) -> None:
    scene.enter("m1")
    (hour,) = map(int, scene.client.zrange(keys.IDS, 0, -1))  # type: ignore[arg-type]
    scene.client.set(keys.ids_of(hour), "somebody's")
    assert scene.enter("m2") == "queued"


UUID: Final = "22ead701-6bca-4231-a55d-87c696f7dfaa"


def test_ids_come_back_as_they_were_and_those_of_uuids_are_listed_in_half(
    scene: Scene, selector: Selector
) -> None:
    ids = [UUID, UUID.upper(), UUID.replace("-", ""), f"x{UUID[1:]}", f"{UUID}0", "模板-1"]
    for one in ids:
        scene.enter(one)
    assert [name for name, _ in selector.page(Selection(), 10).rows] == ids[::-1]
    (hour,) = map(int, scene.client.zrange(keys.IDS, 0, -1))  # type: ignore[arg-type]
    lengths = scene.client.eval(_LENGTHS, 1, keys.ids_of(hour))
    assert lengths == [17, *(len(one.encode()) for one in ids[1:])]


_LENGTHS: Final = """
local found = {}
for i, id in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do found[i] = #id end
return found
"""
