"""A picture of the comparison: bars with the spread of the rounds, as SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from bench.figures import Spread

WIDTH: Final = 880
NAMES: Final = 190
GAP: Final = 24
HEAD: Final = 64
ROW: Final = 28
BAR: Final = 16
FOOT: Final = 34
VALUE: Final = 62
"""So much room is right of the longest bar, for its figure."""
OUTLIER: Final = 2.5
"""A bar so many times the next one would leave no room for the others: it is cut off."""
OURS, THEIRS, EARLIER = "#0f766e", "#94a3b8", "#5eb5ab"

STYLE: Final = """
text { font: 13px system-ui, sans-serif; fill: #1f2937 }
.title { font-weight: 600 } .note { font-size: 11px; fill: #6b7280 } .value { font-size: 12px }
.ours { font-weight: 600 } .spread { stroke: #1f2937; stroke-width: 1.2 }
"""


@dataclass(frozen=True)
class Panel:
    """One figure of all contenders."""

    title: str
    note: str
    values: Sequence[Spread]
    digits: int

    @property
    def end(self) -> float:
        """Give what the longest bar stands for."""
        tops = sorted(one.most for one in self.values)
        if len(tops) > 1 and tops[-1] > OUTLIER * tops[-2]:
            return tops[-2] * 1.15
        return tops[-1]


def draw(names: Sequence[str], panels: Sequence[Panel], foot: str) -> str:
    """Draw a panel beside the other; the contenders stand below each other."""
    height = HEAD + ROW * len(names) + FOOT
    room = (WIDTH - NAMES - GAP * len(panels)) / len(panels)
    label = escape(" and ".join(one.title for one in panels))
    box = f'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
    parts = [
        f'<svg {box} role="img" aria-label="{label}">',
        f"<style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{height}" rx="8" fill="#ffffff"/>',
    ]
    for n, name in enumerate(names):
        parts.append(_text(NAMES - 10, _middle(n) + 4, name, _class(name), anchor="end"))
    for n, panel in enumerate(panels):
        parts += _panel(names, panel, NAMES + n * (room + GAP), room - VALUE)
    parts.append(_text(16, height - 12, foot, "note"))
    return "\n".join([*parts, "</svg>", ""])


def _panel(names: Sequence[str], panel: Panel, left: float, room: float) -> list[str]:
    parts = [_text(left, 28, panel.title, "title"), _text(left, 46, panel.note, "note")]

    def at(value: float) -> float:
        return left + room * min(value, panel.end) / panel.end

    for n, (name, value) in enumerate(zip(names, panel.values, strict=True)):
        parts += _bar(name, value, n, at, is_cut=value.median > panel.end)
        end = max(at(value.most), at(value.median)) + 6
        shown = f"{value.median:,.{panel.digits}f}"
        parts.append(_text(end, _middle(n) + 4, shown, "value"))
    return parts


def _bar(
    name: str, value: Spread, n: int, at: Callable[[float], float], *, is_cut: bool
) -> list[str]:
    y, left, right = _middle(n), at(0), at(value.median)
    width, colour = right - left, _colour(name)
    bar = f'<rect x="{left:.1f}" y="{y - BAR / 2}" width="{width:.1f}" height="{BAR}" '
    parts = [f'{bar}fill="{colour}"/>']
    if is_cut:
        # Two strokes through the bar: it is longer than can be shown.
        for x in (right - 16, right - 10):
            points = f"{x:.1f},{y + BAR} {x + 4:.1f},{y - BAR}"
            parts.append(f'<polyline points="{points}" stroke="#ffffff" stroke-width="2.5"/>')
        return parts
    low, high = at(value.least), at(value.most)
    parts.append(
        f'<path class="spread" d="M{low:.1f} {y}H{high:.1f}{_end(low, y)}{_end(high, y)}"/>'
    )
    return parts


def _end(x: float, y: float) -> str:
    return f"M{x:.1f} {y - 4}v8"


def _middle(n: int) -> float:
    return HEAD + ROW * n + ROW / 2


def _class(name: str) -> str:
    return "ours" if _colour(name) == OURS else "name"


def _colour(name: str) -> str:
    if not name.startswith("smsq "):
        return THEIRS
    return EARLIER if name[5].isdigit() else OURS


def _text(x: float, y: float, words: str, of: str, anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" class="{of}" text-anchor="{anchor}">{escape(words)}</text>'
    )
