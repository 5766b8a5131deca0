"""A ledger that is emptied under a worker: somebody is told."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from harness.machine import machine
from harness.waiting import eventually
from smsq.connection import connect
from smsq.errors import LedgerUnavailable
from smsq_worker.config.settings import Settings
from smsq_worker.ledger import emptied, migrations
from smsq_worker.ledger.emptied import Watch

GONE = "what was in the ledger is gone"


@pytest.fixture
def ledger(client: redis.Redis, environ: dict[str, str]) -> Iterator[redis.Redis]:
    migrations.migrate(client, Settings.load(environ).rules)
    yield client
    client.flushall()


def test_what_is_gone_is_told_once(
    ledger: redis.Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(emptied, "LOOKS_EACH_S", 0)
    watch = Watch(ledger, "redis://host")
    kept = ledger.dump("smsq:schema")
    watch.look()
    assert not caplog.records
    for _time in range(2):
        ledger.flushall()
        watch.look()
        watch.look()
        ledger.restore("smsq:schema", 0, kept)
        watch.look()
    told = [(one.levelno, GONE in one.getMessage()) for one in caplog.records]
    assert told == [(logging.CRITICAL, True)] * 2


def test_it_looks_once_in_a_while(
    ledger: redis.Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(emptied, "LOOKS_EACH_S", 3600)
    watch = Watch(ledger, "redis://host")
    watch.look()
    ledger.flushall()
    watch.look()
    assert not caplog.records


def test_a_ledger_that_is_new_has_lost_nothing(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(emptied, "LOOKS_EACH_S", 0)
    watch = Watch(client, "redis://host")
    watch.look()
    watch.look()
    assert not caplog.records


def test_a_redis_that_is_away_is_not_empty(caplog: pytest.LogCaptureFixture) -> None:
    url = "redis://127.0.0.1:1/0"
    with connect(url, try_s=1) as client, pytest.raises(LedgerUnavailable):
        Watch(client, url).look()
    assert not caplog.records


def test_a_worker_says_it(environ: dict[str, str], tmp_path: Path) -> None:
    with machine(environ, tmp_path) as made, made.client as client:
        made.start_worker()
        eventually(lambda: client.hexists("smsq:schema", "version"))
        with client.monitor() as commands:
            looks = (one["command"] == "HMGET smsq:schema version" for one in commands.listen())
            assert any(looks)
        log = tmp_path / "worker0.log"
        assert GONE not in log.read_text()
        client.hdel("smsq:schema", "version")  # Of all that goes it is what is looked at.
        eventually(lambda: GONE in log.read_text())
