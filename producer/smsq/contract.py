"""The public contract as code: names, states, lanes and the rules a message must keep.

Producer and worker both read it, so that they cannot differ.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Self, TypeVar

from smsq.errors import InvalidMessage

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

SEND_SMS: Final = "smsq.send_sms"
SEND_BATCH: Final = "smsq.send_batch"
RECONCILE_REPORT: Final = "smsq.reconcile_report"
NOTIFY_OUTCOME: Final = "smsq.notify_outcome"

REPORT_QUEUE: Final = "sms.report"
NOTIFY_QUEUE: Final = "sms.notify"

KEY_TTL_S: Final = 24 * 3600
"""How long an idempotency key keeps a second message away."""
FILE_SPACE: Final = "file"
"""The namespace of the idempotency keys that smsq send-file makes."""

MAX_ID: Final = 255

MAX_TTL_S: Final = 366 * 86_400
MAX_AHEAD_S: Final = 366 * 86_400


class Lane(StrEnum):
    """Order of service: otp before notice before bulk."""

    OTP = "otp"
    NOTICE = "notice"
    BULK = "bulk"

    @property
    def queue(self) -> str:
        """Name the Celery queue of this lane."""
        return f"sms.{self}"

    @property
    def ttl_s(self) -> int:
        """Give the default time, in seconds, in which sending is still useful."""
        return 300 if self is Lane.OTP else 86_400


class State(StrEnum):
    """Where a message stands; `smsq_worker.states` holds the ways between them.

    A state that a newer release wrote is kept as its text: it is none of the members below.
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
    {
        State.DELIVERED,
        State.FAILED,
        State.EXPIRED,
        State.UNREPORTED,
        State.DUPLICATE,
        State.CANCELLED,
    }
)


class OnAmbiguous(StrEnum):
    """What to do when a call may or may not have reached the gateway."""

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
    key: str | None = field(repr=False)
    on_ambiguous: OnAmbiguous
    send_at: float | None
    """Unix seconds."""
    reference: str | None
    notify: str | None
    key_space: str = ""
    """Whose the key is: "" for a Python caller, FILE_SPACE, or a `relay_space`."""


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
    lane: str = "notice",
    ttl_s: float | None = None,
    key: str | None = None,
    on_ambiguous: str | None = None,
    send_at: datetime | str | float | None = None,
    reference: str | None = None,
    notify: str | None = None,
) -> None:
    """Stand for the arguments of smsq.send_sms; CONTRACT's table says what each means."""


_SIGNATURE: Final = inspect.signature(signature_of_send_sms)
_NAMES: Final = frozenset(_SIGNATURE.parameters)
_POSITIONAL: Final = ("phone", "template", "code")
_DEFAULTS: Final = {
    name: parameter.default
    for name, parameter in _SIGNATURE.parameters.items()
    if parameter.default is not parameter.empty
}


