"""`smsq audit`: what operators did."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from smsq_worker.cli.helpers.options import command, json_option
from smsq_worker.cli.helpers.output import echo, echo_json
from smsq_worker.i18n import ngettext

AT_MOST = 1000


@command(
    "smsq audit",
    "smsq audit --since 'yesterday 18:00'",
    "smsq audit --since 2h --who ann",
    "smsq audit --json",
)
@click.option("--since", metavar="TIME", help="From then on, like yesterday, 10:00 or 2h ago.")
@click.option("--who", help="By whom: a part of the name.")
@json_option
def audit(*, since: str | None, who: str | None, as_json: bool) -> None:
    """List what operators did: who, when, with which arguments, and what came of it.

    The newest 1000 are listed, the oldest of them first. Cancelling, pausing, the rate,
    suppression, and decisions on held messages and callbacks are noted, with SMSQ_OPERATOR as the
    name, else the login name and the host. Redis keeps a year of them, 100,000 at most. Times are
    this machine's (TZ).

    Exits with 2 where --since is no time.
    """
    from smsq_worker.cli.helpers.ledger_client import open_ledger
    from smsq_worker.cli.helpers.selecting import read_time
    from smsq_worker.domain.scopes import spoken
    from smsq_worker.inspection.formatting import clean, local
    from smsq_worker.ledger.audit import entries

    begin = read_time("since", since)
    settings, client = open_ledger()
    found = entries(
        client,
        settings.redis_url,
        since=begin,
        at_most=AT_MOST,
        is_wanted=lambda entry: not who or who in entry.who,
    )
    if as_json:
        echo_json([asdict(one) | {"arguments": _arguments(one.arguments)} for one in found])
        return
    accounts = settings.rules.accounts
    for one in found:
        arguments = _arguments(one.arguments)
        if accounts and "scope" in arguments:
            arguments["scope"] = spoken(arguments["scope"], accounts)
        given = " ".join(f"{name}={value}" for name, value in arguments.items())
        words = (local(one.at), one.who, " ".join(filter(None, (one.what, given))), one.effect)
        echo("  ".join(map(clean, words)))
    echo(ngettext("{n} act", "{n} acts", len(found)))


def _arguments(text: str) -> dict[str, str]:
    try:
        found = json.loads(text)
    except ValueError:
        return {"": text}
    return found if isinstance(found, dict) else {"": text}
