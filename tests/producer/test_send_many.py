"""Many messages at once: as the producer writes them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import smsq
from harness.backend import run
from harness.waiting import known
from smsq import InvalidMessage, LedgerUnavailable, keys
from smsq.contract import Lane

TEMPLATE = "SMS_1001"


def rows(count: int, **more: Any) -> list[dict[str, Any]]:
    return [
        {"phone": f"138{n:08}", "template": TEMPLATE, "code": "1", **more} for n in range(count)
    ]


def batches(client: redis.Redis, queue: str = "sms.bulk") -> list[list[str]]:
    """Give the ids of the batches that wait in a queue, the first published first."""
    found = [json.loads(text) for text in client.lrange(queue, 0, -1)]
    assert {message["headers"]["task"] for message in found} <= {"smsq.send_batch"}
    return [json.loads(message["body"])[0][0] for message in reversed(found)]


def test_everything_is_in_the_ledger_and_on_the_broker(client: redis.Redis) -> None:
    ids: list[str] = []
    assert smsq.send_many(rows(25), batch_size=10, on_batch=ids.extend) == 25
    assert [len(batch) for batch in batches(client)] == [10, 10, 5]
    assert [one for batch in batches(client) for one in batch] == ids
    assert {(known(one).state, known(one).lane) for one in ids} == {("queued", "bulk")}
    assert [known(one).phone for one in ids[:2]] == ["138****0000", "138****0001"]
    assert client.zcard(keys.TIMERS) == 25
    assert client.hgetall(keys.LIVE) == {"bulk:queued": "25"}


def test_the_broker_holds_neither_number_nor_code(client: redis.Redis) -> None:
    smsq.send_many([{"phone": "13800138000", "template": TEMPLATE, "code": "482913"}])
    (text,) = client.lrange("sms.bulk", 0, -1)
    for private in ("13800138000", "482913"):
        assert private not in text
        assert private not in str(batches(client))


def test_rows_are_taken_as_they_are_written(client: redis.Redis) -> None:
    taken = 0

    def source() -> Iterator[dict[str, Any]]:
        nonlocal taken
        for row in rows(35):
            taken += 1
            yield row

    seen: list[tuple[int, int]] = []
    smsq.send_many(source(), batch_size=10, on_batch=lambda ids: seen.append((taken, len(ids))))
    assert seen == [(10, 10), (20, 10), (30, 10), (35, 5)]


def test_a_row_may_have_all_arguments_and_a_lane_of_its_own(client: redis.Redis) -> None:
    mixed = rows(3)
    mixed[1] |= {"lane": "otp", "reference": "r", "ttl_s": 60}
    mixed[2] |= {"lane": "notice"}
    ids: list[str] = []
    smsq.send_many(mixed, on_batch=ids.extend)
    assert [known(one).lane for one in ids] == ["bulk", "otp", "notice"]
    assert known(ids[1]).reference == "r"
    for lane, one in zip(("bulk", "otp", "notice"), ids, strict=True):
        assert batches(client, Lane(lane).queue) == [[one]]


def test_what_waits_for_a_time_or_has_been_sent_is_not_woken_up(client: redis.Redis) -> None:
    seconds, _ = client.time()
    given = [*2 * rows(1, key="same"), *rows(1, send_at=int(seconds) + 3600)]
    ids: list[str] = []
    smsq.send_many(given, on_batch=ids.extend)
    assert [known(one).state for one in ids] == ["queued", "duplicate", "deferred"]
    assert batches(client) == [ids[:1]]


def test_a_rerun_with_keys_enqueues_nothing_twice(client: redis.Redis) -> None:
    keyed = [row | {"key": f"campaign:{n}"} for n, row in enumerate(rows(30))]
    assert smsq.send_many(keyed[:17], batch_size=10) == 17
    assert smsq.send_many(keyed, batch_size=10) == 30
    assert sum(map(len, batches(client))) == 30


def test_a_bad_row_stops_after_all_before_it(client: redis.Redis) -> None:
    bad = rows(30)
    bad[13]["phone"] = "12"
    with pytest.raises(InvalidMessage) as caught:
        smsq.send_many(bad, batch_size=10)
    assert (caught.value.index, caught.value.enqueued) == (13, 13)
    assert str(caught.value).startswith("row 13: phone must be")
    assert "13 messages before it are enqueued" in str(caught.value)
    assert [len(batch) for batch in batches(client)] == [10, 3]


def test_bad_rows_may_be_left_out_and_told(client: redis.Redis) -> None:
    bad: list[Any] = rows(5)
    bad[1]["code"] = 7
    bad[3] = ["13800138000"]
    sent = smsq.send_many(bad, on_invalid="skip")
    assert sent == 3
    assert [error.index for error in sent.invalid] == [1, 3]
    assert "a mapping" in str(sent.invalid[1])
    told: list[tuple[int, Any]] = []
    assert smsq.send_many(bad, on_invalid=lambda *args: told.append(args[:2])) == 3
    assert told == [(1, bad[1]), (3, bad[3])]


@pytest.mark.parametrize("batch_size", [0, 1001, -1, 2.5, "10", None])
def test_a_batch_has_bounds(client: redis.Redis, batch_size: Any) -> None:
    with pytest.raises(ValueError, match="from 1 to 1000"):
        smsq.send_many(rows(1), batch_size=batch_size)


def test_a_wrong_lane_is_told_at_once(client: redis.Redis) -> None:
    with pytest.raises(InvalidMessage, match="lane must be one of"):
        smsq.send_many(iter(()), lane="fast")


def test_nothing_is_nothing(client: redis.Redis) -> None:
    assert smsq.send_many([]) == 0
    assert not client.exists("sms.bulk")


def test_where_redis_fails_it_says_what_is_in(client: redis.Redis) -> None:
    def source() -> Iterator[dict[str, Any]]:
        for n, row in enumerate(rows(30)):
            if n == 15:
                client.config_set("min-replicas-to-write", 1)
            yield row

    try:
        with pytest.raises(LedgerUnavailable, match="10 messages are enqueued") as caught:
            smsq.send_many(source(), batch_size=10)
    finally:
        client.config_set("min-replicas-to-write", 0)
    assert caught.value.enqueued == 10
    assert sum(map(len, batches(client))) == 10


@pytest.mark.parametrize("database", [None, 5], ids=["one Redis", "a separate broker"])
def test_one_killed_between_ledger_and_broker_has_lost_nothing(
    client: redis.Redis, environ: dict[str, str], database: int | None
) -> None:
    broker = {"SMSQ_BROKER_URL": environ["SMSQ_REDIS_URL"][:-1] + str(database)} if database else {}
    code = (
        "import smsq; smsq.send_many({'phone': f'138{n:08}', 'template': 'T'} for n in range(10))"
    )
    killed = environ | {"SMSQ_TEST_KILL_AT": "after entry"} | broker
    assert subprocess.run([sys.executable, "-c", code], env=killed, check=False).returncode == -9
    assert client.zcard(keys.TIMERS) == 10
    # Where broker and ledger are one, there is no between.
    assert client.llen("sms.bulk") == (0 if broker else 1)


@pytest.mark.usefixtures("client")
@given(st.lists(st.one_of(st.none(), st.integers(), st.dictionaries(st.text(), st.text()))))
@hypothesis_settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_any_rows_are_told_and_none_shows_its_text(found: list[Any]) -> None:
    sent = smsq.send_many(found, on_invalid="skip")
    assert sent == 0
    assert len(sent.invalid) == len(found)


def test_pip_install_smsq_is_enough_for_it(environ: dict[str, str]) -> None:
    code = "import sys, smsq; smsq.send_many([]); print('requests' in sys.modules)"
    assert run(code, environ) == "False"


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ({"on_invalid": "skp"}, 'on_invalid must be "raise", "skip" or a function; got \'skp\''),
        ({"on_invalid": None}, 'on_invalid must be "raise", "skip" or a function; got None'),
        ({"on_batch": "x"}, "on_batch must be a function; got 'x'"),
        ({"on_duplicate": 5}, "on_duplicate must be a function; got 5"),
    ],
    ids=str,
)
def test_a_wrong_argument_is_found_before_anything_is_written(
    client: redis.Redis, argument: dict[str, Any], told: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        smsq.send_many([{"phone": "13800138000", "template": "SMS_1"}], **argument)
    assert client.dbsize() == 0
