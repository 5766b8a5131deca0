"""The gateway's request and answers seen from its own side, for the relay that stands in for it.

Clients of the gateway write UTF-8 or GBK, in a query, a form or (PHP, given an array) a
multipart form.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from smsq.errors import InvalidMessage
from smsq_worker.vendors.text import is_multipart, multipart_fields

ROUTE: Final = {"module": "sms", "file": "send", "action": "send"}
ARGUMENTS: Final = ("mobphone", "code", "smstemplate")
OPTIONAL: Final = ("lane", "key", "ttl_s", "returnurl", "campaign")
"""What the relay takes in addition to the gateway's own arguments."""

WRONG_SECRET: Final = "校验失败"  # noqa: S105 - the gateway's words
MAX_FIELDS: Final = 100
_CHARSETS: Final = ("utf-8", "gb18030")
_KNOWN: Final = frozenset({*ROUTE, *ARGUMENTS, *OPTIONAL})
_SENT_AS: Final = {"phone": "mobphone", "template": "smstemplate"}
"""How the gateway calls what smsq calls otherwise."""

Pairs = list[tuple[str, bytes]]


def ok(mid: str) -> dict[str, Any]:
    """Return the answer to a message that was accepted."""
    return {"code": 200, "msg": "ok", "mid": mid}


def refusal(msg: str) -> dict[str, Any]:
    """Return the answer to a message that was refused."""
    return {"code": 400, "msg": msg, "mid": ""}


def as_sent(words: str) -> str:
    """Return the words of an InvalidMessage with the name that the client gave the parameter."""
    name, blank, rest = words.replace(" must be a str of ", " must be a text of ").partition(" ")
    return _SENT_AS.get(name, name) + blank + rest


def read(
    query: bytes,
    content_type: str,
    body: bytes,
    *,
    ignored: Callable[[Collection[str]], object] = lambda _: None,
) -> dict[str, str]:
    """Return the arguments of a request to send.

    What the gateway may know and the relay does not is left out, and `ignored` gets its names,
    as they came. Raises InvalidMessage for any other request, and for a parameter that is there
    twice with two values: one of them would get an SMS that was meant for the other.
    """
    try:
        given = [*_form(query), *_fields(content_type, body)]
    except ValueError:
        raise InvalidMessage(f"the request must have at most {MAX_FIELDS} parameters") from None
    ignored([name for name, value in given if value and name not in _KNOWN])
    arguments = _decoded(_once((name, value) for name, value in given if name in _KNOWN))
    if any(arguments.get(name) != value for name, value in ROUTE.items()):
        if _is_json(content_type, body):
            raise InvalidMessage(
                "the body is JSON: send a form (application/x-www-form-urlencoded), or the "
                "parameters in the query"
            )
        raise InvalidMessage("the request must have module=sms&file=send&action=send")
    return arguments


def _fields(content_type: str, body: bytes) -> Pairs:
    if not is_multipart(content_type):
        return [] if _is_json("", body) else _form(body)
    return multipart_fields(content_type, body)


def _once(given: Iterable[tuple[str, bytes]]) -> dict[str, bytes]:
    """Return parameters by name. The same value in query and form is one; an empty one is none."""
    found: dict[str, bytes] = {}
    for name, value in given:
        if not found.get(name):
            found[name] = value
        elif value not in {b"", found[name]}:
            raise InvalidMessage(f"{name} is there more than once: send it once")
    return found


def _is_json(content_type: str, body: bytes) -> bool:
    return "json" in content_type.lower() or body.lstrip()[:1] in {b"{", b"["}


def _form(text: bytes) -> Pairs:
    """Split a form; its values stay bytes, by way of Latin-1, which maps each byte to a character.

    Raises ValueError for too many fields.
    """
    fields = parse_qsl(
        text.decode("latin-1"),
        keep_blank_values=True,
        encoding="latin-1",
        max_num_fields=MAX_FIELDS,
    )
    return [(name, value.encode("latin-1")) for name, value in fields]


def _decoded(values: Mapping[str, bytes]) -> dict[str, str]:
    """Decode all in the one charset that fits all: some short GBK texts are valid UTF-8, too."""
    for charset in _CHARSETS:
        try:
            return {name: value.decode(charset) for name, value in values.items()}
        except UnicodeDecodeError:
            continue
    raise InvalidMessage("the parameters must be text in UTF-8 or GB18030")
