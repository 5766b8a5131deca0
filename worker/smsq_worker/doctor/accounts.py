"""The accounts: what stops one, whether routes lead to it, and what routes cannot send."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Final

from smsq.connection import Client
from smsq_worker.config.settings import Settings
from smsq_worker.doctor.finding import Finding, error, ok, warning
from smsq_worker.domain.accounts import Account, Route, route_for
from smsq_worker.i18n import N_, _, ngettext
from smsq_worker.inspection.accounts import (
    AccountView,
    is_on_a_route,
    look_at_accounts,
    unknown_here,
)
from smsq_worker.inspection.formatting import clean, pause_words, scope_name, scope_words
from smsq_worker.ledger import days
from smsq_worker.ledger.admin import Control, Pause, Rate

DAYS: Final = 2
"""Templates of today and of yesterday are looked at."""
NAMED: Final = 5
REFUSALS: Final = 3
"""From this many in a row on something is wrong: single ones are about their numbers."""


def check(settings: Settings, client: Client) -> Iterator[Finding]:
    """Check what the ledger knows of the accounts. Raises redis.RedisError, LedgerUnavailable."""
    control = Control(client, settings.rules)
    others = set(control.account_keys())
    accounts, routes = settings.rules.accounts, settings.rules.routes
    if not accounts:
        if others:
            yield error(*unknown_here(sorted(others)))
        else:
            advice = N_("what waits goes on once it ends; to end it now: smsq resume {scope}")
            yield from _paused(control.pauses(), advice)
        yield from _differing(control.rate())
        return
    if overruled := settings.overruled(os.environ):
        yield warning(overruled, _("remove them here, or set was_default for one account"))
    views = look_at_accounts(control, accounts)
    for view in views:
        yield from _account(view, routes)
    yield from _forgotten(control, sorted((others | {""}) - {one.key for one in accounts}))
    what = ngettext(
        "{n} account, {rate:g} requests a second",
        "{n} accounts, {rate:g} requests a second together",
        len(views),
        rate=sum(view.rate.now for view in views),
    )
    yield ok(what)
    yield _templates(_in_use(client, settings), accounts, routes)


def _account(view: AccountView, routes: Sequence[Route]) -> Iterator[Finding]:
    name, counts = view.account.name, view.counts
    advice = N_("messages take the other accounts of their route; to end it: smsq resume {scope}")
    found = [*_paused(view.pauses, advice)]
    if counts.refusals >= REFUSALS:
        what = _("account {name}: {n} refusals in a row", name=name, n=counts.refusals)
        advice = _("usually its secret, or a template's name there: smsq explain one of them")
        found.append(warning(what, advice))
    if not is_on_a_route(view.account, routes):
        found.append(_off(name, counts.outstanding))
    found.extend(_differing(view.rate, name))
    yield from found or [
        ok(
            ngettext(
                "account {name}: {rate:g}/s, {n} report awaited",
                "account {name}: {rate:g}/s, {n} reports awaited",
                counts.awaiting_reports,
                name=name,
                rate=view.rate.now,
            )
        )
    ]


def _paused(pauses: Iterable[Pause], advice: str) -> Iterator[Finding]:
    for pause in pauses:
        scope = pause.spoken or pause.scope
        what = _("{scope} is paused ({why})", scope=scope_name(scope), why=pause_words(pause))
        yield warning(what, _(advice, scope=scope_words(scope)))


def _differing(rate: Rate, name: str = "") -> Iterator[Finding]:
    """Yield that workers' settings say two rates, each of which sends by its own."""
    if not rate.of_workers:
        return
    (limit, burst), (other, other_burst) = rate.of_workers
    words = {"limit": limit, "burst": burst, "other": other, "other_burst": other_burst}
    if name:
        what = _(
            "account {name}: some workers have a rate of {limit:g}/s, burst {burst}, others of "
            "{other:g}/s, burst {other_burst}, and the gateway gets more than the lower one allows",
            name=name,
            **words,
        )
        advice = _(
            "give all workers the same file, or set one for all: smsq rate --account {name}",
            name=name,
        )
        yield warning(what, advice)
        return
    what = _(
        "some workers have a rate of {limit:g}/s, burst {burst}, others of {other:g}/s, burst "
        "{other_burst}, and the gateway gets more than the lower one allows",
        **words,
    )
    advice = _("give all the same SMSQ_RATE_PER_S and SMSQ_RATE_BURST, or set one: smsq rate")
    yield warning(what, advice)


def _off(name: str, outstanding: int) -> Finding:
    if not outstanding:
        what = _("account {name} is on no route, and no report of it is awaited", name=name)
        return ok(what, _("its table can be removed from SMSQ_ACCOUNTS_FILE"))
    what = ngettext(
        "account {name} is on no route; {n} report of it is awaited",
        "account {name} is on no route; {n} reports of it are awaited",
        outstanding,
        name=name,
    )
    return ok(what, _("keep its table in SMSQ_ACCOUNTS_FILE until they have come"))


def _forgotten(control: Control, keys: Sequence[str]) -> Iterator[Finding]:
    """Yield the accounts that the file no longer has, though something of them is to come."""
    for key, counts in control.account_counts(keys).items():
        if not counts.outstanding:
            continue
        if key:
            what = ngettext(
                "account {name} is not in SMSQ_ACCOUNTS_FILE, and {n} report of it is awaited",
                "account {name} is not in SMSQ_ACCOUNTS_FILE, and {n} reports of it are awaited",
                counts.outstanding,
                name=clean(key),
            )
            yield error(what, _("put its table back, without a route, until they have come"))
        else:
            what = ngettext(
                "{n} report of the account that was the only one is awaited, and no account has "
                "was_default",
                "{n} reports of the account that was the only one are awaited, and no account has "
                "was_default",
                counts.outstanding,
            )
            yield error(what, _("workers do not start: say which it is, by was_default = true"))


def _in_use(client: Client, settings: Settings) -> set[tuple[str, str]]:
    url = settings.redis_url
    today = days.today(client, url)
    dates = [today - timedelta(days=n) for n in range(DAYS)]
    groups = days.read_days(client, url, dates, ("lane", "template")).groups
    return {(lane, template) for _day, lane, template in groups}


def _templates(
    used: set[tuple[str, str]], accounts: Sequence[Account], routes: Sequence[Route]
) -> Finding:
    """Report the templates that no account of their messages' route knows."""
    lost = sorted(
        {template for lane, template in used if not _known(lane, template, accounts, routes)}
    )
    if not lost:
        return ok(_("every template in use is known to an account of its route"))
    named = ", ".join(clean(one) for one in lost[:NAMED])
    what = ngettext(
        "{n} template that is in use is known to no account of its route: {names}",
        "{n} templates that are in use are known to no account of their routes: {names}",
        len(lost),
        names=named,
    )
    advice = _("name it in templates of one of them, or remove only_these_templates there")
    return error(what, advice)


def _known(lane: str, template: str, accounts: Sequence[Account], routes: Sequence[Route]) -> bool:
    route = route_for(lane, template, routes)
    return route is None or any(
        one.knows(template) for one in accounts if one.key in route.accounts
    )
