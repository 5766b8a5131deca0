"""Where tests lie: in folders named after the rooms, sharing what is in the harness and no more."""

from __future__ import annotations

import re

from harness.paths import ROOT, TESTS

IMPORT = re.compile(r"^ *(?:from|import) [^(\n]+(?:\([^)]+\))?", re.MULTILINE)
ROOMS = {path.parent.name for path in (ROOT / "worker" / "smsq_worker").glob("*/__init__.py")}
OTHERS = {*("producer", "behaviour", "end_to_end", "docs", "ops", "system", "bench", "soak")}
"""The producer's; those of both its ledgers; those that take whole processes; those of documents,
files and tools."""


def test_each_room_has_a_folder_of_tests_and_each_folder_a_room() -> None:
    folders = {path.relative_to(TESTS).parts[0] for path in TESTS.rglob("test_*.py")}
    assert folders == ROOMS | OTHERS


def test_nothing_is_imported_from_a_test() -> None:
    for module in TESTS.rglob("*.py"):
        for statement in IMPORT.findall(module.read_text()):
            assert not re.search(r"\b(test_\w+|conftest)\b", statement), module
