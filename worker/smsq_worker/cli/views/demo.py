"""The run of `smsq demo`."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from smsq.connection import connect
from smsq.contract import State
from smsq.tracking import key_holder
from smsq_worker.config.settings import Settings
from smsq_worker.devstack.demo import Seen, Sent, demo_plan, enqueue, watch
from smsq_worker.devstack.processes import Stack, stopping
from smsq_worker.devstack.up import Plan, start
from smsq_worker.domain.printable import escaped
from smsq_worker.ledger import Ledger


def run_demo() -> bool:
    """Run everything, send, follow, and return whether every message ended as expected."""
    console = Console(markup=False, highlight=False)
    home = Settings.load(os.environ).home / "demo"
    plan = demo_plan(os.environ, home)
    with stopping(Stack(home / "logs")) as stack:
        console.print(f"Starting Redis, sandbox gateway, API, worker, Flower; logs in {home}/logs")
        start(plan, stack, home)
        console.print(f"Flower while it runs: {plan.flower_url}")
        began = time.monotonic()
        sent = enqueue(plan)
        console.print(f"{len(sent)} messages enqueued in {time.monotonic() - began:.2f} s")
        seen = _follow(console, sent, stack.check)
        took_s = time.monotonic() - began
        _summarise(console, plan, seen)
    wrong = [one for one in sent if not seen.ends(one)]
    for one in wrong:
        status = seen.statuses[one.message_id]
        reason = escaped(status.reason or "")
        console.print(f"WRONG: ...{one.digits} is {status.state} {reason}, not {one.end}")
    console.print(
        f"{len(sent) - len(wrong)} of {len(sent)} messages ended as they must, {took_s:.0f} s"
    )
    console.print(f"Flower was at {plan.flower_url}")
    return not wrong


def _follow(console: Console, sent: list[Sent], check: Callable[[], None]) -> Seen:
    if not console.is_terminal:
        return watch(sent, _lines(console), check)
    with Live(console=console, auto_refresh=False) as live:
        return watch(sent, lambda seen: live.update(_live_table(seen), refresh=True), check)


def make_table(*headings: str) -> Table:
    """Return a table that cuts nothing off in a narrow terminal."""
    table = Table()
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _live_table(seen: Seen) -> Table:
    counts = seen.by_state()
    table = make_table("state", "messages", "")
    for state in State:
        table.add_row(state, str(counts[state]), "█" * counts[state])
    return table


def _lines(console: Console) -> Callable[[Seen], None]:
    last = ""

    def show(seen: Seen) -> None:
        nonlocal last
        counts = seen.by_state()
        line = "  ".join(f"{state} {counts[state]}" for state in State if counts[state])
        if line != last:
            console.print(line, soft_wrap=True)
        last = line

    return show


def _summarise(console: Console, plan: Plan, seen: Seen) -> None:
    table = make_table("state", "reason", "last report", "messages")
    ends = Counter(
        (status.state, escaped(_reason(status.reason)), escaped(status.stat or ""))
        for status in seen.statuses.values()
    )
    for row, count in sorted(ends.items()):
        table.add_row(*map(Text, row), str(count))
    console.print(table)
    settings = plan.settings
    ledger = Ledger(connect(settings.redis_url), settings.rules)
    counted = ledger.counters().get("possible_duplicates", 0)
    console.print(f"Resends after doubt, each counted as a possible duplicate: {counted}")


def _reason(reason: str | None) -> str:
    return "duplicate:<id>" if key_holder(reason) else reason or ""
