"""How scripts are put together: names of keys, constants of the settings, shared files.

A file of `lua/` says in a line `-- needs: ...` which of `lua/shared/` come before it, or of the
producer's _OF_PRODUCERS; those may need others. KEY_<name> is a key of
`smsq.keys`; other names in capitals that no file defines are from `_constants`. A script contains
only those of their functions, tables and constants that it uses, as all of it runs in each act; of
those in AS_FUNCTIONS the server keeps them between calls, where it can (act_functions.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

from smsq import keys
from smsq.functions import Script, lua
from smsq.ledger_writer import FIRST_CHECK_S
from smsq_worker.config.rules import Rules
from smsq_worker.domain import shares
from smsq_worker.domain.accounts import Account, Route
from smsq_worker.domain.states import NEXT
from smsq_worker.domain.testnumbers import DELIVRD, MID_PREFIX
from smsq_worker.ledger.act_functions import Function
from smsq_worker.ledger.histograms import BOUNDS_MS
from smsq_worker.ledger.lua_parts import used
from smsq_worker.ledger.types import BATCH, FEW

REFUSED_WHEN_FULL: Final = frozenset({"take_in", "client_rate", "read_rate", "select", "redo"})
"""Acts that let something new in, which Redis refuses at its memory limit as it does the entry, and
those that write nothing.

All others go through: they stop, end or free what is in, or report it, and what they add is
bounded. Refused, they would leave doubts, and an operator without a brake.
"""
WITH_ACCOUNTS: Final = 3
"""The version whose workers know several accounts."""
AT_THE_LIMIT: Final = "#!lua flags=allow-oom\n"
AS_FUNCTIONS: Final = frozenset({"admit", "record", "report", "claim", "depart"})
"""What workers do for each message, and at each tick. The others would save 2 to 14 us, and run
seldom; none of these may be one of REFUSED_WHEN_FULL."""
_OF_PRODUCERS: Final = ("audit", "campaigns", "idempotency", "wakeup")
_NUMBER: Final = re.compile(r"^local ([A-Z_]+) = ([\d.]+)(?: *--.*)?\n", re.MULTILINE)
_NEEDS: Final = re.compile(r"^-- needs: (.+)$", re.MULTILINE)


class Scripts:
    """Puts scripts together, each once."""

    def __init__(self, rules: Rules) -> None:
        self._constants = _constants(rules)
        # All at once: after an upgrade the files are another release's.
        self._files = _files()
        self._made: dict[str, Script] = {}

    def act(self, name: str) -> Script:
        """Return the act `lua/<name>.lua`."""
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: str) -> Script:
        *shared, act = self._with_needs(name, set())
        body = "".join([*used(shared, act), act])
        named = set(re.findall(r"\b[A-Z_]+\b", body))
        constants = {name: value for name, value in self._constants.items() if name in named}
        # As Lua takes 200 locals, what can stand in their place does, and tables are in one.
        plain = {
            name: str(constants.pop(name)) for name in {*constants} if _is_plain(constants[name])
        }
        in_place = plain | dict(_NUMBER.findall(body)) | {one: f"RULES.{one}" for one in constants}
        body = _NUMBER.sub("", body)
        if in_place:
            body = re.sub(rf"\b({'|'.join(in_place)})\b", lambda found: in_place[found[1]], body)
        tables = _table(f"{name}={value}" for name, value in constants.items())
        text = keys.fill_in(f"local RULES = {tables}\n{body}")
        flags = "" if name in REFUSED_WHEN_FULL else AT_THE_LIMIT
        return Function(name, text, flags) if name in AS_FUNCTIONS else Script(flags + text)

    def _with_needs(self, file: str, seen: set[str]) -> Iterator[str]:
        """Yield a file's text after those that it needs, each once."""
        if file in seen:
            return
        seen.add(file)
        text = self._files[file]
        for names in _NEEDS.findall(text):
            for name in names.split():
                yield from self._with_needs(f"shared/{name}", seen)
        yield text


