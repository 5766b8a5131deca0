"""Verification in Redis: the acts, and what they need of the secrets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from smsq import deadline, tracing, wakeup
from smsq.app import app
from smsq.connection import mapped_errors, run_and_wait
from smsq.contract import State, mask_phone
from smsq.errors import SettingsError
from smsq.failpoints import reached
from smsq.functions import Act
from smsq.ledger_writer import Origin
from smsq.publishing import left_to_the_scheduler, publish
from smsq.settings import ProducerSettings
from smsq.verify.challenge import Challenge
from smsq.verify.rules import AGAIN_S, Guess, Wanted, digest

NO_KEY: Final = (
    "SMSQ_VERIFY_SECRET: must be set for verification codes, the same in all processes that start "
    "or check them, and kept out of Redis; `openssl rand -base64 32` makes one"
)
NO_PAYLOAD_KEYS: Final = (
    "SMSQ_PAYLOAD_KEYS: must be set for verification codes, in workers too, as Redis would show a "
    "code until it is sent; `openssl rand -base64 32 | tr +/ -_` makes one"
)
IN_DOUBT: Final = "; the code may or may not be used up"

_START: Final = Act("verify_start")
_CHECK: Final = Act("verify_check")


def start(wanted: Wanted) -> Challenge:
    """Start a challenge with its message and its wake-up, or return the one that there is."""
    _demand(_missing_to_start(app.settings))
    message, message_id = wanted.message, wanted.message_id
    shown = f"('{mask_phone(message.phone)}', '{message.template}')"
    known = {"id": message_id, "lane": message.lane, "template": message.template}
    within = deadline.within(app.settings.enqueue_timeout_s)
    with within, tracing.sending(known) as span:
        own = None
        if app.settings.is_one_redis:
            own = wakeup.of_one(app, message_id, message.lane, shown)
        reached("before entry")
        origin = Origin(trace=span.traceparent)
        answer = app.ledger_writer.enter_within(
            _START, _start_args(wanted), message_id, message, origin=origin, wakeup=own
        )
        challenge, state = _challenge(wanted, answer)
        span.tell({"state": state or State.DUPLICATE})
        reached("after entry")
        if state == State.QUEUED and own is None:
            with left_to_the_scheduler([message_id]):
                publish(app, message_id, message.lane, argsrepr=shown)
    return challenge


def check(guess: Guess) -> bool:
    """Return whether a code is right, and use it up."""
    settings = app.settings
    _demand(_missing_to_check(settings))
    with deadline.within(settings.enqueue_timeout_s):
        args = _check_args(guess, settings)
        with mapped_errors(settings.redis_url, IN_DOUBT):
            # Without a replica's word: a failover that undoes it lets the same person in once more.
            answer, _ = run_and_wait(app.client, _CHECK, args, 0)
    return str(answer) == "right"


def _start_args(wanted: Wanted) -> tuple[Any, ...]:
    message, secret = wanted.message, app.settings.verify_secrets[0]
    return (
        wanted.name,
        wanted.handle,
        app.ledger_writer.phone_hash(message.phone),
        wanted.purpose,
        wanted.pool,
        message.template,
        digest(secret, wanted.name, message.code),
        round(message.ttl_s * 1000),
        wanted.message_id,
        AGAIN_S * 1000,
    )


def _challenge(wanted: Wanted, answer: list[str]) -> tuple[Challenge, str]:
    """Return what start.lua answered, and the state of the message where this call entered it."""
    name, handle, message_id, ends, again, spent, state = answer
    # Of a number that was guessed at too often there is none: this id passes no code.
    own_id = f"{name or wanted.name}{handle or wanted.handle}"
    times = int(ends), int(again)
    return Challenge.of(own_id, message_id, *times, bool(state), bool(spent)), state


def _check_args(guess: Guess, settings: ProducerSettings) -> tuple[Any, ...]:
    phone_hash = app.ledger_writer.phone_hash(guess.phone) if guess.phone else ""
    digests = (digest(secret, guess.name, guess.code) for secret in settings.verify_secrets)
    return (guess.name, guess.handle, guess.call, phone_hash, guess.purpose or "", *digests)


def _missing_to_start(settings: ProducerSettings) -> Iterator[str]:
    yield from _missing_to_check(settings)
    if not settings.payload_keys:
        yield NO_PAYLOAD_KEYS


def _missing_to_check(settings: ProducerSettings) -> Iterator[str]:
    if not settings.verify_secrets:
        yield NO_KEY


def _demand(missing: Iterator[str]) -> None:
    problems = [*missing]
    if problems:
        raise SettingsError(problems)
