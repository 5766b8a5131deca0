"""The codes that came and that the catalogue does not know, as `smsq codes --seen` prints them."""

from __future__ import annotations

import os
from collections.abc import Iterator

from smsq_worker.cli.helpers.ledger_client import connect_ledger
from smsq_worker.cli.helpers.output import echo, echo_json, echo_lines
from smsq_worker.cli.views.codes import load_catalogue
from smsq_worker.config.settings import Settings
from smsq_worker.domain.codes import Catalogue, CodeClass
from smsq_worker.i18n import ngettext
from smsq_worker.inspection.formatting import clean, local, moment
from smsq_worker.ledger.codes_seen import SeenCode, codes_seen
from smsq_worker.vendors.of_accounts import catalogues_of, vendors_of


def show(*, as_json: bool) -> None:
    """Print the list, of each account the most frequent first."""
    settings = Settings.load(os.environ)
    client = connect_ledger(settings)
    several = bool(settings.rules.accounts)
    seen = [
        (name, one)
        for name, key, catalogue in _catalogues(settings)
        for one in codes_seen(client, settings.redis_url, key)
        # The workers may have had another override file when the code came.
        if catalogue.classify(one.stat).code_class is CodeClass.UNKNOWN
    ]
    if as_json:
        echo_json([_as_dict(one) | ({"account": name} if several else {}) for name, one in seen])
        return
    echo_lines(_line(one) + (f"  {clean(name)}" if several else "") for name, one in seen)
    echo(
        ngettext(
            "{n} code that the catalogue does not know",
            "{n} codes that the catalogue does not know",
            len(seen),
        )
    )


def _catalogues(settings: Settings) -> Iterator[tuple[str, str, Catalogue]]:
    """Yield of each account its name, its key, and what its codes mean."""
    if not settings.rules.accounts:
        yield "", "", load_catalogue()[1]
        return
    catalogues = catalogues_of(settings, vendors_of(settings))
    for one in settings.accounts:
        yield one.account.name, one.account.key, catalogues[one.account.key]


def _as_dict(one: SeenCode) -> dict[str, object]:
    return {
        "stat": one.stat,
        "count": one.count,
        "first_at": moment(one.first_at),
        "last_at": moment(one.last_at),
        "mid": one.mid,
    }


def _line(one: SeenCode) -> str:
    return ngettext(
        "{stat}  {n} time  since {first}  last {last}  mid {mid}",
        "{stat}  {n} times  since {first}  last {last}  mid {mid}",
        one.count,
        stat=one.stat,
        first=local(one.first_at),
        last=local(one.last_at),
        mid=one.mid,
    )
