"""The docs' blocks that are no Python and no demo: the relay's request, and running it for real."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
import requests

import smsq
from harness.api import serving
from harness.compose import COMPOSE, RAW, VARIABLE
from harness.credentials import RELAY
from harness.documents import blocks, page
from harness.vendor_server import VendorServer
from harness.waiting import becomes
from smsq_worker.devstack import services
from smsq_worker.devstack.processes import Service, Stack
from smsq_worker.infra.ports import free_port

API = page("guides/http-api.md")
(RELAYED,) = blocks(API)
COMPOSED, NATIVE = blocks(page("deploy.md"))[:2]


def test_a_client_of_the_gateway_is_answered_as_the_example_says(
    client: redis.Redis, environ: dict[str, str], tmp_path: Path
) -> None:
    line = RELAYED.replace("\\\n", " ").replace("$SMSQ_RELAY_SECRET", RELAY)
    words = shlex.split(line)
    assert words[:3] == ["curl", "-G", "https://YOUR-HOST/"]
    options = [*zip(words[3::2], words[4::2], strict=True)]
    headers = dict(value.split(": ") for name, value in options if name == "-H")
    query = dict(value.split("=") for name, value in options if name == "-d")
    assert len(headers) + len(query) == len(options)
    with serving(environ, tmp_path / "door.log") as api:
        answer = requests.get(f"{api.url}/", params=query, headers=headers, timeout=10).json()
        status = smsq.status(answer["mid"])
        refused = requests.get(
            f"{api.url}/", params=query | {"mobphone": "1"}, headers=headers, timeout=10
        ).json()
    assert status is not None
    assert (status.state, status.template) == ("queued", query["smstemplate"])
    assert '`{"code":200,"msg":"ok","mid":"<message id>"}`' in API
    assert answer == {"code": 200, "msg": "ok", "mid": status.id}
    assert '`{"code":400,"msg":"...","mid":""}`' in API
    assert refused.keys() == answer.keys()
    assert (refused["code"], refused["mid"]) == (400, "")


def test_what_is_set_before_compose_is_all_that_it_demands() -> None:
    demanded = {match["name"] for match in VARIABLE.finditer(str(RAW)) if match["rule"] == ":?"}
    (roles,) = re.findall(r"^for role in (.*); do$", COMPOSED, re.MULTILINE)
    written = set(re.findall(r'^echo "(\w+)=', COMPOSED, re.MULTILINE))
    assert demanded <= written | {f"REDIS_{role}_PASSWORD" for role in roles.split()}
    assert written <= demanded
    assert "> ops/app_secret " in COMPOSED
    file = RAW["secrets"]["smsq_app_secret"]["file"]
    assert file == "${SMSQ_APP_SECRET_FILE:-./ops/app_secret}"
    assert COMPOSE["services"].keys() >= {"redis", "worker", "door", "flower"}


@contextmanager
def running(commands: list[list[str]], environ: dict[str, str], folder: Path) -> Iterator[Stack]:
    api, flower = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    own = environ | {
        "SMSQ_API_BIND": api.removeprefix("http://"),
        "SMSQ_FLOWER_BIND": flower.removeprefix("http://"),
        "SMSQ_HOME": str(folder),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}",
    }
    ready = {
        "celery": lambda: (folder / "alive").is_dir() and any((folder / "alive").iterdir()),
        "serve": services.api(f"{api}/", own).ready,
        "flower": services.flower(f"{flower}/", own).ready,
    }
    stack = Stack(folder)
    try:
        for words in commands:
            name = words[0] if words[0] in ready else words[1]
            stack.start(Service(name, words, own, ready[name]))
        yield stack
    finally:
        stack.stop()


def test_without_containers_the_three_commands_are_all(
    client: redis.Redis, environ: dict[str, str], tmp_path: Path
) -> None:
    commands = [shlex.split(line, comments=True) for line in NATIVE.splitlines()]
    assert len(commands) == 3
    with VendorServer() as vendor:
        own = environ | {"SMSQ_GATEWAY_URL": vendor.url}
        with running(commands, own, tmp_path) as stack:
            message_id = smsq.send_sms.delay("13800138000", "SMS_1001", "482913").id
            becomes(message_id, "accepted")
            stack.check()
