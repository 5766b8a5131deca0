"""What a sender does with several accounts: real servers stand for their gateways."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import redis

from harness.gateways import gateway_at
from harness.vendor_server import VendorServer, accepted, refused
from harness.waiting import eventually
from harness.wakeups import Source
from smsq import keys
from smsq.contract import Lane, parse
from smsq.errors import LedgerUnavailable
from smsq.ledger_writer import LedgerWriter
from smsq.tracking import read_status
from smsq_worker.config.rules import Rules
from smsq_worker.config.settings import Settings
from smsq_worker.domain.accounts import Account, Route
from smsq_worker.domain.backoff import Backoff
from smsq_worker.domain.limits import Breaker
from smsq_worker.domain.states import Outcome
from smsq_worker.infra.ports import free_port
from smsq_worker.infra.spool import Spool
from smsq_worker.ledger import AttemptResult, Ledger, RetryLater
from smsq_worker.ledger.admin import Control
from smsq_worker.sending.consumer_gate import ConsumerGate
from smsq_worker.sending.own_faults import OwnFaults
from smsq_worker.sending.result_spool import ResultSpool
from smsq_worker.sending.sender import Sender
from smsq_worker.sending.waiting import Waiting
from smsq_worker.sending.wakeup import WakeUp

MAIN = Account("main", "", 500, 50)
BACKUP = Account("backup", "backup", 500, 50, templates=(("SMS_1001", "T-77"),))
AWAY = LedgerUnavailable("it is away")


class Two:
    """A sender with two accounts, and what it is given."""

    def __init__(self, client: redis.Redis, settings: Settings, urls: Mapping[str, str]) -> None:
        self.client = client
        self.rules: Rules = replace(
            settings.rules,
            accounts=(MAIN, BACKUP),
            routes=(Route(("", "backup")),),
            breaker=Breaker(1, 10, 60),
        )
        self.ledger = Ledger(client, self.rules)
        self.control = Control(client, self.rules)
        self.spool = Spool(settings.home / "spool", "calls")
        self.result_spool = ResultSpool(self.ledger, self.spool)
        self.writer = LedgerWriter(client, settings)
        gate = ConsumerGate()
        gate.set("open", 1000)
        self.gateways = {
            key: gateway_at(replace(settings.address, url=url)) for key, url in urls.items()
        }
        self.sender = Sender(
            self.ledger,
            self.gateways,
            self.result_spool,
            ledger_writer=self.writer,
            backoff=Backoff(30, 60),
            gate=gate,
            own_faults=OwnFaults(self.ledger, gate, 30, has_several=True),
            max_attempts=8,
        )

    def enter(self, *names: str) -> None:
        for name in names:
            message = parse(("13800138000", "SMS_1001", "482913"), {"lane": "notice"})
            self.writer.enter(name, message)

    def send(self, *names: str) -> str | None:
        """Enter messages and send them by one wake-up; give what it is told at the end."""
        self.enter(*names)
        source = Source()
        is_batch = len(names) > 1
        self.sender.take(WakeUp(Lane.NOTICE, names, source, is_batch=is_batch))
        word = source.came.get(timeout=60)
        assert source.acknowledged
        return word

    def attempts(self, name: str = "m1") -> list[tuple[str | None, str | None, str | None]]:
        status = read_status(self.client, "", name)
        assert status
        return [(one.account, one.outcome, one.mid) for one in status.attempts]


@pytest.fixture
def servers() -> Iterator[tuple[VendorServer, VendorServer]]:
    with VendorServer() as main, VendorServer() as backup:
        yield main, backup


@pytest.fixture
def quick(environ: dict[str, str], tmp_path: Path) -> Settings:
    return Settings.load(environ | {"SMSQ_CONNECT_TIMEOUT_S": "1", "SMSQ_HOME": str(tmp_path)})


@pytest.fixture
def build(client: redis.Redis, quick: Settings) -> Iterator[Callable[[Mapping[str, str]], Two]]:
    built: list[Two] = []

    def with_gateways(urls: Mapping[str, str]) -> Two:
        built.append(Two(client, quick, urls))
        return built[-1]

    yield with_gateways
    for two in built:
        two.spool.close()
        for gateway in two.gateways.values():
            gateway.close()


@pytest.fixture
def two(
    build: Callable[[Mapping[str, str]], Two], servers: tuple[VendorServer, VendorServer]
) -> Two:
    main, backup = servers
    return build({"": main.url, "backup": backup.url})


def test_what_one_account_refuses_goes_on_in_the_same_hand(
    two: Two, servers: tuple[VendorServer, VendorServer], caplog: pytest.LogCaptureFixture
) -> None:
    main, backup = servers
    main.answer = refused
    with caplog.at_level(logging.INFO):
        assert two.send("m1") == "accepted"
    assert two.attempts() == [(None, "refused", None), ("backup", "accepted", f"{1:016X}")]
    assert two.client.get(keys.mid(f"{1:016X} backup")) == "2 m1"
    ((path, _),) = backup.calls
    assert parse_qs(urlsplit(path).query)["smstemplate"] == ["T-77"]  # as it is called there
    assert "m1 attempt 2 at backup: accepted, now accepted" in caplog.text
    shown = [vars(record)["smsq"] for record in caplog.records if "smsq" in vars(record)]
    assert ("backup", f"{1:016X}") in [(one.get("account"), one.get("mid")) for one in shown]


def test_a_batch_is_told_of_all_its_messages(
    two: Two, servers: tuple[VendorServer, VendorServer]
) -> None:
    main, _ = servers
    main.answer = lambda mid: (refused if int(mid, 16) % 2 else accepted)(mid)
    assert two.send("m1", "m2", "m3", "m4") == "4 accepted"
    assert sorted(len(two.attempts(f"m{n}")) for n in range(1, 5)) == [1, 1, 2, 2]


def test_both_refuse(two: Two, servers: tuple[VendorServer, VendorServer]) -> None:
    for server in servers:
        server.answer = refused
    assert two.send("m1") == "failed"
    assert [len(server.calls) for server in servers] == [1, 1]


def test_a_gateway_that_is_down_costs_no_wait(
    build: Callable[[Mapping[str, str]], Two], servers: tuple[VendorServer, VendorServer]
) -> None:
    url = f"http://127.0.0.1:{free_port()}/"
    two = build({"": url, "backup": servers[1].url})
    assert two.send("m1") == "accepted"
    assert two.attempts()[0][:2] == (None, "not_sent")


def test_what_is_given_back_while_it_goes_on_is_left_to_the_scheduler(
    build: Callable[[Mapping[str, str]], Two],
) -> None:
    down = [f"http://127.0.0.1:{free_port()}/" for _ in range(2)]
    two = build({"": down[0], "backup": down[1]})
    two.control.pause("account@backup", "test")
    # The breaker opens, and now nothing goes.
    assert two.send("m1") == "queued"
    assert two.control.pauses()
    due = two.ledger.claim(resend_wait_s=1)
    assert due.wake == (("m1", Lane.NOTICE),)


def test_what_goes_on_in_a_process_that_ends_is_left_to_the_scheduler(
    two: Two, servers: tuple[VendorServer, VendorServer]
) -> None:
    main, backup = servers
    main.answer = refused
    main.withhold()
    two.enter("m1")
    two.sender.take(WakeUp(Lane.NOTICE, ["m1"], Source()))
    eventually(lambda: main.calls)
    two.sender.stop()
    two.sender.wait_until_given_back()
    main.release()
    two.sender.wait_for_attempts()
    assert two.ledger.claim(resend_wait_s=1).wake == (("m1", Lane.NOTICE),)
    assert not backup.calls


def test_an_account_that_this_process_does_not_know_is_left_out(
    build: Callable[[Mapping[str, str]], Two], servers: tuple[VendorServer, VendorServer]
) -> None:
    two = build({"backup": servers[1].url, "other": servers[1].url})
    assert two.send("m1") == "deferred"
    assert two.attempts() == [(None, "not_sent", None)]


# The spool


def test_a_spooled_result_keeps_its_account(two: Two, tmp_path: Path) -> None:
    two.control.pause("account", "test")
    two.enter("m1")
    admitted = two.ledger.admit("m1")
    begun = getattr(admitted, "begun", 0)
    result = AttemptResult(
        "m1", 1, Outcome.ACCEPTED, "", "X backup", begun=begun, account="backup", in_hand=True
    )
    assert two.result_spool.keep([result], AWAY) == [None]
    (file,) = (tmp_path / "spool").glob("calls-*")
    assert json.loads(file.read_text())["account"] == "backup"
    two.result_spool.replay()
    assert two.attempts() == [("backup", "accepted", "X")]


def test_an_entry_of_one_account_is_as_before(two: Two, tmp_path: Path) -> None:
    two.result_spool.keep([AttemptResult("m1", 1, Outcome.ACCEPTED, "", "X", begun=5)], AWAY)
    (file,) = (tmp_path / "spool").glob("calls-*")
    assert set(json.loads(file.read_text())) == {
        *("id", "attempt", "outcome", "detail", "mid", "wait_s", "begun")
    }


# Those that wait


def test_who_waits_alone_holds_up_nobody() -> None:
    waiting = Waiting(Lane.OTP)
    waiting.add(["a1", "a2", "b1"])
    asks = waiting.to_ask(8)
    assert [name for name, _ in asks] == ["a1", "a2", "b1"]
    later = RetryLater(5, alone=True)
    assert list(waiting.answered(asks, [later, later, RetryLater(0.2)])) == []
    # The one behind them is asked for when its own time comes, and nobody was lost.
    assert waiting.to_ask(8) == []
    assert sorted(waiting.long_in_hand() or ["a1", "a2", "b1"]) == ["a1", "a2", "b1"]
    assert waiting
    waiting.rest(0)
    waiting.clear()
    assert not waiting


def test_half_of_those_asked_for_are_new() -> None:
    waiting = Waiting(Lane.OTP)
    waiting.add(f"a{n}" for n in range(60))
    later = RetryLater(0, alone=True)
    for _ in range(2):
        asks = waiting.to_ask(99)
        assert list(waiting.answered(asks, [later] * len(asks))) == []
    waiting._alone = dict.fromkeys(waiting._alone, 0.0)
    names = [name for name, _ in waiting.to_ask(99)]
    assert names == [*(f"a{n}" for n in range(15)), *(f"a{n}" for n in range(50, 60))]


def test_one_that_goes_on_comes_first() -> None:
    waiting = Waiting(Lane.OTP)
    waiting.add(["m1", "m2"])
    assert list(waiting.answered(waiting.to_ask(8), [RetryLater(1)])) == []
    waiting.add(["m0"], first=True)
    assert waiting.to_ask(8)[0] == ("m0", "")
