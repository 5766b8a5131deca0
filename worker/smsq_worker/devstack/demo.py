"""The demo: about a hundred messages of all kinds, each followed to its end and checked."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import smsq
from smsq.contract import FINAL, State
from smsq.errors import SettingsError
from smsq_worker.config.settings import Settings
from smsq_worker.devstack.expected import ORDINARY, End, expected_ends
from smsq_worker.devstack.up import ACCOUNTS_OPTION, Plan, is_set, make_folders, make_plan
from smsq_worker.domain.codes import Catalogue, CodeClass
from smsq_worker.infra.ports import free_port, require_free, shown

ORDINARY_MESSAGES: Final = 20
POLL_S: Final = 0.25
DEADLINE_S: Final = 240.0
"""Only reached on a fault."""
STILL_S: Final = 15.0
"""Stop waiting when all messages have settled and nothing has changed for this time."""

# Short enough that every end is reached within a minute, and yet long enough on a busy machine: a
# response that is slow on purpose (2.5 s) is well within the timeout, one that dribbles (15 s) well
# beyond it.
SANDBOX: Final = ("--report-delay", "0.5", "--slow", "2.5")
QUICK: Final = {
    "SMSQ_READ_TIMEOUT_S": "8",
    "SMSQ_RETRY_FIRST_S": "0.5",
    "SMSQ_RETRY_MAX_S": "5",
    "SMSQ_REPORT_WAIT_S": "25",
    # The 429, 503 and MO:0008 of the sandbox slow this down to a sixteenth.
    "SMSQ_RATE_PER_S": "200",
    "SMSQ_PROBE_S": "1",
    # Half of the numbers fail by design: that is not an outage.
    "SMSQ_BREAKER": "500/100/60",
}
NO_BALANCE: Final = "1015"
"""Pauses the account until its ttl ends; then another message finds it recovered."""
NO_BALANCE_TTL_S: Final = 6.0
TEMPLATE: Final = "SMS_2001"
"""The only one that has two accounts: whatever else the demo sends, fails or not, is of one."""

_ACCOUNTS: Final = """\
[accounts.main]
was_default = true
url = "http://127.0.0.1:{main}/"

[accounts.backup]
url = "http://127.0.0.1:{backup}/"
secret = "{secret}"
report_token = "{token}"
rate_per_s = 200

[[routes]]
template = "{template}"
accounts = ["main", "backup"]

[[routes]]
accounts = ["main"]
"""


@dataclass(frozen=True, slots=True)
class Sent:
    """A message of the demo, and the end that its number must lead to."""

    message_id: str
    digits: str
    end: End


@dataclass(frozen=True, slots=True)
class Seen:
    """The statuses of all messages at one moment."""

    statuses: Mapping[str, smsq.Status]

    def by_state(self) -> Counter[str]:
        """Return how many messages are in each state."""
        return Counter(status.state for status in self.statuses.values())

    def ends(self, sent: Sent) -> bool:
        """Return whether a message has come to its expected end."""
        status = self.statuses[sent.message_id]
        return (State(status.state), status.reason) == sent.end

    def settled(self, sent: Sent) -> bool:
        """Return whether nothing more happens to a message without a report or an operator."""
        return State(self.statuses[sent.message_id].state) in FINAL | {State.HELD}


def demo_plan(environ: Mapping[str, str], home: Path) -> Plan:
    """Return a plan that never uses the Redis or the gateway of the settings.

    Raises SettingsError.
    """
    shutil.rmtree(home, ignore_errors=True)
    make_folders(home, "logs", "redis")
    kept = {name: text for name, text in environ.items() if not name.startswith("SMSQ_")}
    codes = home / "codes.toml"
    codes.write_text(_quick_codes(), encoding="utf-8")
    accounts = home / "accounts.toml"
    _write_accounts(accounts)
    own = {
        "SMSQ_HOME": str(home),
        "SMSQ_CODES_FILE": str(codes),
        "SMSQ_ACCOUNTS_FILE": str(accounts),
        "SMSQ_SANDBOX_BIND": "127.0.0.1:0",
        "SMSQ_API_BIND": "127.0.0.1:0",
        "SMSQ_FLOWER_BIND": _flower_bind(environ),
    }
    options = (*SANDBOX, ACCOUNTS_OPTION, str(accounts))
    return make_plan(kept | QUICK | own, redis_port=0, sandbox_options=options)


def _write_accounts(file: Path) -> None:
    """Write a file of two accounts with free ports of this machine."""
    file.touch(mode=0o600)
    file.write_text(
        _ACCOUNTS.format(
            main=free_port(),
            backup=free_port(),
            secret=secrets.token_urlsafe(24),
            token=secrets.token_urlsafe(24),
            template=TEMPLATE,
        ),
        encoding="utf-8",
    )


def enqueue(plan: Plan) -> list[Sent]:
    """Enqueue messages of all kinds, as a backend does."""
    # smsq reads the environment when it is first used.
    os.environ.update(plan.environ)
    ends = expected_ends(Catalogue.load(plan.settings.codes_file))
    rows = [*ends.items(), *[(ORDINARY, ends[ORDINARY])] * ORDINARY_MESSAGES]
    sent = [_send(n, digits, end) for n, (digits, end) in enumerate(rows)]
    soon = datetime.now(UTC) + timedelta(seconds=3)
    first = _send(900, ORDINARY, ends[ORDINARY], key="demo")
    return [
        *sent,
        first,
        _send(900, ORDINARY, (State.DUPLICATE, f"duplicate:{first.message_id}"), key="demo"),
        _send(902, ORDINARY, ends[ORDINARY], send_at=soon),
        _send(903, "6001", (State.HELD, None), on_ambiguous="hold"),
    ]


def watch(sent: list[Sent], show: Callable[[Seen], None], check: Callable[[], None]) -> Seen:
    """Follow the messages until each has its end, or no change is to be expected any more.

    A late report may still lead a settled message to its expected end.
    """
    began = changed = time.monotonic()
    before = None
    while True:
        check()
        seen = Seen({one.message_id: _status(one.message_id) for one in sent})
        show(seen)
        now = time.monotonic()
        if seen != before:
            before, changed = seen, now
        still = all(map(seen.settled, sent)) and now - changed > STILL_S
        if all(map(seen.ends, sent)) or still or now - began > DEADLINE_S:
            return seen
        time.sleep(POLL_S)


def _send(number: int, digits: str, end: End, **options: Any) -> Sent:
    lanes: tuple[smsq.LaneName, ...] = ("otp", "notice", "bulk")
    if digits == NO_BALANCE:
        options["ttl_s"] = NO_BALANCE_TTL_S
    result = smsq.send_sms.delay(
        f"138{number:04}{digits}", "SMS_1001", "482913", lane=lanes[number % 3], **options
    )
    return Sent(result.id, digits, end)


def _status(message_id: str) -> smsq.Status:
    status = smsq.status(message_id)
    if status is None:
        raise LookupError(f"the ledger lost {message_id}")
    return status


def _quick_codes() -> str:
    return "".join(
        f'[codes."{code.stat}"]\nretry_after_s = 1\n'
        for code in Catalogue.load()
        if code.code_class is CodeClass.TRANSIENT
    )


def _flower_bind(environ: Mapping[str, str]) -> str:
    """Return Flower's default address, or a free port if that is in use and nobody asked for it."""
    name = "SMSQ_FLOWER_BIND"
    if is_set(name, environ.get(name, "")):
        return environ[name]
    default = Settings().flower_bind
    try:
        require_free(default, name)
    except SettingsError:
        return "127.0.0.1:0"
    return shown(default)
