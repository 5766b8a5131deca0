"""ops/kubernetes: valid for the API server, and in agreement with smsq and docker-compose.yml."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml

from harness.paths import ROOT
from smsq.app import QUEUES
from smsq.contract import Lane
from smsq.settings import names
from smsq_worker.config.parsers import bind
from smsq_worker.config.settings import Settings

FOLDER = ROOT / "ops" / "kubernetes"
FILES = sorted(FOLDER.rglob("*.yaml"))
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
VERSIONS = ("1.30", "1.37")
NOT_KUBERNETES = {"Kustomization", "Component", "ScaledObject", "TriggerAuthentication"}
SETTING = re.compile(r"^\s*#?\s*(?:- name: )?((?:SMSQ|OTEL)_\w+)\b:?", re.MULTILINE)

Manifest = dict[str, Any]


def documents() -> Iterator[Manifest]:
    for path in FILES:
        yield from yaml.safe_load_all(path.read_text())


ALL = list(documents())
WORKLOADS = {
    one["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"]: one
    for one in ALL
    if one["kind"] in {"Deployment", "StatefulSet"}
}
ROLES = sorted(WORKLOADS)


def of_kind(kind: str) -> list[Manifest]:
    found = [one for one in ALL if one["kind"] == kind]
    assert found
    return found


def named(kind: str, name: str) -> Manifest:
    (found,) = [one for one in of_kind(kind) if one["metadata"]["name"] == name]
    return found


def pod(role: str) -> Manifest:
    return dict(WORKLOADS[role]["spec"]["template"]["spec"])


def container(role: str) -> Manifest:
    (only,) = pod(role)["containers"]
    return dict(only)


def environment(role: str) -> dict[str, Manifest]:
    return {one["name"]: one for one in container(role).get("env", [])}


def selected(selector: Manifest) -> set[str]:
    """Name the roles whose pods have these labels."""
    return {
        role
        for role, one in WORKLOADS.items()
        if selector.items() <= one["spec"]["template"]["metadata"]["labels"].items()
    }


def mentioned(path: Path, kind: str, name: str) -> set[str]:
    """Name the settings of a document, those in its comments too."""
    parts = path.read_text().split("\n---\n")
    (text,) = [p for p in parts if re.search(rf"kind: {kind}\n.*\n  name: {name}\b", p)]
    return set(SETTING.findall(text.partition("metadata:")[2]))


def dockerfile(word: str) -> str:
    lines = (ROOT / "ops" / "Dockerfile").read_text().splitlines()
    return [line.removeprefix(f"{word} ") for line in lines if line.startswith(f"{word} ")][-1]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_api_server_takes_each(version: str) -> None:
    for one in ALL:
        if one["kind"] not in NOT_KUBERNETES:
            kubernetes_validate.validate(one, version, strict=True)


def test_each_file_is_applied_but_the_secrets_and_one_way_to_scale() -> None:
    base = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    apart = {"kustomization.yaml", "secrets.example.yaml"}
    assert set(base["resources"]) == {path.name for path in FOLDER.glob("*.yaml")} - apart
    for path in FOLDER.glob("scale/*/kustomization.yaml"):
        resources = yaml.safe_load(path.read_text())["resources"]
        assert {path.parent / name for name in resources} == set(path.parent.glob("*")) - {path}


def test_they_go_into_any_namespace_and_use_no_anchors() -> None:
    assert not [one for one in ALL if "namespace" in one.get("metadata", {})]
    # Not every version of kustomize understands them.
    assert not [path for path in FILES if re.search(r"^[^#]*[:-] +[&*]\w|<<:", path.read_text())]


# Settings


def test_the_settings_are_those_of_compose_and_exist() -> None:
    plain = mentioned(FOLDER / "settings.yaml", "ConfigMap", "smsq-settings")
    secret = mentioned(FOLDER / "secrets.example.yaml", "Secret", "smsq-shared")
    assert plain | secret == set(COMPOSE["x-settings"])
    assert not plain & secret
    Settings.load(named("ConfigMap", "smsq-settings")["data"])


def test_the_api_has_those_of_the_api_in_compose() -> None:
    own = mentioned(FOLDER / "secrets.example.yaml", "Secret", "smsq-door")
    own |= mentioned(FOLDER / "door.yaml", "StatefulSet", "smsq-door")
    of_compose = COMPOSE["services"]["door"]["environment"].keys() - {"<<"}
    assert own - set(COMPOSE["x-settings"]) == of_compose - set(COMPOSE["x-settings"])
    assert own <= set(names(Settings))


def test_no_secret_is_in_a_config_map_or_in_a_command() -> None:
    secret = {one.metadata["env"] for one in fields(Settings) if one.metadata["secret"]}
    secret |= {"SMSQ_REDIS_URL", "SMSQ_BROKER_URL", "FLOWER_BASIC_AUTH"}
    for one in of_kind("ConfigMap"):
        assert not secret & one["data"].keys()
    for role in ROLES:
        plain = {name for name, one in environment(role).items() if "value" in one}
        assert not (plain - {"SMSQ_APP_SECRET_FILE"}) & secret


def test_every_secret_that_is_used_is_in_the_example_and_every_one_there_is_used() -> None:
    used = set()
    for role in ROLES:
        used |= {
            s["secretRef"]["name"] for s in container(role).get("envFrom", []) if "secretRef" in s
        }
        for volume in (v["secret"] for v in pod(role)["volumes"] if "secret" in v):
            used.add(volume["secretName"])
            # No more of it than the file that is meant.
            assert [item["key"] for item in volume["items"]] == ["app_secret"]
        for one in environment(role).values():
            if reference := one.get("valueFrom", {}).get("secretKeyRef"):
                used.add(reference["name"])
                given = mentioned(FOLDER / "secrets.example.yaml", "Secret", reference["name"])
                given |= named("Secret", reference["name"])["stringData"].keys()
                assert reference["key"] in given
    examples = {one["metadata"]["name"] for one in of_kind("Secret")}
    assert used == examples
    text = (FOLDER / "secrets.example.yaml").read_text()
    assert set(re.findall(r"create secret generic (\S+)", text)) == examples


def test_only_a_worker_has_the_gateways_secret_and_only_the_api_the_reports_token() -> None:
    def with_secret(name: str) -> set[str]:
        return {role for role in ROLES if name in yaml.safe_dump(pod(role))}

    assert with_secret("secretName: smsq-worker") == {"worker"}
    assert with_secret("name: smsq-door\n") == {"door"}
    assert with_secret("name: smsq-flower\n") == {"flower"}
    file = environment("worker")["SMSQ_APP_SECRET_FILE"]["value"]
    assert Path(file).name in named("Secret", "smsq-worker")["stringData"]
    assert str(Path(file).parent) in {m["mountPath"] for m in container("worker")["volumeMounts"]}


# Pods


@pytest.mark.parametrize("role", ROLES)
def test_a_pod_is_confined_as_in_compose(role: str) -> None:
    user, group = map(int, dockerfile("USER").split(":"))
    whole = pod(role)["securityContext"]
    assert whole["runAsNonRoot"] is True
    assert (whole["runAsUser"], whole["runAsGroup"], whole["fsGroup"]) == (user, group, group)
    assert whole["seccompProfile"] == {"type": "RuntimeDefault"}
    own = container(role)["securityContext"]
    assert own["readOnlyRootFilesystem"] is True
    assert own["allowPrivilegeEscalation"] is False
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert pod(role)["automountServiceAccountToken"] is False
    # SMSQ_DOOR_PORT and the like would be taken for settings.
    assert pod(role)["enableServiceLinks"] is False
    mounts = {one["mountPath"]: one["name"] for one in container(role)["volumeMounts"]}
    assert {dockerfile("WORKDIR"), "/tmp"} <= mounts.keys()
    kept = WORKLOADS[role]["spec"].get("volumeClaimTemplates", [])
    known = {one["name"] for one in pod(role)["volumes"]} | {k["metadata"]["name"] for k in kept}
    assert set(mounts.values()) == known


@pytest.mark.parametrize("role", ROLES)
def test_a_pod_runs_what_compose_runs_with_bounds(role: str) -> None:
    assert container(role)["args"] == COMPOSE["services"][role]["command"]
    (image,) = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["images"]
    assert container(role)["image"] == f"{image['name']}:{image['newTag']}"
    resources = container(role)["resources"]
    assert resources["requests"].keys() == {"cpu", "memory"}
    assert resources["limits"].keys() == {"memory"}


@pytest.mark.parametrize("role", ["door", "worker"])
def test_the_spool_outlives_the_pod(role: str) -> None:
    spec = WORKLOADS[role]["spec"]
    (claim,) = spec["volumeClaimTemplates"]
    mounts = {one["name"]: one["mountPath"] for one in container(role)["volumeMounts"]}
    assert mounts[claim["metadata"]["name"]] == dockerfile("WORKDIR")
    assert set(spec["persistentVolumeClaimRetentionPolicy"].values()) == {"Retain"}
    assert spec["podManagementPolicy"] == "Parallel"


def test_a_worker_has_time_to_finish_the_longest_call() -> None:
    grace = pod("worker")["terminationGracePeriodSeconds"]
    assert grace > Settings().address.longest_call_s + 5


@pytest.mark.parametrize("role", ROLES)
def test_a_pod_has_probes_of_what_there_is(role: str) -> None:
    own = container(role)
    probes = {kind: own[f"{kind}Probe"] for kind in ("startup", "liveness")}
    if role != "worker":
        probes["readiness"] = own["readinessProbe"]
        ports = {one["name"]: one["containerPort"] for one in own["ports"]}
        named = {"door": "API"}.get(role, role.upper())
        listens = bind(environment(role)[f"SMSQ_{named}_BIND"]["value"])
        assert ports == {"http": listens[1]}
        (path,) = {probe["httpGet"]["path"] for probe in probes.values()}
        of_compose = urlsplit(COMPOSE["services"][role]["healthcheck"]["test"][-1]).path
        assert path == {"door": "/healthz"}.get(role, of_compose)
        assert {probe["httpGet"]["port"] for probe in probes.values()} == {"http"}
    for probe in probes.values():
        assert probe["timeoutSeconds"] < 10
    patience = probes["startup"]["periodSeconds"] * probes["startup"]["failureThreshold"]
    assert patience >= 60


# How they fit together


@pytest.mark.parametrize("role", ROLES)
def test_all_that_select_pods_find_them(role: str) -> None:
    spec = WORKLOADS[role]["spec"]
    assert selected(spec["selector"]["matchLabels"]) == {role}
    for spread in pod(role).get("topologySpreadConstraints", []):
        assert selected(spread["labelSelector"]["matchLabels"]) == {role}
    service = named("Service", f"smsq-{role}")
    assert selected(service["spec"]["selector"]) == {role}
    assert spec.get("serviceName", service["metadata"]["name"]) == service["metadata"]["name"]
    ports = {one["name"]: one["containerPort"] for one in container(role).get("ports", [])}
    for port in service["spec"].get("ports", []):
        assert ports[port["targetPort"]] == port["port"]


def test_no_disruption_takes_more_than_one_worker_or_api() -> None:
    budgets = [one["spec"] for one in of_kind("PodDisruptionBudget")]
    assert [b["maxUnavailable"] for b in budgets] == [1, 1]
    found = [selected(budget["selector"]["matchLabels"]) for budget in budgets]
    assert sorted(map(sorted, found)) == [["door"], ["worker"]]
    assert all(WORKLOADS[role]["spec"]["replicas"] >= 2 for role in ("door", "worker"))


def test_the_network_lets_through_what_is_needed_and_no_more() -> None:
    inward, outward = dict[str, set[int]](), dict[str, set[int]]()
    shut = set[str]()
    for one in of_kind("NetworkPolicy"):
        spec = one["spec"]
        for role in selected(spec["podSelector"]["matchLabels"]):
            if spec["policyTypes"] == ["Ingress", "Egress"]:
                shut.add(role)
            for rules, where in ((spec.get("ingress"), inward), (spec.get("egress"), outward)):
                for rule in rules or []:
                    assert rule.get("from") or rule.get("to"), "anybody"
                    where.setdefault(role, set()).update(p["port"] for p in rule["ports"])
    assert shut == set(ROLES)
    listens = {
        role: {p["containerPort"] for p in container(role).get("ports", [])} for role in ROLES
    }
    assert inward == {role: ports for role, ports in listens.items() if ports}
    urls = [
        named("Secret", f"smsq-{role}")["stringData"]["SMSQ_REDIS_URL"] for role in sorted(ROLES)
    ]
    (redis,) = {urlsplit(url).port for url in urls}
    gateway = urlsplit(Settings().gateway_url).port or 443
    assert outward == {"worker": {53, redis, gateway}, "door": {53, redis}, "flower": {53, redis}}


def test_what_scales_workers_looks_at_a_queue_that_is_empty_while_there_are_enough() -> None:
    spec = WORKLOADS["worker"]["spec"]
    for one, least in (
        (named("ScaledObject", "smsq-worker"), "minReplicaCount"),
        (named("HorizontalPodAutoscaler", "smsq-worker"), "minReplicas"),
    ):
        target = one["spec"]["scaleTargetRef"]
        assert (target["kind"], target["name"]) == ("StatefulSet", "smsq-worker")
        assert one["spec"][least] == spec["replicas"]
    triggers = {
        t["type"]: t["metadata"] for t in named("ScaledObject", "smsq-worker")["spec"]["triggers"]
    }
    assert triggers.keys() == {"redis", "cpu"}
    assert triggers["redis"]["listName"] == Lane.OTP.queue
    assert Lane.OTP.queue in QUEUES
