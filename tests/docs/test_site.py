"""The docs hold together: links, file names, diagrams, generated parts; nothing is from outside."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import mermaidx
import pytest

from smsq_worker.domain.states import NEXT

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = {
    str(page.relative_to(ROOT)): page.read_text(encoding="utf-8")
    for page in (*ROOT.glob("*.md"), *DOCS.rglob("*.md"))
}
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
FOLDERS = r"(?:producer|worker|tests|ops|docs|examples|\.ci)"
FILE = re.compile(rf"`({FOLDERS}/[\w./-]+|[\w/-]+\.(?:py|lua|toml|acl|ya?ml))`")
MADE = {"ops/app_secret", "ops/accounts.toml", "ops/requirements"}
"""What a reader makes, or a beginning of several names."""
FILES = {
    str(path.relative_to(ROOT))
    for folder in ("producer", "worker", "tests", "ops", "docs", "examples", ".ci")
    for path in (ROOT / folder).rglob("*")
} | {path.name for path in ROOT.iterdir()}
MERMAID = {
    f"{name} {number}": code
    for name, text in PAGES.items()
    for number, (language, code) in enumerate(FENCE.findall(text))
    if language == "mermaid"
}


def module(name: str) -> ModuleType:
    """Import a script that lies in docs/, beside those that it imports itself."""
    if str(DOCS) not in sys.path:
        sys.path.append(str(DOCS))
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and the site make them."""
    heads = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.MULTILINE)
    return {
        re.sub(r"[^\w -]", "", head.replace("`", "").lower()).replace(" ", "-") for head in heads
    }


def test_the_generated_parts_are_what_the_code_says() -> None:
    assert list(module("generate").problems()) == []


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    for target, anchor in LINK.findall(FENCE.sub("", PAGES[name])):
        path = (ROOT / name).parent / target if target else ROOT / name
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path.read_text(encoding="utf-8")), f"{target}#{anchor}"


@pytest.mark.parametrize("name", sorted({*PAGES} - {"CHANGELOG.md", "docs/reference/commands.md"}))
def test_the_files_named_are_there(name: str) -> None:
    for found in FILE.findall(PAGES[name]):
        is_there = any(f"/{file}".endswith(f"/{found.rstrip('/')}") for file in FILES)
        assert is_there or found in MADE or "NAME" in found, found


def test_the_walks_name_files_that_are_there() -> None:
    walks = PAGES["docs/internals/walks.md"]
    for found in re.findall(r"participant \w+ as ([\w/]+\.py)", walks):
        assert any(file.endswith(f"/{found}") for file in FILES), found


def test_the_readmes_picture_has_no_way_that_the_code_has_not() -> None:
    ways = re.findall(r"^ +(\w+) --> (\w+)", PAGES["README.md"], re.MULTILINE)
    table = {str(before): {str(state) for state in after} for before, after in NEXT.items()}
    assert ways
    for before, after in ways:
        assert after in table[before], f"{before} --> {after}"


def test_the_map_has_every_room() -> None:
    rooms = {path.parent.name for path in (ROOT / "worker" / "smsq_worker").glob("*/__init__.py")}
    named = re.findall(r"^\| `(\w+)/` \|", PAGES["ARCHITECTURE.md"], re.MULTILINE)
    assert set(named) == rooms


@pytest.mark.parametrize("name", MERMAID)
def test_the_diagrams_can_be_drawn(name: str) -> None:
    assert mermaidx.render(MERMAID[name]).svg().startswith("<svg")


def test_the_site_loads_nothing_from_outside(tmp_path: Path) -> None:
    mkdocs = Path(sys.executable).parent / "mkdocs"
    built = subprocess.run(
        [mkdocs, "build", "--strict", "--site-dir", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    for page in tmp_path.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe|source)[^>]*\bsrc=\"?([^\s\">]+)", text)
        loaded += re.findall(r"<link[^>]*\bhref=\"?([^\s\">]+)", text)
        assert not [url for url in loaded if re.match(r"(https?:)?//", url)], page
    home = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "assets/mermaid.js" in home
    for sheet in tmp_path.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet
