"""Each owner's idempotency keys are its own: here, and beside release 0.2.0 on one ledger."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
import redis
import requests

import smsq
from harness.api import PATIENCE_S, serving
from harness.cli import unmasked_run
from harness.credentials import RELAY
from harness.paths import RELEASES
from harness.scene import DELIVRD, Scene
from smsq import keys
from smsq.contract import State, parse, relay_space
from smsq.entries import NO_ORIGIN, Origin
from smsq_worker.config.settings import Settings
from smsq_worker.domain.states import Outcome

PHONE = "13800138000"
TEMPLATE = "SMS_1001"
WHEEL = RELEASES / "smsq-0.2.0-py3-none-any.whl"
NAMES = ("may", "file", "shop")
SECRETS = {"": RELAY} | {name: f"{name}-secret-0123456789" for name in NAMES}
ROUTE = {"module": "sms", "file": "send", "action": "send"}
FILE = f"phone,template\n{PHONE},{TEMPLATE}\n13900139000,{TEMPLATE}\n"
BACKEND = """
import json, sys, smsq
for line in sys.stdin:
    phone, template, key = json.loads(line)
    result = smsq.send_sms.delay(phone, template, key=key)
    status = smsq.status(result.id)
    print(json.dumps([smsq.__file__, result.id, status.reason]), flush=True)
