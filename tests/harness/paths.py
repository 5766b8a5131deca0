"""Where things lie in the repository."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
TESTS: Final = ROOT / "tests"
RELEASES: Final = TESTS / "releases"
"""The wheels of earlier releases."""
OPS: Final = ROOT / "ops"
