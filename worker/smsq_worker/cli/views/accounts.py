"""The accounts, as `smsq accounts` prints them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from smsq_worker.cli.helpers.accounts import accounts_of, check_known
from smsq_worker.cli.helpers.layout import table
from smsq_worker.cli.helpers.ledger_client import open_ledger
from smsq_worker.cli.helpers.output import echo_json, echo_lines
from smsq_worker.cli.views import rate as rate_view
from smsq_worker.cli.views.deliveries import (
    delivery_lines,
    read_deliveries,
    weight_lines,
    with_deliveries,
)
from smsq_worker.domain.accounts import Route
from smsq_worker.i18n import _
from smsq_worker.inspection.accounts import (
    AccountView,
    account_state_name,
    look_at_accounts,
    route_lines,
)
from smsq_worker.inspection.formatting import moment, pause_whole
from smsq_worker.ledger.admin import Control, Pause


def show_accounts(*, as_json: bool) -> None:
    """Print how each account stands."""
    settings, client = open_ledger()
    accounts, routes = accounts_of(settings), settings.rules.routes
    with client:
        control = Control(client, settings.rules)
        check_known(settings, control)
        views = look_at_accounts(control, accounts)
        found = read_deliveries(client, settings.rules)
    if as_json:
        shown = as_dict(views, routes)
        echo_json(with_deliveries(shown, found, accounts, routes) if found else shown)
    else:
        echo_lines(_lines(views))
        for route in route_lines(routes, accounts):
            echo_lines([_("{name}: {meaning}", name=_("route"), meaning=route)])
        if found:
            echo_lines([*weight_lines(found, accounts), *delivery_lines(found, accounts)])


def as_dict(views: Sequence[AccountView], routes: Sequence[Route]) -> dict[str, Any]:
    """Return accounts and routes as JSON shows them."""
    names = {view.account.key: view.account.name for view in views}
    return {
        "accounts": [account_as_dict(view) for view in views],
        "routes": [
            {
                "lane": route.lane,
                "template": route.template or None,
                "accounts": [names.get(key, key) for key in route.accounts],
                "weights": list(route.weights) or None,
            }
            for route in routes
        ],
    }


def account_as_dict(view: AccountView) -> dict[str, Any]:
    """Return an account as JSON shows it."""
    stop = view.stop
    return {
        "name": view.account.name,
        "state": view.state,
        "pause": stop and pause_as_dict(stop),
        "rate": rate_view.as_dict(view.rate),
        "in_flight": view.counts.in_flight,
        "awaiting_reports": view.counts.awaiting_reports,
        "refusals_in_a_row": view.counts.refusals,
        "silent": view.is_silent,
        "next_slot_s": round(view.next_slot_s, 3),
        "template_pauses": [pause_as_dict(pause) for pause in view.template_pauses],
    }


def pause_as_dict(pause: Pause) -> dict[str, Any]:
    """Return a pause as JSON shows it, its account by name."""
    return {
        "scope": pause.spoken or pause.scope,
        "cause": pause.cause,
        "detail": pause.detail,
        "since": moment(pause.since),
        "probe_at": pause.probe_at and moment(pause.probe_at),
        "lanes": list(pause.lanes) or None,
    }


def _lines(views: Sequence[AccountView]) -> Iterator[str]:
    heads = (_("account"), _("state"), _("rate"), _("in flight"), _("reports"))
    yield from table([heads, *map(_row, views)])
    for view in views:
        for pause in view.pauses:
            yield _("paused: {words}", words=pause_whole(pause))
        if view.holdup:
            yield view.holdup


def _row(view: AccountView) -> tuple[str, ...]:
    rate, counts = view.rate, view.counts
    now = f"{rate.now:g}/s"
    if rate.now < rate.limit:
        now = _("{now:g} of {limit:g}/s", now=rate.now, limit=rate.limit)
    state = account_state_name(view.state)
    return (view.account.name, state, now, str(counts.in_flight), str(counts.awaiting_reports))
