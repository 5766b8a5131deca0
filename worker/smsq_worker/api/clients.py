"""The callers of the relay: the holder of SMSQ_RELAY_SECRET and those of SMSQ_RELAY_CALLERS_FILE.

```toml
[callers.shop]
secret = "at least 16 characters"
lanes = ["notice", "otp"]    # the first is the default; absent: all, default notice
rate_per_s = 5               # absent: none
```
"""

from __future__ import annotations

import difflib
import hashlib
import hmac
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from smsq.contract import Lane
from smsq.errors import SettingsError
from smsq_worker.config.settings import MAX_RATE, MIN_RATE

MIN_SECRET: Final = 16
ALL_LANES: Final = (Lane.NOTICE, Lane.OTP, Lane.BULK)
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
        """Read the callers. Raises SettingsError with a line for each mistake in the file."""
        callers = [Caller("", relay_secret)] if relay_secret else []
        problems = [] if file is None else list(_read(file, callers))
        if problems:
            raise SettingsError([f"SMSQ_RELAY_CALLERS_FILE: {file}: {line}" for line in problems])
        return cls(callers)

    def __bool__(self) -> bool:
        return bool(self._by_digest)

    def find(self, secret: str) -> Caller | None:
        """Return the caller whose secret this is, in a time that does not depend on any secret."""
        given = _digest(secret)
        matches = [hmac.compare_digest(given, digest) for digest, _ in self._by_digest]
        return self._by_digest[matches.index(True)][1] if any(matches) else None


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _read(file: Path, callers: list[Caller]) -> Iterator[str]:
    """Append the callers of a file; give its mistakes."""
    try:
        # Editors on Windows begin a file with a BOM, which TOML does not allow.
        document = tomllib.loads(file.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        yield f"cannot be read: {error.strerror}; it must be a readable TOML file"
        return
    except ValueError:  # whose text could hold what the file does
        yield "is not TOML in UTF-8; a caller begins with a line like [callers.shop]"
        return
    yield from (
        f"{name}: is unknown; the file has tables like [callers.shop]"
        for name in document
        if name != "callers"
    )
    tables = document.get("callers")
    if not isinstance(tables, dict) or not tables:
        yield "names no caller; it must have a table like [callers.shop]"
        return
    for name, table in tables.items():
        problems = list(_take(name, table, callers))
        yield from (f"callers.{name}{problem}" for problem in problems)


def _take(name: str, table: object, callers: list[Caller]) -> Iterator[str]:
    if not _NAME.fullmatch(name):
        yield ": a name has 1 to 64 letters, digits, - and _"
    if not isinstance(table, dict):
        yield f": is not a table; write [callers.{name}]"
        return
    values: dict[str, Any] = {}
    for key, value in {"secret": None, **table}.items():
        try:
            values[key] = _FIELDS[key].read(value)
        except KeyError:
            yield f", field {key}: is unknown; known are {', '.join(_FIELDS)}{_meant(key)}"
        except ValueError:
            yield f", field {key}: must be {_FIELDS[key].allowed}"
    secret = values.get("secret")
    if secret is None:
        return
    taken = next((other for other in callers if other.secret == secret), None)
    if taken:
        holder = f"callers.{taken.name}" if taken.name else "SMSQ_RELAY_SECRET"
        yield f", field secret: is that of {holder}; each needs its own"
    callers.append(Caller(name, **{key: values[key] for key in _FIELDS if key in values}))


def _secret(value: object) -> str:
    if not isinstance(value, str) or len(value) < MIN_SECRET:
        raise ValueError
    # HTTP takes blanks from both ends of a header.
    if not value.isascii() or not value.isprintable() or value != value.strip():
        raise ValueError
    return value


def _lanes(value: object) -> tuple[Lane, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError
    return tuple(Lane(lane) for lane in value)


def _rate(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError  # noqa: TRY004 - as for any other bad value
    if not MIN_RATE <= value <= MAX_RATE:
        raise ValueError
    return value


class _Field(NamedTuple):
    """Tell how one field is read; `read` raises ValueError for a bad value."""

    read: Callable[[object], Any]
    allowed: str


_FIELDS: Final[Mapping[str, _Field]] = {
    "secret": _Field(
        _secret, f"at least {MIN_SECRET} printable ASCII characters, without blanks at the ends"
    ),
    "lanes": _Field(
        _lanes, f"a list of one or more of {', '.join(Lane)}; the first is the default"
    ),
    "rate_per_s": _Field(_rate, f"a number from {MIN_RATE:g} to {MAX_RATE:g}"),
}


def _meant(key: str) -> str:
    close = difflib.get_close_matches(key, _FIELDS, n=1)
    return f"; did you mean {close[0]}?" if close else ""
