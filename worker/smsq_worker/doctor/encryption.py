"""Whether numbers and codes are readable in Redis, and whether the keys set here decrypt them."""

from __future__ import annotations

from collections.abc import Iterator

from smsq.cipher import FernetCipher, fernets
from smsq.connection import Client
from smsq.errors import SettingsError
from smsq_worker.config.settings import Settings
from smsq_worker.doctor.finding import Finding, error, ok
from smsq_worker.i18n import _
from smsq_worker.inspection.formatting import span
from smsq_worker.ledger.key_rotation import wrapped_lookup_key


def check(settings: Settings, client: Client) -> Iterator[Finding]:
    """Try the keys on what the ledger holds. Raises redis.RedisError."""
    wrapped = wrapped_lookup_key(client)
    if settings.payload_keys:
        yield _tried(settings, wrapped)
    elif wrapped:
        yield error(
            _(
                "numbers and codes are encrypted in Redis, but SMSQ_PAYLOAD_KEYS is not set here: "
                "no worker starts without it, and a producer's messages are readable"
            ),
            _("give every process the same SMSQ_PAYLOAD_KEYS"),
        )
    else:
        yield ok(
            _(
                "anyone who can read Redis can read number and code of each message until it is "
                "final"
            ),
            _("SMSQ_PAYLOAD_KEYS encrypts them"),
        )
    if settings.redo_s:
        yield ok(
            _(
                "number and code of what failed in the lanes notice and bulk are kept for {time} "
                "after its end, for smsq redo; an otp's never",
                time=span(settings.redo_s),
            ),
            _("SMSQ_REDO_S=0 keeps none"),
        )


def _tried(settings: Settings, wrapped: str | None) -> Finding:
    try:
        keyring = fernets(settings.payload_keys)
        if wrapped:
            FernetCipher(keyring, wrapped)
    except SettingsError as problem:
        what, _semicolon, advice = problem.problems[0].partition("; ")
        return error(what, advice)
    return ok(_("numbers and codes are encrypted in Redis, with keys that are known here"))
