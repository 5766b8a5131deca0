"""The functions on the server: whether they are there, and loading those of producers."""

from __future__ import annotations

import logging
import time
from typing import Any, Final, NamedTuple

from redis.exceptions import ResponseError

from smsq import keys
from smsq.connection import Client, mapped_errors
from smsq.functions import CODE, LIBRARY, PREFIX
from smsq.steps import as_dict
from smsq_worker.ledger import act_functions

log = logging.getLogger(__name__)

LOOKS_EACH_S: Final = 10.0
"""Functions go where a server is replaced or flushed; producers without scripts wait for this."""
REFUSED_S: Final = 60.0
"""Until the next try. Redis notes each refusal, too."""


class Library(NamedTuple):
    """A release's library on the server."""

    name: str
    is_own: bool
    """Whether it is this release's, as this release has it."""


def libraries(client: Client, pattern: str = f"{PREFIX}*") -> list[Library]:
    """List the libraries of all releases. Raises redis.RedisError."""
    found: Any = client.function_list(pattern, withcode=True)
    return sorted(
        Library(one["library_name"], one["library_code"] == CODE) for one in map(as_dict, found)
    )


def load(client: Client) -> None:
    """Load this release's library, in place of one of its name. Raises redis.RedisError."""
    client.function_load(CODE, replace=True)


def drop(client: Client, name: str) -> bool:
    """Delete a release's library; return whether there was one. Raises redis.RedisError."""
    if name not in {one.name for one in libraries(client)}:
        return False
    client.function_delete(name)
    return True


def workers_run_scripts(client: Client) -> bool:
    """Return whether workers were here and loaded no functions. Raises redis.RedisError."""
    claims = f"{act_functions.PREFIX}claim_*"  # What every one of them does, again and again.
    return bool(client.hexists(keys.SCHEMA, "now")) and not client.function_list(claims)


class Keeper:
    """Loads the library wherever it is not; for a worker's scheduler."""

    def __init__(self, client: Client, url: str) -> None:
        self._client = client
        self._url = url
        self._looks_at = 0.0
        self._refusal = ""

    def keep(self) -> None:
        """Check once in a while, and load what is not there. Raises LedgerUnavailable.

        What the server refuses is logged, once in a row.
        """
        if time.monotonic() < self._looks_at:
            return
        self._looks_at = time.monotonic() + LOOKS_EACH_S
        refusal, before = "", self._refusal
        with mapped_errors(self._url):
            try:
                if not any(one.is_own for one in libraries(self._client, LIBRARY)):
                    load(self._client)
                    log.info("loaded the functions of producers, %s", LIBRARY)
            except ResponseError as error:  # no permission, full, or a server without functions
                refusal = str(error)
        self._refusal = refusal
        if refusal:
            self._looks_at = time.monotonic() + REFUSED_S
        if refusal and refusal != before:
            log.warning(
                "the functions of producers could not be loaded (%s): until an administrator runs "
                "`smsq functions load`, only those get through whose user may run scripts",
                refusal,
            )
