"""The documents, and what stands in them."""

from __future__ import annotations

import re
from typing import Final

from harness.paths import ROOT

README: Final = (ROOT / "README.md").read_text(encoding="utf-8")
_FENCED: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def page(name: str) -> str:
    """Return a page of docs/, by its path there."""
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def blocks(text: str, language: str = "") -> list[str]:
    """Return a text's blocks of code in a language, or of none."""
    return [code for found, code in _FENCED.findall(text) if found == language]


def rows(text: str, header: str) -> list[list[str]]:
    """Return the rows of the table with this header."""
    table = text.split(header)[1].split("\n\n", maxsplit=1)[0]
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]
    ]
