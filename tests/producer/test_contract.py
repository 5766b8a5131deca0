"""The rules of the contract: what a message may hold, and what a backend is told when it does not.

The rows are those of CONTRACT's table of arguments, good and bad.
"""

from __future__ import annotations

import inspect
import math
import re
import time
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any

import pytest
import redis
from hypothesis import example, given
from hypothesis import strategies as st

import smsq
from smsq import InvalidMessage, SmsqError, contract
from smsq.app import QUEUES
from smsq.contract import Lane, Message, OnAmbiguous, parse, signature_of_send_sms
from smsq.tasks import SendSms
from smsq_worker.ledger import Admitted, Ledger

PHONE = "13800138000"
CODE = "482913"
TEMPLATE = "SMS_1001"
VALID: dict[str, Any] = {"phone": PHONE, "template": TEMPLATE, "code": CODE}
ARGUMENTS = tuple(inspect.signature(signature_of_send_sms).parameters)

DAY_S = 86_400
HUGE = 10**5000
"""More digits than Python writes."""
NOW = time.time()
IN_AN_HOUR = datetime.fromtimestamp(round(NOW) + 3600, UTC)
SHANGHAI = timezone(timedelta(hours=8))


class NoOffset(tzinfo):
    """A time zone that does not know its offset: such a datetime is not aware."""

    def utcoffset(self, _: datetime | None) -> None:
        return None

    dst = tzname = utcoffset


def with_changes(**changes: Any) -> dict[str, Any]:
    return VALID | changes


# --- what is taken --------------------------------------------------------------------------

GOOD_PHONES = {
    "bare": PHONE,
    "plus-86": "+8613800138000",
    "0086": "008613800138000",
    "86": "8613800138000",
    "spaces": "138 0013 8000",
    "spaces-around": "  13800138000 ",
    "hyphens": "138-0013-8000",
    "all-of-it": "+86 138-0013 8000",
    "prefix-with-hyphens": "0-0-8-6-138-0013-8000",
}


@pytest.mark.parametrize("phone", GOOD_PHONES.values(), ids=GOOD_PHONES)
def test_a_phone_is_taken_in_every_accepted_spelling(phone: str) -> None:
    assert parse((phone, TEMPLATE), {}).phone == PHONE


@pytest.mark.parametrize("first", [f"1{second}" for second in range(3, 10)])
def test_every_mainland_prefix_is_taken(first: str) -> None:
    assert parse((f"{first}800138000", TEMPLATE), {}).phone == f"{first}800138000"


@given(
    digits=st.from_regex(r"1[3-9][0-9]{9}", fullmatch=True),
    prefix=st.sampled_from(["", "+86", "0086", "86"]),
    gaps=st.lists(st.sampled_from(["", "", " ", "-", " - "]), min_size=16, max_size=16),
)
def test_any_spelling_of_a_phone_normalises_to_its_11_digits(
    digits: str, prefix: str, gaps: list[str]
) -> None:
    bare = prefix + digits
    spelled = "".join(gap + char for gap, char in zip(gaps, bare, strict=False)) + gaps[-1]
    assert parse((spelled, TEMPLATE), {}).phone == digits


