"""The public contract as code: names, states, lanes and the rules a message must keep.

Producer and worker both use it, so that they cannot differ.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Literal, Required, Self, TypedDict

from smsq import checks
from smsq.errors import InvalidMessage
from smsq.ids import MAX_ID
from smsq.suggestions import did_you_mean
from smsq.times import parse_send_at, parse_ttl

SEND_SMS: Final = "smsq.send_sms"
SEND_BATCH: Final = "smsq.send_batch"
RECONCILE_REPORT: Final = "smsq.reconcile_report"
NOTIFY_OUTCOME: Final = "smsq.notify_outcome"

REPORT_QUEUE: Final = "sms.report"
NOTIFY_QUEUE: Final = "sms.notify"

KEY_TTL_S: Final = 24 * 3600
"""How long an idempotency key rejects a second message."""
FILE_SPACE: Final = "file"
"""The namespace of the idempotency keys that smsq send-file makes."""

# What callers write and read is plain text: a checker of types knows which, a test that the enums
# below are the same.
LaneName = Literal["otp", "notice", "bulk"]
OnAmbiguousName = Literal["resend", "hold"]
StateName = Literal[
    "queued",
    "sending",
    "deferred",
    "accepted",
    "held",
    "delivered",
    "failed",
    "expired",
    "unreported",
    "duplicate",
    "cancelled",
]
"""The states of this release. A later one may have written another, which is given as its text."""


class Lane(StrEnum):
    """Queues in order of priority: otp before notice before bulk."""

    OTP = "otp"
    NOTICE = "notice"
    BULK = "bulk"

    @property
    def queue(self) -> str:
        """The Celery queue of this lane."""
        return f"sms.{self}"

    @property
    def ttl_s(self) -> int:
        """The default time, in seconds, in which sending is still useful."""
        return 300 if self is Lane.OTP else 86_400


class State(StrEnum):
    """Where a message stands; `smsq_worker.domain.states` holds the transitions.

    A state that a newer release wrote is kept as its text, and is no member.
    """

    QUEUED = "queued"
    SENDING = "sending"
    DEFERRED = "deferred"
    ACCEPTED = "accepted"
    HELD = "held"
    DELIVERED = "delivered"
    FAILED = "failed"
    EXPIRED = "expired"
    UNREPORTED = "unreported"
    DUPLICATE = "duplicate"
    CANCELLED = "cancelled"

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        unknown = str.__new__(cls, value)
        unknown._name_ = unknown._value_ = value
        return unknown


FINAL: Final = frozenset(
    map(State, ("delivered", "failed", "expired", "unreported", "duplicate", "cancelled"))
)


class OnAmbiguous(StrEnum):
    """What to do when an attempt may or may not have reached the gateway."""

    RESEND = "resend"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class Message:
    """A message that keeps every rule. Its repr shows neither the number nor the code."""

    phone: str = field(repr=False)
    template: str
    code: str = field(repr=False)
    lane: Lane
    ttl_s: float
    key: str | None = field(default=None, repr=False)
    on_ambiguous: OnAmbiguous = OnAmbiguous.RESEND
    send_at: float | None = None
    """Unix seconds."""
    reference: str | None = None
    notify: str | None = None
    key_space: str = ""
    """The key's namespace: "" for Python callers, FILE_SPACE, or a `relay_space`."""
    campaign: str | None = None
    row: int | None = None
    """Of a file, the line of its row."""


def relay_space(caller: str) -> str:
    """Return the namespace of a relay caller's idempotency keys; "" is SMSQ_RELAY_SECRET's."""
    return f"relay:{caller}"


def mask_phone(phone: str) -> str:
    """Hide the middle of a number: 13800138000 becomes 138****8000."""
    return f"{phone[:3]}****{phone[-4:]}"


def signature_of_send_sms(
    phone: str,
    template: str,
    code: str = "",
    *,
    lane: LaneName = "notice",
    ttl_s: float | None = None,
    key: str | None = None,
    on_ambiguous: OnAmbiguousName | None = None,
    send_at: datetime | str | float | None = None,
    reference: str | None = None,
    notify: str | None = None,
    campaign: str | None = None,
) -> None:
    """Enqueue an SMS: `send_sms.delay(...)`, in a coroutine `await send_sms.adelay(...)`."""
    # It stands for the arguments of calls that come as a list and a mapping.


class Row(TypedDict, total=False):
    """A row of `send_many`, for checkers of types: the arguments of `send_sms.delay` by name."""

    phone: Required[str]
    template: Required[str]
    code: str
    lane: LaneName
    ttl_s: float | None
    key: str | None
    on_ambiguous: OnAmbiguousName | None
    send_at: datetime | str | float | None
    reference: str | None
    notify: str | None
    campaign: str | None


