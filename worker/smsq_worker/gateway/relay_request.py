"""The gateway's request and answers seen from its own side, for the relay that stands in for it.

Clients of the gateway write UTF-8 or GBK, in a query, a form or (PHP, given an array) a
multipart form.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from email.parser import BytesParser
from typing import Any, Final
from urllib.parse import parse_qsl

from smsq.errors import InvalidMessage

ROUTE: Final = {"module": "sms", "file": "send", "action": "send"}
ARGUMENTS: Final = ("mobphone", "code", "smstemplate")
OPTIONAL: Final = ("lane", "key", "ttl_s", "returnurl")
"""What the relay takes beyond the gateway's own."""

WRONG_SECRET: Final = "校验失败"  # noqa: S105 - the gateway's words
MAX_FIELDS: Final = 100
_CHARSETS: Final = ("utf-8", "gb18030")
_KNOWN: Final = frozenset({*ROUTE, *ARGUMENTS, *OPTIONAL})


def ok(mid: str) -> dict[str, Any]:
    """Give the answer to a message that was taken."""
    return {"code": 200, "msg": "ok", "mid": mid}


def refusal(msg: str) -> dict[str, Any]:
    """Give the answer to a message that was not."""
    return {"code": 400, "msg": msg, "mid": ""}


def read(query: bytes, content_type: str, body: bytes) -> dict[str, str]:
    """Read the arguments of a request to send; the last of repeated ones wins, as in PHP.

    Raises InvalidMessage where it is no such request.
    """
    try:
        given = dict([*_form(query), *_body(content_type, body)])
    except ValueError:
        raise InvalidMessage(f"the request must have at most {MAX_FIELDS} parameters") from None
    arguments = _decoded({name: value for name, value in given.items() if name in _KNOWN})
    if any(arguments.get(name) != value for name, value in ROUTE.items()):
        raise InvalidMessage("the request must have module=sms&file=send&action=send")
    return arguments


def _body(content_type: str, body: bytes) -> Iterator[tuple[str, bytes]]:
    if not content_type.lower().startswith("multipart/form-data"):
        return _form(body)
    try:
        return iter([*_multipart(content_type, body)])
    except Exception:  # noqa: BLE001 - the parser promises nothing about hostile bytes
        return iter(())


def _form(text: bytes) -> Iterator[tuple[str, bytes]]:
    """Split a form; its values stay bytes, of which Latin-1 has one character for each."""
    fields = parse_qsl(
        text.decode("latin-1"),
        keep_blank_values=True,
        encoding="latin-1",
        max_num_fields=MAX_FIELDS,
    )
    return ((name, value.encode("latin-1")) for name, value in fields)


def _multipart(content_type: str, body: bytes) -> Iterator[tuple[str, bytes]]:
    head = f"Content-Type: {content_type}\r\n\r\n".encode("latin-1", "replace")
    for part in BytesParser().parsebytes(head + body).walk():
        value = part.get_payload(decode=True)
        if isinstance(value, bytes):
            yield str(part.get_param("name", header="content-disposition")), value


def _decoded(values: Mapping[str, bytes]) -> dict[str, str]:
    """Decode all in the one charset that fits all: of short GBK texts some look like UTF-8."""
    for charset in _CHARSETS:
        try:
            return {name: value.decode(charset) for name, value in values.items()}
        except UnicodeDecodeError:
            continue
    raise InvalidMessage("the parameters must be text in UTF-8 or GB18030")
