"""One worker's secret is wrong, or its network, and those of the others are well."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import pytest
import redis
from cryptography.fernet import Fernet

from harness.accounts import accounts_file
from harness.machine import machine
from harness.vendor_server import VendorServer, accepted, refused
from harness.waiting import becomes, eventually, known
from harness.wakeups import Source, send, send_batch
from smsq import keys
from smsq.cipher import Opener
from smsq.contract import Lane, parse
from smsq.ledger_writer import LedgerWriter
from smsq_worker.config.settings import Settings
from smsq_worker.infra.ports import free_port
from smsq_worker.ledger.admin import Control
from smsq_worker.runtime import Runtime
from smsq_worker.sending import consumer_gate, own_faults
from smsq_worker.sending.consumer_gate import RequeueLater
from smsq_worker.sending.wakeup import WakeUp

Build = Callable[[VendorServer | None], Runtime]
"""None: without a network."""
QUEUES = [lane.queue for lane in Lane]


@pytest.fixture(autouse=True)
def _rests_until_told(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]) -> None:
    monkeypatch.setattr(own_faults, "FIRST_REST_S", 600.0)
    monkeypatch.setitem(environ, "SMSQ_PROBE_S", "600")


@pytest.fixture
def build(environ: dict[str, str], client: redis.Redis, tmp_path: Path) -> Iterator[Build]:
    runtimes: list[Runtime] = []

    def build(vendor: VendorServer | None) -> Runtime:
        url = vendor.url if vendor else nowhere()
        own = {"SMSQ_GATEWAY_URL": url, "SMSQ_HOME": str(tmp_path / str(len(runtimes)))}
        runtimes.append(Runtime(Settings.load(environ | own)))
        return runtimes[-1]

    yield build
    for runtime in runtimes:
        runtime.close()


@pytest.fixture
def wrong() -> Iterator[VendorServer]:
    """The gateway as a worker with a wrong secret sees it."""
    with VendorServer() as vendor:
        vendor.answer = refused
        yield vendor


@pytest.fixture
def right() -> Iterator[VendorServer]:
    with VendorServer() as vendor:
        yield vendor


DESCRIPTION = """
[request]
method = "GET"
url = "http://127.0.0.1/"
query = { mobphone = "{phone}" }

