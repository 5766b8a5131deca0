"""The codes that came and that the catalogue does not know, as `smsq codes --seen` prints them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from smsq_worker.cli.helpers.accounts import accounts_of, choose
from smsq_worker.cli.helpers.ledger_client import open_ledger
from smsq_worker.cli.helpers.output import echo, echo_json, echo_lines
from smsq_worker.domain.codes import Catalogues, CodeClass
from smsq_worker.i18n import _, ngettext
from smsq_worker.inspection.formatting import local
from smsq_worker.ledger.codes_seen import SeenCode, codes_seen
from smsq_worker.vendors.of_accounts import catalogues_of


def show(account: str | None, *, as_json: bool) -> None:
    """Print the list, account by account, the most frequent first."""
    settings, client = open_ledger()
    catalogues = Catalogues(catalogues_of(settings))
    accounts = accounts_of(settings)
    of = (choose(account, accounts),) if account else accounts
    several = bool(settings.rules.accounts)
    seen = [
        (one.name if several else "", code)
        for one in of
        for code in codes_seen(client, settings.redis_url, one.key)
        # The workers may have had another override file when the code came.
        if catalogues.of(one.key).classify(code.stat).code_class is CodeClass.UNKNOWN
    ]
    if as_json:
        echo_json([({"account": name} if name else {}) | asdict(one) for name, one in seen])
    else:
        _print(seen)


def _print(seen: Sequence[tuple[str, SeenCode]]) -> None:
    echo_lines(
        ngettext(
            "{stat}  {n} time  since {first}  last {last}  mid {mid}",
            "{stat}  {n} times  since {first}  last {last}  mid {mid}",
            one.count,
            stat=one.stat,
            first=local(one.first_at),
            last=local(one.last_at),
            mid=one.mid,
        )
        + (_("  account {name}", name=name) if name else "")
        for name, one in seen
    )
    echo(
        ngettext(
            "{n} code that the catalogue does not know",
            "{n} codes that the catalogue does not know",
            len(seen),
        )
    )
