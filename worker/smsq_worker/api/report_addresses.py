"""The addresses to which gateways report: /reports/<token>, and the token says of which account."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from smsq.errors import SettingsError
from smsq_worker.config.settings import Settings
from smsq_worker.domain.accounts import VENDOR
from smsq_worker.vendors.of_accounts import place_of, vendors_of
from smsq_worker.vendors.vendor import Vendor

PATH: Final = "/reports/"
PARTS: Final = 16
"""Of a path that are looked at: a stranger's may have thousands, and each is compared."""
REPORTER: Final = "smsq.reporter"
"""Where a scope has the Reporter whose address its path is, or None."""


@dataclass(frozen=True, slots=True)
class Reporter:
    """Whose reports come to an address."""

    key: str
    """Of the account, as the ledger knows it."""
    vendor: Vendor
    name: str = ""
    """The account's, where there are several."""
    in_our_form: bool = True
    """Whether the form of its vendor's answers is that of all others of this API."""


class ReportAddresses:
    """Finds an account by the token of its address.

    Every search compares with all tokens, and takes a time that depends on their lengths alone.
    """

    def __init__(self, reporters: Mapping[str, Reporter]) -> None:
        """Take who reports, by token; "" is none."""
        self._reporters = [(token.encode(), one) for token, one in reporters.items() if token]

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the addresses of all accounts. Raises SettingsError."""
        accounts = settings.accounts
        vendors = vendors_of(settings)
        lacking = [
            f"{place_of(settings, one)}its reports need its {need}"
            for one in accounts
            if (need := vendors[one.account.key].reports_need)
        ]
        if lacking:
            raise SettingsError(lacking)
        return cls(
            {
                one.report_token: Reporter(
                    one.account.key,
                    vendors[one.account.key],
                    one.account.name if settings.accounts_file else "",
                    in_our_form=one.vendor == VENDOR,
                )
                for one in accounts
            }
        )

    def find(self, token: str) -> Reporter | None:
        """Return whose token this is; None for a wrong one."""
        given = token.encode(errors="replace")
        found = [one for own, one in self._reporters if hmac.compare_digest(given, own)]
        return found[0] if found else None

    def of_path(self, path: str) -> Reporter | None:
        """Return whose address a path is."""
        return self.find(path.removeprefix(PATH))

    def meant(self, path: str) -> Reporter | None:
        """Return whose token is any of a path's first parts: only who knows it can write that."""
        return next(filter(None, map(self.find, path.split("/", PARTS)[:PARTS])), None)