[answer]
code = "/code"
mid = "/mid"
words = "/msg"
accepted = [200]
template = [420]
recipient = [430]
"""


@pytest.fixture
def described(
    build: Build, right: VendorServer, environ: dict[str, str], tmp_path: Path
) -> Runtime:
    """A worker of one account, whose refusals name their cause."""
    (tmp_path / "vendor.toml").write_text(DESCRIPTION)
    table = f'[accounts.main]\nwas_default = true\nurl = "{right.url}"\n'
    table += 'vendor = "http"\ndescription = "vendor.toml"\n'
    route = '[[routes]]\naccounts = ["main"]\n'
    environ["SMSQ_ACCOUNTS_FILE"] = accounts_file(tmp_path, table, route)
    return build(right)


def says(code: int, status: int = 200) -> Callable[[str], tuple[int, dict[str, object]]]:
    return lambda _: (status, {"code": code, "msg": "no", "mid": ""})


def nowhere() -> str:
    return f"http://127.0.0.1:{free_port()}/"


def enter(runtime: Runtime, *names: str, phone: str = "13800138000") -> None:
    writer = LedgerWriter(runtime.client, runtime.settings)
    for name in names:
        writer.enter(name, parse((phone, "SMS_1001", "482913"), {"lane": "notice"}))


def sent(runtime: Runtime, name: str) -> str:
    enter(runtime, name)
    return send(runtime, name)


def fail(runtime: Runtime, count: int, prefix: str) -> None:
    for n in range(count):
        assert sent(runtime, f"{prefix}{n}") == "failed"


def paused(runtime: Runtime) -> dict[str, str]:
    control = Control(runtime.client, runtime.settings.rules)
    return {pause.scope: pause.cause for pause in control.pauses()}


def refused_alone(wrong: Runtime, right: Runtime) -> None:
    """Have a worker notice that it alone is refused."""
    fail(wrong, 19, "first")
    assert sent(right, "good") == "accepted"
    fail(wrong, 1, "last")
    eventually(lambda: wrong.sender.own_faults.is_suspect)
    assert paused(wrong) == {}


def test_a_worker_that_alone_is_suspect_leaves_messages_to_the_others(
    build: Build, wrong: VendorServer, right: VendorServer, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = build(wrong), build(right)
    refused_alone(bad, good)
    assert "refused this worker's last 20 calls, not those of others" in caplog.text
    assert bad.sender.gate.open_queues(QUEUES) == []
    enter(bad, "m1")
    with pytest.raises(RequeueLater):
        send(bad, "m1")
    assert len(wrong.calls) == 20
    assert send(good, "m1") == "accepted"
    assert good.sender.gate.open_queues(QUEUES) == QUEUES


def test_its_refusals_say_nothing_of_their_messages(
    build: Build, wrong: VendorServer, right: VendorServer, client: redis.Redis
) -> None:
    bad, good = build(wrong), build(right)
    # Under way when it is noticed.
    enter(bad, "m1")
    noticed = Event()

    def hold(mid: str) -> None:
        if int(mid, 16) == 20:
            noticed.wait(60)

    wrong.before_answer = hold
    fail(bad, 19, "first")
    source = Source()
    bad.sender.take(WakeUp(Lane.NOTICE, ["m1"], source))
    eventually(lambda: len(wrong.calls) == 20)
    assert sent(good, "good") == "accepted"
    fail(bad, 1, "last")
    assert bad.sender.own_faults.is_suspect
    noticed.set()
    assert source.came.get(timeout=60) == "deferred"
    (attempt,) = known("m1").attempts
    assert attempt.outcome == "not_sent"
    assert "to this worker alone: gateway:400" in str(attempt.detail)
    client.zadd(keys.TIMERS, {"m1": 0}, xx=True)
    assert good.ledger.claim(resend_wait_s=1, empty=[]).wake
    assert send(good, "m1") == "accepted"


def test_it_probes_with_one_message_of_many_and_goes_on_once_one_is_accepted(
    build: Build, wrong: VendorServer, right: VendorServer, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = build(wrong), build(right)
    refused_alone(bad, good)
    names = [f"m{n}" for n in range(10)]
    enter(bad, *names)
    bad.sender.gate.rest(0)
    with pytest.raises(RequeueLater):
        send_batch(bad, names, Lane.NOTICE)
    eventually(lambda: known("m0").state == "deferred")
    assert [known(name).state for name in names[1:]] == ["queued"] * 9
    assert len(wrong.calls) == 21
    assert bad.sender.gate.is_resting
    wrong.answer = accepted
    bad.sender.gate.rest(0)
    with pytest.raises(RequeueLater):
        send_batch(bad, names[1:], Lane.NOTICE)
    becomes("m1", "accepted")
    eventually(lambda: not bad.sender.gate.is_resting)
    assert "answers this worker's calls again" in caplog.text
    assert send_batch(bad, names[2:], Lane.NOTICE) == "8 accepted"


@pytest.mark.parametrize("found", [{"account": "refusals"}, {"breaker": "outage"}])
def test_where_nobody_is_left_who_can_send_the_pauses_show_it(
    build: Build,
    right: VendorServer,
    wrong: VendorServer,
    monkeypatch: pytest.MonkeyPatch,
    found: dict[str, str],
) -> None:
    monkeypatch.setattr(own_faults, "PROBES", 3)
    is_refused = "account" in found
    state = "failed" if is_refused else "deferred"
    bad, good = build(wrong if is_refused else None), build(right)
    faults = bad.sender.own_faults
    assert sent(bad, "first") == state
    assert sent(good, "good") == "accepted"
    names = (f"m{n}" for n in range(100))
    while not faults.is_suspect:
        assert sent(bad, next(names)) == state

    def probe() -> None:
        bad.sender.gate.rest(0)
        assert sent(bad, next(names)) == "deferred"

    probe()
    probe()
    assert sent(good, "good again") == "accepted"
    probe()
    for _ in range(2):
        probe()
        assert faults.is_suspect
    probe()
    assert not faults.is_suspect
    while not paused(bad):
        assert sent(bad, next(names)) == state
    assert paused(bad) == found


def test_messages_to_test_numbers_tell_nothing(
    build: Build, right: VendorServer, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]
) -> None:
    monkeypatch.setitem(environ, "SMSQ_TEST_NUMBERS", "13900139000")
    lost, good = build(None), build(right)
    assert sent(lost, "m1") == "deferred"
    assert sent(good, "good") == "accepted"
    for n in range(9):
        enter(lost, f"test{n}", phone="13900139000")
        assert send(lost, f"test{n}") == "accepted"
        assert sent(lost, f"last{n}") == "deferred"
    assert lost.sender.own_faults.is_suspect


def test_where_all_are_refused_the_account_is_paused_instead(
    build: Build, wrong: VendorServer
) -> None:
    bad = build(wrong)
    for turn in range(2):
        fail(bad, 20, f"turn{turn}-")
        assert paused(bad) == {"account": "refusals"}
        control = Control(bad.client, bad.settings.rules)
        assert control.resume("account", "the secret is right now")
    fail(bad, 1, "after")
    assert not bad.sender.own_faults.is_suspect


def test_only_refusals_without_an_acceptance_between_count(
    build: Build, right: VendorServer, wrong: VendorServer
) -> None:
    bad, good = build(wrong), build(right)
    fail(bad, 19, "first")
    assert sent(good, "good") == "accepted"
    wrong.answer = accepted
    assert sent(bad, "between") == "accepted"
    wrong.answer = refused
    fail(bad, 19, "second")
    assert not bad.sender.own_faults.is_suspect


def test_one_without_a_network_leaves_messages_to_the_others(
    build: Build, right: VendorServer, caplog: pytest.LogCaptureFixture
) -> None:
    lost, good = build(None), build(right)
    for n in range(5):
        assert sent(lost, f"first{n}") == "deferred"
    assert sent(good, "good") == "accepted"
    for n in range(5):
        assert not lost.sender.own_faults.is_suspect
        assert sent(lost, f"last{n}") == "deferred"
    assert "did not answer this worker's last 10 calls, but those of others" in caplog.text
    assert (lost.sender.gate.open_queues(QUEUES), paused(lost)) == ([], {})


def test_trouble_that_others_have_too_is_an_outage(build: Build, right: VendorServer) -> None:
    lost, good = build(None), build(right)
    assert sent(good, "before") == "accepted"
    for n in range(20):
        assert sent(lost, f"m{n}") == "deferred"
    assert not lost.sender.own_faults.is_suspect
    assert paused(lost) == {"breaker": "outage"}


def test_whoever_met_trouble_last_leaves_the_next_probe_to_others(
    build: Build, right: VendorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost, good = build(None), build(right)
    assert sent(lost, "m1") == "deferred"
    for runtime in (lost, good):
        runtime.sender.gate.set("probe", 10)
    assert lost.sender.gate.open_queues(QUEUES) == []
    assert good.sender.gate.open_queues(QUEUES) == QUEUES
    # None of them took it.
    monkeypatch.setattr(consumer_gate, "LEFT_S", 0)
    assert lost.sender.gate.open_queues(QUEUES) == QUEUES


def test_its_rests_grow_to_that_between_probes(
    build: Build, right: VendorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_faults, "FIRST_REST_S", 100.0)
    lost, good = build(None), build(right)
    rests = list[float]()
    rest = lost.sender.gate.rest
    monkeypatch.setattr(lost.sender.gate, "rest", lambda s: (rests.append(s), rest(s)))
    assert sent(lost, "first") == "deferred"
    assert sent(good, "good") == "accepted"
    for n in range(13):
        rest(0)
        assert sent(lost, f"m{n}") == "deferred"
    assert rests == [100, 200, 400, 600, 600]


def test_refusals_that_name_another_cause_are_not_the_secrets(
    described: Runtime, right: VendorServer
) -> None:
    right.answer = says(420)
    fail(described, 25, "m")
    assert not described.sender.own_faults.is_suspect
    assert paused(described) == {}


def test_a_refusal_shows_that_the_network_is_well(described: Runtime, right: VendorServer) -> None:
    right.answer = says(0, 503)
    for n in range(5):
        assert sent(described, f"first{n}") == "deferred"
    right.answer = says(430)
    fail(described, 1, "between")
    right.answer = says(0, 503)
    for n in range(9):
        assert sent(described, f"last{n}") == "deferred"
    assert not described.sender.own_faults.is_suspect


@pytest.fixture
def keyed(build: Build, environ: dict[str, str], right: VendorServer) -> tuple[Runtime, Runtime]:
    """Two workers, the first of which lacks the newest key."""
    old, new = (Fernet.generate_key().decode() for _ in range(2))
    environ["SMSQ_PAYLOAD_KEYS"] = old
    bad = build(right)
    bad.unlock()
    environ["SMSQ_PAYLOAD_KEYS"] = f"{new},{old}"
    good = build(right)
    good.unlock()
    return bad, good


def put(runtime: Runtime, name: str) -> str:
    """Enter a message as a producer that has the keys of a worker, and give its id."""
    writer = LedgerWriter(runtime.client, runtime.settings, runtime.cipher)
    writer.enter(name, parse(("13800138000", "SMS_1001", "482913"), {"lane": "notice"}))
    return name


def test_one_without_the_newest_key_leaves_messages_to_the_others(
    keyed: tuple[Runtime, Runtime], right: VendorServer, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = keyed
    for n in range(10):  # The others may do nothing at present.
        assert send(bad, put(good, f"first{n}")) == "deferred"
    assert not bad.sender.own_faults.is_suspect
    assert send(good, put(good, "good")) == "accepted"
    assert send(bad, put(good, "last")) == "deferred"
    eventually(lambda: bad.sender.own_faults.is_suspect)
    assert "opened none of its last 11 messages, and others send" in caplog.text
    assert bad.sender.gate.open_queues(QUEUES) == []
    with pytest.raises(RequeueLater):
        send(bad, put(good, "m1"))
    assert send(good, "m1") == "accepted"
    bad.sender.gate.rest(0)
    assert send(bad, put(bad, "old")) == "accepted"
    eventually(lambda: not bad.sender.own_faults.is_suspect)
    assert "this worker can read messages again" in caplog.text


def test_what_it_can_read_between_shows_that_others_may_as_well_be_it(
    keyed: tuple[Runtime, Runtime],
) -> None:
    bad, good = keyed
    for n in range(4):
        assert send(bad, put(good, f"first{n}")) == "deferred"
    assert send(bad, put(bad, "between")) == "accepted"
    for n in range(4):
        assert send(bad, put(good, f"last{n}")) == "deferred"
    assert send(good, put(good, "good")) == "accepted"
    assert not bad.sender.own_faults.is_suspect


@pytest.mark.parametrize("fault", ["secret", "network", "key"])
def test_workers_beside_it_send_what_it_would_have_failed_or_held_up(
    environ: dict[str, str], tmp_path: Path, wrong: VendorServer, fault: str
) -> None:
    old, new = (Fernet.generate_key().decode() for _ in range(2))
    environ |= {"SMSQ_PROBE_S": "1", "SMSQ_PAYLOAD_KEYS": f"{new},{old}"}
    url = {"secret": wrong.url, "network": nowhere()}.get(fault)
    own = {"SMSQ_GATEWAY_URL": url} if url else {"SMSQ_PAYLOAD_KEYS": old}
    with machine(environ, tmp_path) as here:
        here.start_worker()
        here.start_worker(**own)
        log = tmp_path / "worker1.log"
        settings = Settings.load(here.environ)
        writer = LedgerWriter(here.client, settings, Opener(here.client, settings))

        def another(n: int) -> str:
            writer.enter(f"m{n}", parse((f"138{n:08}", "SMS_1001", "482913"), {}))
            writer.unpublished(f"m{n}")
            return f"m{n}"

        ids = iter(range(10_000))
        eventually(lambda: another(next(ids)) and "It leaves messages" in log.read_text())
        for after in [another(next(ids)) for _ in range(40)]:
            becomes(after, "accepted")
