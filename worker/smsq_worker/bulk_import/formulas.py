"""Cells that a spreadsheet would take for formulas: made text, and read back as they were.

`=HYPERLINK(...)` in a list of numbers that an operator opens would send what stands beside it to
wherever its author wants. An apostrophe in front makes it text, for Excel and LibreOffice alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

# Full-width signs are formulas to a spreadsheet of a Chinese Windows.
_FORMULA: Final = re.compile(r"[\t\r ]*[=+\-@＝＋－＠\t\r]")
_MADE_TEXT: Final = re.compile(f"'+{_FORMULA.pattern}")


def protected(cells: Iterable[Any]) -> list[Any]:
    """Return cells as a file has them, with an apostrophe before what would be a formula."""
    return [f"'{cell}" if _FORMULA.match(str(cell)) else cell for cell in cells]


def written(values: Iterable[str]) -> list[str]:
    """Return values as cells that are no formulas, and from which `read` makes them again."""
    return protected(f"'{one}" if _MADE_TEXT.match(one) else one for one in values)


def read(cell: str) -> str:
    """Return what a cell says: without the apostrophe that makes a formula text."""
    return cell[1:] if _MADE_TEXT.match(cell) else cell
