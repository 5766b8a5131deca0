"""Suppression and pauses by lane, on a ledger where workers of older releases are at work too."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from harness.paths import RELEASES
from harness.scene import BAD_TEMPLATE, OTHER_PHONE, PHONE, TEMPLATE, Scene
from smsq import keys
from smsq.contract import Lane
from smsq_worker.domain.states import Outcome
from smsq_worker.ledger import Admitted

THIRD = "15000150000"
OLD = f"""
import os, sys
from datetime import UTC, datetime, timedelta
from smsq_worker.ledger.control import Control
from smsq_worker.runtime import Runtime
from smsq_worker.settings import Settings

settings = Settings.load(os.environ)
runtime = Runtime.build(settings)
control = Control(runtime.client, settings.rules, runtime.cipher)
for name in ("old-otp", "old-bulk", "old-template"):
    runtime.ledger.admit(name)
control.suppress({THIRD!r}, "of an older one", datetime.now(UTC) + timedelta(days=1))
print(sorted((row.phone, row.reason) for row in control.suppressed()))
print(sorted((one.scope, one.cause) for one in control.pauses()))
print(control.unsuppress({OTHER_PHONE!r}))
"""
"""What a worker and an operator of an older release do."""


@pytest.mark.parametrize("release", ["0.1.0", "0.2.0"])
def test_older_releases_hold_for_all_lanes_what_this_one_holds_for_some(
    environ: dict[str, str], scene: Scene, tmp_path: Path, release: str
) -> None:
    zipfile.ZipFile(RELEASES / f"smsq-{release}-py3-none-any.whl").extractall(tmp_path)
    later = datetime.now(UTC) + timedelta(days=9)
    scene.control.suppress(PHONE, "no advertisements", later, [Lane.BULK])
    scene.control.suppress(OTHER_PHONE, "asked for it", later)
    for n in range(5):
        scene.enter(f"m{n}", lane="bulk", phone=THIRD)
        scene.accept(f"m{n}")
        scene.report(f"m{n}", BAD_TEMPLATE)
    scene.enter("old-otp", lane="otp", template="SMS_2002")
    scene.enter("old-bulk", lane="bulk", template="SMS_2002")
    scene.enter("old-template", lane="otp", phone=THIRD)

    done = subprocess.run(
        [sys.executable, "-c", OLD],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)} | environ,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    listed, paused, removed = done.stdout.splitlines()
    assert listed == str(
        [(PHONE, "no advertisements"), (OTHER_PHONE, "asked for it"), (THIRD, "of an older one")]
    )
    assert paused == str([(f"template:{TEMPLATE}", "report")])
    assert removed == "True"
    # It never sends what is suppressed, and blocks more than it should, as it always did.
    reasons = {name: scene.status(name).reason for name in ("old-otp", "old-bulk")}
    assert set(reasons.values()) == {"local:suppressed"}
    assert scene.state("old-template") == "deferred"
    # What it wrote holds for all lanes here; what it read has lost nothing.
    rows = {row.phone: row.lanes for row in scene.control.suppressed()}
    assert rows == {PHONE: (Lane.BULK,), THIRD: tuple(Lane)}
    assert [pause.lanes for pause in scene.control.pauses()] == [("bulk",)]
    scene.enter("new-otp", lane="otp")
    assert isinstance(scene.admit("new-otp"), Admitted)
    scene.record("new-otp", Outcome.ACCEPTED)
    assert not scene.client.hexists(keys.SUPPRESSED, keys.phone_hash(OTHER_PHONE))