_SIGNATURE: Final = inspect.signature(signature_of_send_sms)
_NAMES: Final = frozenset(_SIGNATURE.parameters)
_POSITIONAL: Final = ("phone", "template", "code")
_DEFAULTS: Final = {"code": "", **(signature_of_send_sms.__kwdefaults__ or {})}


def parse(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Message:
    """Return the message that arguments of smsq.send_sms describe.

    Raises InvalidMessage that names the first argument that breaks a rule and what is allowed.
    """
    return parse_named(_by_name(args, kwargs))


def parse_named(given: Mapping[str, Any]) -> Message:
    """Return the message that all arguments of smsq.send_sms describe. Raises as `parse` does."""
    lane = parse_lane(given["lane"])
    ttl_s, on_ambiguous, send_at = given["ttl_s"], given["on_ambiguous"], given["send_at"]
    key, reference = given["key"], given["reference"]
    notify, campaign = given["notify"], given["campaign"]
    policy = OnAmbiguous.RESEND
    if on_ambiguous is not None:
        policy = checks.choice("on_ambiguous", on_ambiguous, OnAmbiguous)
    return Message(
        phone=parse_phone(given["phone"]),
        template=parse_template(given["template"]),
        code=checks.text("code", given["code"], least=0, most=500),
        lane=lane,
        ttl_s=float(lane.ttl_s) if ttl_s is None else parse_ttl(ttl_s),
        key=None if key is None else checks.text("key", key, least=1, most=256),
        on_ambiguous=policy,
        send_at=None if send_at is None else parse_send_at(send_at),
        reference=None
        if reference is None
        else checks.text("reference", reference, least=0, most=128, is_shown=True),
        notify=None
        if notify is None
        else checks.text("notify", notify, least=1, most=255, is_name=True),
        campaign=None if campaign is None else parse_campaign(campaign),
    )


def _by_name(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return all arguments by name, many times as fast as inspect does where they are right."""
    if isinstance(args, list | tuple) and isinstance(kwargs, dict):
        given = dict(zip(_POSITIONAL, args, strict=False))
        if len(given) == len(args) and given.keys().isdisjoint(kwargs):
            found = _DEFAULTS | given | kwargs
            if found.keys() == _NAMES:
                return found
    try:
        bound = _SIGNATURE.bind(*args, **kwargs)
    except TypeError as error:
        raise InvalidMessage(_misnamed(kwargs, str(error))) from None
    bound.apply_defaults()
    return bound.arguments


def _misnamed(kwargs: Mapping[str, Any], error: str) -> str:
    hint = ""
    if isinstance(kwargs, Mapping):
        unknown = [str(name)[:MAX_ID] for name in kwargs if name not in _NAMES]
        hint = did_you_mean(unknown[0], _NAMES) if unknown else ""
        if hint and error.startswith("missing"):  # It names first what that is a misspelling of.
            error = f"got an unexpected keyword argument {unknown[0]!r}"
    told = f"send_sms {checks.masked(error)}{hint and f' ({hint})'}"
    return f"{told}; it takes {', '.join(_SIGNATURE.parameters)}"


_PHONE_RULE: Final = (
    "phone must be a mainland mobile number: 11 digits of which the first two are 13 to 19, "
    "with or without +86, 0086 or 86 in front, spaces and hyphens"
)
_PHONE: Final = re.compile(r"(?:\+86|0086|86)?(1[3-9][0-9]{9})")


def parse_phone(value: object) -> str:
    """Return a number's 11 digits, however it is written. Raises InvalidMessage."""
    if not isinstance(value, str):
        raise InvalidMessage(f"{_PHONE_RULE}; got {checks.kind_of(value)}, not a str")
    match = _PHONE.fullmatch(value.replace(" ", "").replace("-", ""))
    if match is None:
        raise InvalidMessage(f"{_PHONE_RULE}; got {checks.no_number(value)}")
    return match[1]


def parse_lane(value: object) -> Lane:
    """Return a lane. Raises InvalidMessage."""
    return checks.choice("lane", value, Lane)


def parse_template(value: object) -> str:
    """Return a template's name. Raises InvalidMessage."""
    return checks.text("template", value, least=1, most=64, is_name=True)


MAX_CAMPAIGN: Final = 64
_A_NUMBER: Final = re.compile(r"1[3-9][0-9]{9}")


def has_number(text: str) -> bool:
    """Return whether a text may hold a mobile number, however it is written."""
    return bool(_A_NUMBER.search(re.sub(r"[\s-]", "", text)))


def parse_campaign(value: object) -> str:
    """Return a campaign's name, which is shown everywhere. Raises InvalidMessage."""
    name = checks.text("campaign", value, least=1, most=MAX_CAMPAIGN, is_name=True)
    if has_number(name):
        raise InvalidMessage("campaign must not hold a phone number, as it is shown in logs")
    return name
