"""The reports of a described vendor, and what it is answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, unquote_plus

from smsq_worker.vendors.http.answer import loads
from smsq_worker.vendors.http.pointer import Pointer, as_text, first_text, pointer
from smsq_worker.vendors.http.signature import MAX_FIELDS, Signature
from smsq_worker.vendors.mids import clean_mid
from smsq_worker.vendors.text import clean_stat, decode, trimmed
from smsq_worker.vendors.vendor import ReportAnswer, ReportRequest, Reports, Taken, WrongSignature

PLACES: Final = ("json", "form", "query")
_FAILURES: Final[Mapping[Taken, tuple[int, str]]] = {
    "malformed": (400, "not a report"),
    "refused": (403, "wrong signature"),
    "no_room": (503, "try again"),
}


@dataclass(frozen=True, slots=True)
class Incoming:
    """Reads requests with reports."""

    answer: ReportAnswer
    stats: Mapping[str, str]
    """The vendor's stats -> those of the catalogue, where they differ."""
    place: str = "json"
    """One of `PLACES`."""
    field: str = ""
    """The form's field that holds JSON; "" where the form is the report itself."""
    items: Pointer = pointer("")
    mid: Pointer = pointer("")
    stat: Sequence[Pointer] = ()
    """Of these the first that is not empty."""
    signature: Signature | None = None

    def read(self, request: ReportRequest) -> Reports:
        """Return the reports in a request. Raises WrongSignature."""
        fields = self._fields(request)
        if self.signature and not self.signature.is_right(request, fields):
            raise WrongSignature
        value = self._json_in(fields) if self.field else fields
        found = self.items(value)
        items = found if isinstance(found, list) else [found]
        good = [report for item in items if (report := self._report(item))]
        return Reports(tuple(good), len(items) - len(good))

    def answer_to(self, taken: Taken) -> ReportAnswer:
        """Return what the vendor is answered."""
        if taken == "taken":
            return self.answer
        status, words = _FAILURES[taken]
        return ReportAnswer(status, "text/plain; charset=utf-8", words.encode())

    def _fields(self, request: ReportRequest) -> Any:
        if self.place == "json":
            return loads(request.body)
        text = decode(request.query if self.place == "query" else request.body)[0]
        try:
            return dict(parse_qsl(trimmed(text), max_num_fields=MAX_FIELDS))
        except ValueError:
            return {}

    def _json_in(self, fields: Any) -> Any:
        text = as_text(fields.get(self.field))
        # Some encode it twice.
        return loads(unquote_plus(text) if text.startswith("%") else text)

    def _report(self, item: object) -> tuple[str, str] | None:
        if not isinstance(item, dict):
            return None
        mid = clean_mid(self.mid(item))
        written = first_text(self.stat, item)
        stat = clean_stat(self.stats.get(written, written))
        return (mid, stat) if mid and stat else None
