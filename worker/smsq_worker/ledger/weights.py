"""The weights of routes that prefer delivery: once an hour they move, see domain/shares.py.

What an account delivers is read, and a move decided, outside of Redis; one act makes it, if no
other worker has made one for this hour.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from smsq import keys
from smsq.connection import Client
from smsq_worker.config.rules import Rules
from smsq_worker.domain.accounts import Route, route_for
from smsq_worker.domain.shares import (
    HOURS,
    STEPS,
    Comparison,
    compare,
    moved,
    telling,
    weight_of,
)
from smsq_worker.ledger.acts import Acts
from smsq_worker.ledger.quality import last_hour, samples
from smsq_worker.ledger.reading import asked

FORGOTTEN_AFTER: Final = 24
"""Hours after which weights that no worker updates fall back to the file's."""
_SHARE: Final = "share:"
_HOUR: Final = f"{_SHARE}hour"


@dataclass(frozen=True, slots=True)
class Moved:
    """By how many steps weights were moved from the file's, as the ledger has it."""

    hour: str
    """The hour up to which that was decided, counted from 1970; "" for none."""
    fields: Mapping[str, str]

    def steps(self, route: Route) -> dict[str, int]:
        """Return the steps of a route's accounts. Of another weight in the file they are void."""
        found = {}
        for account, weight in _of_file(route).items():
            steps, _, of = self.fields.get(share_of(route, account), "").partition(" ")
            if of == str(weight):
                found[account] = max(-STEPS, min(STEPS, int(steps)))
        return found


def share_of(route: Route, account: str) -> str:
    """Return the field of an account's steps at a route, as guards_of_several.lua looks for it."""
    return f"{_SHARE}{route.lane or ''} {route.template} {'@' + account}"


def read_moved(client: Client, url: str) -> Moved:
    """Return how weights were moved. Raises LedgerUnavailable."""
    found: Any = asked(url, client.hgetall, keys.WEIGHTS)
    fields = {name: text for name, text in found.items() if name.startswith(_SHARE)}
    return Moved(fields.pop(_HOUR, ""), fields)


def weights_now(client: Client, rules: Rules) -> dict[Route, dict[str, float]]:
    """Return the present weights of routes that prefer delivery, by the keys of accounts.

    Raises LedgerUnavailable.
    """
    routes = _preferring(rules)
    stored = read_moved(client, rules.url) if routes else Moved("", {})
    return {route: _present(route, stored.steps(route)) for route in routes}


class WeightActs(Acts):
    """What moves weights."""

    def move_weights(self) -> bool:
        """Move the weights of routes by what their accounts deliver, if that is due.

        Return whether it was, and no other worker did it meanwhile. Raises LedgerUnavailable.
        """
        routes, url = _preferring(self._rules), self._rules.url
        if not routes:
            return False
        before, hour = read_moved(self._client, url), last_hour(self._client, url)
        ahead = int(before.hour or 0) - hour
        if ahead in {0, 1}:
            return False
        # Further ahead: the clock was set back. It is believed, and this hour is left as it is.
        fields, events = dict(before.fields), list[str]()
        if ahead < 0:
            fields, events = self._decided(routes, before, hour)
        dropped = [name for name in before.fields if name not in fields]
        deed = json.dumps([events, fields, dropped])
        return bool(self._run("weigh", before.hour, hour, deed)[0])

    def _decided(
        self, routes: list[Route], before: Moved, hour: int
    ) -> tuple[dict[str, str], list[str]]:
        found = telling(samples(self._client, self._rules.url, range(hour - HOURS + 1, hour + 1)))
        names = {one.key: one.name for one in self._rules.accounts}
        is_known = hour - int(before.hour or 0) <= FORGOTTEN_AFTER
        fields, events = dict[str, str](), list[str]()
        if not is_known and before.fields:
            events.append("weights of routes are the file's again: no worker moved them for a day")
        for route in routes:
            own = [
                one
                for one in found
                if one.account in route.accounts
                and route_for(one.lane, one.template, self._rules.routes) is route
            ]
            steps = before.steps(route) if is_known else {}
            compared = {account: compare(account, own) for account in route.accounts}
            verdicts = {account: one.verdict for account, one in compared.items()}
            new = moved(_of_file(route), steps, verdicts)
            fields |= {
                share_of(route, one): f"{k} {_of_file(route)[one]}" for one, k in new.items() if k
            }
            changes = [*_changes(route, steps, new, compared, names)]
            if changes:
                events.append(f"weights of {_name(route)} follow delivery: {'; '.join(changes)}")
        return fields, events


def _changes(
    route: Route,
    before: Mapping[str, int],
    after: Mapping[str, int],
    compared: Mapping[str, Comparison],
    names: Mapping[str, str],
) -> Iterator[str]:
    was, now = _present(route, before), _present(route, after)
    for account, one in compared.items():
        if was[account] != now[account]:
            yield (
                f"{names.get(account, account)} from {was[account]:.3g} to {now[account]:.3g} "
                f"(file: {_of_file(route)[account]}), of {one.accepted} accepted {one.delivered} "
                f"delivered within 15 minutes, {100 * one.difference:+.1f} points from the others "
                f"on the same templates (standard error {100 * one.error:.1f})"
            )


def _preferring(rules: Rules) -> list[Route]:
    return [one for one in rules.routes if one.prefer and one.weights]


def _of_file(route: Route) -> dict[str, int]:
    return dict(zip(route.accounts, route.weights, strict=True))


def _present(route: Route, steps: Mapping[str, int]) -> dict[str, float]:
    return {one: weight_of(weight, steps.get(one, 0)) for one, weight in _of_file(route).items()}


def _name(route: Route) -> str:
    lane = f" lane {route.lane}" if route.lane else ""
    template = f" template {route.template}" if route.template else ""
    return f"the route of{lane}{template}" if lane or template else "the route of all else"
