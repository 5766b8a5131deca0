"""What a described vendor's answer means. What it does not say for certain is doubt.

A code tells the result, wherever the description finds it. Codes that it does not list, and answers
without one, are read by their HTTP status, and as strictly as the default vendor's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from smsq_worker.domain.codes import Scope
from smsq_worker.domain.states import Outcome
from smsq_worker.infra.http import retry_after_s
from smsq_worker.vendors.http.pattern import MAX_READ
from smsq_worker.vendors.http.pointer import Pointer, as_text, first_text
from smsq_worker.vendors.mids import clean_mid
from smsq_worker.vendors.statuses import NOT_TAKEN, OF_THE_ACCOUNT, TOO_FAST
from smsq_worker.vendors.text import decode, fit_words, trimmed
from smsq_worker.vendors.vendor import GatewayResult

SCOPES: Final = (Scope.ACCOUNT, Scope.TEMPLATE, Scope.ROUTE, Scope.RECIPIENT, Scope.CONTENT)
KINDS: Final = ("accepted", *SCOPES, "refused", "not_sent", "too_fast", "maybe_sent")
"""What a code may mean. The scopes are refusals; `refused` is one whose scope is not clear."""
_BY_STATUS: Final = (
    dict.fromkeys(OF_THE_ACCOUNT, "account")
    | dict.fromkeys(NOT_TAKEN, "not_sent")
    | dict.fromkeys(TOO_FAST, "too_fast")
)
_FOREIGN: Final = re.compile(r"[^A-Za-z0-9_.:-]")
MAX_CODE: Final = 48
MIN_PRIVATE: Final = 3
"""A shorter text is within many a code by chance."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Understands answers."""

    code: Sequence[Pointer]
    """Of these the first that is not empty; so of `words`."""
    mid: Pointer | None
    words: Sequence[Pointer]
    pattern: re.Pattern[str] | None
    """Instead of the three: has groups of their names."""
    meanings: Mapping[str, str]
    """Codes -> one of `KINDS`; a code may be "http-429"."""
    other: str
    """What other codes mean."""
    secrets: Sequence[str] = field(repr=False)
    """The account's, in all forms; they are never shown."""
    split: str
    """What separates the variables in a code, each of which is private; or ""."""

    def understand(
        self,
        status: int,
        headers: Mapping[str, str],
        body: bytes,
        private: Sequence[str] = (),
        *,
        trouble: str = "",
    ) -> GatewayResult:
        """Return what an answer means. Never raises."""
        hidden = [*private, *self.secrets]
        if self.split:
            parts = [part for text in private for part in text.split(self.split)]
            hidden += [part for part in parts if len(part) >= MIN_PRIVATE]
        code, mid, words = self._read(body, is_whole=not trouble)
        kind = self._kind(code, mid, status)
        if kind == "accepted":
            return GatewayResult(Outcome.ACCEPTED, "" if mid else "no usable mid", mid, odd=trouble)
        shown = self._shown(code, hidden) if code else f"http-{status}"
        if kind in {"not_sent", "too_fast"}:
            return GatewayResult(
                Outcome.NOT_SENT,
                f"http {status}" if shown.startswith("http-") else f"gateway:{shown}",
                retry_after_s=retry_after_s(headers),
                too_fast=kind == "too_fast",
                # A server that counts our requests is up.
                trouble=status >= HTTPStatus.INTERNAL_SERVER_ERROR,
            )
        if kind == "maybe_sent":
            unread = f"http {status}" if status >= 500 else f"unreadable answer, http {status}"  # noqa: PLR2004
            detail = trouble or (f"gateway:{shown}" if code else unread)
            return GatewayResult(Outcome.MAYBE_SENT, detail, trouble=True)
        detail = f"gateway:{shown} {fit_words(words, hidden)}".strip()
        scope = kind if kind in SCOPES else ""
        return GatewayResult(Outcome.REFUSED, detail, odd=trouble, scope=scope)

    def _shown(self, code: str, private: Sequence[str]) -> str:
        """Return a code fit to be shown: one that is not listed may be any text."""
        if code not in self.meanings:
            for text in filter(lambda one: len(one) >= MIN_PRIVATE, private):
                code = code.replace(text, "****")
        return _FOREIGN.sub("?", code)[:MAX_CODE]

    def _kind(self, code: str, mid: str, status: int) -> str:
        kind = self.meanings.get(code, "") if code else ""
        is_said = bool(kind)
        kind = kind or self.meanings.get(f"http-{status}") or _BY_STATUS.get(status, "")
        if kind == "accepted":
            groups = self.pattern.groupindex if self.pattern else {}
            # A status alone is what any page in between has: then the mid must be there.
            has_none = self.mid is None and "mid" not in groups
            is_sure = status < HTTPStatus.BAD_REQUEST and (is_said or has_none)
            if code and not (is_said or mid) and self.other == "refused":
                # A refusal that the vendor answers with the status of an acceptance.
                return self.other
            return kind if mid or is_sure else "maybe_sent"
        if kind:
            return kind
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return "maybe_sent"
        if code:
            return self.other
        return "refused" if status >= HTTPStatus.BAD_REQUEST else "maybe_sent"

    def _read(self, body: bytes, *, is_whole: bool) -> tuple[str, str, str]:
        """Return an answer's code, mid and words, each "" where it has none."""
        if self.pattern:
            # Of half a text it might find half a mid.
            text = trimmed(decode(body)[0])[:MAX_READ] if is_whole else ""
            found = self.pattern.search(text)
            groups = found.groupdict("") if found else {}
            parts: list[Any] = [groups.get(name, "") for name in ("code", "mid", "words")]
        else:
            value = loads(body)
            if not (is_whole or isinstance(value, dict | list)):
                value = None  # It may be half a number.
            mid_there = self.mid(value) if self.mid else ""
            parts = [first_text(self.code, value), mid_there, first_text(self.words, value)]
        code, mid, words = parts
        return as_text(code), clean_mid(mid), as_text(words)


def loads(body: bytes | str) -> Any:
    """Return JSON in any of the usual charsets, perhaps with blanks around; None if it is none."""
    text = decode(body)[0] if isinstance(body, bytes) else body
    try:
        # Not strict: a text may hold a raw line break.
        return json.loads(trimmed(text), strict=False)
    except (ValueError, RecursionError):
        return None
