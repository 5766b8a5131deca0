"""What a worker encrypts anew with the first of its keys when it starts."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from redis.client import Pipeline

from smsq import keys
from smsq.cipher import FernetCipher, Unreadable
from smsq.connection import Client, mapped_errors, perform
from smsq.functions import Script
from smsq.steps import answered
from smsq_worker.config.rules import Rules
from smsq_worker.ledger.scripts import Scripts

log = logging.getLogger(__name__)

AT_ONCE: Final = 1000


def wrapped_lookup_key(client: Client) -> str | None:
    """Return the lookup key as it is stored, None where there is none. Raises redis.RedisError."""
    return client.get(keys.LOOKUP)  # type: ignore[return-value]


def renew(client: Client, rules: Rules, cipher: FernetCipher) -> None:
    """Encrypt suppressed numbers with the first key, and the lookup key with all keys.

    Numbers from before there were keys get their keyed digest too, or they would no longer be
    found. Several workers may do this at once, and be killed at any point. Messages are left as
    they are. Raises LedgerUnavailable.
    """
    move = Scripts(rules).act("renew")
    with mapped_errors(rules.url):
        count = sum(_renew_suppressed(client, cipher, move))
        if count:
            log.info("%d suppressed numbers are now encrypted with the first key", count)
        client.transaction(lambda pipe: _rewrap(pipe, cipher), keys.LOOKUP)


def _renew_suppressed(client: Client, cipher: FernetCipher, move: Script) -> Iterator[int]:
    load = "SCRIPT", "LOAD", move.text
    commands: list[tuple[Any, ...]] = [load]
    for phone_hash, text in client.hscan_iter(keys.SUPPRESSED, count=AT_ONCE):
        try:
            entry: dict[str, Any] = json.loads(text)
            # What no key opens stays suppressed: only its digest counts.
            with suppress(Unreadable):
                phone = cipher.renewed(entry["phone"])
                if phone != entry["phone"]:
                    now = cipher.phone_hash(cipher.show(phone))
                    new = json.dumps(entry | {"phone": phone})
                    commands.append(("EVALSHA", move.sha, 0, phone_hash, text, now, new))
        except (ValueError, KeyError, TypeError, AttributeError):
            # No worker would start for it.
            log.warning("an entry of %s is malformed, and left as it is", keys.SUPPRESSED)
        if len(commands) > AT_ONCE:
            yield from perform(client, answered(commands))[1:]
            commands = [load]
    if len(commands) > 1:
        yield from perform(client, answered(commands))[1:]


def _rewrap(pipe: Pipeline, cipher: FernetCipher) -> None:
    """Wrap the lookup key with all keys, unless another worker does so now."""
    wrapped: Any = pipe.get(keys.LOOKUP)
    pipe.multi()
    if wrapped and (new := cipher.rewrapped(wrapped)) != wrapped:
        pipe.set(keys.LOOKUP, new)
