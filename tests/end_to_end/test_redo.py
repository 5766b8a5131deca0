"""The day of an outage: what did not arrive is found, and exactly that is sent again, once.

SMSQ_TEST_MESSAGES sets how many messages it has; the day of docs/guides/redo.md has 10,000.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
from collections import Counter
from collections.abc import Sequence

import pytest

from harness.cli import unmasked_run
from harness.machine import dies
from harness.outage import Outage
from harness.paths import ROOT
from harness.waiting import eventually
from smsq import keys, wakeup
from smsq.app import app
from smsq.connection import perform
from smsq.contract import Lane, parse
from smsq.entries import NO_ORIGIN, Entered
from smsq.failpoints import VARIABLE
from smsq.ledger_writer import LedgerWriter
from smsq.settings import ProducerSettings
from smsq_worker.delivery_reports.meaning import report_of
from smsq_worker.domain.codes import Catalogue
from smsq_worker.infra.ports import free_port
from smsq_worker.ledger.states import read_states

MESSAGES = int(os.environ.get("SMSQ_TEST_MESSAGES", "60"))
PATIENCE_S = 60 + MESSAGES / 20
OWN = {
    "SMSQ_REDO_S": "172800",
    "SMSQ_MAX_RESENDS": "0",
    "SMSQ_BREAKER": "",
    "SMSQ_RETRY_FIRST_S": "3600",
    "SMSQ_RETRY_MAX_S": "3600",
}


def phone(n: int) -> str:
    return f"139{n:08}"


def send(outage: Outage, ids: Sequence[str], *, prefix: str = "") -> Counter[str]:
    """Send messages with keys, in their lanes, as a backend does; give what became of them."""
    writer = LedgerWriter(outage.here.client, ProducerSettings.load(outage.here.environ))
    found: Counter[str] = Counter()
    for start in range(0, len(ids), 100):
        some = ids[start : start + 100]
        rows = [
            (prefix + one, parse((phone(int(one)), "SMS_1001", "482913"), {"key": one}))
            for one in some
        ]
        wakeups = wakeup.of_batches(app, [Lane.NOTICE])
        entries = perform(outage.here.client, writer.making_entries(rows, NO_ORIGIN))
        entering = writer.entering_entries(entries, wakeups=wakeups)
        for result in perform(outage.here.client, entering):
            assert isinstance(result, Entered)
            found[result.state] += 1
    return found


def states(outage: Outage, ids: Sequence[str]) -> Counter[str]:
    found: Counter[str] = Counter()
    for start in range(0, len(ids), 500):
        found.update(map(str, read_states(outage.here.client, "", ids[start : start + 500])))
    return found


def all_become(outage: Outage, ids: Sequence[str], state: str) -> None:
    eventually(lambda: states(outage, ids) == {state: len(ids)}, PATIENCE_S)


def stop(outage: Outage) -> None:
    worker = outage.here.workers[-1]
    worker.terminate()
    worker.wait(60)


def kill_redis(outage: Outage) -> None:
    outage.kill_redis()
    outage.restart_redis()


def redo(outage: Outage, *words: str, dies_at: str = "") -> str:
    environ = outage.here.environ | ({VARIABLE: dies_at} if dies_at else {})
    done = unmasked_run(environ, "redo", "--since", "1h ago", *words)
    assert done.returncode == (-signal.SIGKILL if dies_at else 0), done.stderr
    return done.stdout.decode()


def shape(shown: str) -> list[str]:
    """Give what is shown but its last line, the same for any counts and times."""
    return [re.sub(r"\d+( (s|min|h|秒|分|小时))*", "N", line) for line in shown.splitlines()[:-1]]


def shown_after_an_outage(page: str, day: Outage) -> list[str]:
    """Type what a page says first, of today; give what it shows at last."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.search(r"```sh\n(smsq count[^\n]*).*?```.*?```text\n(.*?)```", text, re.DOTALL)
    assert found is not None
    typed = found[1].replace("10:00 --until 12:00", "'1h ago'")
    counted = unmasked_run(day.here.environ, *shlex.split(typed, comments=True)[1:])
    assert counted.returncode == 0
    assert b" expired " in counted.stdout
    return shape(f"{found[2]}the last line\n")