# argument: value given, value kept
GOOD: dict[str, tuple[str, Any, Any]] = {
    "template-of-1": ("template", "T", "T"),
    "template-of-64": ("template", "T" * 64, "T" * 64),
    "code-empty": ("code", "", ""),
    "code-with-leading-zeros": ("code", "000123", "000123"),
    "code-of-500": ("code", "7" * 500, "7" * 500),
    "code-of-500-chinese": ("code", "验" * 500, "验" * 500),
    "code-with-anything": ("code", "\x00\n\"'{}\u2028😀", "\x00\n\"'{}\u2028😀"),
    "lane-otp": ("lane", "otp", Lane.OTP),
    "lane-notice": ("lane", "notice", Lane.NOTICE),
    "lane-bulk": ("lane", "bulk", Lane.BULK),
    "lane-as-enum": ("lane", Lane.BULK, Lane.BULK),
    "ttl-int": ("ttl_s", 60, 60.0),
    "ttl-float": ("ttl_s", 0.5, 0.5),
    "ttl-longest": ("ttl_s", 366 * DAY_S, 366.0 * DAY_S),
    "key": ("key", "login-7781", "login-7781"),
    "key-of-256": ("key", "k" * 256, "k" * 256),
    "on-ambiguous-resend": ("on_ambiguous", "resend", OnAmbiguous.RESEND),
    "on-ambiguous-hold": ("on_ambiguous", "hold", OnAmbiguous.HOLD),
    "send-at-datetime": ("send_at", IN_AN_HOUR, IN_AN_HOUR.timestamp()),
    "send-at-other-zone": ("send_at", IN_AN_HOUR.astimezone(SHANGHAI), IN_AN_HOUR.timestamp()),
    "send-at-text": ("send_at", IN_AN_HOUR.isoformat(), IN_AN_HOUR.timestamp()),
    "send-at-text-with-offset": (
        "send_at",
        IN_AN_HOUR.astimezone(SHANGHAI).isoformat(),
        IN_AN_HOUR.timestamp(),
    ),
    "send-at-text-with-z": ("send_at", f"{IN_AN_HOUR:%Y-%m-%dT%H:%M:%SZ}", IN_AN_HOUR.timestamp()),
    "send-at-seconds": ("send_at", int(IN_AN_HOUR.timestamp()), IN_AN_HOUR.timestamp()),
    "send-at-fraction": ("send_at", 1.5, 1.5),
    "send-at-past": ("send_at", "2001-01-01T00:00:00+08:00", 978_278_400.0),
    "send-at-epoch": ("send_at", 0, 0.0),
    "send-at-in-365-days": ("send_at", round(NOW) + 365 * DAY_S, round(NOW) + 365.0 * DAY_S),
    "reference-empty": ("reference", "", ""),
    "reference-of-128": ("reference", "参" * 128, "参" * 128),
    "reference-of-lines": ("reference", "a\n\tb\r\n\u2028c", "a\n\tb\r\n\u2028c"),
    "reference-with-emoji": ("reference", "👨\u200d👩\u200d👧", "👨\u200d👩\u200d👧"),
    "template-of-any-script": ("template", "验证码\u3000①", "验证码\u3000①"),
    "notify": ("notify", "shop.sms_done", "shop.sms_done"),
    "notify-of-255": ("notify", "n" * 255, "n" * 255),
    **{
        f"{name}-none": (name, None, default)
        for name, default in {
            "ttl_s": 86_400.0,
            "key": None,
            "on_ambiguous": OnAmbiguous.RESEND,
            "send_at": None,
            "reference": None,
            "notify": None,
        }.items()
    },
}


@pytest.mark.parametrize(("argument", "given", "kept"), GOOD.values(), ids=GOOD)
def test_a_good_value_is_taken_and_kept(argument: str, given: Any, kept: Any) -> None:
    value = getattr(parse((), with_changes(**{argument: given})), argument)
    assert value == kept
    assert type(value) is type(kept)


@pytest.mark.parametrize(("lane", "ttl_s"), [("otp", 300), ("notice", 86_400), ("bulk", 86_400)])
def test_a_lane_gives_the_time_in_which_sending_is_useful(lane: str, ttl_s: float) -> None:
    assert parse((PHONE, TEMPLATE), {"lane": lane}).ttl_s == ttl_s


def test_all_but_phone_and_template_may_be_left_out() -> None:
    assert parse((PHONE, TEMPLATE), {}) == Message(
        phone=PHONE,
        template=TEMPLATE,
        code="",
        lane=Lane.NOTICE,
        ttl_s=86_400.0,
        key=None,
        on_ambiguous=OnAmbiguous.RESEND,
        send_at=None,
        reference=None,
        notify=None,
    )


@pytest.mark.parametrize("code", ["000123", "验证码 1234", "\x00\n\"'{}\u2028😀", ""])
def test_a_code_goes_through_the_ledger_unchanged(ledger: Ledger, code: str) -> None:
    result = smsq.send_sms.delay(PHONE, TEMPLATE, code)
    go = ledger.admit(result.id)
    assert isinstance(go, Admitted)
    assert (go.phone, go.template, go.code) == (PHONE, TEMPLATE, code)


def test_a_reference_comes_back_in_the_status(client: redis.Redis) -> None:
    status = smsq.status(smsq.send_sms.delay(PHONE, TEMPLATE, reference="order 7, 张三").id)
    assert status is not None
    assert status.reference == "order 7, 张三"


# --- what is refused ------------------------------------------------------------------------