def _is_plain(value: object) -> bool:
    return isinstance(value, int | float) or str(value) in {"true", "false"} or str(value)[0] == "'"


@cache
def _files() -> dict[str, str]:
    root = Path(__file__).with_name("lua")
    own = {
        path.relative_to(root).with_suffix("").as_posix(): path.read_text(encoding="utf-8")
        for path in root.rglob("*.lua")
    }
    return own | {f"shared/{name}": lua(name) for name in _OF_PRODUCERS}


def _constants(rules: Rules) -> dict[str, Any]:
    """Return what scripts know of the schema, the states and the settings, as Lua."""
    ways = (f'{before}=" {" ".join(sorted(afters))} "' for before, afters in NEXT.items())
    breaker = rules.breaker and _table((*rules.breaker[:2], rules.breaker.seconds * 1000))
    return {
        "SCHEMA": keys.VERSION,
        "NEXT": _table(ways),  # NEXT['<from>'] is " <to> <to> "
        "BOUNDS": _table(f"{name}={_table(ms)}" for name, ms in BOUNDS_MS.items()),
        "RETENTION": rules.retention_s * 1000,
        # An old message that is forgotten must not leave its number behind.
        "REDO": min(rules.redo_s, rules.retention_s) * 1000,
        "LEASE": round(rules.lease_s * 1000),
        "REPORT_WAIT": rules.report_wait_s * 1000,
        "MAX_RESENDS": rules.max_resends,
        "RATE": rules.rate_per_s,
        "BURST": rules.rate_burst,
        "ACCOUNTS": _table(map(_account, rules.accounts)) if rules.accounts else "nil",
        "ROUTES": _table(map(_route, rules.routes)) if rules.routes else "nil",
        "SHARE_STEP": shares.STEP,
        "SHARE_STEPS": shares.STEPS,
        "PHONE_LIMITS": _table(
            _table((one.messages, one.seconds * 1000)) for one in rules.phone_limits
        ),
        "BULK_HOURS": _table(rules.bulk_hours) if rules.bulk_hours else "nil",
        "BREAKER": breaker or "nil",
        "TEMPLATE_PAUSE": _table(
            f"{lane}={_table((one.reports, one.percent, one.seconds * 1000))}"
            for lane, one in rules.template_pause
        ),
        "WITH_ACCOUNTS": WITH_ACCOUNTS,
        "FIRST_CHECK": FIRST_CHECK_S * 1000,
        "PROBE": round(rules.probe_s * 1000),
        "BATCH": BATCH,
        "FEW": FEW,
        "WEBHOOK": "true" if rules.webhook else "false",
        "TEST_NUMBERS": _table(_table((f"'{a}'", f"'{b}'")) for a, b in rules.test_numbers),
        "TEST_MID": f"'{MID_PREFIX}'",
        "DELIVRD": f"'{DELIVRD}'",
        "WEBHOOK_EACH": "true" if rules.campaign_webhook == "each" else "false",
    }


def _table(parts: Iterable[object]) -> str:
    return f"{{{','.join(map(str, parts))}}}"


def _account(one: Account) -> str:
    """Return `['@<key>']={...}` of an account, see shared/routes.lua."""
    fields = [f"rate={one.rate_per_s}", f"burst={one.rate_burst}"]
    if one.only_these:
        fields.append(f"only={_table(f'[{_text(name)}]=1' for name, _ in one.templates)}")
    return f"['{keys.at_account('', one.key)}']={_table(fields)}"


def _route(one: Route) -> str:
    fields = [f"'{keys.at_account('', key)}'" for key in one.accounts]
    if one.weights:
        fields.append(f"weights={_table(one.weights)}")
    if one.prefer:
        fields.append("prefer=1")
    if one.lane:
        fields.append(f"lane='{one.lane}'")
    if one.template:
        fields.append(f"template={_text(one.template)}")
    return _table(fields)


def _text(value: str) -> str:
    return "'" + "".join(f"\\{byte:03d}" for byte in value.encode()) + "'"