"""


class Place:
    """APIs, backends and send-file of both releases on one ledger."""

    def __init__(
        self,
        environs: Mapping[str, dict[str, str]],
        old: Path,
        apis: Mapping[str, str],
        backends: Mapping[str, subprocess.Popen[str]],
    ) -> None:
        self.environs = environs
        self.old = old
        self.apis = apis
        self.backends = backends

    def relay(self, release: str, caller: str, key: str, phone: str = PHONE) -> str:
        """Send through an API; give the id that it answers."""
        given = ROUTE | {"mobphone": phone, "smstemplate": TEMPLATE, "key": key}
        told = requests.get(
            self.apis[release],
            params=given,
            headers={"Authorization": SECRETS[caller]},
            timeout=PATIENCE_S,
        ).json()
        assert told["code"] == 200, told
        return str(told["mid"])

    def python(self, release: str, key: str) -> str:
        """Send as a backend; give the id of the message that is sent for this key."""
        backend = self.backends[release]
        assert backend.stdin
        assert backend.stdout
        print(json.dumps([PHONE, TEMPLATE, key]), file=backend.stdin, flush=True)
        file, message_id, reason = json.loads(backend.stdout.readline())
        assert Path(file).is_relative_to(self.old) == (release == "old")
        return str(reason or message_id).removeprefix("duplicate:")

    def send_file(self, release: str, path: Path, *words: str) -> list[str]:
        """Send a file, on a machine that has not heard of it; give its messages' ids."""
        home = path.parent / os.urandom(4).hex()
        environ = self.environs[release] | {"SMSQ_HOME": str(home)}
        done = unmasked_run(environ, "send-file", str(path), "--json", *words)
        assert done.returncode == 0, done.stderr
        return Path(json.loads(done.stdout)["ids"]).read_text().split()


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Release 0.2.0, unpacked."""
    folder = tmp_path_factory.mktemp("old")
    zipfile.ZipFile(WHEEL).extractall(folder)
    return folder


@pytest.fixture(scope="module")
def apis(
    base_environ: Mapping[str, str], old: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, str]]:
    folder = tmp_path_factory.mktemp("doors")
    tables = (f'[callers.{name}]\nsecret = "{SECRETS[name]}"\n' for name in NAMES)
    (folder / "callers.toml").write_text("".join(tables))
    environ = {**base_environ, "SMSQ_RELAY_CALLERS_FILE": str(folder / "callers.toml")}
    with (
        serving(environ, folder / "new.log") as new_door,
        serving(
            environ | {"PYTHONPATH": str(old)},
            folder / "old.log",
            named=("SMSQ_DOOR_BIND", "Door"),
        ) as old_door,
    ):
        yield {"new": new_door.url, "old": old_door.url}


@pytest.fixture(scope="module")
def environs(base_environ: Mapping[str, str], old: Path) -> Mapping[str, dict[str, str]]:
    return {"new": {**base_environ}, "old": {**base_environ, "PYTHONPATH": str(old)}}


@pytest.fixture(scope="module")
def backends(
    environs: Mapping[str, dict[str, str]],
) -> Iterator[Mapping[str, subprocess.Popen[str]]]:
    with ExitStack() as running:
        yield {
            release: running.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", BACKEND],
                    env=environ,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for release, environ in environs.items()
        }


@pytest.fixture
def place(
    environs: Mapping[str, dict[str, str]],
    old: Path,
    apis: Mapping[str, str],
    backends: Mapping[str, subprocess.Popen[str]],
    client: redis.Redis,
) -> Place:
    del client  # An empty server.
    return Place(environs, old, apis, backends)


# --- nobody meets another's keys --------------------------------------------------------------


@pytest.mark.parametrize("relay_first", [True, False])
@pytest.mark.parametrize(
    ("caller", "key", "python_key"),
    [("may", "5", "may:5"), ("", "may:5", "may:5"), ("", "5", "5"), ("file", "x:2", "file:x:2")],
)
def test_a_relays_caller_and_a_python_caller_do_not_meet(
    place: Place, relay_first: bool, caller: str, key: str, python_key: str
) -> None:
    ways = [lambda: place.relay("new", caller, key), lambda: place.python("new", python_key)]
    first, second = (way() for way in (ways if relay_first else ways[::-1]))
    assert first != second
    again = [way() for way in (ways if relay_first else ways[::-1])]
    assert again == [first, second]


@pytest.mark.parametrize("relay_first", [True, False])
def test_nor_where_the_ledger_has_forgotten_who_holds_the_key(
    client: redis.Redis, environ: dict[str, str], relay_first: bool
) -> None:
    """SMSQ_RETENTION_S may be shorter than a key lives."""
    scene = Scene(client, Settings.load(environ | {"SMSQ_RETENTION_S": "60"}))
    message = parse((PHONE, TEMPLATE), {"key": "may:5"})
    relayed = replace(message, key_space=relay_space("may"))
    ways = [(relayed, Origin("may")), (message, NO_ORIGIN)]
    first, second = ways if relay_first else ways[::-1]
    scene.entrance.enter("first", *first)
    scene.call("first", Outcome.ACCEPTED)
    scene.report("first", DELIVRD)
    a_minute_passes(client)
    assert not client.exists(keys.message("first"))
    assert scene.entrance.enter("second", *second).state is State.QUEUED
    assert scene.entrance.enter("again", *first).duplicate_of == "first"


def a_minute_passes(client: redis.Redis) -> None:
    for key in client.scan_iter():
        if 0 < client.pttl(key) <= 60_000:
            client.delete(key)


def test_callers_of_the_relay_do_not_meet(place: Place) -> None:
    asked = [("may", "shop:5"), ("", "may:shop:5"), ("shop", "5"), ("", "shop:5"), ("", "5")]
    first = [place.relay("new", *one) for one in asked]
    assert len(set(first)) == len(asked)
    assert [place.relay("new", *one) for one in asked] == first


@pytest.mark.parametrize("owner", ["file", "", "python"])
def test_nobody_takes_a_rows_key_before_send_file(
    place: Place, tmp_path: Path, client: redis.Redis, owner: str
) -> None:
    path = tmp_path / "numbers.csv"
    path.write_text(FILE)
    rows = place.send_file("new", path)
    digest = next(tmp_path.glob("*/send-file/*.json")).stem
    client.flushall()

    def take(line: int) -> str:
        if owner == "python":
            return place.python("new", f"file:{digest}:{line}")
        prefix = "" if owner else "file:"
        return place.relay("new", owner, f"{prefix}{digest}:{line}")

    taken = [take(2), take(3)]
    rows = place.send_file("new", path)
    assert {smsq.status(one).state for one in rows} == {"queued"}  # type: ignore[union-attr]
    assert not {*rows} & {*taken}
    assert place.send_file("new", path) == rows
    assert [take(2), take(3)] == taken


# --- beside 0.2.0 -----------------------------------------------------------------------------


@pytest.mark.parametrize("caller", ["shop", "file", ""])
@pytest.mark.parametrize(("first", "then"), [("old", "new"), ("new", "old")])
def test_a_key_of_the_relay_is_seen_by_the_other_release(
    place: Place, caller: str, first: str, then: str
) -> None:
    message_id = place.relay(first, caller, "login-7781")
    assert place.relay(then, caller, "login-7781") == message_id
    assert place.relay(first, caller, "login-7781") == message_id


@pytest.mark.parametrize(("first", "then"), [("old", "new"), ("new", "old")])
def test_a_python_callers_key_is_seen_by_the_other_release(
    place: Place, first: str, then: str
) -> None:
    assert place.python(first, "login-7781") == place.python(then, "login-7781")


@pytest.mark.parametrize("words", [(), ("--key-prefix", "may")], ids=["file", "prefix"])
@pytest.mark.parametrize(("first", "then"), [("old", "new"), ("new", "old")])
def test_a_files_rows_are_seen_by_the_other_release(
    place: Place, tmp_path: Path, first: str, then: str, words: tuple[str, ...]
) -> None:
    path = tmp_path / "numbers.csv"
    path.write_text(FILE)
    ids = place.send_file(first, path, *words)
    assert place.send_file(then, path, *words) == ids
    assert place.send_file(first, path, *words) == ids


def test_what_0_2_0s_relay_took_keeps_no_python_caller_away_and_stays_its_own(
    place: Place, client: redis.Redis
) -> None:
    taken = place.relay("old", "may", "5")
    own = place.python("new", "may:5")
    assert own != taken
    assert [place.relay("new", "may", "5"), place.python("new", "may:5")] == [taken, own]
    assert all(client.ttl(one) > 86_000 for one in client.scan_iter("smsq:k:*"))


@pytest.mark.parametrize(("caller", "key"), [("may", "5"), ("", "may:5")])
def test_what_0_2_0s_python_took_keeps_no_caller_of_the_relay_away(
    place: Place, caller: str, key: str
) -> None:
    taken = place.python("old", "may:5")
    own = place.relay("new", caller, key)
    assert own != taken
    assert [place.relay("new", caller, key), place.python("new", "may:5")] == [own, taken]


def test_an_old_key_whose_message_is_forgotten_counts(place: Place, client: redis.Redis) -> None:
    """SMSQ_RETENTION_S may be shorter than a key lives, and then nothing says whose it was."""
    taken = place.relay("old", "shop", "5")
    client.delete(keys.message(taken))
    assert place.relay("new", "shop", "5") == taken


def test_a_message_without_fingerprint_never_conflicts(place: Place) -> None:
    taken = place.relay("old", "shop", "5")
    assert place.relay("new", "shop", "5", "13900139000") == taken


@pytest.mark.parametrize("caller", ["shop", ""])
def test_a_freed_key_is_free_in_both_releases(
    place: Place, client: redis.Redis, settings: Settings, caller: str
) -> None:
    scene = Scene(client, settings)
    ids = []
    for release in ("old", "new", "old"):
        ids.append(place.relay("new", caller, "k"))
        scene.go(ids[-1])
        scene.record(ids[-1], Outcome.REFUSED)
        assert not list(client.scan_iter("smsq:k:*"))
        ids.append(place.relay(release, caller, "k"))
        client.delete(*client.scan_iter("smsq:k:*"))
    assert len(set(ids)) == 6


def test_what_0_2_0_entered_frees_nothing(
    place: Place, client: redis.Redis, settings: Settings
) -> None:
    scene = Scene(client, settings)
    taken = place.relay("old", "shop", "5")
    scene.go(taken)
    scene.record(taken, Outcome.REFUSED)
    assert scene.status(taken).certainly_not_sent
    assert place.relay("new", "shop", "5") == taken


def test_every_form_of_a_key_is_one_of_the_tables(place: Place, client: redis.Redis) -> None:
    place.relay("new", "shop", "5")
    place.relay("new", "", "5")
    place.python("new", "5")
    shop, own = keys.phone_hash("shop:5"), keys.phone_hash("5")
    names = [shop, f"relay:shop:{shop}", own, f"relay::{own}"]
    marks = [f"{shop}:fp", f"relay:shop:{shop}:fp", f"relay::{own}:fp", f"{own}:fp"]
    expected = {f"smsq:k:{one}" for one in chain(names, marks)}
    assert set(client.scan_iter("smsq:k:*")) == expected


# --- what the relay answers -------------------------------------------------------------------


def test_a_key_taken_for_another_number_is_refused(place: Place, client: redis.Redis) -> None:
    first = place.relay("new", "shop", "5")
    given = ROUTE | {"mobphone": "13900139000", "smstemplate": TEMPLATE, "key": "5"}
    own = {"Authorization": SECRETS["shop"]}
    answer = requests.get(place.apis["new"], params=given, headers=own, timeout=PATIENCE_S)
    told = answer.json()
    assert (answer.status_code, told["code"], told["mid"]) == (200, 400, "")
    assert told["msg"].startswith(f"key is that of message {first}, which has another phone")
    assert client.llen("sms.notice") == 1


def test_a_repeated_key_is_answered_without_reading_the_message(
    place: Place, client: redis.Redis
) -> None:
    first = place.relay("new", "shop", "5")
    client.config_resetstat()
    assert place.relay("new", "shop", "5") == first
    assert "cmdstat_hgetall" not in client.info("commandstats")
