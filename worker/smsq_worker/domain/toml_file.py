"""TOML files that operators write: read in one go, and every mistake reported with its place."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Final, NamedTuple

from smsq.suggestions import hint

MAX_BYTES: Final = 4 * 1024 * 1024
"""Of a file: longer ones are something else."""


class Field(NamedTuple):
    """How a field is read: `read` raises ValueError for any value but those `allowed` names."""

    read: Callable[[Any], Any]
    allowed: str


def only(accepts: Callable[[Any], bool]) -> Callable[[Any], Any]:
    """Return a reader that takes a value as it is, if `accepts` is true of it."""

    def read(value: Any) -> Any:
        if accepts(value):
            return value
        raise ValueError

    return read


def listed(read: Callable[[Any], Any], *, least: int = 0) -> Callable[[Any], tuple[Any, ...]]:
    """Return a reader of a list."""

    def read_all(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) < least:
            raise ValueError
        return tuple(read(one) for one in value)

    return read_all


FLAG: Final = Field(only(lambda value: isinstance(value, bool)), "true or false")


def read_tables(
    file: Traversable,
    name: str,
    example: str,
    *,
    secret: bool = False,
    others: Sequence[str] | None = (),
) -> tuple[dict[str, Any] | None, list[str]]:
    """Return the tables under `name`, and the mistakes.

    Beside it a file may have `others`; where that is None, whatever it likes. None instead of
    tables where the file cannot be read or has something else there. With `secret` no mistake's
    text repeats a value.
    """
    names = None if others is None else [name, *others]
    document, problems = read_document(file, names, example, secret=secret)
    if document is None:
        return None, problems
    tables = document.get(name, {})
    if not isinstance(tables, dict):
        problems.append(f"{name}:{_shown(tables, secret)} is not a table; write {example}")
        return None, problems
    return tables, problems


def read_document(
    file: Traversable,
    names: Sequence[str] | None,
    example: str,
    *,
    secret: bool = False,
    most: int = MAX_BYTES,
) -> tuple[dict[str, Any] | None, list[str]]:
    """Return a file that may have tables of these names alone, or any, as `read_tables` does."""
    try:
        if isinstance(file, Path) and file.exists() and not (file.is_file() or file.is_dir()):
            # Opening one may wait for ever.
            return None, [
                "cannot be read: it is a pipe or a device; it must be a readable TOML file"
            ]
        # Editors on Windows begin a file with a BOM, which TOML does not allow.
        with file.open("rb") as opened:
            data = opened.read(most + 1)
        if len(data) > most:
            return None, [f"has more than {most} bytes; write {example}"]
        document = tomllib.loads(data.decode("utf-8-sig"))
    except OSError as error:
        return None, [f"cannot be read: {error.strerror}; it must be a readable TOML file"]
    except (ValueError, RecursionError) as error:
        # Bad TOML, not UTF-8, a number of thousands of digits, or nested a thousand times.
        where = _place(error) if secret else f": {error}"
        return None, [f"is not TOML in UTF-8{where}; write {example}"]
    if names is None:
        return document, []
    known = sorted(names)
    listed = ", ".join(f"[{one}]" for one in known)
    allowed = f"known are {listed}" if known[1:] else f"the only one is [{known[0]}]"
    return document, [
        f'table "{other}" is unknown; {allowed}{hint(other, known)}'
        for other in document
        if other not in known
    ]


def read_fields(
    table: Any, fields: Mapping[str, Field], *, required: Sequence[str] = (), secret: bool = False
) -> tuple[dict[str, Any], list[str]]:
    """Return a table's good values and its mistakes, each to follow the table's name."""
    if not isinstance(table, dict):
        known = ", ".join(fields)
        return {}, [f":{_shown(table, secret)} is not a table; its fields are {known}"]
    values: dict[str, Any] = {}
    problems = []
    for name, value in (dict.fromkeys(required) | table).items():
        if name not in fields:
            known = f"known are {', '.join(fields)}{hint(name, fields)}"
            problems.append(f", field {name}: is unknown; {known}")
            continue
        try:
            values[name] = fields[name].read(value)
        except ValueError:
            shown = "" if secret else f"{_shown(value)} is not allowed; it"
            problems.append(f", field {name}:{shown} must be {fields[name].allowed}")
    return values, problems


def _place(error: Exception) -> str:
    """Return where TOML is wrong, and nothing of what is there."""
    found = re.search(r"at line \d+, column \d+|at end of document", str(error))
    return f": {found[0]}" if found else ""


def _shown(value: object, secret: bool = False) -> str:
    """Return a blank and a value nearly as TOML writes it, cut to what fits on a line."""
    if secret:
        return ""
    try:
        return " " + json.dumps(value, ensure_ascii=False, default=str)[:60]
    except ValueError:  # In hex a number may have thousands of digits.
        return " a number of thousands of digits"
