"""What the ledger's scripts need to know of the settings, and how they are put together."""

from __future__ import annotations

from importlib.resources import files
from typing import Any, Final

from smsq import keys
from smsq.connection import Client
from smsq_worker.config.rules import Rules
from smsq_worker.domain.states import NEXT
from smsq_worker.ledger.histograms import BOUNDS_MS

SHARED: Final = ("apart", "fold", "common", "pauses")
READERS: Final = frozenset({"rate", "find"})
"""Acts that write nothing: the door does them, which may not."""
ENTERS: Final = frozenset({"take_in", "relay_rate"})
"""Acts that let something new in, which Redis refuses at its memory limit, as it does the entry.

All others go through: they stop, end or free what is in, or tell of it, and what they add to it is
bounded. Refused, they would leave doubts, and an operator without a brake.
"""
AT_THE_LIMIT: Final = "#!lua flags=allow-oom\n"


class Scripts:
    """Registers scripts: the constants of the rules, what all share, and the act itself."""

    def __init__(self, client: Client, rules: Rules) -> None:
        self._client = client
        self._prelude = _constants(rules) + "".join(map(_lua, SHARED))

    def act(self, name: str, *, also: str = "") -> Any:
        """Return the script `lua/<name>.lua`; `also` names one that it shares with a few."""
        stepped = "" if name in READERS else _lua("stepped")
        shared = _lua(also) if also else ""
        return self._register(name, self._prelude + stepped + shared + _lua(name))

    def plain(self, name: str, *, also: str = "") -> Any:
        """Give a script that needs nothing of what the others share but `also`."""
        return self._register(name, (_lua(also) if also else "") + _lua(name))

    def _register(self, name: str, text: str) -> Any:
        is_refused = name in ENTERS or name in READERS
        return self._client.register_script(text if is_refused else AT_THE_LIMIT + text)


def _lua(name: str) -> str:
    return files(__package__).joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")


def _constants(rules: Rules) -> str:
    # One table: it is made anew in each act, as all of this is.
    ways = (
        f'["{before} {after}"]=true' for before, afters in NEXT.items() for after in sorted(afters)
    )
    limits = (_table((one.messages, one.seconds * 1000)) for one in rules.phone_limits)
    breaker = rules.breaker and _table((*rules.breaker[:2], rules.breaker.seconds * 1000))
    bounds = (f"{name}={_table(ms)}" for name, ms in BOUNDS_MS.items())
    values = {
        "SCHEMA": keys.VERSION,
        "NEXT": _table(ways),
        "KNOWN": _table(f"{state}=true" for state in NEXT),
        "BOUNDS": _table(bounds),
        "RETENTION": rules.retention_s * 1000,
        "LEASE": round(rules.lease_s * 1000),
        "REPORT_WAIT": rules.report_wait_s * 1000,
        "MAX_RESENDS": rules.max_resends,
        "RATE": rules.rate_per_s,
        "BURST": rules.rate_burst,
        "PHONE_LIMITS": _table(limits),
        "BULK_HOURS": _table(rules.bulk_hours) if rules.bulk_hours else "nil",
        "BREAKER": breaker or "nil",
        "PROBE": round(rules.probe_s * 1000),
        "WEBHOOK": "true" if rules.webhook else "false",
    }
    return "".join(f"local {name} = {value}\n" for name, value in values.items())


def _table(parts: Any) -> str:
    return f"{{{','.join(map(str, parts))}}}"
