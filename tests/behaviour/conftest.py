"""Every case is played on both sides; one is green only if it is on both."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.sides import Play, in_memory, in_redis


@pytest.fixture(params=["outbox", "redis"])
def play(request: pytest.FixtureRequest) -> Iterator[Play]:
    if request.param == "outbox":
        with in_memory() as play:
            yield play
    else:
        wanted = (request.getfixturevalue("client"), request.getfixturevalue("settings"))
        with in_redis(*wanted) as play:
            yield play
