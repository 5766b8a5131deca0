"""The end of an attempt's lease."""

from __future__ import annotations


class LeaseExpired(Exception):  # noqa: N818
    """An attempt's lease has ended: another may have begun, so nothing of it may be sent now."""
