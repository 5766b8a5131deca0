"""What containers are given where there are several accounts fits the reference's example."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.documents import blocks, page
from harness.paths import ROOT
from smsq_worker.config.settings import Settings

OVERRIDE = yaml.safe_load((ROOT / "ops" / "compose.accounts.yaml").read_text())
COMPONENT = (ROOT / "ops" / "kubernetes" / "accounts" / "kustomization.yaml").read_text()
PATCHES = [yaml.safe_load(one["patch"]) for one in yaml.safe_load(COMPONENT)["patches"]]
NEEDS = {"worker": "app_secret", "door": "report_token"}
MOUNTED = {"worker": "backup", "door": "backup-reports"}
(EXAMPLE,) = blocks(page("reference/accounts.md"), "toml")


def load(role: str, file: Path) -> Settings:
    own = {"SMSQ_APP_SECRET": "x", "SMSQ_REPORT_TOKEN": "x" * 20}
    return Settings.load(own | {"SMSQ_ACCOUNTS_FILE": str(file)}, need=(NEEDS[role],))


@pytest.mark.parametrize("role", NEEDS)
def test_the_reference_example_is_taken_with_the_secrets_of_one_role(
    role: str, tmp_path: Path
) -> None:
    (tmp_path / "accounts.toml").write_text(EXAMPLE.replace("/run/secrets/", ""))
    (tmp_path / MOUNTED[role]).write_text("y" * 20)
    found = load(role, tmp_path / "accounts.toml")
    assert [one.account.key for one in found.accounts] == ["", "backup"]
    assert [len(one.accounts) for one in found.rules.routes] == [2, 2]


@pytest.mark.parametrize("role", NEEDS)
def test_compose_mounts_the_file_and_the_secret_of_each_service(role: str) -> None:
    service = OVERRIDE["services"][role]
    (mounted,) = service["volumes"]
    assert mounted.split(":")[1:] == [service["environment"]["SMSQ_ACCOUNTS_FILE"], "ro"]
    assert service["secrets"] == [MOUNTED[role]]
    assert f'"/run/secrets/{MOUNTED[role]}"' in EXAMPLE
    assert set(OVERRIDE["secrets"]) == set(MOUNTED.values())
    base = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert role in base["services"]


@pytest.mark.parametrize("role", NEEDS)
def test_kubernetes_mounts_a_secret_of_each_role(role: str) -> None:
    (patch,) = [one for one in PATCHES if one["metadata"]["name"] == f"smsq-{role}"]
    base = next(yaml.safe_load_all((ROOT / "ops" / "kubernetes" / f"{role}.yaml").read_text()))
    assert patch["metadata"]["name"] == base["metadata"]["name"]
    pod: Any = patch["spec"]["template"]["spec"]
    (container,), (volume,) = pod["containers"], pod["volumes"]
    assert container["name"] == base["spec"]["template"]["spec"]["containers"][0]["name"]
    (variable,), (mount,) = container["env"], container["volumeMounts"]
    assert variable["name"] == "SMSQ_ACCOUNTS_FILE"
    assert str(Path(variable["value"]).parent) == mount["mountPath"]
    assert mount["name"] == volume["name"]
    assert f"{volume['secret']['secretName']} --from-file=accounts.toml" in COMPONENT
    assert f"--from-file={MOUNTED[role]}=PATH" in COMPONENT
