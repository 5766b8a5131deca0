"""The request of a described vendor."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from smsq_worker.infra.http import Request
from smsq_worker.vendors.http.template import Message, Template

FORM = "application/x-www-form-urlencoded;charset=utf-8"
JSON = "application/json;charset=utf-8"


@dataclass(frozen=True, slots=True)
class Variables:
    """How a message's one `code` becomes the variables of a template."""

    split: str = ""
    """What separates them; "" where there is only one, the code itself."""
    names: tuple[str, ...] = ()
    """Their names, in order; () numbers them from 1, however many there are."""
    templates: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The names of a template that has others."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Makes requests."""

    method: str
    origin: str
    """Without a slash at its end."""
    path: Sequence[Template]
    """The path's parts between slashes."""
    headers: Mapping[str, str] = field(repr=False)
    query: Mapping[str, Template]
    form: Mapping[str, Template]
    json: Callable[[Message], Any] | None
    variables: Variables

    def request(self, phone: str, template: str, code: str) -> Request:
        """Return the request of a message, each text encoded for its place. Raises Unfit."""
        rules = self.variables
        names = rules.templates.get(template, rules.names)
        message = Message(phone, template, code, rules.split, names)
        path = "/".join(_segment(one.fill(message)) for one in self.path)
        url = f"{self.origin}/{path}"
        if self.query:
            url = f"{url}?{_form(self.query, message)}"
        body = b""
        if self.json:
            body = json.dumps(self.json(message), separators=(",", ":")).encode()
        elif self.form:
            body = _form(self.form, message).encode()
        return Request(self.method, url, self.headers, body)


def _form(fields: Mapping[str, Template], message: Message) -> str:
    return urlencode({name: one.fill(message) for name, one in fields.items()})


def _segment(text: str) -> str:
    # Alone, dots would be a step in the path.
    return quote(text, safe="") if text.strip(".") else text.replace(".", "%2E")
