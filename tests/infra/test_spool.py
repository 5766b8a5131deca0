"""The local file for what must outlive an outage of Redis, read back by real other processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from smsq_worker.infra.spool import Spool

WRITER = """
import os, signal, sys
from pathlib import Path
from smsq_worker.infra.spool import Spool
spool = Spool(Path(sys.argv[1]), "calls")
for n in range(int(sys.argv[2])):
    spool.append({"n": n})
print("written", flush=True)
sys.stdin.read()
os.kill(os.getpid(), signal.SIGKILL)
"""


def replayed(spool: Spool) -> list[int]:
    seen: list[int] = []
    spool.replay(lambda entry: seen.append(entry["n"]))
    return seen


def test_entries_come_back_in_order_and_once(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "not" / "there" / "yet", "calls")
    assert not spool.pending()
    for n in range(5):
        spool.append({"n": n})
    assert spool.pending()
    assert replayed(spool) == [0, 1, 2, 3, 4]
    assert not spool.pending()
    assert replayed(spool) == []


def test_its_files_are_nobody_elses(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        spool = Spool(tmp_path / "spool", "calls")
        spool.append({"n": 1})
        seen = {path.stat().st_mode & 0o077 for path in (tmp_path / "spool").rglob("*")}
        spool.replay(lambda entry: entry["none"])
        seen |= {path.stat().st_mode & 0o077 for path in tmp_path.rglob("*")}
        assert [path.suffix for path in (tmp_path / "spool").iterdir()] == [".bad"]
    finally:
        os.umask(before)
    assert seen == {0}


def test_what_could_not_be_applied_waits_for_the_next_replay(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "calls")
    for n in range(3):
        spool.append({"n": n})

    def fail_at_the_second(entry: dict[str, int]) -> None:
        if entry["n"] == 1:
            raise ConnectionError

    with pytest.raises(ConnectionError):
        spool.replay(fail_at_the_second)
    spool.append({"n": 3})
    # Twice for the first: what applies entries is idempotent.
    assert replayed(spool) == [0, 1, 2, 3]


def test_an_entry_is_on_the_disk_when_append_returns_even_if_the_process_is_killed(
    tmp_path: Path,
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path), "3"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"written\n"
        reader = Spool(tmp_path, "calls")
        # It lives, and holds its file.
        assert not reader.pending()
        assert replayed(reader) == []
        assert writer.stdin is not None
        writer.stdin.close()
        writer.wait(30)
    assert reader.pending()
    assert replayed(reader) == [0, 1, 2]
    assert not [*tmp_path.iterdir()]


def test_half_a_line_was_promised_to_nobody(tmp_path: Path) -> None:
    left = tmp_path / "calls-00000000000000000001-aa.active"
    left.write_text(json.dumps({"n": 1}) + '\n{"n": 2')
    assert replayed(Spool(tmp_path, "calls")) == [1]


def test_spools_of_other_names_are_left_alone(tmp_path: Path) -> None:
    other = Spool(tmp_path, "reports")
    other.append({"n": 1})
    assert replayed(Spool(tmp_path, "calls")) == []
    assert replayed(other) == [1]


def test_a_disk_that_takes_nothing_raises(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        Spool(tmp_path / "file", "calls").append({"n": 1})