def pages_show(seen: str, day: Outage) -> None:
    """Hold what is shown to what README and guide say."""
    for page in ("README.md", "docs/guides/redo.md"):
        assert shown_after_an_outage(page, day) == shape(seen)
    in_chinese = shape(redo(day, "--dry-run", "--lang", "zh"))
    assert shown_after_an_outage("README.zh-CN.md", day) == in_chinese


@pytest.fixture
def day(outage: Outage) -> Outage:
    outage.here.environ |= OWN
    return outage


def test_the_day_of_an_outage(day: Outage) -> None:
    third = MESSAGES // 3
    delivered, doubtful, unsent = (
        [str(n) for n in range(kind * third, (kind + 1) * third)] for kind in range(3)
    )
    here = day.here
    here.start_worker()
    send(day, delivered)
    all_become(day, delivered, "accepted")
    for one in delivered:
        mid = str(here.client.hget(keys.message(one), "1:mid"))
        here.ledger.report(mid, "DELIVRD", report_of(Catalogue.load(), "DELIVRD"))
    here.vendor.answer = lambda mid: (502, {})
    send(day, doubtful)
    all_become(day, doubtful, "failed")
    here.vendor.answer = lambda mid: (200, {"code": 200, "msg": "ok", "mid": mid})
    stop(day)

    # The gateway is down, for longer than their ttl.
    down = {"SMSQ_GATEWAY_URL": f"http://127.0.0.1:{free_port()}/"}
    here.start_worker(**down)
    send(day, unsent)
    all_become(day, unsent, "deferred")
    with here.client.pipeline(transaction=False) as pipe:
        for one in unsent:
            pipe.hset(keys.message(one), "expires", 1)
            pipe.zadd(keys.TIMERS, {one: 0}, xx=True)
        pipe.zrem(keys.NOTICE_TIMERS, *unsent)
        pipe.execute()
    all_become(day, unsent, "expired")
    stop(day)

    # A tenth is sent again by its backend, with the same keys.
    before = [*delivered[::10], *doubtful[::10], *unsent[::10]]
    n_theirs = len(unsent[::10])
    assert send(day, before, prefix="before") == {
        "queued": n_theirs,
        "duplicate": len(before) - n_theirs,
    }

    # What one types, and what one sees.
    n = third - n_theirs
    seen = redo(day, "--dry-run")
    pages_show(seen, day)
    assert re.sub(r"in .* at", "in T at", seen).splitlines() == [
        f"{n} messages to be sent again, in T at 10000/s",
        f"  {n} x expired",
        f"{third} may have arrived, and are sent again only with --also-doubtful",
        f"  {third} x local:resends",
        f"{n_theirs} are left out",
        f"  {n_theirs} x sent again by their backend, with the same key",
        "nothing was sent",
    ]
    redo(day, "--name", "after", "--yes", dies_at="after redo")
    kill_redis(day)
    dies_worker = here.start_worker(**{VARIABLE: "before admit"})
    redo(day, "--name", "after", "--yes", dies_at="after redo entry")
    dies(dies_worker)
    kill_redis(day)
    seen = redo(day, "--name", "after", "--yes")
    assert "sent again, as campaign after; smsq campaign show after" in seen or n <= 50
    for one in here.client.zrange(keys.TIMERS, 0, -1):  # What a dead worker had is missed at once.
        here.client.hset(keys.message(str(one)), "published", 0)
        here.client.zadd(keys.TIMERS, {one: 0}, xx=True)
    here.start_worker()
    eventually(
        lambda: (
            not set(states(day, _of("redo_of", day))) - {"accepted"}
            and states(day, [f"before{one}" for one in unsent[::10]]) == {"accepted": n_theirs}
        ),
        PATIENCE_S,
    )

    # Once more, and a tenth of another kind comes with its keys.
    assert "nothing was sent" in redo(day, "--name", "after", "--yes")
    late = [*delivered[1::10], *doubtful[1::10], *unsent[1::10]]
    assert send(day, late, prefix="late") == {"duplicate": len(late)}
    assert len(_of("redo_of", day)) == n
    assert Counter(here.vendor.phones()) == Counter(phone(k) for k in range(3 * third))
    assert here.possible_duplicates() == 0


def _of(field: str, day: Outage) -> list[str]:
    client = day.here.client
    names = list(client.scan_iter(f"{keys.MESSAGE}*", count=1000))
    with client.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.hexists(name, field)
        return [
            str(name).removeprefix(keys.MESSAGE)
            for name, is_one in zip(names, pipe.execute(), strict=True)
            if is_one
        ]
