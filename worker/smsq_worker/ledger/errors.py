"""What can be wrong with a ledger that answers, and how errors of acts are classified."""

from __future__ import annotations

import re
from importlib.metadata import version as release_of
from typing import Final

import redis

from smsq import keys
from smsq.errors import LedgerUnavailable
from smsq.settings import shown_url

# What a server says of itself has its own class in redis-py, or one of these codes.
_OF_A_SCRIPT: Final = re.compile(
    r"^(?!.*\b(OOM|MISCONF|NOREPLICAS|READONLY|NOPERM|MASTERDOWN)\b).*user_(?:script|function)",
    re.DOTALL,
)


class SchemaTooNew(LedgerUnavailable):
    """A newer release raised `readable_by` above what this process knows."""


class LedgerFault(LedgerUnavailable):
    """Redis is there, and an act failed on what it was given, or on what the ledger holds.

    Waiting does not help.
    """


def classified(error: LedgerUnavailable, url: str) -> LedgerUnavailable:
    """Return the error of an act as SchemaTooNew, as LedgerFault, or as it came."""
    cause = error.__cause__
    code, _, readable_by = str(cause).partition(" ")
    if code == "OUTGROWN":
        return SchemaTooNew(too_new(url, int(readable_by)))
    if type(cause) is redis.ResponseError and _OF_A_SCRIPT.search(str(cause)):
        return LedgerFault(*error.args)
    return error


def too_new(url: str, readable_by: int) -> str:
    """Return the words for a ledger that this release must not work in."""
    return (
        f"the ledger at {shown_url(url)} (SMSQ_REDIS_URL) is for releases that know its schema "
        f"{readable_by}; this smsq {release_of('smsq')} knows up to {keys.VERSION}: upgrade this "
        "process, or name another ledger"
    )
