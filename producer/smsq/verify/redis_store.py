"""Verification in Redis: the acts, and what they need of the secrets."""

from __future__ import annotations

from typing import Final

from smsq.app import app
from smsq.connection import mapped_errors, running
from smsq.contract import State
from smsq.entries import Origin
from smsq.errors import SettingsError
from smsq.failpoints import reached
from smsq.functions import Act
from smsq.ledger_writer import WakeUp
from smsq.settings import ProducerSettings
from smsq.steps import Steps
from smsq.tracing import Sending
from smsq.verify.challenge import Challenge
from smsq.verify.rules import AGAIN_S, IN_DOUBT, NOT_CHECKED, Guess, Wanted, digest

NO_KEY: Final = (
    "SMSQ_VERIFY_SECRET: must be set for verification codes, the same in all processes that start "
    "or check them, and kept out of Redis; `openssl rand -base64 32` makes one"
)
NO_PAYLOAD_KEYS: Final = (
    "SMSQ_PAYLOAD_KEYS: must be set for verification codes, in workers too, as Redis would show a "
    "code until it is sent; `openssl rand -base64 32 | tr +/ -_` makes one"
)
_START: Final = Act("verify_start")
_CHECK: Final = Act("verify_check")

Started = tuple[Challenge, State | None]


def starting(wanted: Wanted, span: Sending, own: WakeUp | None) -> Steps[Started]:
    """Start a challenge with its message and its wake-up, or return the one that there is.

    Return the state of its message, too, where this call entered it.
    """
    settings, writer, message = app.settings, app.ledger_writer, wanted.message
    _demand(settings, payload_keys=True)
    before = (
        wanted.name,
        wanted.handle,
        (yield from writer.hashing(message.phone)),
        wanted.purpose,
        wanted.pool,
        message.template,
        digest(settings.verify_secret[0], wanted.name, message.code),
        round(message.ttl_s * 1000),
        wanted.message_id,
        AGAIN_S * 1000,
    )
    reached("before entry")
    answer = yield from writer.entering_within(
        _START,
        before,
        wanted.message_id,
        message,
        origin=Origin(trace=span.traceparent),
        wakeup=own,
    )
    challenge, state = _started(wanted, answer)
    span.tell({"state": state or State.DUPLICATE})
    reached("after entry")
    return challenge, state


def checking(guess: Guess) -> Steps[bool]:
    """Return whether a code is right, and use it up."""
    settings = app.settings
    # Without the keys each number would be another than the challenge's.
    _demand(settings, payload_keys=bool(guess.phone))
    phone_hash = ""
    if guess.phone:
        phone_hash = yield from app.ledger_writer.hashing(guess.phone)
    digests = (digest(secret, guess.name, guess.code) for secret in settings.verify_secret)
    args = (guess.name, guess.handle, guess.call, phone_hash, guess.purpose or "", *digests)
    with mapped_errors(settings.redis_url, IN_DOUBT, NOT_CHECKED):
        # Without a replica's word: a failover that undoes it lets the same person in once more.
        answer, _ = yield from running(_CHECK, args, 0)
    return str(answer) == "right"


def _started(wanted: Wanted, answer: list[str]) -> Started:
    name, handle, message_id, ends, again, spent, state = answer
    # Of a number that was guessed at too often there is none: this id passes no code.
    own_id = f"{name or wanted.name}{handle or wanted.handle}"
    times = int(ends), int(again)
    challenge = Challenge.of(own_id, message_id, *times, bool(state), bool(spent))
    return challenge, State(state) if state else None


def _demand(settings: ProducerSettings, *, payload_keys: bool) -> None:
    missing = [] if settings.verify_secret else [NO_KEY]
    if payload_keys and not settings.payload_keys:
        missing.append(NO_PAYLOAD_KEYS)
    if missing:
        raise SettingsError(missing)
