"""What reading a description needs everywhere: the account's placeholders, and the mistakes."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from smsq.suggestions import hint
from smsq_worker.domain.toml_file import Field, read_fields
from smsq_worker.vendors.http.template import Template
from smsq_worker.vendors.vendor import VendorOptions

_SETTING: Final = re.compile(r"\{settings\.([a-z0-9_]+)\}")

Table = dict[str, Any]


class Reader:
    """Reads tables; `problems` grows by a line for each mistake."""

    def __init__(self, options: VendorOptions, text: str) -> None:
        """Take an account's options, and its description as a text."""
        self._options = options
        self.problems: list[str] = []
        self.constants = dict(self._read_constants(text))
        """What placeholders of the account stand for."""

    def _read_constants(self, text: str) -> Iterator[tuple[str, str]]:
        secret = self._options.secret
        user, colon, password = secret.partition(":")
        yield "secret", secret
        yield "secret.base64", base64.b64encode(secret.encode()).decode()
        yield "secret.user", user
        yield "secret.password", password
        if secret and not colon and ("{secret.user}" in text or "{secret.password}" in text):
            self.say("{secret.user} and {secret.password} need a secret like USER:PASSWORD")
        given, used = self._options.settings, set(_SETTING.findall(text))
        for name in sorted(used | given.keys()):
            if name not in given:
                self.say(f"{{settings.{name}}}: the account's settings have no {name}")
            elif name not in used:
                self.say(f"the account's setting {name} is used nowhere{hint(name, used)}")
            elif not (isinstance(given[name], str) and given[name].isprintable()):
                self.say(f"the account's setting {name} must be text on one line")
            yield f"settings.{name}", str(given.get(name, ""))

    @property
    def of_account(self) -> str:
        """Return the placeholders of the account, for people."""
        return ", ".join(f"{{{name}}}" for name in self.constants)

    def constant(self, value: Any) -> str:
        """Read a text with placeholders of the account alone. Raises ValueError."""
        return Template(value, self.constants, of_message=False).fill()

    def say(self, problem: str) -> None:
        """Note a mistake."""
        self.problems.append(problem)

    def fields(
        self,
        name: str,
        table: Any,
        fields: Mapping[str, Field],
        *required: str,
        secret: bool = False,
    ) -> Table:
        """Return a table's good values, and note its mistakes; `secret` as in `read_fields`."""
        values, problems = read_fields(table, fields, required=required, secret=secret)
        self.problems += [f"[{name}]{problem}" for problem in problems]
        return values
