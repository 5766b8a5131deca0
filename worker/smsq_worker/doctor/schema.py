"""Whether this release may work in the ledger, and whether the ledger is migrated."""

from __future__ import annotations

from collections.abc import Iterator

from smsq.connection import Client
from smsq_worker.doctor.finding import Finding, error, ok, warning
from smsq_worker.ledger.migrations import VERSION, read


def check(client: Client) -> Iterator[Finding]:
    """Compare the ledger's schema with what this release knows. Raises redis.RedisError."""
    found = read(client)
    if found is None:
        yield ok("the ledger is empty; the first worker records its schema")
        return
    what = f"the ledger has schema {found.version}; this release knows up to {VERSION}"
    if found.readable_by > VERSION:
        yield error(
            f"{what}, and the ledger requires {found.readable_by}",
            "upgrade this process, or name another ledger in SMSQ_REDIS_URL",
        )
    elif found.version < VERSION:
        yield warning(what, "restart a worker of this release: it migrates the ledger at its start")
    elif found.version > VERSION:
        yield warning(f"{what}, and may still work there", "upgrade this process, too")
    else:
        yield ok(f"the ledger has schema {found.version}, as this release")
