"""Accounts as commands name them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from smsq_worker.cli.helpers.options import Decorator, with_hint
from smsq_worker.i18n import _

if TYPE_CHECKING:
    from smsq_worker.config.settings import Settings
    from smsq_worker.domain.accounts import Account
    from smsq_worker.ledger.admin import Control


def _complete(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Offer the accounts of the file, where it can be read."""
    import os

    from smsq.errors import SettingsError
    from smsq_worker.config.settings import Settings

    try:
        found = accounts_of(Settings.load(os.environ))
    except SettingsError:
        return []
    return [one.name for one in found if one.name.startswith(incomplete)]


account_option: Final[Decorator] = click.option(
    "--account", metavar="NAME", help="Of several accounts, which one.", shell_complete=_complete
)


def accounts_of(settings: Settings) -> tuple[Account, ...]:
    """Return the accounts of the file; without one the only one that there is."""
    return tuple(one.account for one in settings.accounts)


def open_known(settings: Settings) -> Control:
    """Return the switches of the ledger, whose accounts are those that are known here.

    Raises UsageError where they are not, and as `connect_ledger_to_write`.
    """
    from smsq_worker.cli.helpers.ledger_client import connect_ledger_to_write
    from smsq_worker.ledger.admin import Control

    control = Control(connect_ledger_to_write(settings), settings.rules)
    check_known(settings, control)
    return control


def check_known(settings: Settings, control: Control) -> None:
    """Raise UsageError where the ledger has accounts, and no file names any here."""
    if words := unknown_here(settings, control):
        raise click.UsageError(words)


def unknown_here(settings: Settings, control: Control) -> str:
    """Return what to say where the ledger has accounts and no file names any here; or ""."""
    from smsq_worker.inspection import accounts

    others = [] if settings.rules.accounts else control.account_keys()
    if not others:
        return ""
    what, advice = accounts.unknown_here(others)
    return _("{name}: {meaning}", name=what, meaning=advice)


def choose(name: str | None, accounts: Sequence[Account]) -> Account:
    """Return the account of a name; without one the only one. Raises UsageError."""
    if name is None:
        if len(accounts) == 1:
            return accounts[0]
        words = _("there are several accounts; name one of them: {names}", names=_names(accounts))
        raise click.UsageError(words)
    for one in accounts:
        if one.name == name:
            return one
    raise click.UsageError(_unknown(accounts, name))


def _unknown(accounts: Sequence[Account], name: str) -> str:
    """Return what there is, and what was meant; not the word, which may be a number."""
    from smsq.suggestions import nearest

    if len(accounts) == 1 and not accounts[0].key:
        words = _(
            "there is no account of that name, only {name}; others are those of "
            "SMSQ_ACCOUNTS_FILE, set it as the workers have it",
            name=accounts[0].name,
        )
    else:
        words = _("there is no account of that name; there are {names}", names=_names(accounts))
    return with_hint(words, nearest(name, [one.name for one in accounts]))


def _names(accounts: Sequence[Account]) -> str:
    return ", ".join(one.name for one in accounts)
