"""What a loop that never ends logs of its failures."""

from __future__ import annotations

import logging

import pytest

from smsq.errors import LedgerUnavailable
from smsq_worker.infra.failure_log import MIN_WAIT_S, FailureLog
from smsq_worker.ledger.errors import SchemaTooNew


def test_an_outage_that_becomes_another_is_logged_again(caplog: pytest.LogCaptureFixture) -> None:
    """Redis comes back, raised to a newer schema: somebody has to upgrade this process."""
    failures = FailureLog(logging.getLogger("smsq"), "the scheduler")
    away, outgrown = LedgerUnavailable("Redis is away"), SchemaTooNew("upgrade this process")
    assert {failures.waits(error) for error in [away, away, outgrown, away]} == {MIN_WAIT_S}
    failures.over()
    failures.over()
    assert caplog.messages == [
        "the scheduler waits: Redis is away",
        "the scheduler waits: upgrade this process",
        "the scheduler goes on",
    ]
