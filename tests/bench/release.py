"""An earlier release's code in place of this one's, in the bench and in all that it starts."""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path
from typing import Final

from harness.paths import RELEASES, ROOT

WHEELS: Final = {one.name.split("-")[1]: one for one in RELEASES.glob("smsq-*.whl")}
UNPACKED: Final = ROOT / ".bench-releases"


def unpacked(name: str) -> Path:
    """Unpack a release's wheel; give the folder."""
    folder = UNPACKED / name
    with zipfile.ZipFile(WHEELS[name]) as wheel:
        wheel.extractall(folder)
    return folder


def become(name: str) -> None:
    """Begin again with that release; comes back where it is in place already."""
    before = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if before[0] == str(UNPACKED / name):
        return
    path = os.pathsep.join([str(unpacked(name)), *filter(None, before)])
    os.execve(
        sys.executable,
        [sys.executable, "-m", "bench", *sys.argv[1:]],
        os.environ | {"PYTHONPATH": path},
    )