PHONE_RULE = "11 digits of which the first two are 13 to 19"
NOT_PHONES: dict[str, Any] = {
    "empty": "",
    "blank": "  ",
    "10-digits": "1380013800",
    "12-digits": "138001380001",
    "landline-prefix": "12800138000",
    "begins-with-2": "23800138000",
    "other-country": "+85213800138",
    "prefix-twice": "868613800138000",
    "two-plusses": "++8613800138000",
    "plus-alone": "+13800138000",
    "plus-0086": "+008613800138000",
    "letters": "1380013800O",
    "dots": "138.0013.8000",
    "brackets": "(86)13800138000",
    "newline": f"{PHONE}\n",
    "tab": f"\t{PHONE}",
    "no-break-space": "138\u00a00013\u00a08000",
    "full-width-digits": "１３８００１３８０００",
    "full-width-last-digit": "1380013800０",
    "arabic-digits": "١٣٨٠٠١٣٨٠٠٠",
    "nul": f"{PHONE}\x00",
    "half-a-surrogate-pair": f"{PHONE}\ud83d",
    "very-long": "1" * 100_000,
    "int": int(PHONE),
    "float": float(PHONE),
    "bool": True,
    "none": None,
    "bytes": PHONE.encode(),
    "list": [PHONE],
    "dict": {"phone": PHONE},
}


def refused(
    name: str, rule: str, values: dict[str, Any]
) -> dict[str, tuple[dict[str, Any], str, str]]:
    return {f"{name}-{label}": ({name: value}, name, rule) for label, value in values.items()}


NOT_TEXTS: dict[str, Any] = {
    "int": int(CODE),
    "float": 1.0,
    "bool": False,
    "bytes": CODE.encode(),
    "list": [CODE],
    "dict": {CODE: CODE},
    "half-a-surrogate-pair": f"{CODE}\ud83d",
}

# What is given, the argument that must be named, the words that tell what is allowed.
BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    **refused("phone", PHONE_RULE, NOT_PHONES),
    **refused(
        "template",
        "a str of 1 to 64 characters",
        {**NOT_TEXTS, "empty": "", "blank": " ", "of-65": "T" * 65, "none": None},
    ),
    **refused(
        "code", "a str of 0 to 500 characters", {**NOT_TEXTS, "of-501": "7" * 501, "none": None}
    ),
    **refused(
        "lane",
        "one of otp, notice, bulk",
        {
            "unknown": "urgent",
            "capitals": "OTP",
            "queue": "sms.otp",
            "blank": "otp ",
            "empty": "",
            "none": None,
            "int": 1,
            "huge-int": HUGE,
            "list": ["otp"],
            "number-in-the-wrong-place": PHONE,
            "code-in-the-wrong-place": CODE,
            "half-a-surrogate-pair": "\ud83d",
        },
    ),
    **refused(
        "ttl_s",
        "a number of seconds, more than 0 and at most 31622400",
        {
            "zero": 0,
            "zero-float": 0.0,
            "negative": -1,
            "nan": math.nan,
            "inf": math.inf,
            "minus-inf": -math.inf,
            "bool": True,
            "too-long": 366 * DAY_S + 1,
            "huge-int": HUGE,
            "huge-negative-int": -HUGE,
            "text": "300",
            "list": [300],
            "timedelta": timedelta(seconds=300),
            "number-in-the-wrong-place": int(PHONE),
            "code-in-the-wrong-place": -int(CODE),
        },
    ),
    **refused(
        "key",
        "a str of 1 to 256 characters",
        {**NOT_TEXTS, "empty": "", "of-257": "k" * 257},
    ),
    **refused(
        "on_ambiguous",
        "one of resend, hold",
        {"unknown": "retry", "bool": True, "empty": "", "code-in-the-wrong-place": CODE},
    ),
    **refused(
        "send_at",
        "an aware datetime, an ISO 8601 text with an offset or Unix seconds, at most 366 days",
        {
            "naive-datetime": IN_AN_HOUR.replace(tzinfo=None),
            "naive-text": IN_AN_HOUR.replace(tzinfo=None).isoformat(),
            "zone-without-offset": IN_AN_HOUR.replace(tzinfo=NoOffset()),
            "date-alone": f"{IN_AN_HOUR:%Y-%m-%d}",
            "words": "tomorrow",
            "empty": "",
            "milliseconds": round(NOW * 1000),
            "seconds-as-text": str(round(NOW)),
            "in-367-days": NOW + 367 * DAY_S,
            "in-367-days-as-text": (IN_AN_HOUR + timedelta(days=367)).isoformat(),
            "far-with-half-a-surrogate-pair": "2999-01-01\ud83d00:00:00+00:00",
            "year-9999": datetime.max.replace(tzinfo=UTC),
            "year-1": datetime.min.replace(tzinfo=UTC),
            "year-1-east": datetime.min.replace(tzinfo=SHANGHAI),
            "before-1970": -1,
            "nan": math.nan,
            "inf": math.inf,
            "bool": True,
            "huge-int": HUGE,
            "list": [1],
            "timedelta": timedelta(hours=1),
            "number-in-the-wrong-place": int(PHONE),
            "number-as-text-in-the-wrong-place": PHONE,
            "code-as-text-in-the-wrong-place": CODE,
        },
    ),
    **refused("reference", "a str of 0 to 128 characters", {**NOT_TEXTS, "of-129": "r" * 129}),
    **refused(
        "notify", "a str of 1 to 255 characters", {**NOT_TEXTS, "empty": "", "of-256": "n" * 256}
    ),
}


