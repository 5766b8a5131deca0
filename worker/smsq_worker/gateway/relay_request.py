"""The gateway's request and answers seen from its own side, for the relay that stands in for it.

Clients of the gateway write UTF-8 or GBK, in a query, a form or (PHP, given an array) a
multipart form.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from smsq.errors import InvalidMessage
from smsq_worker.gateway.text import is_multipart, multipart_fields

ROUTE: Final = {"module": "sms", "file": "send", "action": "send"}
ARGUMENTS: Final = ("mobphone", "code", "smstemplate")
OPTIONAL: Final = ("lane", "key", "ttl_s", "returnurl")
"""What the relay takes in addition to the gateway's own arguments."""

WRONG_SECRET: Final = "校验失败"  # noqa: S105 - the gateway's words
MAX_FIELDS: Final = 100
_CHARSETS: Final = ("utf-8", "gb18030")
_KNOWN: Final = frozenset({*ROUTE, *ARGUMENTS, *OPTIONAL})


def ok(mid: str) -> dict[str, Any]:
    """Return the answer to a message that was accepted."""
    return {"code": 200, "msg": "ok", "mid": mid}


def refusal(msg: str) -> dict[str, Any]:
    """Return the answer to a message that was refused."""
    return {"code": 400, "msg": msg, "mid": ""}


def read(query: bytes, content_type: str, body: bytes) -> dict[str, str]:
    """Return the arguments of a request to send; the last of repeated ones wins, as in PHP.

    Raises InvalidMessage for any other request.
    """
    try:
        is_form = not is_multipart(content_type)
        fields = _form(body) if is_form else multipart_fields(content_type, body)
        given = _form(query) | fields
    except ValueError:
        raise InvalidMessage(f"the request must have at most {MAX_FIELDS} parameters") from None
    arguments = _decoded({name: value for name, value in given.items() if name in _KNOWN})
    if any(arguments.get(name) != value for name, value in ROUTE.items()):
        raise InvalidMessage("the request must have module=sms&file=send&action=send")
    return arguments


def _form(text: bytes) -> dict[str, bytes]:
    """Split a form; its values stay bytes, by way of Latin-1, which maps each byte to a character.

    Raises ValueError for too many fields.
    """
    fields = parse_qsl(
        text.decode("latin-1"),
        keep_blank_values=True,
        encoding="latin-1",
        max_num_fields=MAX_FIELDS,
    )
    return {name: value.encode("latin-1") for name, value in fields}


def _decoded(values: Mapping[str, bytes]) -> dict[str, str]:
    """Decode all in the one charset that fits all: some short GBK texts are valid UTF-8, too."""
    for charset in _CHARSETS:
        try:
            return {name: value.decode(charset) for name, value in values.items()}
        except UnicodeDecodeError:
            continue
    raise InvalidMessage("the parameters must be text in UTF-8 or GB18030")
