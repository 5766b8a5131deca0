"""The vendor of each account, and what its codes mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from smsq.errors import SettingsError
from smsq_worker.config.accounts_file import GatewayAccount
from smsq_worker.config.settings import Settings
from smsq_worker.domain.codes import Catalogue
from smsq_worker.vendors.registry import find
from smsq_worker.vendors.vendor import Vendor, VendorOptions

T = TypeVar("T")


def place_of(settings: Settings, one: GatewayAccount) -> str:
    """Return how a line about an account's mistake begins: where it stands; "" without a file."""
    file = settings.accounts_file
    return f"SMSQ_ACCOUNTS_FILE: {file}: accounts.{one.account.name}: " if file else ""


def vendors_of(settings: Settings) -> dict[str, Vendor]:
    """Return the vendors by the keys of their accounts.

    Raises SettingsError with the mistakes of all.
    """

    def make(one: GatewayAccount, where: str) -> Vendor:
        options = VendorOptions(
            one.address.url, one.address.secret, one.description, dict(one.settings)
        )
        try:
            return find(one.vendor)(options)
        except SettingsError as error:
            raise SettingsError([f"{where}{line}" for line in error.problems]) from error

    return _by_key(settings, make)


def catalogues_of(
    settings: Settings, vendors: Mapping[str, Vendor] | None = None
) -> dict[str, Catalogue]:
    """Return the catalogues by the keys of their accounts. Raises as `vendors_of` does."""
    known = vendors_of(settings) if vendors is None else vendors

    def load(one: GatewayAccount, where: str) -> Catalogue:
        of_settings = one.codes_file == settings.codes_file
        named_by = "SMSQ_CODES_FILE" if of_settings else f"{where}codes_file"
        return Catalogue.load(one.codes_file, known[one.account.key].codes, named_by=named_by)

    return _by_key(settings, load)


def _by_key(settings: Settings, make: Callable[[GatewayAccount, str], T]) -> dict[str, T]:
    found: dict[str, T] = {}
    problems: list[str] = []
    for one in settings.accounts:
        try:
            found[one.account.key] = make(one, place_of(settings, one))
        except SettingsError as error:
            problems += error.problems
    if problems:
        raise SettingsError(problems)
    return found
