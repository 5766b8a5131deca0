"""The rules of verification: what may be asked for, what a code looks like, and the bounds.

start.lua and check.lua have the same bounds; one suite of tests runs against both.
"""

from __future__ import annotations

import hmac
import secrets
import unicodedata
from dataclasses import dataclass, field
from typing import Any, Final

from smsq import checks
from smsq.contract import Lane, Message, parse_phone, parse_template
from smsq.errors import InvalidMessage
from smsq.ids import new_id

AGAIN_S: Final = 60
"""For how long a start returns the challenge of the one before, and sends nothing."""
TRIES: Final = 5
"""Of a challenge."""
WRONG: Final = 15
"""Wrong codes of a number, in each of the two pools, within WRONG_S."""
WRONG_S: Final = 3600

IN_DOUBT: Final = "; the code may or may not be used up"
NOT_CHECKED: Final = "; the code was not checked"

LENGTHS: Final = range(4, 11)
TTL_S: Final = (60, 3600)

_PART: Final = 32
"""Hex digits of each half of an id: 128 bits that nobody guesses."""
_HEX: Final = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A challenge that is to be started. Its repr shows neither the number nor the code."""

    name: str
    handle: str = field(repr=False)
    message_id: str
    message: Message
    """Its code is the challenge's."""
    purpose: str
    pool: str
    """"known" or "unknown" devices: whose wrong codes are counted together."""


@dataclass(frozen=True, slots=True)
class Guess:
    """A code that is to be checked."""

    name: str
    handle: str = field(repr=False)
    code: str = field(repr=False)
    phone: str | None = field(repr=False)
    purpose: str | None
    call: str
    """What no other call has: a command that is sent again is answered again."""


def wanted(
    phone: object,
    template: object,
    purpose: object,
    length: object,
    ttl_s: object,
    *,
    known_device: object,
) -> Wanted:
    """Return a new challenge, with its code. Raises InvalidMessage."""
    digits = _number("length", length, LENGTHS[0], LENGTHS[-1], int)
    if not isinstance(known_device, bool):
        raise InvalidMessage(f"known_device must be a bool; got {checks.kind_of(known_device)}")
    message = Message(
        phone=parse_phone(phone),
        template=parse_template(template),
        code=f"{secrets.randbelow(10**digits):0{digits}}",
        lane=Lane.OTP,
        ttl_s=float(_number("ttl_s", ttl_s, *TTL_S, int | float)),
    )
    return Wanted(
        name=secrets.token_hex(_PART // 2),
        handle=secrets.token_hex(_PART // 2),
        message_id=new_id(),
        message=message,
        purpose=_purpose(purpose),
        pool="known" if known_device else "unknown",
    )


def guess_of(challenge_id: object, code: object, phone: object, purpose: object) -> Guess | None:
    """Return a guess; None where it cannot be right, whatever the challenge. Raises InvalidMessage.

    What cannot be right costs no try.
    """
    digits = plain_digits(code)
    of_phone = None if phone is None else _phone_or_none(phone)
    of_purpose = None if purpose is None else _purpose(purpose)
    if not isinstance(challenge_id, str):
        got = checks.kind_of(challenge_id)
        raise InvalidMessage(
            f"challenge_id must be a str, the id of what start returned; got {got}"
        )
    is_id = len(challenge_id) == 2 * _PART and _HEX.issuperset(challenge_id)
    if not is_id or len(digits) not in LENGTHS or (phone is not None and of_phone is None):
        return None
    name, handle = challenge_id[:_PART], challenge_id[_PART:]
    return Guess(name, handle, digits, of_phone, of_purpose, secrets.token_hex(8))


def _phone_or_none(phone: object) -> str | None:
    """Return a number's digits, None for a text that is no number, as people type such, too."""
    try:
        return parse_phone(phone)
    except InvalidMessage:
        if isinstance(phone, str):
            return None
        raise


def plain_digits(code: object) -> str:
    """Return a code's digits in ASCII, "" where it has anything else but spaces and hyphens."""
    if not isinstance(code, str):
        raise InvalidMessage(
            f"code must be a str, as a number has no leading zeros; got {checks.kind_of(code)}"
        )
    if len(code) > 4 * LENGTHS[-1]:
        return ""
    digits = [unicodedata.decimal(one, None) for one in code if not (one.isspace() or one == "-")]
    return "" if None in digits else "".join(map(str, digits))


def digest(secret: str, name: str, code: str) -> str:
    """Digest a code. The name is random: it stands for one number and purpose."""
    return hmac.digest(secret.encode(), f"smsq code {name} {code}".encode(), "sha256").hex()


def _purpose(value: object) -> str:
    return checks.text("purpose", value, least=1, most=64, is_name=True)


def _number(name: str, value: Any, least: int, most: int, kind: Any) -> Any:
    of = "a whole number" if kind is int else "a number"
    rule = f"{name} must be {of} from {least} to {most}"
    if isinstance(value, bool) or not isinstance(value, kind):
        raise InvalidMessage(f"{rule}; got {checks.kind_of(value)}")
    if not least <= value <= most:
        raise InvalidMessage(f"{rule}; got {checks.rounded(value)}")
    return value
