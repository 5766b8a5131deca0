"""The pytest plugin of smsq: the fixture `smsq_outbox`.

It stands outside the package `smsq`, so that projects that do not use it import nothing for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from smsq.testing import Outbox

__all__ = ["smsq_outbox"]


@pytest.fixture
def smsq_outbox() -> Iterator[Outbox]:
    """Make smsq write to an outbox while the test runs; return it."""
    from smsq.testing import outbox

    with outbox() as box:
        yield box
