"""`smsq codes --seen`: what came and is not in the catalogue."""

from __future__ import annotations

import json
from pathlib import Path

import redis
from click.testing import CliRunner, Result

from harness.accounts import BACKUP, MAIN, ROUTES, accounts_file, backup
from harness.descriptions import ANSWER, REQUEST
from harness.scene import Scene
from smsq import keys
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
    Reconciler(ledger, {"": Catalogue.load()}).reconcile(reports)

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


def test_those_of_each_account_are_listed(
    environ: dict[str, str], client: redis.Redis, tmp_path: Path
) -> None:
    file = accounts_file(tmp_path, MAIN, backup(vendor="http", description="d.toml"), ROUTES)
    (tmp_path / "d.toml").write_text(f"{REQUEST}{ANSWER}[codes.'XB:0002']\nclass = 'permanent'\n")
    of_both = environ | {"SMSQ_ACCOUNTS_FILE": file}
    seen = json.dumps({"count": 1, "first": 1, "last": 1, "mid": "M"})
    client.hset(keys.CODES_SEEN, "XA:0001", seen)
    client.hset(
        keys.at_account(keys.CODES_SEEN, BACKUP), mapping={"MK:0001": seen, "XB:0002": seen}
    )
    # What MK:0001 means only the other vendor says, and XB:0002 has a class by now.
    first, second, _ = run(of_both).stdout.splitlines()
    assert first.startswith("XA:0001")
    assert first.endswith("  account main")
    assert second.startswith("MK:0001")
    assert second.endswith("  account backup")
    rows = json.loads(run(of_both, "--json").stdout)
    assert [row["account"] for row in rows] == ["main", "backup"]
    one = CliRunner().invoke(codes, ["XB:0002", "--account", "backup"], env=of_both)
    assert "permanent" in one.stdout
    assert CliRunner().invoke(codes, ["XB:0002"], env=of_both).exit_code == 1
    (row,) = json.loads(run(of_both, "--json", "--account", "main").stdout)
    assert row["account"] == "main"


def test_it_lists_all_or_explains_one(environ: dict[str, str]) -> None:
    result = run(environ, "MA:0001")
    assert result.exit_code == 2
    assert "either STAT or --seen" in result.stderr
