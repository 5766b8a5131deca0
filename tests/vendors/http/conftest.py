"""Descriptions as texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.descriptions import Made
from smsq_worker.vendors.http.vendor import HttpVendor
from smsq_worker.vendors.vendor import VendorOptions


@pytest.fixture
def described(tmp_path: Path) -> Made:
    """Return what makes a vendor of parts of a description."""

    def make(*parts: str, secret: str = "user:password", **settings: str) -> HttpVendor:
        file = tmp_path / "vendor.toml"
        file.write_bytes("\n".join(parts).encode())
        return HttpVendor(VendorOptions("", secret, file, settings))

    return make
