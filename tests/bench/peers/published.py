"""The comparison's figures in the docs: kept as JSON, shown as tables and as a picture.

    python -m bench.peers.published    # write the docs anew from the JSON

A part stands between `<!-- measured: peers -->` and `<!-- end -->`.
"""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from bench.figures import Spread
from bench.peers.chart import Panel, draw
from harness.paths import ROOT

FIGURES: Final = ROOT / "docs/assets/peers.json"
PICTURE: Final = ROOT / "docs/assets/peers.svg"
PAGES: Final = {
    "README.md": "en",
    "README.zh-CN.md": "zh",
    "docs/operate/index.md": "en",
    "docs/zh/manual.md": "zh",
}
PART: Final = re.compile(r"(<!-- measured: peers -->\n).*?(<!-- end -->)", re.DOTALL)
HEADS: Final = {
    "en": (
        "",
        "CPU of the worker, ms a message: gateway at 0 ms",
        "at 100 ms",
        "messages/s of one worker process, at 100 ms",
        "CPU of Redis meanwhile, ms a message",
        "enqueued/s",
    ),
    "zh": (
        "",
        "worker CPU 耗时（毫秒/条）：网关延迟 0 ms",
        "网关延迟 100 ms",
        "单个 worker 进程吞吐（条/秒），网关延迟 100 ms",
        "同期 Redis CPU 耗时（毫秒/条）",
        "入队（条/秒）",
    ),
}
PICTURED: Final = {
    "en": "CPU time of the worker per message, and messages per second of one worker process",
    "zh": "每条消息的 worker CPU 耗时，以及单个 worker 进程的吞吐",
}
SAID: Final = {
    "en": "Medians of {rounds} interleaved rounds of {messages} messages; in brackets the least "
    "and the most. {where}.",
    "zh": "交替测量 {rounds} 轮，每轮 {messages} 条消息；表中为中位数，"
    "括号内为最小值和最大值。{where}。",
}


@dataclass(frozen=True)
class Figures:
    """What a contender came to: CPU in ms a message, all but the first at 100 ms."""

    name: str
    cpu_fast: Spread
    cpu_slow: Spread
    per_s: Spread
    redis: Spread
    enqueued_per_s: Spread


def publish(figures: Sequence[Figures], *, about: str, rounds: int, messages: int) -> None:
    """Keep the figures, and write them into the docs."""
    cores, python = os.cpu_count(), platform.python_version()
    processor, _, versions = about.partition("; ")
    kept = {
        "where": f"{cores} x {processor}, Python {python}, {versions}",
        "rounds": rounds,
        "messages": messages,
        "figures": [asdict(one) for one in figures],
    }
    FIGURES.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    write()


def write() -> None:
    """Write the docs from what is kept."""
    for path, text in pages():
        path.write_text(text, encoding="utf-8")


def pages() -> Iterator[tuple[Path, str]]:
    """Give each file that shows the figures, and what it is to hold."""
    kept = json.loads(FIGURES.read_text(encoding="utf-8"))
    figures = [_read(one) for one in kept["figures"]]
    yield PICTURE, picture(figures, kept["where"])
    for name, language in PAGES.items():
        page = ROOT / name
        part = _part(figures, kept, language, os.path.relpath(PICTURE, page.parent))
        text = page.read_text(encoding="utf-8")
        yield page, PART.sub(lambda found, part=part: found[1] + part + found[2], text)


def picture(figures: Sequence[Figures], where: str) -> str:
    """Draw what the worker costs, and how fast it is."""
    names = [one.name.replace("`", "") for one in figures]
    cost = Panel(
        "CPU of the worker, ms a message",
        "less is better",
        [one.cpu_slow for one in figures],
        digits=2,
    )
    speed = Panel(
        "messages/s of one worker process",
        "more is better",
        [one.per_s for one in figures],
        digits=0,
    )
    foot = f"gateway at 100 ms; bars: medians, lines: all rounds; {where.partition(', ')[0]}"
    return draw(names, [cost, speed], foot)


def _part(figures: Sequence[Figures], kept: dict[str, Any], language: str, link: str) -> str:
    heads = HEADS[language]
    lines = [f"| {' | '.join(heads)} |".replace("|  |", "| |"), "| --- " * len(heads) + "|"]
    lines += [f"| {' | '.join(_cells(one))} |" for one in figures]
    said = SAID[language].format(**{name: kept[name] for name in ("rounds", "messages", "where")})
    return "\n".join([*lines, "", f"![{PICTURED[language]}]({link})", "", said, ""])


def _cells(one: Figures) -> Iterator[str]:
    yield one.name
    yield one.cpu_fast.text()
    yield one.cpu_slow.text()
    yield one.per_s.text(0)
    yield one.redis.text()
    yield f"{one.enqueued_per_s.median:,.0f}"


def _read(kept: dict[str, Any]) -> Figures:
    spreads = {name: Spread(*value) for name, value in kept.items() if name != "name"}
    return Figures(kept["name"], **spreads)


if __name__ == "__main__":
    write()
