"""Run a soak from the command line."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import smsq
import soak
from smsq.connection import connect
from smsq.contract import State
from smsq.tracking import key_holder
from smsq_worker.ledger import Ledger
from smsq_worker.settings import Settings
from soak.chaos import Chaos
from soak.compare import Result, compare, read_journal, story, unaccounted
from soak.faults import FAULTS, spooled
from soak.load import Load, patiently
from soak.plan import Plan
from soak.stage import Stage

ALIVE_WITHIN_S = 30.0


def status_of(message_id: str) -> smsq.Status | None:
    """Read a message; of a repeated batch, the one that holds its key."""
    status: smsq.Status | None = patiently(lambda: smsq.status(message_id))
    holder = key_holder(status.reason) if status else ""
    return status_of(holder) if holder else status


def settle(plan: Plan, sent: dict[str, str]) -> dict[str, smsq.Status | None]:
    """Wait until nothing more will happen to any message."""
    deadline, open_ids = time.monotonic() + plan.settle_s, set(sent)
    while open_ids and time.monotonic() < deadline:
        for message_id in list(open_ids):
            status = status_of(message_id)
            if status is None or status.final or status.state == State.HELD:
                open_ids.discard(message_id)
        time.sleep(0.5)
    return {message_id: status_of(message_id) for message_id in sent}


def dead(stage: Stage) -> list[str]:
    """Name the processes that ended by themselves, and the workers whose clock is silent."""
    began = time.time()
    found = [f"{name} ended" for name, one in stage.processes.items() if one.poll() is not None]
    silent = set(stage.workers)
    while silent and time.time() < began + ALIVE_WITHIN_S:
        silent -= {name for name in silent if stage.sign_of_life(name) > began}
        time.sleep(0.1)
    return [*stage.complaints, *found, *(f"the clock of {name} is silent" for name in silent)]


def left_over(stage: Stage) -> list[str]:
    """Name what was written down in the spool and never came out of it."""
    deadline = time.monotonic() + ALIVE_WITHIN_S
    while (files := list(spooled(stage.spool))) and time.monotonic() < deadline:
        time.sleep(0.1)
    return [f"still in the spool: {path.name}, {path.stat().st_size} bytes" for path in files]


def run(plan: Plan, folder: Path) -> tuple[Result, list[str]]:
    """Run a soak in a folder; return what it came to, and the faults' diary."""
    with Stage(plan, folder).running() as stage, ThreadPoolExecutor() as pool:
        os.environ.update({k: v for k, v in stage.environ.items() if k.startswith("SMSQ_")})
        load, chaos, stop = Load(plan), Chaos(plan, stage), Event()
        breaking = pool.submit(chaos.run, stop)
        try:
            load.run()
        finally:
            stop.set()
            breaking.result()
        statuses = settle(plan, load.sent)
        result = judge(plan, stage, load, statuses)
        result.faults = chaos.counts
    return result, chaos.diary


def judge(plan: Plan, stage: Stage, load: Load, statuses: dict[str, smsq.Status | None]) -> Result:
    """Compare everything that can be known."""
    accepted = read_journal(stage.journal)
    result = compare(load.sent, statuses, accepted, plan.policy)
    result.lost += left_over(stage)
    result.dead += dead(stage)
    result.untrue += [f"{words}, {count} times" for words, count in load.raised.items()]
    for message_id, phone in load.sent.items():
        status, calls = statuses[message_id], accepted.get(phone, ())
        if status and (call := unaccounted(status.attempts, calls)):
            told = story(phone, status, calls)
            result.untrue.append(f"mid {call.mid} was sent outside of any attempt's lease: {told}")
    settings = Settings.load(stage.environ)
    counters = Ledger(connect(settings.redis_url), settings.rules).counters()
    result.doubts_counted = counters.get("possible_duplicates", 0)
    return result


def kinds(text: str) -> tuple[str, ...]:
    """Read kinds of faults with commas between, or "all"."""
    chosen = tuple(FAULTS) if text == "all" else tuple(text.split(","))
    if unknown := set(chosen) - set(FAULTS):
        allowed = f"all, or any of {', '.join(FAULTS)}"
        raise argparse.ArgumentTypeError(f"no such fault: {', '.join(unknown)}; it takes {allowed}")
    return chosen


def main() -> None:
    """Run a soak from the command line."""
    parser = argparse.ArgumentParser(
        description=soak.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=Plan.messages)
    parser.add_argument("--seconds", type=float, default=Plan.seconds)
    parser.add_argument("--workers", type=int, default=Plan.workers)
    parser.add_argument("--every", type=float, default=Plan.every_s, help="seconds between faults")
    parser.add_argument("--freeze", type=float, default=Plan.freeze_s, help="seconds without Redis")
    parser.add_argument("--policy", choices=["resend", "hold"], default=Plan.policy)
    parser.add_argument("--seed", type=int, default=Plan.seed)
    parser.add_argument("--settle", type=float, default=Plan.settle_s, help="seconds at most")
    parser.add_argument("--faults", type=kinds, default="all", help="kinds, with commas between")
    given = parser.parse_args()
    plan = Plan(
        given.messages,
        given.seconds,
        given.workers,
        given.every,
        given.freeze,
        given.policy,
        given.seed,
        given.settle + given.seconds,
        given.faults,
    )
    folder = Path(tempfile.mkdtemp(prefix="smsq-soak-"))
    result, diary = run(plan, folder)
    is_good = result.good(plan.policy)
    lines = [f"{plan}", f"logs in {folder}", *result.lines(), *([] if is_good else diary)]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.exit(0 if is_good else 1)


if __name__ == "__main__":
    main()
