"""Accounts at gateways, and the routes by which messages choose one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from smsq.contract import Lane

NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
DEFAULT: Final = "default"
"""The name of the only account, where no file names others."""
VENDOR: Final = "1oc"
"""Of an account that names no other."""

Prefer = Literal["", "delivery"]


@dataclass(frozen=True, slots=True)
class Account:
    """What the ledger knows of an account."""

    name: str
    key: str
    """How the ledger tells its keys and mids from others': its name, and "" for the one that has,
    or has inherited, those of an installation without several accounts."""
    rate_per_s: float
    rate_burst: int
    templates: tuple[tuple[str, str], ...] = ()
    """The templates that have another name there, and that name."""
    only_these: bool = False
    """Whether it has no other templates."""

    def knows(self, template: str) -> bool:
        """Return whether messages with a template may go over it."""
        return not self.only_these or any(template == one for one, _ in self.templates)


@dataclass(frozen=True, slots=True)
class Route:
    """Which accounts take the messages that match; the first route that matches counts."""

    accounts: tuple[str, ...]
    """Their keys, in the order in which they are tried."""
    weights: tuple[int, ...] = ()
    """Of each account, its share; () where the order alone decides."""
    lane: Lane | None = None
    template: str = ""
    prefer: Prefer = ""
    """With weights: "delivery" moves them toward the account that delivers."""

    def takes(self, lane: str | None, template: str) -> bool:
        """Return whether it is for messages of a lane and a template; of any where they are not."""
        return self.lane in {None, lane} and self.template in {"", template}


def route_for(lane: str, template: str, routes: Iterable[Route]) -> Route | None:
    """Return the route of a message: the first that takes it."""
    return next((one for one in routes if one.takes(lane, template)), None)


def qualified(mid: str, account: str) -> str:
    """Return how the ledger knows a mid of an account (its key). A mid has no blanks."""
    return f"{mid} {account}" if account else mid


def unqualified(known: str) -> tuple[str, str]:
    """Return a mid as its vendor wrote it, and the key of its account."""
    mid, _, account = known.partition(" ")
    return mid, account
