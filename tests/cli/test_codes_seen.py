"""`smsq codes --seen`: what came and is not in the catalogue."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result

from harness.scene import Scene
from smsq_worker.cli.commands.codes import codes
from smsq_worker.delivery_reports.reconciler import Reconciler
from smsq_worker.domain.codes import Catalogue
from smsq_worker.domain.states import Outcome
from smsq_worker.ledger import Ledger


def run(environ: dict[str, str], *words: str) -> Result:
    return CliRunner().invoke(codes, ["--seen", *words], env=environ)


def test_unknown_codes_are_listed_until_they_have_a_class(
    environ: dict[str, str], scene: Scene, ledger: Ledger, tmp_path: Path
) -> None:
    assert run(environ).stdout == "0 codes that the catalogue does not know\n"
    scene.call("m1", Outcome.ACCEPTED)
    reports = [("MID-m1-1", stat) for stat in ("MO:0420", "xa1", "XA:0001", "MK:0777")]
    Reconciler(ledger, Catalogue.load()).reconcile(reports)

    first, second, count = run(environ).stdout.splitlines()
    assert first.startswith("XA:0001  2 times  since 20")
    assert first.endswith("  mid MID-m1-1")
    assert second.startswith("MO:0420  1 time")
    assert count == "2 codes that the catalogue does not know"

    override = tmp_path / "codes.toml"
    override.write_text('[codes."XA:*"]\nclass = "permanent"\n', encoding="utf-8")
    (row,) = json.loads(run(environ | {"SMSQ_CODES_FILE": str(override)}, "--json").stdout)
    assert set(row) == {"stat", "count", "first_at", "last_at", "mid"}
    assert (row["stat"], row["count"], row["mid"]) == ("MO:0420", 1, "MID-m1-1")


def test_it_lists_all_or_explains_one(environ: dict[str, str]) -> None:
    result = run(environ, "MA:0001")
    assert result.exit_code == 2
    assert "either STAT or --seen" in result.stderr
