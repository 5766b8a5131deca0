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
from smsq_worker.devstack.failover import MESSAGES, Failover, run_failover
from smsq_worker.devstack.processes import Stack, stopping
from smsq_worker.devstack.up import Plan, start
from smsq_worker.domain.printable import escaped
from smsq_worker.i18n import _
from smsq_worker.inspection.formatting import state_name
from smsq_worker.ledger import Ledger


def run_demo() -> bool:
    """Run everything, send, follow, and return whether every message ended as expected."""
    console = Console(markup=False, highlight=False)
    home = Settings.load(os.environ).home / "demo"
    plan = demo_plan(os.environ, home)
    with stopping(Stack(home / "logs")) as stack:
        logs = home / "logs"
        console.print(
            _("Starting Redis, sandbox gateway, API, worker, Flower; logs in {folder}", folder=logs)
        )
        start(plan, stack, home)
        console.print(_("Flower while it runs: {url}", url=plan.flower_url))
        began = time.monotonic()
        sent = enqueue(plan)
        took_s = time.monotonic() - began
        console.print(_("{n} messages enqueued in {s:.2f} s", n=len(sent), s=took_s))
        seen = _follow(console, sent, stack.check)
        took_s = time.monotonic() - began
        _summarise(console, plan, seen)
        wrong = _judge(console, sent, seen, took_s)
        console.print(_("Account main goes down, and {n} messages are sent", n=MESSAGES))
        failover = run_failover(plan, stack.check)
    console.print(_failover(failover), soft_wrap=True)
    console.print(_("Flower was at {url}", url=plan.flower_url))
    return failover.is_right and not wrong


def _judge(console: Console, sent: list[Sent], seen: Seen, took_s: float) -> list[Sent]:
    """Print which messages did not end as they must, and return them."""
    wrong = [one for one in sent if not seen.ends(one)]
    for one in wrong:
        status = seen.statuses[one.message_id]
        reason = escaped(status.reason or "")
        is_, ought = _end(status.state, reason), _end(*one.end)
        console.print(
            _("WRONG: ...{digits} is {end}, not {ought}", digits=one.digits, end=is_, ought=ought)
        )
    words = _(
        "{n} of {all} messages ended as they must, {s:.0f} s",
        n=len(sent) - len(wrong),
        all=len(sent),
        s=took_s,
    )
    console.print(words)
    return wrong


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
    table = make_table(_("state"), _("messages"), "")
    for state in State:
        table.add_row(state_name(state), str(counts[state]), "█" * counts[state])
    return table


def _lines(console: Console) -> Callable[[Seen], None]:
    last = ""

    def show(seen: Seen) -> None:
        nonlocal last
        counts = seen.by_state()
        line = "  ".join(f"{state_name(one)} {counts[one]}" for one in State if counts[one])
        if line != last:
            console.print(line, soft_wrap=True)
        last = line

    return show


def _summarise(console: Console, plan: Plan, seen: Seen) -> None:
    table = make_table(_("state"), _("reason"), _("last report"), _("messages"))
    ends = Counter(
        (status.state, escaped(_reason(status.reason)), escaped(status.stat or ""))
        for status in seen.statuses.values()
    )
    for row, count in sorted(ends.items()):
        state, *others = row
        table.add_row(state_name(state), *map(Text, others), str(count))
    console.print(table)
    settings = plan.settings
    ledger = Ledger(connect(settings.redis_url), settings.rules)
    counted = ledger.counters().get("possible_duplicates", 0)
    console.print(_("Resends after doubt, each counted as a possible duplicate: {n}", n=counted))


def _failover(failover: Failover) -> str:
    if not failover.is_right:
        states = Counter(status.state for status in failover.statuses)
        return _(
            "WRONG: with account main down, {n} of {all} messages were delivered over account "
            "backup; states: {states}; taken by {by_account}",
            n=failover.delivered,
            all=MESSAGES,
            states=dict(states),
            by_account=dict(failover.accepted),
        )
    return _(
        "all {n} were delivered over account backup, none twice; the slowest was accepted after "
        "{s:.2f} s",
        n=failover.delivered,
        s=failover.slowest_s,
    )


def _end(state: str, reason: str | None) -> str:
    return f"{state_name(state)} {escaped(reason or '')}".rstrip()


def _reason(reason: str | None) -> str:
    return "duplicate:<id>" if key_holder(reason) else reason or ""
