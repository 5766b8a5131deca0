"""What accounts deliver, and how weights follow it, as `smsq accounts` prints them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from smsq.connection import Client
from smsq_worker.config.rules import Rules
from smsq_worker.domain.accounts import Account, Route
from smsq_worker.i18n import _
from smsq_worker.inspection.formatting import moment
from smsq_worker.ledger import quality
from smsq_worker.ledger.quality import Delivery, Kind
from smsq_worker.ledger.weights import weights_now


@dataclass(frozen=True, slots=True)
class Deliveries:
    """What became of one hour's messages, and the weights of routes that prefer delivery."""

    since: datetime
    kinds: Mapping[Kind, Delivery]
    weights: Mapping[Route, Mapping[str, float]]


def read_deliveries(client: Client, rules: Rules) -> Deliveries | None:
    """Return those of the last hour that counts; None where there is one account."""
    if not rules.routes:
        return None
    hour = quality.last_hour(client, rules.url)
    found = quality.read(client, rules.url, hour)
    return Deliveries(quality.begins(hour), found, weights_now(client, rules))


def delivery_lines(found: Deliveries, accounts: Sequence[Account]) -> Iterator[str]:
    """Yield a line for what each account delivered."""
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


def weight_lines(found: Deliveries, accounts: Sequence[Account]) -> Iterator[str]:
    """Yield a line for each route whose weights differ from the file's."""
    names = {one.key: one.name for one in accounts}
    for route, weights in found.weights.items():
        if [*weights.values()] != [*route.weights]:
            now = _(", ").join(f"{names.get(key, key)} {one:.3g}" for key, one in weights.items())
            of_file = _(", ").join(
                f"{names.get(key, key)} {weight}"
                for key, weight in zip(route.accounts, route.weights, strict=True)
            )
            yield _("weights by delivery: {now}, of {file} in the file", now=now, file=of_file)


def with_deliveries(
    shown: dict[str, Any], found: Deliveries, accounts: Sequence[Account], routes: Sequence[Route]
) -> dict[str, Any]:
    """Return what `smsq accounts --json` shows, with them."""
    each = quality.by_account(found.kinds)
    for account, one in zip(accounts, shown["accounts"], strict=True):
        kinds = [item for item in found.kinds.items() if item[0].account == account.key]
        one["delivery"] = {"since": moment(found.since)} | _as_dict(
            each.get(account.key, Delivery())
        )
        one["delivery"]["templates"] = [
            {"template": template} | _as_dict(sums) for template, sums in _by_template(kinds)
        ]
    names = {one.key: one.name for one in accounts}
    for route, one in zip(routes, shown["routes"], strict=True):
        if weights := found.weights.get(route):
            one["weights_now"] = {
                names.get(key, key): round(weight, 3) for key, weight in weights.items()
            }
    return shown


def _by_template(kinds: Sequence[tuple[Kind, Delivery]]) -> list[tuple[str, Delivery]]:
    sums: dict[str, Delivery] = {}
    for kind, one in kinds:
        sums[kind.template] = sums.get(kind.template, Delivery()) + one
    return sorted(sums.items())


def _as_dict(one: Delivery) -> dict[str, Any]:
    return {
        "accepted": one.accepted,
        "delivered": one.delivered,
        "failed": one.failed,
        "rate_15_min": None if one.rate is None else round(one.rate, 4),
        "mean_s": None if one.mean_s is None else round(one.mean_s, 1),
    }
