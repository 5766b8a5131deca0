"""Verification codes: `start` sends one, `check` says whether it is the one that was sent.

>>> from smsq import verify
>>> challenge = verify.start("13800138000", "SMS_1001")
>>> verify.check(challenge.id, "482913")
False
"""

from __future__ import annotations

from smsq import ledgers
from smsq.verify.challenge import Challenge
from smsq.verify.rules import guess_of, wanted

__all__ = ["Challenge", "acheck", "astart", "check", "start"]


def start(
    phone: str,
    template: str,
    *,
    purpose: str = "login",
    length: int = 6,
    ttl_s: float = 300,
    known_device: bool = False,
) -> Challenge:
    """Send a random code of `length` digits on lane otp, good for `ttl_s`; return its challenge.

    Within 60 s of another start for the same number and `purpose`, return that challenge and send
    nothing. Nor is anything sent where the number was guessed at too often within the hour: the
    challenge is `spent` then. `known_device` says that the request comes from a device on which
    this number was verified before, such as by a signed cookie: what strangers guess, who start
    challenges for somebody else's number, does not count against those.

    `length` is 4 to 10, `ttl_s` 60 to 3600. Raises InvalidMessage where an argument breaks a rule,
    LedgerUnavailable where Redis does not answer within SMSQ_ENQUEUE_TIMEOUT_S (call again: a code
    that was sent is not sent again), and SettingsError without SMSQ_VERIFY_SECRET and
    SMSQ_PAYLOAD_KEYS.
    """
    found = wanted(phone, template, purpose, length, ttl_s, known_device=known_device)
    return ledgers.do(ledgers.current().starting(found))


def check(
    challenge_id: str, code: str, *, phone: str | None = None, purpose: str | None = None
) -> bool:
    """Return whether a code is the challenge's, which is then used up.

    False also where it was used before, is too late, had 5 wrong codes, or the number had 15 within
    the hour; and where `phone` or `purpose` is given and another than the challenge's, so give what
    came with the form. Full-width digits, spaces and hyphens in the code are as good as others. A
    text that can be no code, id or number is False, too, and costs no try.

    Raises InvalidMessage where an argument is no str, such as the challenge instead of its `id`;
    LedgerUnavailable where Redis does not answer: the code may be used up then; SettingsError
    without SMSQ_VERIFY_SECRET.
    """
    guess = guess_of(challenge_id, code, phone, purpose)
    return guess is not None and ledgers.do(ledgers.current().checking(guess))


async def astart(
    phone: str,
    template: str,
    *,
    purpose: str = "login",
    length: int = 6,
    ttl_s: float = 300,
    known_device: bool = False,
) -> Challenge:
    """Start as `start` does, without blocking the event loop."""
    found = wanted(phone, template, purpose, length, ttl_s, known_device=known_device)
    return await ledgers.ado(ledgers.current().starting(found))


async def acheck(
    challenge_id: str, code: str, *, phone: str | None = None, purpose: str | None = None
) -> bool:
    """Check as `check` does, without blocking the event loop."""
    guess = guess_of(challenge_id, code, phone, purpose)
    return guess is not None and await ledgers.ado(ledgers.current().checking(guess))
