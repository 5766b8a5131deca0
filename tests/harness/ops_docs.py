"""What ops/ and docs/operate/ say about metrics and alerts, read for tests."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

import yaml

from harness.paths import OPS

PROMETHEUS: Final = OPS / "prometheus"
RULES: Final = PROMETHEUS / "rules.yml"
RULES_TEST: Final = PROMETHEUS / "rules_test.yml"
CONFIG: Final = PROMETHEUS / "prometheus.yml"
DASHBOARD: Final = OPS / "grafana" / "smsq.json"
DOCS: Final = OPS.parent / "docs" / "operate"
RUNBOOK: Final = DOCS / "runbook.md"


@dataclass(frozen=True)
class Row:
    """A metric as metrics.md has it."""

    kind: str
    labels: frozenset[str]
    unit: str
    meaning: str


def documented() -> dict[str, Row]:
    found = {}
    for line in (DOCS / "metrics.md").read_text().splitlines():
        if line.startswith("| `smsq_"):
            name, kind, labels, unit, meaning, _ = (cell.strip() for cell in line[1:-1].split("|"))
            own = frozenset(filter(None, labels.split(", ")))
            found[name.strip("`")] = Row(kind, own, unit, meaning)
    return found


def rules() -> list[dict[str, Any]]:
    read = yaml.safe_load(RULES.read_text())
    return [rule for group in read["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return read


def panels() -> list[dict[str, Any]]:
    """Give the dashboard's panels, those in rows too."""
    found = []
    for panel in dashboard()["panels"]:
        found += [panel, *panel.get("panels", [])]
    return found


def metrics_of(expression: str) -> set[str]:
    """Name the metrics in an expression of PromQL, histograms without their suffix."""
    found = set(re.findall(r"\bsmsq_\w+", expression))
    histograms = {name for name, row in documented().items() if row.kind == "histogram"}
    return {
        base if (base := re.sub("_(bucket|sum|count)$", "", name)) in histograms else name
        for name in found
    }
