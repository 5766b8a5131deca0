"""The end of an attempt's right to be sent."""

from __future__ import annotations


class LeaseExpired(Exception):  # noqa: N818
    """An attempt no longer holds: another may have begun, so nothing of it may be sent now."""