def parse(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Message:
    """Turn the arguments of smsq.send_sms into a Message.

    Raises InvalidMessage that names the first argument that breaks a rule and what is allowed.
    """
    given = _bound(args, kwargs)
    lane = parse_lane(given["lane"])
    return Message(
        phone=parse_phone(given["phone"]),
        template=parse_template(given["template"]),
        code=_text("code", given["code"], least=0, most=500),
        lane=lane,
        ttl_s=_optional(_ttl, given["ttl_s"], float(lane.ttl_s)),
        key=_optional(lambda v: _text("key", v, least=1, most=256), given["key"], None),
        on_ambiguous=_optional(
            lambda v: _choice("on_ambiguous", v, OnAmbiguous),
            given["on_ambiguous"],
            OnAmbiguous.RESEND,
        ),
        send_at=_optional(_send_at, given["send_at"], None),
        reference=_optional(
            lambda v: _text("reference", v, least=0, most=128), given["reference"], None
        ),
        notify=_optional(
            lambda v: _text("notify", v, least=1, most=255, is_name=True), given["notify"], None
        ),
    )


def _bound(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give all arguments by name, many times as fast as inspect does where they are right."""
    if (
        isinstance(args, list | tuple)
        and len(args) <= len(_POSITIONAL)
        and isinstance(kwargs, dict)
    ):
        given = dict(zip(_POSITIONAL, args, strict=False))
        if given.keys().isdisjoint(kwargs):
            given = _DEFAULTS | given | kwargs
            if given.keys() == _NAMES:
                return given
    try:
        bound = _SIGNATURE.bind(*args, **kwargs)
        bound.apply_defaults()
    except TypeError as error:
        raise InvalidMessage(f"send_sms{_SIGNATURE}: {_shown(str(error))}") from None
    return bound.arguments


_PHONE_RULE: Final = (
    "phone must be a mainland mobile number: 11 digits of which the first two are 13 to 19, "
    "with or without +86, 0086 or 86 in front, spaces and hyphens"
)
_PHONE: Final = re.compile(r"(?:\+86|0086|86)?(1[3-9][0-9]{9})")


def parse_phone(value: object) -> str:
    """Give a number's 11 digits, however it is written. Raises InvalidMessage."""
    if not isinstance(value, str):
        raise InvalidMessage(f"{_PHONE_RULE}; got {_kind(value)}, not a str")
    match = _PHONE.fullmatch(value.replace(" ", "").replace("-", ""))
    if match is None:
        raise InvalidMessage(f"{_PHONE_RULE}; got a text of {len(value)} characters that is not")
    return match[1]


def is_id(value: object) -> bool:
    """Tell whether a value can be a message's id: 1 to 255 printable characters.

    Others would break a line of a log, or a Celery envelope, whose id a worker replaces then.
    """
    return isinstance(value, str) and 0 < len(value) <= MAX_ID and value.isprintable()


def parse_id(value: object) -> str:
    """Give a message's id. Raises InvalidMessage."""
    if not isinstance(value, str) or not is_id(value):
        kind = f"{len(value)} characters" if isinstance(value, str) else _kind(value)
        raise InvalidMessage(
            f"an id must be a str of 1 to {MAX_ID} printable characters; got {kind}"
        )
    return value


def parse_lane(value: object) -> Lane:
    """Give a lane. Raises InvalidMessage."""
    return _choice("lane", value, Lane)


def parse_template(value: object) -> str:
    """Give a template's name. Raises InvalidMessage."""
    return _text("template", value, least=1, most=64, is_name=True)


_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def _text(name: str, value: object, *, least: int, most: int, is_name: bool = False) -> str:
    rule = f"{name} must be a str of {least} to {most} characters"
    if not isinstance(value, str):
        hint = ": a number would lose its leading zeros" if name == "code" else ""
        raise InvalidMessage(f"{rule}; got {_kind(value)}{hint}")
    if not least <= len(value) <= most:
        raise InvalidMessage(f"{rule}; got {len(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidMessage(f"{rule}; got half of a surrogate pair, which is no text") from None
    if is_name and _CONTROL.search(value):
        raise InvalidMessage(f"{rule}; got a control character, which no name has")
    return value


def _choice(name: str, value: object, allowed: type[E]) -> E:
    if isinstance(value, str) and value in list(allowed):
        return allowed(value)
    shown = repr(_shown(value)) if isinstance(value, str) else _kind(value)
    raise InvalidMessage(f"{name} must be one of {', '.join(allowed)}; got {shown}")


def _ttl(value: object) -> float:
    rule = f"ttl_s must be a number of seconds, more than 0 and at most {MAX_TTL_S}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidMessage(f"{rule}; got {_kind(value)}")
    if not 0 < value <= MAX_TTL_S:
        raise InvalidMessage(f"{rule}; got {_rounded(value)}")
    return float(value)


def _send_at(value: object) -> float:
    rule = (
        "send_at must be an aware datetime, an ISO 8601 text with an offset or Unix seconds, "
        "at most 366 days ahead"
    )
    match value:
        case bool():
            raise InvalidMessage(f"{rule}; got a bool")
        case int() | float():
            moment = value
        case datetime() | str():
            moment = _unix_seconds(value, rule)
        case _:
            raise InvalidMessage(f"{rule}; got {_kind(value)}")
    if not 0 <= moment <= datetime.now(UTC).timestamp() + MAX_AHEAD_S:
        shown = _rounded(value) if isinstance(value, int | float) else repr(str(value)[:40])
        raise InvalidMessage(f"{rule}; got {shown}")
    return float(moment)


def _unix_seconds(value: datetime | str, rule: str) -> float:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        if moment.utcoffset() is not None:
            return moment.timestamp()
    except (ValueError, OverflowError):
        raise InvalidMessage(f"{rule}; got {_kind(value)} that is no such time") from None
    raise InvalidMessage(f"{rule}; got {moment.isoformat()}, which has no time zone")


def _optional(rule: Callable[[object], T], value: object, default: T) -> T:
    return default if value is None else rule(value)


def _kind(value: object) -> str:
    """Name a value's type: the value itself may be a number or a code in the wrong place."""
    return "None" if value is None else f"a value of type {type(value).__name__}"


def _shown(text: str) -> str:
    """Cut a text short, and hide what may be a number or a code in the wrong place."""
    return re.sub(r"\d{4,}", "****", text[:80])


def _rounded(value: float) -> str:
    """Write a number with three digits, for the same reason; an int can have thousands."""
    try:
        return f"{value:.3g}"
    except OverflowError:
        return "a number beyond all bounds"
