"""Whether this release may work in the ledger, and whether the ledger is migrated."""

from __future__ import annotations

from collections.abc import Iterator

from smsq.connection import Client
from smsq_worker.doctor.finding import Finding, error, ok, warning
from smsq_worker.i18n import _
from smsq_worker.ledger.migrations import VERSION, read


def check(client: Client) -> Iterator[Finding]:
    """Compare the ledger's schema with what this release knows. Raises redis.RedisError."""
    found = read(client)
    if found is None:
        yield ok(_("the ledger is empty; the first worker records its schema"))
        return
    what = _(
        "the ledger has schema {found}; this release knows up to {known}",
        found=found.version,
        known=VERSION,
    )
    if found.readable_by > VERSION:
        yield error(
            _("{what}, and the ledger requires {needed}", what=what, needed=found.readable_by),
            _("upgrade this process, or name another ledger in SMSQ_REDIS_URL"),
        )
    elif found.version < VERSION:
        advice = _("restart a worker of this release: it migrates the ledger at its start")
        yield warning(what, advice)
    elif found.version > VERSION:
        what = _("{what}, and may still work there", what=what)
        yield warning(what, _("upgrade this process, too"))
    else:
        yield ok(_("the ledger has schema {found}, as this release", found=found.version))
