"""The comparison's figures in the docs, and its picture."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bench.figures import Spread, spread
from bench.peers import published
from bench.peers.chart import Panel, draw
from harness.paths import ROOT

SVG = "{http://www.w3.org/2000/svg}"
NAMES = ("smsq delay()", "smsq 0.2.0 delay()", "another <& one")


def drawn(values: Iterable[float], names: Iterable[str] = NAMES) -> ET.Element:
    panel = Panel("title", "note", [Spread(one, one * 0.9, one * 1.1) for one in values], digits=1)
    return ET.fromstring(draw([*names], [panel, panel], "foot"))


def bars(picture: ET.Element) -> list[float]:
    """Give the lengths of the first panel's bars."""
    found = [float(one.attrib["width"]) for one in picture.iter(f"{SVG}rect")]
    return found[1 : 1 + len(NAMES)]


@pytest.mark.parametrize("name", ["docs/assets/peers.svg", *published.PAGES])
def test_a_page_shows_the_figures_that_are_kept(name: str) -> None:
    told = dict(published.pages())[ROOT / name]
    assert (ROOT / name).read_text(encoding="utf-8") == told, "python -m bench.peers.published"


def test_all_pages_have_a_place_for_them() -> None:
    for name in published.PAGES:
        assert len(published.PART.findall((ROOT / name).read_text(encoding="utf-8"))) == 1


def test_the_picture_needs_nothing_from_outside() -> None:
    text = published.PICTURE.read_text(encoding="utf-8")
    assert text.count("http") == 1  # the name of SVG itself
    assert "href" not in text
    assert "@import" not in text


def test_a_bar_is_as_long_as_its_median() -> None:
    one, two, four = bars(drawn([1, 2, 4]))
    assert (two / one, four / one) == (pytest.approx(2, rel=0.01), pytest.approx(4, rel=0.01))


def test_a_bar_much_longer_than_the_others_is_cut_off_and_leaves_them_room() -> None:
    picture = drawn([1, 2, 70])
    assert bars(picture)[1] / bars(picture)[2] > 0.7
    assert len(list(picture.iter(f"{SVG}polyline"))) == 2 * 2
    assert "70.0" in {one.text for one in picture.iter(f"{SVG}text")}


def test_each_bar_has_its_name_and_its_spread() -> None:
    picture = drawn([1, 2, 4])
    words = [one.text for one in picture.iter(f"{SVG}text")]
    assert [word for word in words if word in NAMES] == [*NAMES]
    assert len(list(picture.iter(f"{SVG}path"))) == 2 * len(NAMES)


def test_figures_are_kept_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docs").mkdir()
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- measured: peers -->\nold\n<!-- end -->\nafter\n")
    monkeypatch.setattr(published, "ROOT", tmp_path)
    monkeypatch.setattr(published, "PAGES", {"README.md": "en"})
    monkeypatch.setattr(published, "FIGURES", tmp_path / "docs/peers.json")
    monkeypatch.setattr(published, "PICTURE", tmp_path / "docs/peers.svg")
    one = spread([1.0, 3.0, 2.0])
    figures = [published.Figures(name, one, one, one, one, one) for name in NAMES]
    published.publish(figures, about="A processor; celery 5", rounds=3, messages=1000)
    told = page.read_text()
    assert told.startswith("before\n<!-- measured: peers -->\n| | CPU")
    assert "| smsq delay() | 2.00 (1.00 - 3.00) | 2.00 (1.00 - 3.00) | 2 (1 - 3) |" in told
    assert "](docs/peers.svg)" in told
    assert "3 interleaved rounds of 1000 messages" in told
    assert told.endswith("<!-- end -->\nafter\n")
    assert "old" not in told
    ET.fromstring(published.PICTURE.read_text())
