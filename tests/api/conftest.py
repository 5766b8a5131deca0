"""The HTTP API that most of these tests ask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest
import redis

from harness.api import RunningApi, Serve, serving, serving_here


@pytest.fixture
def serve(client: redis.Redis, environ: Mapping[str, str], tmp_path: Path) -> Serve:
    """Return what runs an API in this process with further settings, and returns its URL."""
    return partial(serving_here, client, environ, tmp_path)


@pytest.fixture(scope="module")
def module_api(
    base_environ: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningApi]:
    with serving(base_environ, tmp_path_factory.mktemp("door") / "log") as api:
        yield api


@pytest.fixture
def api(module_api: RunningApi, client: redis.Redis) -> RunningApi:
    """An API before an empty ledger."""
    return module_api
