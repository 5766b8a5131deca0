"""From the accounts file to its weights: two gateways, of which one delivers less."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
import redis

from harness.accounts import BACKUP, MAIN, accounts_file, backup
from harness.hours import an_hour_passes
from harness.vendor_server import VendorServer
from harness.wakeups import Source
from smsq.contract import Lane, parse
from smsq.ledger_writer import LedgerWriter
from smsq.tracking import read_status
from smsq_worker.config.settings import Settings
from smsq_worker.domain.accounts import qualified
from smsq_worker.ledger import quality
from smsq_worker.ledger.weights import weights_now
from smsq_worker.runtime import Runtime
from smsq_worker.sending.wakeup import WakeUp

FAST = "rate_per_s = 10000\nburst = 1000\n"
ROUTE = '[[routes]]\naccounts = { main = 1, backup = 1 }\nprefer = "delivery"\n'
AN_HOUR = 120
HOURS = 4
DELIVERS = {"": 0.7, BACKUP: 0.97}


def test_messages_move_to_the_account_that_delivers(
    environ: dict[str, str],
    client: redis.Redis,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with VendorServer() as main, VendorServer() as second:
        tables = (MAIN + FAST, backup(url=second.url) + FAST, ROUTE)
        own = {
            "SMSQ_ACCOUNTS_FILE": accounts_file(tmp_path, *tables),
            "SMSQ_GATEWAY_URL": main.url,
            "SMSQ_HOME": str(tmp_path),
            "SMSQ_TEMPLATE_PAUSE": "",
        }
        settings = Settings.load(environ | own)
        runtime = Runtime(settings)
        runtime.unlock()
        try:
            given = [an_hour(runtime, hour) for hour in range(HOURS)]
        finally:
            runtime.close()
        assert len(main.calls) + len(second.calls) == HOURS * AN_HOUR
    assert given[0] == {"": AN_HOUR / 2, BACKUP: AN_HOUR / 2}
    (weights,) = weights_now(client, settings.rules).values()
    # From the end of the second hour, a step an hour.
    assert weights == {"": pytest.approx(1.1**-3), BACKUP: pytest.approx(1.1**3)}
    assert given[0][""] == given[1][""] > given[2][""] > given[3][""]
    moves = [line for line in caplog.messages if "the route of all else follow delivery" in line]
    assert len(moves) == 3
    assert "main from 1 to 0.909" in moves[0]


def an_hour(runtime: Runtime, hour: int) -> Counter[str]:
    """Send an hour's messages, let it pass; give how many each account accepted."""
    names = [f"h{hour}-{n}" for n in range(AN_HOUR)]
    writer = LedgerWriter(runtime.client, runtime.settings)
    for n, name in enumerate(names):
        writer.enter(name, parse((f"138{hour:04}{n:04}", "SMS_1001", "482913"), {"lane": "notice"}))
    source = Source()
    runtime.sender.take(WakeUp(Lane.NOTICE, names, source, is_batch=True))
    assert source.came.get(timeout=60) == f"{AN_HOUR} accepted"
    rng, reports, given = random.Random(hour), [], Counter[str]()
    for name in names:
        status = read_status(runtime.client, "", name)
        assert status
        (attempt,) = status.attempts
        assert attempt.mid
        account = attempt.account or ""
        stat = "DELIVRD" if rng.random() < DELIVERS[account] else "MK:0001"
        reports.append((qualified(attempt.mid, account), stat))
        given[account] += 1
    runtime.reconciler.reconcile(reports * 2)  # Reports are repeated.
    an_hour_passes(runtime.client, runtime.settings.redis_url)
    last = quality.last_hour(runtime.client, runtime.settings.redis_url)
    found = quality.by_account(quality.read(runtime.client, runtime.settings.redis_url, last))
    assert {key: one.accepted for key, one in found.items()} == given
    assert runtime.ledger.move_weights()
    assert not runtime.ledger.move_weights()  # Of another worker, in the same hour.
    return given
