"""Texts with placeholders: "+86{phone}". A value is put in as it is, and never read as a template.

So a code that holds braces, quotes or percent signs is just a code; whoever uses the text encodes
all of it for where it goes: a form, a query, a path, JSON.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from smsq_worker.vendors.vendor import Unfit

MAX_VARIABLES: Final = 20
OBJECT, ARRAY = "{variables}", "{values}"
"""As all of a text within a JSON body: an object of the variables, an array of their values."""
_PART: Final = re.compile(r"\{\{|\}\}|\{([a-z][a-z0-9_.]*)\}|[^{}]+")
_CODE_PART: Final = re.compile(r"code\.([1-9])")


class Message:
    """What placeholders stand for."""

    def __init__(
        self, phone: str, template: str, code: str, split: str, names: Sequence[str]
    ) -> None:
        """Cut up a code, as `Variables` says. Raises Unfit."""
        self.phone, self.template, self.code = phone, template, code
        is_whole = not split or len(names) == 1
        self.values = [code] if is_whole else code.split(split, MAX_VARIABLES)
        if not code:
            self.values = []
        if names and len(self.values) != len(names):
            found, wanted = len(self.values), len(names)
            raise Unfit(f"its code has {found} of the {wanted} variables that the template has")
        if len(self.values) > MAX_VARIABLES:
            raise Unfit(f"its code has more than {MAX_VARIABLES} variables")
        self.names = names or [str(n) for n in range(1, len(self.values) + 1)]

    @property
    def variables(self) -> dict[str, str]:
        """Return the variables by name."""
        return dict(zip(self.names, self.values, strict=True))

    def part(self, n: int) -> str:
        """Return the code's part of this number, from 1. Raises Unfit."""
        if n > len(self.values):
            raise Unfit(f"its code has {len(self.values)} variables, and no number {n}")
        return self.values[n - 1]


_OF_MESSAGE: Final[Mapping[str, Callable[[Message], str]]] = {
    "phone": lambda m: m.phone,
    "template": lambda m: m.template,
    "code": lambda m: m.code,
    "variables.json": lambda m: _json(m.variables),
    "variables.form": lambda m: urlencode(m.variables),
    "values.json": lambda m: _json(m.values),
}
OF_MESSAGE: Final = ", ".join(f"{{{name}}}" for name in (*_OF_MESSAGE, "code.1"))

Part = str | Callable[[Message], str]


class Template:
    """A text with placeholders, those of the account filled in."""

    def __init__(
        self, text: object, constants: Mapping[str, str], *, of_message: bool = True
    ) -> None:
        """Read a text. Raises ValueError for a placeholder that is not there, or a lone brace."""
        if not isinstance(text, str):
            raise ValueError  # noqa: TRY004 - what readers of fields raise
        self._parts: list[Part] = []
        at = 0
        while at < len(text):
            found = _PART.match(text, at)
            if found is None:
                raise ValueError
            self._parts.append(_read_part(found, constants, of_message=of_message))
            at = found.end()

    def fill(self, message: Message | None = None) -> str:
        """Return the text of a message. Raises Unfit."""
        return "".join(
            one if isinstance(one, str) else one(message)  # type: ignore[arg-type]
            for one in self._parts
        )


def _read_part(found: re.Match[str], constants: Mapping[str, str], *, of_message: bool) -> Part:
    name = found[1]
    if name is None:
        return found[0].replace("{{", "{").replace("}}", "}")
    if name in constants:
        return constants[name]
    if of_message and name in _OF_MESSAGE:
        return _OF_MESSAGE[name]
    if of_message and (numbered := _CODE_PART.fullmatch(name)):
        n = int(numbered[1])
        return lambda message: message.part(n)
    raise ValueError


def json_template(value: Any, constants: Mapping[str, str]) -> Callable[[Message], Any]:
    """Return what fills the texts within a JSON value. Raises ValueError."""
    if isinstance(value, dict):
        fields = {name: json_template(one, constants) for name, one in value.items()}
        return lambda message: {name: one(message) for name, one in fields.items()}
    if isinstance(value, list):
        items = [json_template(one, constants) for one in value]
        return lambda message: [one(message) for one in items]
    if value == OBJECT:
        return lambda message: message.variables
    if value == ARRAY:
        return lambda message: message.values
    if isinstance(value, str):
        return Template(value, constants).fill
    if not _is_json(value):
        raise ValueError
    return lambda _: value


def _is_json(value: Any) -> bool:
    """Return whether JSON has it: TOML has dates, too, numbers that are none, and longer ones."""
    try:
        return isinstance(value, bool | int | float) and math.isfinite(value)
    except OverflowError:
        return False


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
