"""The HTTP API that most of these tests ask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
import redis

from harness.api import RunningDoor, serving


@pytest.fixture(scope="module")
def module_door(
    base_environ: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningDoor]:
    with serving(base_environ, tmp_path_factory.mktemp("door") / "log") as door:
        yield door


@pytest.fixture
def door(module_door: RunningDoor, client: redis.Redis) -> RunningDoor:
    """A door before an empty ledger."""
    return module_door
