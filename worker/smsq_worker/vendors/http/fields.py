"""How the fields of a description are read."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from smsq_worker.domain.toml_file import Field, listed, only
from smsq_worker.vendors.http.pointer import as_text, pointer
from smsq_worker.vendors.http.template import MAX_VARIABLES

_CODE: Final = re.compile(r"\S{1,64}")
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def one_or_more(read: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    """Return a reader of a value, or of a list of them."""
    several = listed(read, least=1)
    return lambda value: several(value if isinstance(value, list) else [value])


def table_of(read: Callable[[Any], Any]) -> Callable[[Any], dict[str, Any]]:
    """Return a reader of a table with names of the writer's own."""

    def read_all(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValueError  # noqa: TRY004 - what readers of fields raise
        return {name: read(one) for name, one in value.items()}

    return read_all


def text_line(value: Any) -> str:
    """Read text on one line."""
    if not (isinstance(value, str) and value.isprintable()):
        raise ValueError
    return value


def code_text(value: Any) -> str:
    """Read a code, which may be a number, as text."""
    text = as_text(value)
    if not _CODE.fullmatch(text):
        raise ValueError
    return text


def header_name(value: Any) -> str:
    """Read the name of a header, in small letters."""
    if not (isinstance(value, str) and _HEADER.fullmatch(value)):
        raise ValueError
    return value.lower()


def choice(*allowed: str) -> Field:
    """Return a field that takes one of these."""
    return Field(only(lambda value: value in allowed), f"one of {', '.join(allowed)}")


POINTER: Final = Field(pointer, 'a JSON pointer, like "/code" or "/data/0/id"')
POINTERS: Final = Field(
    one_or_more(pointer),
    f"{POINTER.allowed}, or a list of them, of which the first counts that is not empty",
)
CODES: Final = Field(listed(code_text), 'a list of codes, like [0, "OK", "http-201"]')
NAME: Final = only(lambda value: isinstance(value, str) and 0 < len(value) <= 64)  # noqa: PLR2004


def names(value: Any) -> tuple[str, ...]:
    """Read the names of variables."""
    found = listed(NAME)(value)
    if len(set(found)) != len(found) or len(found) > MAX_VARIABLES:
        raise ValueError
    return found


NAMES: Final = Field(names, f"a list of at most {MAX_VARIABLES} different names")
