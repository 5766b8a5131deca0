"""The callers of the relay: the holder of SMSQ_RELAY_SECRET and those of SMSQ_RELAY_CALLERS_FILE.

```toml
[callers.shop]
secret = "at least 16 characters"
lanes = ["notice", "otp"]    # the first is the default; absent: all, default notice
rate_per_s = 5               # absent: none
```
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from smsq.contract import Lane
from smsq.errors import SettingsError
from smsq_worker.config.accounts_file import RATE_PER_S
from smsq_worker.domain.toml_file import Field, listed, only, read_fields, read_tables

MIN_SECRET: Final = 16
ALL_LANES: Final = (Lane.NOTICE, Lane.OTP, Lane.BULK)
_SECRET_RULE: Final = (
    f"at least {MIN_SECRET} printable ASCII characters, without blanks at the ends"
)
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Caller:
    """A client that may send; `name` is "" for the holder of SMSQ_RELAY_SECRET, who sees all."""

    name: str
    secret: str = field(repr=False)
    lanes: tuple[Lane, ...] = ALL_LANES
    """The first is the default."""
    rate_per_s: float | None = None


class Callers:
    """All callers; false where there are none, and so no relay."""

    def __init__(self, callers: list[Caller]) -> None:
        # Comparing digests does not even reveal a secret's length.
        self._by_digest = [(_digest(caller.secret), caller) for caller in callers]

    @classmethod
    def load(cls, file: Path | None, relay_secret: str) -> Callers:
        """Read the callers. Raises SettingsError with a line for each mistake."""
        callers = [Caller("", relay_secret)] if relay_secret else []
        problems = [] if file is None else _read(file, callers)
        lines = [f"SMSQ_RELAY_CALLERS_FILE: {file}: {line}" for line in problems]
        if weakness := weak(relay_secret):
            lines.insert(0, f"SMSQ_RELAY_SECRET: {weakness}")
        if lines:
            raise SettingsError(lines)
        return cls(callers)

    def __bool__(self) -> bool:
        return bool(self._by_digest)

    def find(self, secret: str) -> Caller | None:
        """Return the caller whose secret this is, in a time that does not depend on any secret."""
        given = _digest(secret)
        found = [one for digest, one in self._by_digest if hmac.compare_digest(given, digest)]
        return found[0] if found else None


def weak(relay_secret: str) -> str:
    """Return what is wrong with SMSQ_RELAY_SECRET; empty where nothing is, or it is not set.

    Only the API asks: a worker that shares its environment goes on sending.
    """
    if not relay_secret or _is_secret(relay_secret):
        return ""
    return (
        f"must be {_SECRET_RULE}, like that of `openssl rand -hex 24`, or whoever guesses it sends "
        "SMS at your expense; give your backends the new one, too"
    )


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _read(file: Path, callers: list[Caller]) -> list[str]:
    """Append the callers of a file; return its mistakes."""
    tables, problems = read_tables(file, "callers", "a table like [callers.shop]", secret=True)
    if tables == {}:
        problems.append("names no caller; it must have a table like [callers.shop]")
    for name, table in (tables or {}).items():
        problems += [f"callers.{name}{problem}" for problem in _add(name, table, callers)]
    return problems


def _add(name: str, table: object, callers: list[Caller]) -> list[str]:
    values, problems = read_fields(table, _FIELDS, required=("secret",), secret=True)
    if not _NAME.fullmatch(name):
        problems.insert(0, ": a name has 1 to 64 letters, digits, - and _")
    if "secret" not in values:
        return problems
    taken = next((other for other in callers if other.secret == values["secret"]), None)
    if taken:
        holder = f"callers.{taken.name}" if taken.name else "SMSQ_RELAY_SECRET"
        problems.append(f", field secret: is that of {holder}; each needs its own")
    callers.append(Caller(name, **values))
    return problems


def _is_secret(value: Any) -> bool:
    if not isinstance(value, str) or len(value) < MIN_SECRET:
        return False
    # HTTP takes blanks from both ends of a header.
    return value.isascii() and value.isprintable() and value == value.strip()


_FIELDS: Final = {
    "secret": Field(only(_is_secret), _SECRET_RULE),
    "lanes": Field(
        listed(Lane, least=1),
        f"a list of one or more of {', '.join(Lane)}; the first is the default",
    ),
    "rate_per_s": RATE_PER_S,
}
