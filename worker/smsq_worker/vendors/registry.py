"""Finding a vendor by its name: the built-in ones, and those that other packages bring.

Another package names its own in the entry points of group `smsq.vendors`:

    [project.entry-points."smsq.vendors"]
    acme = "acme_sms.vendor:AcmeVendor"
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Final

from smsq.errors import SettingsError
from smsq.suggestions import hint
from smsq_worker.domain.accounts import VENDOR

if TYPE_CHECKING:
    from smsq_worker.vendors.vendor import Vendor, VendorOptions

GROUP: Final = "smsq.vendors"
BUILT_IN: Final = {
    VENDOR: "smsq_worker.vendors.oneoc.vendor:OneOc",
    "http": "smsq_worker.vendors.http.vendor:HttpVendor",
}
"""Known without an installed distribution too, and whatever another one says."""


def find(name: str) -> Callable[[VendorOptions], Vendor]:
    """Return what makes the vendor of this name for an account.

    Raises SettingsError, with what there is, if there is none or it cannot be imported.
    """
    found = _known()
    if name not in found:
        there = f"{', '.join(sorted(found))}{hint(name, found)}"
        raise SettingsError([f"vendor {name!r} is unknown; there are {there}"])
    entry = found[name]
    try:
        made = entry.load()
    except Exception as error:
        raise SettingsError([_broken(entry, f"{type(error).__name__}: {error}")]) from error
    if not callable(made):
        raise SettingsError([_broken(entry, "it must be a class, or a function of VendorOptions")])
    return made  # type: ignore[no-any-return]


def _known() -> dict[str, EntryPoint]:
    """Return all by name, without importing any."""
    others = {one.name: one for one in entry_points(group=GROUP)}
    return others | {name: EntryPoint(name, at, GROUP) for name, at in BUILT_IN.items()}


def _broken(entry: EntryPoint, why: str) -> str:
    by = f" of {entry.dist.name} {entry.dist.version}" if entry.dist else ""
    return f"vendor {entry.name!r}{by} cannot be used: {entry.value}: {why}"
