"""Signals that come while `smsq serve` is handing them over to uvicorn."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from smsq_worker.api.clients import Callers
from smsq_worker.api.server import serve
from smsq_worker.config.settings import Settings
from smsq_worker.infra.ports import listen

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@pytest.fixture
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_handlers")
def test_one_that_came_before_uvicorn_took_them_ends_it(environ: dict[str, str]) -> None:
    settings = Settings.load(environ | {"SMSQ_REPORT_TOKEN": "a-token-of-reports"})
    with listen(("127.0.0.1", 0), "SMSQ_API_BIND") as listening:
        serve(settings, Callers([]), listening, lambda: True)


@pytest.mark.usefixtures("_handlers")
def test_one_that_comes_right_before_uvicorn_takes_them_ends_it(environ: dict[str, str]) -> None:
    settings = Settings.load(environ | {"SMSQ_REPORT_TOKEN": "a-token-of-reports"})

    def comes_now() -> bool:
        signal.raise_signal(signal.SIGTERM)
        return False

    with listen(("127.0.0.1", 0), "SMSQ_API_BIND") as listening:
        serve(settings, Callers([]), listening, comes_now)
