"""`smsq functions`: the acts of producers that the ledger's Redis runs for them."""

from __future__ import annotations

import click

from smsq_worker.cli.helpers.options import command, listing
from smsq_worker.cli.helpers.output import echo, echo_json
from smsq_worker.i18n import _


@listing(
    "smsq functions",
    "smsq functions load",
    "smsq functions drop smsq_3_1a2b3c4d",
)
def functions(*, as_json: bool) -> None:
    """List the libraries of functions that producers call, one for each release.

    A worker loads its release's when it starts. Exits with 1 where this release's is not there.
    """
    from smsq.connection import mapped_errors
    from smsq.functions import LIBRARY
    from smsq_worker.cli.helpers.ledger_client import open_ledger
    from smsq_worker.ledger.functions import libraries

    settings, client = open_ledger()
    with mapped_errors(settings.redis_url):
        found = libraries(client)
    is_there = any(one.is_own for one in found)
    if as_json:
        echo_json([{"name": one.name, "this_release": one.is_own} for one in found])
    else:
        for one in found:
            words = _("of this release") if one.is_own else _("of another release")
            echo(f"{one.name}  {words}")
        if not is_there:
            words = _("{name}, of this release, is not there: smsq functions load", name=LIBRARY)
            echo(words)
    raise SystemExit(0 if is_there else 1)


@command("smsq functions load", of=functions)
def load() -> None:
    """Load this release's library, as a worker does when it starts.

    For workers whose user may not do it. Those of other releases stay. Exits with 1 where Redis
    refuses it.
    """
    from smsq.connection import mapped_errors
    from smsq.functions import LIBRARY
    from smsq_worker.cli.helpers.ledger_client import open_ledger
    from smsq_worker.ledger import functions as ledger_functions

    settings, client = open_ledger()
    with mapped_errors(settings.redis_url):
        ledger_functions.load(client)
    echo(_("{name} is loaded", name=LIBRARY))


@command("smsq functions drop smsq_3_1a2b3c4d", of=functions)
@click.argument("name")
def drop(name: str) -> None:
    """Delete a library, once no producer of its release runs.

    Producers that still call it run scripts in its place, if their user may. A running worker of
    that release loads it again. Exits with 1 where there is none of this name.
    """
    from smsq.connection import mapped_errors
    from smsq_worker.cli.helpers.ledger_client import open_ledger
    from smsq_worker.ledger import functions as ledger_functions

    settings, client = open_ledger()
    with mapped_errors(settings.redis_url):
        was_there = ledger_functions.drop(client, name)
    if not was_there:
        raise click.ClickException(_("there is no such library: smsq functions lists them"))
    echo(_("{name} is deleted", name=name))
