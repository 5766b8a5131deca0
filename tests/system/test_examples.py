"""The examples in other languages, their own tests as they stand, against one site."""

from __future__ import annotations

import base64
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from harness.credentials import RELAY
from harness.devstack import BINDS, up
from harness.paths import ROOT
from smsq_worker.infra.ports import free_port

pytestmark = pytest.mark.timeout(600)

EXAMPLES = {
    "relay_php": ("php", "tests/run.php"),
    "relay_node": ("node", "--test"),
}


@pytest.fixture(scope="module")
def site(
    base_environ: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """The environment that the READMEs ask for; callbacks come to whichever example listens."""
    webhooks = {
        "SMSQ_WEBHOOK_URL": f"http://127.0.0.1:{free_port()}/",
        "SMSQ_WEBHOOK_SECRET": f"whsec_{base64.b64encode(bytes(32)).decode()}",
    }
    own = {"SMSQ_HOME": str(tmp_path_factory.mktemp("up")), "SMSQ_OUTBOUND_ALLOW": "127.0.0.1"}
    binds = dict.fromkeys(BINDS, "127.0.0.1:0")
    with up({**base_environ, **webhooks, **own, **binds}) as running:
        relay = {"RELAY_URL": running.addresses["API"], "SMSQ_RELAY_SECRET": RELAY}
        yield {"PATH": base_environ["PATH"], **webhooks, **relay}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_passes_its_own_tests(name: str, site: dict[str, str], tmp_path: Path) -> None:
    program, *arguments = EXAMPLES[name]
    if shutil.which(program) is None:
        pytest.fail(f"{program} is missing: install what tests/system/debian.txt names")
    ran = subprocess.run(
        [program, *arguments],
        cwd=ROOT / "examples" / name,
        env=site | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert list(tmp_path.iterdir()) == []
