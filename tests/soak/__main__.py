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
from bench.release import WHEELS
from smsq.cipher import PlaintextCipher
from smsq.connection import Client, connect
from smsq.contract import State
from smsq.tracking import key_holder
from smsq_worker.config.settings import Settings
from smsq_worker.delivery_reports.meaning import report_of
from smsq_worker.domain.codes import Catalogue
from smsq_worker.ledger import Ledger
from smsq_worker.ledger.campaigns import Campaigns
from smsq_worker.ledger.selecting import Selection, Selector
from soak.chaos import Chaos
from soak.compare import Result, compare, gave_up, read_journals, story, unaccounted
from soak.faults import FAULTS
from soak.load import Load, patiently
from soak.plan import WELL, Plan
from soak.stage import Stage

WITHIN_S = 30.0
"""When all is well again, and messages have settled: for what is done every second or so."""


def status_of(message_id: str) -> smsq.Status | None:
    """Read a message; of a repeated batch, the one that holds its key."""
    status: smsq.Status | None = patiently(lambda: smsq.status(message_id))
    holder = key_holder(status.reason) if status else ""
    return status_of(holder) if holder else status


def settle(plan: Plan, stage: Stage, sent: dict[str, str]) -> dict[str, smsq.Status | None]:
    """Wait until nothing more will happen to any message."""
    deadline, open_ids = time.monotonic() + plan.settle_s, set(sent)
    while open_ids and time.monotonic() < deadline:
        for message_id in list(open_ids):
            status = status_of(message_id)
            if not status or not (is_open(status) or owed(stage, sent[message_id], status)):
                open_ids.discard(message_id)
        time.sleep(0.5)
    return {message_id: status_of(message_id) for message_id in sent}


def is_open(status: smsq.Status) -> bool:
    """Tell whether a message goes on by itself."""
    return not (status.final or status.state == State.HELD)


def owed(stage: Stage, phone: str, status: smsq.Status) -> set[str]:
    """Return the mids whose reports the gateway has delivered, or will, but the ledger has not."""
    if status.state != State.UNREPORTED or not phone.endswith(WELL):
        return set()
    return {one.mid for one in status.attempts if one.mid} - stage.given_up()


def dead(stage: Stage) -> list[str]:
    """Name the processes that ended by themselves, and those that do not do their work."""
    began = time.time()
    for name in stage.processes:
        stage.living(name)
    silent = set(stage.workers)
    while silent and time.time() < began + WITHIN_S:
        silent -= {name for name in silent if stage.sign_of_life(name) > began}
        time.sleep(0.1)
    found = [*stage.complaints, *(f"the clock of {name} is silent" for name in silent)]
    deadline = time.monotonic() + WITHIN_S
    while not (takes := stage.takes_reports()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return found if takes else [*found, "the door takes no report"]


def left_over(stage: Stage) -> list[str]:
    """Name what was written down in the spool and never came out of it."""
    deadline = time.monotonic() + WITHIN_S
    while (sizes := stage.spooled()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return [f"still in the spool: {name}, {size} bytes" for name, size in sizes.items()]


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
        statuses = settle(plan, stage, load.sent)
        result = judge(plan, stage, load, statuses)
        result.faults, result.slowest_s = chaos.counts, load.slowest_s
    return result, chaos.diary


def judge(plan: Plan, stage: Stage, load: Load, statuses: dict[str, smsq.Status | None]) -> Result:
    """Compare everything that can be known."""
    accepted = read_journals(*stage.journals)
    result = compare(load.sent, statuses, accepted, plan.policy, *[goes_on] * (plan.accounts > 1))
    result.lost += left_over(stage)
    result.dead += dead(stage)
    result.untrue += [f"{words}, {count} times" for words, count in load.raised.items()]
    for message_id, phone in load.sent.items():
        status, calls = statuses[message_id], accepted.get(phone, ())
        if not status:
            continue
        told = story(phone, status, calls)
        if (
            plan.accounts > 1
            and (status.reason or "").startswith("gateway:")
            and phone.endswith(WELL)
        ):
            result.untrue.append(f"it failed for what one account refused: {told}")
        if call := unaccounted(status.attempts, calls):
            result.untrue.append(f"mid {call.mid} was sent outside of any attempt's lease: {told}")
        if gave_up(phone, status):
            result.untrue.append(f"a resend was spent on what certainly was not sent: {told}")
        if mids := owed(stage, phone, status):
            result.lost.append(f"the report for {', '.join(mids)}: {told}")
        if message_id in load.cancelled and (calls or status.state != State.CANCELLED):
            result.untrue.append(f"it was said to be cancelled: {told}")
    settings = Settings.load(stage.environ)
    client = connect(settings.redis_url)
    result.untrue += miscounted(client, settings, load)
    counters = Ledger(client, settings.rules).counters()
    result.doubts_counted = counters.get("possible_duplicates", 0)
    return result


def goes_on(stat: str) -> bool:
    """Tell whether what one account accepted goes on to another after such a report."""
    meant = report_of(Catalogue.load(), stat) if stat else None
    is_elsewhere = meant and meant.scope in {"account", "route", "template"}
    return bool(
        is_elsewhere and not meant.maybe_sent and meant.code_class in {"permanent", "transient"}
    )


def miscounted(client: Client, settings: Settings, load: Load) -> list[str]:
    """Name the campaigns whose counts are not those of their messages, or that were not obeyed."""
    by = ("campaign", "state")
    selector = Selector(client, settings.rules, [PlaintextCipher()])
    counted = selector.count(Selection(), by, scan=True).groups
    found = []
    for one in Campaigns(client, settings.rules).all():
        brute = {state: n for (name, state), n in counted.items() if name == one.name}
        if brute != one.states:
            found.append(f"{one.name} counts {dict(one.states)}, and has {brute}")
        if one.stop != load.campaigns.get(one.name, ""):
            found.append(f"{one.name} is {one.stop}, not {load.campaigns.get(one.name)}")
    return found


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
    parser.add_argument("--accounts", type=int, choices=[1, 2], default=Plan.accounts)
    parser.add_argument("--campaigns", choices=["yes", "no"], default="yes")
    parser.add_argument("--numbers", choices=["all", "well"], default=Plan.numbers)
    parser.add_argument("--release", choices=["", *WHEELS], default="", help="whose workers run")
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
        given.accounts,
        # Earlier ones know none.
        given.campaigns == "yes" and not given.release,
        given.numbers,
        given.release,
    )
    folder = Path(tempfile.mkdtemp(prefix="smsq-soak-"))
    result, diary = run(plan, folder)
    is_good = result.good(plan.policy)
    lines = [f"{plan}", f"logs in {folder}", *result.lines(), *([] if is_good else sorted(diary))]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.exit(0 if is_good else 1)


if __name__ == "__main__":
    main()
