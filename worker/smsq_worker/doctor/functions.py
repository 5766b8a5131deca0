"""Whether the functions are there that producers and workers call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from redis.exceptions import ResponseError

from smsq.connection import Client
from smsq.functions import LIBRARY
from smsq_worker.doctor.finding import Finding, ok, one_line, warning
from smsq_worker.i18n import _
from smsq_worker.ledger.functions import libraries, workers_run_scripts

SIDE_BY_SIDE: Final = 2
"""An older and a newer release."""


def check(client: Client) -> Iterator[Finding]:
    """Check for this release's library, and for outdated ones. Raises redis.RedisError."""
    try:
        found = libraries(client)
    except ResponseError as error:  # no permission, or a server that has no functions
        yield warning(
            _(
                "unknown whether the functions of producers are there: {error}",
                error=one_line(error),
            ),
            _("grant FUNCTION|LIST; a server without functions runs their scripts"),
        )
        return
    if any(one.is_own for one in found):
        yield ok(_("the functions of producers are there: {name}", name=LIBRARY))
    else:
        yield warning(
            _("the functions of this release's producers are not there: {name}", name=LIBRARY),
            _(
                "start a worker of this release, or run smsq functions load; until then only those "
                "producers get through whose user may run scripts"
            ),
        )
    if len(found) > SIDE_BY_SIDE:
        yield warning(
            _("libraries of functions, of several releases: {n}", n=len(found)),
            _("drop those of which no producer runs: smsq functions"),
        )
    if workers_run_scripts(client):
        yield ok(
            _("workers run their acts as scripts, as none has loaded its functions"),
            _(
                "functions cost Redis less: let the workers' user run FCALL, FUNCTION|LOAD, "
                "FUNCTION|LIST and FUNCTION|DELETE"
            ),
        )
