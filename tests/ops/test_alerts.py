"""Alerts and dashboard: complete, of metrics that exist, and each with a way out of it."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
import yaml

from harness.ops_docs import CONFIG, RULES_TEST, dashboard, documented, metrics_of, panels, rules

ALERTS = sorted({rule["alert"] for rule in rules()})
UP = "up"
"""Prometheus' own."""


def expressions() -> list[str]:
    """Give each expression of the rules and of the dashboard."""
    found = [rule["expr"] for rule in rules()]
    found += [target["expr"] for panel in panels() for target in panel.get("targets", [])]
    return found


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_each_alert_says_what_it_means_and_where_to_read_on(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning"}
    told = rule["annotations"]
    assert set(told) == {"summary", "description", "runbook"}
    assert told["runbook"] == f"docs/operate/runbook.md#{rule['alert'].lower()}"


def test_each_alert_is_tested_to_fire_and_to_end() -> None:
    """Before, fired, over: of each severity, and in one and the same test."""
    fired: dict[str, set[str]] = defaultdict(set)
    for test in yaml.safe_load(RULES_TEST.read_text())["tests"]:
        looks = test["alert_rule_test"]
        for name in {look["alertname"] for look in looks}:
            seen = [bool(look["exp_alerts"]) for look in looks if look["alertname"] == name]
            if any(seen):
                assert not seen[0], test["name"]
                assert not seen[-1], test["name"]
        for look in looks:
            fired[look["alertname"]] |= {
                alert["exp_labels"]["severity"] for alert in look["exp_alerts"]
            }
    severities: dict[str, set[str]] = defaultdict(set)
    for rule in rules():
        severities[rule["alert"]].add(rule["labels"]["severity"])
    assert fired == severities


def test_each_expression_asks_for_metrics_that_are_there() -> None:
    known = documented().keys()
    for expression in expressions():
        metrics = metrics_of(expression)
        assert metrics or UP in expression
        assert metrics <= known, expression


def test_every_metric_is_on_the_dashboard_or_in_an_alert() -> None:
    assert set().union(*map(metrics_of, expressions())) == documented().keys()


def test_the_example_scrapes_the_job_that_the_rules_ask_for() -> None:
    (scrape,) = yaml.safe_load(CONFIG.read_text())["scrape_configs"]
    assert scrape["job_name"] == "smsq"
    assert 'up{job="smsq"}' in next(r["expr"] for r in rules() if r["alert"] == "SmsqDoorDown")


# --- the dashboard --------------------------------------------------------------------------


def test_the_dashboard_can_be_imported_anywhere() -> None:
    """It names no data source of its own, but asks for one."""
    variables = {one["name"]: one for one in dashboard()["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    assert dashboard()["id"] is None
    own = {"type": "prometheus", "uid": "${datasource}"}
    assert variables["job"]["datasource"] == own
    for panel in panels():
        if panel["type"] != "row":
            assert panel["datasource"] == own, panel["title"]


def test_each_panel_is_one_of_its_own_and_says_what_it_shows() -> None:
    ids = [panel["id"] for panel in panels()]
    titles = [panel["title"] for panel in panels()]
    assert len(set(ids)) == len(ids)
    assert len(set(titles)) == len(titles)
    for panel in panels():
        if panel["type"] != "row":
            assert panel["targets"], panel["title"]
            assert panel["description"], panel["title"]


def test_panels_stand_beside_each_other_and_not_on_top() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not taken & cells, panel["title"]
        taken |= cells


def test_no_panel_counts_an_api_twice() -> None:
    """All APIs tell the same: the max over them comes before any sum."""
    for expression in (target["expr"] for panel in panels() for target in panel.get("targets", [])):
        assert '{job="$job"' in expression
        assert "max by (" in expression, expression
