"""The routes of SMSQ_ACCOUNTS_FILE: which accounts take which messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from smsq.contract import Lane, parse_template
from smsq.suggestions import hint
from smsq_worker.domain.accounts import Prefer, Route
from smsq_worker.domain.toml_file import Field, only, read_fields

MAX_ROUTES: Final = 100
MAX_WEIGHT: Final = 1000


def read_routes(tables: object, accounts: Mapping[str, str]) -> tuple[tuple[Route, ...], list[str]]:
    """Return the routes, and their mistakes. `accounts` are the names of all, and their keys."""
    if not (isinstance(tables, list) and tables):
        return (), ["has no [[routes]]; the last, or the only one, must be for all messages"]
    problems = []
    if len(tables) > MAX_ROUTES:
        problems.append(f"at most {MAX_ROUTES} routes; there are {len(tables)}")
    routes = []
    for n, table in enumerate(tables, 1):
        route, found = _route(table, accounts)
        problems += [f"routes, number {n}{problem}" for problem in found]
        routes.append(route)
    if not problems:
        problems += _order_problems(routes)
    return tuple(routes), problems


def _route(table: object, accounts: Mapping[str, str]) -> tuple[Route, list[str]]:
    values, problems = read_fields(table, _FIELDS, required=("accounts",), secret=True)
    shares: Mapping[str, int] | Sequence[str] = values.get("accounts", ())
    for name in shares:
        if name not in accounts:
            known = f"known are {', '.join(accounts)}{hint(name, accounts)}"
            problems.append(f", field accounts: there is no account {name}; {known}")
    weights = tuple(shares.values()) if isinstance(shares, dict) else ()
    prefer: Prefer = values.get("prefer", "")
    if prefer and not weights:
        problems.append(", field prefer: needs a table of shares in field accounts, like main = 3")
    route = Route(
        tuple(accounts.get(name, name) for name in shares),
        weights,
        values.get("lane"),
        values.get("template", ""),
        prefer,
    )
    return route, problems


def _order_problems(routes: Sequence[Route]) -> Iterator[str]:
    for n, route in enumerate(routes):
        for m, other in enumerate(routes[:n]):
            if other.takes(route.lane, route.template):
                yield (
                    f"routes, number {n + 1}: no message comes to it, as number {m + 1} takes all "
                    "of its messages; put it before that one"
                )
                break
    if not routes[-1].takes(None, ""):
        yield "routes: the last must be for all messages, without lane and template"


def _is_list_of_names(value: Any) -> bool:
    is_list = isinstance(value, list) and value and all(isinstance(one, str) for one in value)
    return bool(is_list) and len(set(value)) == len(value)


def _has_shares(value: Any) -> bool:
    is_table = isinstance(value, dict) and bool(value)
    return is_table and all(type(one) is int and 1 <= one <= MAX_WEIGHT for one in value.values())


_FIELDS: Final = {
    "lane": Field(Lane, f"one of {', '.join(Lane)}"),
    "template": Field(parse_template, "a template's name"),
    "accounts": Field(
        only(lambda value: _is_list_of_names(value) or _has_shares(value)),
        "a list of accounts, each once, in the order in which they are tried, or a table of "
        f"accounts and their shares from 1 to {MAX_WEIGHT}",
    ),
    "prefer": Field(only(lambda value: value == "delivery"), '"delivery"'),
}
