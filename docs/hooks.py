"""What the site has beside docs/: Mermaid's library, and the pages that live in the root."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).parent.parent
FROM_ROOT: Final = {
    "ARCHITECTURE.md": "internals/architecture.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
_LINK: Final = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?:|#)([^)#]+)(#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add Mermaid, and the root's pages with their links as the site has them."""
    library = Path(str(resources.files("mermaidx") / "assets" / "mermaid.js"))
    files.append(File.generated(config, "assets/mermaid.js", abs_src_path=str(library)))
    for source, page in FROM_ROOT.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=relinked(text, page)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Redirect links of docs/ that lead to the root's pages to those of the site."""
    up = "../" * page.file.src_uri.count("/")
    for source, target in FROM_ROOT.items():
        markdown = markdown.replace(f"({up}../{source}", f"({up}{target}")
    return markdown


def relinked(text: str, page: str) -> str:
    """Return a root page's text with links as `page` has them; those out of docs/ become text."""
    up = "../" * page.count("/")

    def link(found: re.Match[str]) -> str:
        words, target, anchor = found[1], found[2], found[3] or ""
        if target in FROM_ROOT:
            return f"[{words}]({up}{FROM_ROOT[target]}{anchor})"
        if target.startswith("docs/") and target.endswith(".md"):
            return f"[{words}]({up}{target.removeprefix('docs/')}{anchor})"
        return words

    return _LINK.sub(link, text)
