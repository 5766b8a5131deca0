"""Reading what a description says of reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources.abc import Traversable
from typing import Any

from smsq.errors import SettingsError
from smsq_worker.config import parsers
from smsq_worker.domain.codes import Catalogue
from smsq_worker.domain.toml_file import Field, only
from smsq_worker.vendors.http import signature
from smsq_worker.vendors.http.fields import (
    NAME,
    POINTER,
    POINTERS,
    choice,
    code_text,
    header_name,
    one_or_more,
    table_of,
    text_line,
)
from smsq_worker.vendors.http.pointer import pointer
from smsq_worker.vendors.http.reader import Reader, Table
from smsq_worker.vendors.http.reports import PLACES, Incoming
from smsq_worker.vendors.http.signature import Signature
from smsq_worker.vendors.vendor import ReportAnswer


def read_incoming(reader: Reader, table: Any, codes: Sequence[Traversable]) -> Incoming:
    """Return what [reports] says; `codes` are the files of the catalogue."""
    found = reader.fields(
        "reports",
        table,
        {
            "in": choice(*PLACES),
            "field": Field(NAME, "the name of the form's field that holds JSON"),
            "items": POINTER,
            "mid": POINTER,
            "stat": POINTERS,
            "stats": Field(table_of(code_text), 'a table of stats, like delivered = "DELIVRD"'),
            "signature": Field(only(lambda one: isinstance(one, dict)), "a table"),
            "answer": Field(only(lambda one: isinstance(one, dict)), "a table"),
        },
        "mid",
        "stat",
    )
    place, stats = found.pop("in", "json"), found.pop("stats", {})
    if "field" in found and place == "json":
        reader.say('[reports], field field: is for in = "form" or "query"')
    _check_stats(reader, stats, codes)
    if "signature" in found:
        found["signature"] = _signature(reader, found["signature"])
    answer = _report_answer(reader, found.pop("answer", {}))
    return Incoming(answer, stats, place, **found)


def _check_stats(reader: Reader, stats: Mapping[str, str], codes: Sequence[Traversable]) -> None:
    try:
        catalogue = Catalogue.load(None, codes)
    except SettingsError:
        return  # It has been said.
    for written, stat in stats.items():
        if catalogue.get(stat) is None:
            near = " or ".join(catalogue.nearest(stat))
            reader.say(
                f"[reports.stats]: {written} is to be {stat}, which the catalogue does not "
                f"have; add [codes.{stat}]{f', or did you mean {near}?' if near else ''}"
            )


def _signature(reader: Reader, table: Table) -> Signature:
    found = reader.fields(
        "reports.signature",
        table,
        {
            "kind": choice(*signature.KINDS),
            "key": Field(reader.constant, f"text with one of the placeholders {reader.of_account}"),
            "header": Field(header_name, "the name of a header"),
            "field": POINTER,
            "over": Field(
                one_or_more(_signed),
                f"a list of {', '.join(signature.OVER)} and pointers, like "
                '["url", "form"] or ["/token", "key"]',
            ),
            "encoding": choice(*signature.ENCODINGS),
            "origin": Field(
                lambda value: parsers.http_url(reader.constant(value)).rstrip("/"),
                f"https://host, perhaps by one of the placeholders {reader.of_account}",
            ),
        },
        "kind",
        "key",
        secret=True,
    )
    if found.keys() >= {"header", "field"} or not found.keys() & {"header", "field"}:
        reader.say("[reports.signature]: it needs header or field, where the signature is")
    if ("over" in found) == (found.get("kind") == "token"):
        reader.say("[reports.signature]: over says what is signed; a token signs nothing")
    is_keyed = found.get("kind", "hmac").startswith(("hmac", "token"))
    if not is_keyed and "over" in found and "key" not in found["over"]:
        reader.say("[reports.signature]: over has no key, so anybody could sign")
    # Not every process has the secret, as not every one needs it.
    if reader.constants["secret"] and not found.get("key", "-"):
        reader.say("[reports.signature], field key: is empty, so anybody could sign")
    return Signature(field_=found.pop("field", None), **found)


def _report_answer(reader: Reader, table: Table) -> ReportAnswer:
    found = reader.fields(
        "reports.answer",
        table,
        {
            "status": Field(
                only(lambda value: type(value) is int and 200 <= value <= 299),  # noqa: PLR2004
                "a status from 200 to 299",
            ),
            "content_type": Field(
                lambda value: parsers.header_text(text_line(value)), "text, like text/plain"
            ),
            "body": Field(only(lambda value: isinstance(value, str)), "text"),
        },
    )
    return ReportAnswer(
        found.get("status", 200),
        found.get("content_type", "text/plain; charset=utf-8"),
        found.get("body", "ok").encode(),
    )


def _signed(value: Any) -> Any:
    return value if value in signature.OVER else pointer(only(bool)(value))
