"""The accounts, and what each delivers, as `smsq accounts` prints them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from smsq.connection import Client
from smsq_worker.cli.helpers.accounts import accounts_of, check_known
from smsq_worker.cli.helpers.layout import table
from smsq_worker.cli.helpers.ledger_client import open_ledger
from smsq_worker.cli.helpers.output import echo, echo_json, echo_lines
from smsq_worker.cli.views import rate as rate_view
from smsq_worker.config.rules import Rules
from smsq_worker.domain.accounts import Account, Route
from smsq_worker.domain.scopes import name_of
from smsq_worker.i18n import _
from smsq_worker.inspection.accounts import (
    AccountView,
    account_state_name,
    look_at_accounts,
    route_lines,
)
from smsq_worker.inspection.formatting import moment, pause_line
from smsq_worker.ledger import quality
from smsq_worker.ledger.admin import Control, Pause
from smsq_worker.ledger.quality import Delivery, Kind
from smsq_worker.ledger.weights import weights_now


@dataclass(frozen=True, slots=True)
class _Deliveries:
    """What became of one hour's messages, and the weights of routes that prefer delivery."""

    since: datetime
    kinds: Mapping[Kind, Delivery]
    weights: Mapping[Route, Mapping[str, float]]


def show_accounts(*, as_json: bool) -> None:
    """Print how each account stands."""
    settings, client = open_ledger()
    accounts, routes = accounts_of(settings), settings.rules.routes
    with client:
        control = Control(client, settings.rules)
        check_known(settings, control)
        views = look_at_accounts(control, accounts)
        found = _read_deliveries(client, settings.rules)
    if as_json:
        each = [account_as_dict(view) | _delivery(found, view.account.key) for view in views]
        ways = [_route_as_dict(route, found, accounts) for route in routes]
        echo_json({"accounts": each, "routes": ways})
        return
    echo_lines(_lines(views))
    for route in route_lines(routes, accounts):
        echo(_("{name}: {meaning}", name=_("route"), meaning=route))
    if found:
        echo_lines([*_weight_lines(found, accounts), *_delivery_lines(found, accounts)])


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
            yield pause_line(pause)
        if view.holdup:
            yield view.holdup


def _row(view: AccountView) -> tuple[str, ...]:
    rate, counts = view.rate, view.counts
    now = f"{rate.now:g}/s"
    if rate.now < rate.limit:
        now = _("{now:g} of {limit:g}/s", now=rate.now, limit=rate.limit)
    state = account_state_name(view.state)
    return (view.account.name, state, now, str(counts.in_flight), str(counts.awaiting_reports))


def _read_deliveries(client: Client, rules: Rules) -> _Deliveries | None:
    """Return those of the last hour that counts; None where there is one account."""
    if not rules.routes:
        return None
    hour = quality.last_hour(client, rules.url)
    found = quality.read(client, rules.url, hour)
    return _Deliveries(quality.begins(hour), found, weights_now(client, rules))


def _delivery_lines(found: _Deliveries, accounts: Sequence[Account]) -> Iterator[str]:
    each = quality.by_account(found.kinds)
    for account in accounts:
        one = each.get(account.key)
        if one and one.rate is not None:
            share = f"{100 * one.rate:.1f} %"
            yield _(
                "delivered by {account} within 15 minutes: {share} of {n} accepted in the "
                "hour from {since}",
                account=account.name,
                share=share,
                n=one.accepted,
                since=moment(found.since),
            )


def _weight_lines(found: _Deliveries, accounts: Sequence[Account]) -> Iterator[str]:
    """Yield a line for each route whose weights differ from the file's."""
    for route, weights in found.weights.items():
        if [*weights.values()] != [*route.weights]:
            now = _(", ").join(
                f"{name_of(key, accounts)} {one:.3g}" for key, one in weights.items()
            )
            of_file = _(", ").join(
                f"{name_of(key, accounts)} {one}"
                for key, one in zip(route.accounts, route.weights, strict=True)
            )
            yield _("weights by delivery: {now}, of {file} in the file", now=now, file=of_file)


def _delivery(found: _Deliveries | None, key: str) -> dict[str, Any]:
    """Return what an account delivered, in all and of each template, as JSON shows it."""
    if found is None:
        return {}
    sums: dict[str, Delivery] = {}
    for kind, one in found.kinds.items():
        if kind.account == key:
            sums[kind.template] = sums.get(kind.template, Delivery()) + one
    templates = [{"template": name} | _sums(one) for name, one in sorted(sums.items())]
    in_all = _sums(sum(sums.values(), Delivery()))
    return {"delivery": {"since": moment(found.since)} | in_all | {"templates": templates}}


def _sums(one: Delivery) -> dict[str, Any]:
    return {
        "accepted": one.accepted,
        "delivered": one.delivered,
        "failed": one.failed,
        "rate_15_min": None if one.rate is None else round(one.rate, 4),
        "mean_s": None if one.mean_s is None else round(one.mean_s, 1),
    }


def _route_as_dict(
    route: Route, found: _Deliveries | None, accounts: Sequence[Account]
) -> dict[str, Any]:
    shown = {
        "lane": route.lane,
        "template": route.template or None,
        "accounts": [name_of(key, accounts) for key in route.accounts],
        "weights": list(route.weights) or None,
    }
    weights = found.weights.get(route) if found else None
    now = {name_of(key, accounts): round(one, 3) for key, one in (weights or {}).items()}
    return shown | ({"weights_now": now} if now else {})
