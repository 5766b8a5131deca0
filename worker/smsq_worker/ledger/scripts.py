"""How scripts are put together: names of keys, constants of the settings, shared files.

A file of `lua/` says in a line `-- needs: ...` which of `lua/shared/` come before it, or the
producer's wakeup.lua; those may need others. KEY_<name> is a key of `smsq.keys`; other names in
capitals that no file defines are from `_constants`. A script contains only what it names, as all of
it runs anew in each act.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

from smsq import keys
from smsq.connection import Client
from smsq.ledger_writer import lua
from smsq_worker.config.rules import Rules
from smsq_worker.domain.states import NEXT
from smsq_worker.ledger.histograms import BOUNDS_MS
from smsq_worker.ledger.types import BATCH, FEW

REFUSED_WHEN_FULL: Final = frozenset({"take_in", "client_rate", "read_rate", "find"})
"""Acts that let something new in, which Redis refuses at its memory limit as it does the entry, and
those that write nothing.

All others go through: they stop, end or free what is in, or report it, and what they add is
bounded. Refused, they would leave doubts, and an operator without a brake.
"""
AT_THE_LIMIT: Final = "#!lua flags=allow-oom\n"
_NEEDS: Final = re.compile(r"^-- needs: (.+)$", re.MULTILINE)


class Scripts:
    """Registers scripts with a client."""

    def __init__(self, client: Client, rules: Rules) -> None:
        self._client = client
        self._constants = _constants(rules)
        # All at once: after an upgrade the files are another release's.
        self._files = _files()
        self._registered: dict[str, Any] = {}

    def act(self, name: str) -> Any:
        """Return the script `lua/<name>.lua`."""
        if name not in self._registered:
            self._registered[name] = self._register(name)
        return self._registered[name]

    def _register(self, name: str) -> Any:
        body = "".join(self._with_needs(name, set()))
        named = set(re.findall(r"\b[A-Z_]+\b", body))
        constants = (
            f"local {name} = {value}\n" for name, value in self._constants.items() if name in named
        )
        flags = "" if name in REFUSED_WHEN_FULL else AT_THE_LIMIT
        return self._client.register_script(flags + keys.fill_in("".join([*constants, body])))

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


@cache
def _files() -> dict[str, str]:
    root = Path(__file__).with_name("lua")
    own = {
        path.relative_to(root).with_suffix("").as_posix(): path.read_text(encoding="utf-8")
        for path in root.rglob("*.lua")
    }
    return own | {"shared/wakeup": lua("wakeup")}


def _constants(rules: Rules) -> dict[str, Any]:
    """Return what scripts know of the schema, the states and the settings, as Lua."""
    ways = (
        f'["{before} {after}"]=true' for before, afters in NEXT.items() for after in sorted(afters)
    )
    breaker = rules.breaker and _table((*rules.breaker[:2], rules.breaker.seconds * 1000))
    return {
        "SCHEMA": keys.VERSION,
        "NEXT": _table(ways),  # NEXT['<from> <to>'] is true where there is a way
        "KNOWN": _table(f"{state}=true" for state in NEXT),
        "BOUNDS": _table(f"{name}={_table(ms)}" for name, ms in BOUNDS_MS.items()),
        "RETENTION": rules.retention_s * 1000,
        "LEASE": round(rules.lease_s * 1000),
        "REPORT_WAIT": rules.report_wait_s * 1000,
        "MAX_RESENDS": rules.max_resends,
        "RATE": rules.rate_per_s,
        "BURST": rules.rate_burst,
        "PHONE_LIMITS": _table(
            _table((one.messages, one.seconds * 1000)) for one in rules.phone_limits
        ),
        "BULK_HOURS": _table(rules.bulk_hours) if rules.bulk_hours else "nil",
        "BREAKER": breaker or "nil",
        "PROBE": round(rules.probe_s * 1000),
        "BATCH": BATCH,
        "FEW": FEW,
        "WEBHOOK": "true" if rules.webhook else "false",
    }


def _table(parts: Iterable[object]) -> str:
    return f"{{{','.join(map(str, parts))}}}"