def assert_harmless(error: InvalidMessage, *given: Any) -> None:
    """No number and no code stands in an error's text, and it can be stored and printed."""
    text = str(error)
    assert PHONE not in text
    assert CODE not in text
    assert not re.search(r"1[3-9]\d{9}", text)
    for value in given:
        assert not isinstance(value, str) or len(value) < 6 or value not in text
    assert len(text) < 700
    assert text.encode()


@pytest.mark.parametrize(("changes", "argument", "allowed"), BAD.values(), ids=BAD)
def test_a_bad_value_is_refused_at_the_call_and_nothing_is_enqueued(
    client: redis.Redis, changes: dict[str, Any], argument: str, allowed: str
) -> None:
    with pytest.raises(InvalidMessage) as caught:
        smsq.send_sms.delay(**with_changes(**changes))

    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, SmsqError)
    assert str(caught.value).startswith(f"{argument} must be ")
    assert allowed in str(caught.value)
    assert_harmless(caught.value, *(v for k, v in changes.items() if k in {"phone", "code"}))
    assert client.dbsize() == 0


def test_an_int_as_code_is_told_why() -> None:
    with pytest.raises(InvalidMessage, match="leading zeros"):
        parse((PHONE, TEMPLATE, 482913), {})
    with pytest.raises(InvalidMessage, match=r"got None$"):
        parse((PHONE, TEMPLATE, None), {})


GIVEN = inspect.signature(signature_of_send_sms).parameters
# Arguments that do not fit the signature: as they come from another language.
UNFIT: dict[str, tuple[Any, Any, str]] = {
    "nothing": ((), {}, "phone"),
    "template-missing": ((PHONE,), {}, "template"),
    "unknown-keyword": ((PHONE, TEMPLATE), {"telefon": PHONE}, "telefon"),
    "misspelt-keyword": ((PHONE, TEMPLATE), {"ttl": 60}, "(did you mean ttl_s?)"),
    "number-as-keyword": ((PHONE, TEMPLATE), {PHONE: TEMPLATE}, "unexpected keyword"),
    "misspelt": ((PHONE,), {"templte": TEMPLATE}, "'templte' (did you mean template?); it takes"),
    "very-long-keyword": ((PHONE, TEMPLATE), {"k" * 100_000: 1}, "unexpected keyword"),
    "keyword-of-half-a-surrogate-pair": ((PHONE, TEMPLATE), {"\ud83d": 1}, "unexpected keyword"),
    "keyword-that-is-no-text": ((PHONE, TEMPLATE), {7: 1}, "keywords must be strings"),
    "phone-twice": ((PHONE, TEMPLATE), {"phone": PHONE}, "phone"),
    "lane-by-position": ((PHONE, TEMPLATE, CODE, "otp"), {}, "positional"),
    "arguments-that-are-a-number": (7, {}, "phone"),
    "keywords-that-are-a-list": ((PHONE, TEMPLATE), [1], "lane"),
}


@pytest.mark.parametrize(("args", "kwargs", "named"), UNFIT.values(), ids=UNFIT)
def test_arguments_that_do_not_fit_are_refused_with_what_it_takes(
    client: redis.Redis, args: Any, kwargs: Any, named: str
) -> None:
    with pytest.raises(InvalidMessage) as caught:
        smsq.send_sms.apply_async(args, kwargs)

    assert named in str(caught.value)
    assert str(caught.value).endswith(f"; it takes {', '.join(GIVEN)}")
    assert_harmless(caught.value)
    assert client.dbsize() == 0


@pytest.mark.parametrize("kwargs", [{}, {"template": TEMPLATE, "telefon": PHONE}])
def test_a_call_of_delay_that_does_not_fit_fails_as_any_call_in_python_does(
    client: redis.Redis, kwargs: dict[str, Any]
) -> None:
    with pytest.raises(TypeError, match=r"SendSms\.delay\(\)"):
        smsq.send_sms.delay(PHONE, **kwargs)
    assert client.dbsize() == 0


