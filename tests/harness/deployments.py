"""What compose, Kubernetes and systemd run for each role: its command and its environment."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import yaml

from harness.compose import COMPOSE, SANDBOX_ENV
from harness.paths import OPS

ROLES = ("worker", "door", "flower")


class Deployed(NamedTuple):
    """A role as it is deployed."""

    command: tuple[str, ...]
    """The words after `smsq`."""
    environ: dict[str, str]


def compose(role: str) -> Deployed:
    """Read docker-compose.yml with the environment of the sandbox."""
    service = COMPOSE["services"][role]
    own = service["environment"].items()
    given = {name: SANDBOX_ENV.get(name) if text is None else text for name, text in own}
    environ = {name: text for name, text in given.items() if text is not None}
    return Deployed(tuple(service["command"][1:]), environ)


def kubernetes(role: str) -> Deployed:
    """Read ops/kubernetes with the secrets of its example."""
    kinds: dict[tuple[str, str], Any] = {}
    for path in (OPS / "kubernetes").glob("*.yaml"):
        for one in yaml.safe_load_all(path.read_text()):
            kinds[one["kind"], one.get("metadata", {}).get("name", "")] = one
    kind = "Deployment" if role == "flower" else "StatefulSet"
    (container,) = kinds[kind, f"smsq-{role}"]["spec"]["template"]["spec"]["containers"]
    environ: dict[str, str] = {}
    for source in container.get("envFrom", []):
        if "configMapRef" in source:
            environ |= kinds["ConfigMap", source["configMapRef"]["name"]]["data"]
        else:
            environ |= kinds["Secret", source["secretRef"]["name"]]["stringData"]
    for one in container["env"]:
        if "value" in one:
            environ[one["name"]] = one["value"]
            continue
        wanted = one["valueFrom"]["secretKeyRef"]
        held = kinds["Secret", wanted["name"]]["stringData"]
        if wanted["key"] in held or not wanted.get("optional"):
            environ[one["name"]] = held[wanted["key"]]
    return Deployed(tuple(container["args"][1:]), environ)


def systemd(role: str) -> Deployed:
    """Read ops/systemd; of a template, the instance 1."""
    folder = OPS / "systemd"
    unit = folder / (f"smsq-{role}@.service" if role == "worker" else f"smsq-{role}.service")
    text = unit.read_text() + (folder / "smsq-.service.d" / "10-smsq.conf").read_text()
    environ: dict[str, str] = {}
    for line in _values(text, "Environment"):
        environ |= dict(pair.split("=", 1) for pair in line.split())
    for path in _values(text, "EnvironmentFile"):
        name = path.replace("%p", f"smsq-{role}").removeprefix("/etc/smsq/")
        lines = (folder / name).read_text().splitlines()
        environ |= dict(one.split("=", 1) for one in lines if one and not one.startswith("#"))
    (command,) = _values(text, "ExecStart")
    words = command.replace("%i", "1").replace("%H", "localhost").split()
    return Deployed(tuple(words[1:]), environ)


def _values(text: str, name: str) -> Iterator[str]:
    yield from re.findall(rf"^{name}=(.*)$", text, re.MULTILINE)


ALL: dict[str, Callable[[str], Deployed]] = {
    "compose": compose,
    "kubernetes": kubernetes,
    "systemd": systemd,
}
