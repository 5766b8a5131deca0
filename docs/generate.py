"""Write the parts of the docs that are read from the code; with --check, only compare.

A part stands between `<!-- generated: NAME -->` and `<!-- end -->`. In the table of settings the
last column is yours: it is kept, and a setting without words there fails the check.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Final

import click
import translations

from smsq.contract import FINAL
from smsq_worker.cli import group
from smsq_worker.config.settings import Settings
from smsq_worker.domain.codes import Catalogue
from smsq_worker.domain.states import NEXT
from smsq_worker.inspection.code_text import action

DOCS: Final = Path(__file__).parent
WIDTH: Final = 92
WORDS: Final = {"none", "the above", "system CAs", "无", "同上", "系统 CA"}
"""Defaults that are described, not written."""

_PART: Final = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def states(_: str) -> str:
    """Draw the states, and list the ways between them."""
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> queued", "    [*] --> duplicate"]
    lines += [f"    {before} --> {after}" for before in NEXT for after in sorted(NEXT[before])]
    lines += [f"    {state} --> [*]" for state in NEXT if state in FINAL]
    rows = [f"| {before} | {', '.join(sorted(after))} |" for before, after in NEXT.items()]
    return "\n".join([*lines, "```", "", "| from | to |", "| --- | --- |", *rows, "", ""])


def settings(now: str) -> str:
    """List the settings: name, default, and the words that stand there already."""
    old = {row[0]: row[1:] for row in map(_cells, now.splitlines()) if row[0].startswith("`SMSQ_")}
    lines = now.splitlines()[:2]
    for spec in fields(Settings):
        name, parse = f"`{spec.metadata['env']}`", spec.metadata["parse"]
        before = f"`{spec.metadata.get('renamed_from')}`"
        default, meaning = old.get(name) or old.get(before) or ["", ""]
        if default not in WORDS and not _reads_as(parse, default.strip("`"), spec.default):
            default = "none" if spec.default in {None, ""} else f"{spec.default}"
        lines.append(f"| {name} | {default} | {meaning} |")
    return "\n".join([*lines, "", ""])


def codes(_: str) -> str:
    """List the catalogue of stat codes."""
    lines = ["| stat | class | scope | what smsq does | meaning | 含义 |", "| --- " * 6 + "|"]
    for code in Catalogue.load():
        sent = "; may have been sent" if code.may_have_been_sent else ""
        cells = [f"`{code.stat}`", code.code_class, code.scope or "", f"{action(code)}{sent}"]
        lines.append(f"| {' | '.join([*cells, code.en, code.zh])} |")
    return "\n".join([*lines, "", ""])


def commands(_: str) -> str:
    """Print each command's help."""
    root = group()
    return "\n".join(_helps(root, click.Context(root, info_name="smsq", terminal_width=WIDTH)))


PARTS: Final[dict[str, Callable[[str], str]]] = {
    "states": states,
    "settings": settings,
    "codes": codes,
    "commands": commands,
}


def pages() -> Iterator[tuple[Path, str, str]]:
    """Yield each page that has a generated part, as it is and as it should be."""
    for page in sorted(DOCS.rglob("*.md")):
        before = page.read_text(encoding="utf-8")
        after = _PART.sub(_renewed, before)
        if _PART.search(before):
            yield page, before, after


def problems() -> Iterator[str]:
    """Name each page that the code has left behind, and each setting without words."""
    for page, before, after in pages():
        name = page.relative_to(DOCS.parent)
        if before != after:
            yield f"{name}: not what the code says; run docs/generate.py"
        for setting in re.findall(r"^\| (`SMSQ_\w+`) .*\|  \|$", after, re.MULTILINE):
            yield f"{name}: {setting} has no words"


def main() -> None:
    """Write the pages, and exit with 1 if words are missing; with --check write nothing."""
    if "--check" not in sys.argv:
        for page, _, after in pages():
            page.write_text(after, encoding="utf-8")
        translations.write()
    found = [*problems(), *translations.problems()]
    sys.stderr.writelines(f"{line}\n" for line in found)
    sys.exit(bool(found))


def _renewed(part: re.Match[str]) -> str:
    now = part[0].removeprefix(part[1]).removesuffix(part[3])
    return f"{part[1]}{PARTS[part[2]](now)}{part[3]}"


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def _reads_as(parse: Callable[[str], object], text: str, value: object) -> bool:
    try:
        return bool(text) and parse(text) == value
    except ValueError:
        return False


def _helps(command: click.Group, context: click.Context) -> Iterator[str]:
    for name in command.list_commands(context):
        # This imports the command; until then a group has only its name.
        _, inner, _ = command.resolve_command(context, [name])
        if inner is None:
            raise RuntimeError(name)
        below = click.Context(inner, parent=context, info_name=name, terminal_width=WIDTH)
        yield f"{'#' * (2 + bool(context.parent))} {below.command_path}\n"
        yield f"```text\n{inner.get_help(below)}\n```\n"
        if isinstance(inner, click.Group):
            yield from _helps(inner, below)


if __name__ == "__main__":
    main()