def test_the_first_bad_argument_does_not_hide_behind_a_good_one(client: redis.Redis) -> None:
    for argument in ("template", "code", "lane", "ttl_s", "on_ambiguous", "send_at", "notify"):
        with pytest.raises(InvalidMessage, match=f"^{argument} must be"):
            smsq.send_sms.apply_async((), with_changes(**{argument: []}))
    assert client.dbsize() == 0


# --- whatever comes -------------------------------------------------------------------------

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(0, 5000).map(lambda digits: 10**digits)
    | st.floats()
    | st.text(st.characters())
    | st.text(st.characters(categories=["Cs", "Nd", "Zs"]))
    | st.sampled_from([PHONE, TEMPLATE, "otp", "hold", "2030-01-01T00:00:00Z", "-0001-01-01"])
)
JSON_LIKE = st.recursive(
    SCALARS, lambda of: st.lists(of, max_size=3) | st.dictionaries(st.text(), of, max_size=3)
)
KEYWORDS = st.sampled_from(ARGUMENTS) | st.text(max_size=5)


def message_or_error(args: list[Any], kwargs: dict[str, Any]) -> Message | InvalidMessage:
    try:
        return parse(args, kwargs)
    except InvalidMessage as error:
        return error


@given(st.lists(JSON_LIKE, max_size=5), st.dictionaries(KEYWORDS, JSON_LIKE, max_size=6))
@example([PHONE, TEMPLATE], {"send_at": "1970-01-01T00:00:00+23:59"})
@example([PHONE, TEMPLATE], {"self": 1, "args": 2})
def test_parse_raises_nothing_but_invalid_message(args: list[Any], kwargs: dict[str, Any]) -> None:
    outcome = message_or_error(args, kwargs)
    if isinstance(outcome, Message):
        assert re.fullmatch(r"1[3-9][0-9]{9}", outcome.phone)
        assert 1 <= len(outcome.template) <= 64
        assert 0 < outcome.ttl_s <= 366 * DAY_S
    else:
        assert str(outcome).encode()


@given(st.dictionaries(st.sampled_from(ARGUMENTS[3:]), JSON_LIKE | st.just(CODE), min_size=1))
def test_whatever_else_is_wrong_no_error_shows_the_number_or_the_code(
    kwargs: dict[str, Any],
) -> None:
    outcome = message_or_error([], VALID | kwargs)
    if isinstance(outcome, InvalidMessage):
        assert PHONE not in str(outcome)
        assert CODE not in str(outcome)


@given(st.from_regex(r"1[3-9][0-9]{9}", fullmatch=True))
def test_a_message_and_its_mask_hide_the_middle_of_the_number(phone: str) -> None:
    masked = contract.mask_phone(phone)
    assert masked == f"{phone[:3]}****{phone[7:]}"
    shown = repr(parse((phone, TEMPLATE, CODE), {"key": phone}))
    assert phone not in shown
    assert CODE not in shown


# --- names ----------------------------------------------------------------------------------


def test_delay_has_the_signature_of_the_contract() -> None:
    given = list(inspect.signature(SendSms.delay).parameters.values())[1:]
    assert given == list(inspect.signature(signature_of_send_sms).parameters.values())
    bare = inspect.Signature([p.replace(annotation=p.empty) for p in given])
    assert str(bare) == (
        "(phone, template, code='', *, lane='notice', ttl_s=None, key=None, on_ambiguous=None, "
        "send_at=None, reference=None, notify=None, campaign=None)"
    )


def test_tasks_and_queues_have_the_names_of_the_contract() -> None:
    assert smsq.send_sms.name == contract.SEND_SMS == "smsq.send_sms"
    assert contract.RECONCILE_REPORT == "smsq.reconcile_report"
    assert contract.REPORT_QUEUE == "sms.report"
    assert {lane.value: lane.queue for lane in Lane} == {
        "otp": "sms.otp",
        "notice": "sms.notice",
        "bulk": "sms.bulk",
    }
    assert set(QUEUES) == {"sms.otp", "sms.notice", "sms.bulk", "sms.report", "sms.notify"}
    assert contract.SEND_BATCH == "smsq.send_batch"
    assert contract.NOTIFY_OUTCOME == "smsq.notify_outcome"
    of_lanes = [name for name in QUEUES if name not in {"sms.report", "sms.notify"}]
    assert of_lanes == [lane.queue for lane in Lane]


def test_states_have_the_names_of_the_contract() -> None:
    final = {"delivered", "failed", "expired", "unreported", "duplicate", "cancelled"}
    assert {str(state) for state in contract.FINAL} == final
    assert {str(state) for state in contract.State} == final | {
        "queued",
        "sending",
        "deferred",
        "accepted",
        "held",
    }
