"""Whether a request with reports is the vendor's: it knows a secret, or signs with one."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl

from smsq_worker.vendors.http.pointer import Pointer, as_text
from smsq_worker.vendors.vendor import ReportRequest

MAX_FIELDS: Final = 200
KINDS: Final = ("token", "hmac-sha1", "hmac-sha256", "hmac-sha512", "md5", "sha1", "sha256")
OVER: Final = ("body", "url", "form", "key")
ENCODINGS: Final[Mapping[str, Callable[[bytes], str]]] = {
    "hex": bytes.hex,
    "base64": lambda digest: base64.b64encode(digest).decode(),
}


@dataclass(frozen=True, slots=True)
class Signature:
    """Checks requests."""

    kind: str = ""
    key: str = field(default="", repr=False)
    header: str = ""
    """In small letters; "" where a field has it."""
    field_: Pointer | None = None
    over: Sequence[str | Pointer] = ()
    """What is signed: parts of `OVER`, and fields, one after another."""
    encoding: str = "hex"
    origin: str = ""
    """Where the vendor sends reports, as https://host; "" where the request has that, too."""

    def is_right(self, request: ReportRequest, fields: Any) -> bool:
        """Return whether a request is signed right; `fields` are the body's."""
        if not self.key:
            return False  # This process has no secret, and anybody could sign.
        given = request.headers.get(self.header, "") if self.header else ""
        if self.field_:
            given = as_text(self.field_(fields))
        expected = self.key if self.kind == "token" else self._sign(request, fields)
        if self.encoding == "hex" and self.kind != "token":
            given = given.lower()
        return hmac.compare_digest(_bytes(given.strip()), expected.encode())

    def _sign(self, request: ReportRequest, fields: Any) -> str:
        signed = b"".join(self._part(one, request, fields) for one in self.over)
        prefix, _, name = self.kind.rpartition("-")
        made = hmac.new(self.key.encode(), signed, name) if prefix else hashlib.new(name, signed)
        return ENCODINGS[self.encoding](made.digest())

    def _part(self, one: str | Pointer, request: ReportRequest, fields: Any) -> bytes:
        if not isinstance(one, str):
            return _bytes(as_text(one(fields)))
        if one == "body":
            return request.body
        if one == "form":
            return _sorted_form(request.body)
        return (self.key if one == "key" else self._url(request)).encode()

    def _url(self, request: ReportRequest) -> str:
        if not self.origin:
            return request.url
        # What follows scheme and host.
        _, slash, rest = request.url.partition("://")[2].partition("/")
        return f"{self.origin}{slash}{rest}"


def _bytes(text: str) -> bytes:
    # JSON may have half of a surrogate pair, which is no text.
    return text.encode(errors="replace")


def _sorted_form(body: bytes) -> bytes:
    """Return names and values, one after another, by name: each pair once."""
    try:
        fields = parse_qsl(
            body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict"
        )
    except ValueError:
        return b""
    return "".join(name + value for name, value in sorted(set(fields))).encode()
