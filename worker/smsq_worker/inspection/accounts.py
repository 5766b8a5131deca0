"""How each account stands: what pauses it, its rate, what is under way, its routes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from smsq.tracking import Status
from smsq_worker.config.rules import Rules
from smsq_worker.domain.accounts import Account, Route
from smsq_worker.domain.scopes import name_of, read_scope
from smsq_worker.i18n import _, ngettext, pgettext
from smsq_worker.inspection.formatting import clean, span
from smsq_worker.ledger.accounts import AccountCounts
from smsq_worker.ledger.admin import ACCOUNT, BREAKER, Control, Pause, Rate

UNANSWERED: Final = 20
"""As in guards.lua."""
NO_SLOT_S: Final = 0.1
"""How far ahead lane bulk may book: what waits for less goes at once."""
AccountState = Literal["open", "paused", "outage", "probing"]


@dataclass(frozen=True, slots=True)
class AccountView:
    """An account at one moment."""

    account: Account
    rate: Rate
    counts: AccountCounts
    pauses: tuple[Pause, ...]
    """Its own, its breaker's, and those of templates at it."""

    @property
    def stop(self) -> Pause | None:
        """Return why nothing is sent over it; None where something is."""
        by_kind = {read_scope(pause.scope).kind: pause for pause in self.pauses}
        return by_kind.get(ACCOUNT) or by_kind.get(BREAKER)

    @property
    def template_pauses(self) -> tuple[Pause, ...]:
        """Return the pauses of single templates."""
        return tuple(one for one in self.pauses if not read_scope(one.scope).stops_all)

    @property
    def is_silent(self) -> bool:
        """Return whether no more is sent over it until it answers one attempt, as in guards.lua."""
        return self.counts.unanswered >= max(UNANSWERED, 2 * self.rate.now)

    @property
    def next_slot_s(self) -> float:
        """Return in how many seconds it has a slot; 0 if it has one now."""
        ahead = (self.rate.burst - 1) / self.rate.now
        return max(0.0, self.counts.booked_s - ahead)

    @property
    def holdup(self) -> str:
        """Return why it takes no message at this moment though it is open; "" where it does."""
        if self.stop is None and self.is_silent:
            return ngettext(
                "account {name} is silent: {n} attempt is under way and has no answer yet",
                "account {name} is silent: {n} attempts are under way and none has an answer yet",
                self.counts.unanswered,
                name=self.account.name,
            )
        if self.stop is None and self.next_slot_s >= NO_SLOT_S:
            return _(
                "account {name} has no free slot for the next {span}: it sends as many as its rate "
                "allows",
                name=self.account.name,
                span=span(self.next_slot_s),
            )
        return ""

    @property
    def state(self) -> AccountState:
        """Return how it stands, in a word."""
        if self.stop is None:
            return "open"
        if self.stop.probes:
            return "probing"
        return "outage" if read_scope(self.stop.scope).kind == BREAKER else "paused"


def look_at_accounts(control: Control, accounts: Sequence[Account]) -> list[AccountView]:
    """Return how accounts stand. Raises LedgerUnavailable."""
    pauses = control.pauses()
    counts = control.account_counts([one.key for one in accounts])
    return [
        AccountView(
            one,
            control.rate(one.key),
            counts[one.key],
            tuple(pause for pause in pauses if read_scope(pause.scope).account == one.key),
        )
        for one in accounts
    ]


def account_state_name(state: AccountState) -> str:
    """Return a state as people call it."""
    return pgettext("account", state)


def route_lines(routes: Sequence[Route], accounts: Sequence[Account]) -> Iterator[str]:
    """Yield a line for each route: what it is for, and who takes it."""
    for route in routes:
        shown = [name_of(key, accounts) for key in route.accounts]
        if route.weights:
            parts = zip(shown, route.weights, strict=True)
            who = _(", ").join(f"{name} {weight}" for name, weight in parts)
            who = _("{accounts} (by weight)", accounts=who)
        else:
            who = _(", then ").join(shown)
        yield _("{name}: {meaning}", name=_matches(route), meaning=who)


def _matches(route: Route) -> str:
    lane = route.lane and _("lane {lane}", lane=route.lane)
    template = route.template and _("template {name}", name=clean(route.template))
    return " ".join(filter(None, (lane, template))) or _("all else")


def unknown_here(others: Sequence[str]) -> tuple[str, str]:
    """Return what to say where the ledger has accounts and no file names any here, and advice."""
    return (
        _(
            "the ledger has several accounts ({names}), but SMSQ_ACCOUNTS_FILE is not set here",
            names=_(", ").join(map(clean, others)),
        ),
        _("set it as the workers have it; without it commands are about the first account alone"),
    )


def with_account_names(status: Status, accounts: Sequence[Account]) -> dict[str, Any]:
    """Return a status as people read it: of several accounts each attempt names its own."""
    fields = asdict(status)
    for attempt, shown in zip(status.attempts, fields["attempts"], strict=True):
        shown.pop("account", None)
        if name := name_of(attempt.account or "", accounts):
            shown["account"] = name
    return fields


def together(views: Sequence[AccountView]) -> Rate:
    """Return the rate of several accounts together; now it is that of those that are open."""
    rates = [view.rate for view in views]
    going = [view.rate for view in views if view.stop is None]
    back = [rate.back_at for rate in going if rate.back_at]
    return Rate(
        limit=sum(rate.limit for rate in rates),
        burst=sum(rate.burst for rate in rates),
        now=sum(rate.now for rate in going),
        back_at=max(back, default=None),
        by_operator=any(rate.by_operator for rate in rates),
    )


def rates_on_routes(control: Control, rules: Rules) -> list[Rate]:
    """Return the rate of each account that messages may go over. Raises LedgerUnavailable."""
    going = [one for one in rules.accounts if is_on_a_route(one, rules.routes)]
    return [control.rate(one.key) for one in going] or [control.rate()]


def rate_now(control: Control, rules: Rules) -> float:
    """Return the requests a second that these make now, if none is paused."""
    return sum(rate.now for rate in rates_on_routes(control, rules))


def is_on_a_route(account: Account, routes: Sequence[Route]) -> bool:
    """Return whether messages may go over an account; the only one has no routes."""
    return not routes or any(account.key in route.accounts for route in routes)
