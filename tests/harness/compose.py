"""docker-compose.yml, read as Compose reads it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from harness.paths import OPS, ROOT

VARIABLE = re.compile(
    r"\$(?:(?P<dollar>\$)|\{(?P<name>\w+)(?:(?P<rule>:[-?])(?P<rest>[^}]*))?\}|(?P<unknown>))"
)


class Missing(Exception):  # noqa: N818
    """A variable without which Compose refuses to start."""


def interpolate(node: Any, variables: Mapping[str, str]) -> Any:
    """Replace ${NAME}, ${NAME:-default}, ${NAME:?message} and $$ in all values."""

    def value_of(match: re.Match[str]) -> str:
        assert match["unknown"] is None, f"a form this helper does not know: {match.string}"
        if match["dollar"]:
            return "$"
        value = variables.get(match["name"], "")
        if not value and match["rule"] == ":?":
            raise Missing(match["name"])
        return value or match["rest"] or ""

    match node:
        case dict():
            return {key: interpolate(value, variables) for key, value in node.items()}
        case list():
            return [interpolate(value, variables) for value in node]
        case str():
            return VARIABLE.sub(value_of, node)
    return node


def env_file(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


SANDBOX_ENV = env_file(OPS / "sandbox.env")
RAW = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
COMPOSE = interpolate(RAW, SANDBOX_ENV)
