"""`smsq notices`: callbacks that their endpoint did not accept for too long."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Literal

import click

from smsq_worker.cli.helpers.asking import decide_each, yes_option
from smsq_worker.cli.helpers.options import command, listing, named_or_all
from smsq_worker.cli.helpers.output import echo, echo_json
from smsq_worker.i18n import _, ngettext

if TYPE_CHECKING:
    from smsq_worker.ledger.callbacks import Callbacks

AT_MOST = 10_000

_names_or_all = named_or_all("names", "All that were given up.")


@listing(
    "smsq notices",
    "smsq notices replay webhook:delivered:4dd2cb4e-3b39-4be9-93a2-1a7d1de3d2f5",
    "smsq notices replay --all",
)
def notices(*, as_json: bool) -> None:
    """List callbacks that were given up: their endpoint failed for SMSQ_NOTIFY_FOR_S.

    KIND:STATE:ID is a callback's name; KIND is task, returnurl or webhook.
    """
    from smsq_worker.inspection.formatting import local

    callbacks = _open_callbacks()
    dead, counts = callbacks.dead(AT_MOST), callbacks.counts()
    if as_json:
        echo_json(counts | {"given_up": [asdict(one) for one in dead]})
        return
    for one in dead:
        tries = ngettext("{n} try", "{n} tries", one.tries)
        echo(f"{one.name}  {local(one.given_up_at)}  {tries}  {one.error}")
    echo(_counts(callbacks))


@command(
    "smsq notices replay webhook:delivered:4dd2cb4e-3b39-4be9-93a2-1a7d1de3d2f5",
    "smsq notices replay --all",
    of=notices,
)
@_names_or_all
@yes_option
def replay(names: tuple[str, ...], *, everything: bool, yes: bool) -> None:
    """Deliver them again, trying for another SMSQ_NOTIFY_FOR_S.

    Exits with 1 where one is not among those given up.
    """
    _decide(names, "replay", everything=everything, yes=yes)


@command(
    "smsq notices drop webhook:delivered:4dd2cb4e-3b39-4be9-93a2-1a7d1de3d2f5",
    "smsq notices drop --all",
    of=notices,
)
@_names_or_all
@yes_option
def drop(names: tuple[str, ...], *, everything: bool, yes: bool) -> None:
    """Forget them.

    Exits with 1 where one is not among those given up.
    """
    _decide(names, "drop", everything=everything, yes=yes)


def _decide(
    names: tuple[str, ...], decision: Literal["replay", "drop"], *, everything: bool, yes: bool
) -> None:
    from smsq import audit

    if bool(names) == everything:
        raise click.UsageError(_("name the callbacks, or pass --all"))
    if not all(map(str.isprintable, names)):
        raise click.UsageError(_("a callback's name is KIND:STATE:ID, in printable characters"))
    callbacks = _open_callbacks()

    def decide(name: str) -> tuple[bool, str]:
        done = callbacks.revive(name, decision, audit.act(f"notices {decision}", name=name))
        return done, _("done") if done else _("is not among those given up")

    decide_each(
        names,
        callbacks.dead_names,
        partial(_question, decision),
        decide,
        none=partial(_counts, callbacks),
        yes=yes,
    )


def _question(decision: Literal["replay", "drop"], count: int) -> str:
    if decision == "replay":
        return ngettext("this delivers {n} callback", "this delivers {n} callbacks", count)
    return ngettext("this forgets {n} callback", "this forgets {n} callbacks", count)


def _counts(callbacks: Callbacks) -> str:
    counts = callbacks.counts()
    return _("{dead} given up, {waiting} waiting", dead=counts["dead"], waiting=counts["waiting"])


def _open_callbacks() -> Callbacks:
    from smsq_worker.cli.helpers.ledger_client import open_ledger
    from smsq_worker.ledger.callbacks import Callbacks

    settings, client = open_ledger(to_write=True)
    return Callbacks(client, settings.rules)
