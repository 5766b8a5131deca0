"""Vendors by name: the built-in ones, and those of other packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from smsq.errors import SettingsError
from smsq_worker import vendors
from smsq_worker.domain.accounts import VENDOR
from smsq_worker.vendors.oneoc.vendor import OneOc
from smsq_worker.vendors.registry import GROUP
from smsq_worker.vendors.vendor import VendorOptions

OPTIONS = VendorOptions("https://sms.example.com/", "secret")
ACME = """
from smsq_worker.vendors.oneoc.vendor import OneOc
from smsq_worker.vendors.vendor import Request


class Acme(OneOc):
    def request(self, phone, template, code):
        return Request("POST", f"{self.url}send", {}, f"{phone} {template} {code}".encode())


NOT_A_VENDOR = "acme"
"""


@pytest.fixture
def other_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two distributions: one brings a vendor, the other is broken."""
    entries = {
        "acme-sms": {"acme": "acme_sms:Acme", "odd": "acme_sms:NOT_A_VENDOR", "1oc": "acme_sms:X"},
        "broken-sms": {"broken": "broken_sms:Vendor", "gone": "no_such_module:Vendor"},
    }
    (tmp_path / "acme_sms.py").write_text(ACME)
    (tmp_path / "broken_sms.py").write_text("raise RuntimeError('no licence')")
    for name, vendors_of in entries.items():
        folder = tmp_path / f"{name.replace('-', '_')}-1.2.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        lines = [f"{vendor} = {at}" for vendor, at in vendors_of.items()]
        (folder / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines, ""]))
    monkeypatch.syspath_prepend(tmp_path)


def test_the_default_is_the_seeds_vendor() -> None:
    assert vendors.find(VENDOR) is OneOc


def test_an_unknown_vendor_is_told_with_those_that_there_are() -> None:
    with pytest.raises(SettingsError) as caught:
        vendors.find("1cc")
    (problem,) = caught.value.problems
    assert problem == "vendor '1cc' is unknown; there are 1oc, http; did you mean 1oc?"


@pytest.mark.usefixtures("other_packages")
def test_another_distribution_brings_a_vendor() -> None:
    vendor = vendors.find("acme")(OPTIONS)
    request = vendor.request("13800000001", "SMS_1", "1234")
    assert request == ("POST", "https://sms.example.com/send", {}, b"13800000001 SMS_1 1234")
    with pytest.raises(SettingsError, match="there are 1oc, acme, broken, gone, http, odd"):
        vendors.find("other")


@pytest.mark.usefixtures("other_packages")
def test_a_built_in_vendor_cannot_be_replaced() -> None:
    assert vendors.find("1oc") is OneOc


@pytest.mark.usefixtures("other_packages")
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("broken", "broken-sms 1.2 cannot be used: broken_sms:Vendor: RuntimeError: no licence"),
        ("gone", "broken-sms 1.2 cannot be used: no_such_module:Vendor: ModuleNotFoundError: "),
        ("odd", "acme-sms 1.2 cannot be used: acme_sms:NOT_A_VENDOR: it must be a class, or "),
    ],
)
def test_a_broken_vendor_is_told_by_name_and_hurts_no_other(name: str, told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        vendors.find(name)
    (problem,) = caught.value.problems
    assert problem.startswith(f"vendor '{name}' of {told}")
    assert vendors.find("acme")
