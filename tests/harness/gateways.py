"""The default vendor's gateway at an address."""

from __future__ import annotations

from smsq_worker.config.gateway_address import Address
from smsq_worker.vendors.client import Gateway
from smsq_worker.vendors.oneoc.vendor import OneOc
from smsq_worker.vendors.vendor import VendorOptions


def gateway_at(address: Address) -> Gateway:
    return Gateway(address, OneOc(VendorOptions(address.url, address.secret)))
