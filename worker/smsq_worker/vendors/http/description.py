"""Reading a description: strictly, and with a line for each mistake, all of them at once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from smsq.errors import SettingsError
from smsq_worker.config import parsers
from smsq_worker.domain.codes import SMPP, Catalogue
from smsq_worker.domain.printable import escaped
from smsq_worker.domain.toml_file import Field, read_document
from smsq_worker.vendors.http import pattern as patterns
from smsq_worker.vendors.http.answer import KINDS, Answers
from smsq_worker.vendors.http.fields import (
    CODES,
    NAME,
    NAMES,
    POINTER,
    POINTERS,
    choice,
    header_name,
    names,
    table_of,
    text_line,
)
from smsq_worker.vendors.http.outgoing import FORM, JSON, Outgoing, Variables
from smsq_worker.vendors.http.reader import Reader, Table
from smsq_worker.vendors.http.report_tables import read_incoming
from smsq_worker.vendors.http.reports import Incoming
from smsq_worker.vendors.http.template import OF_MESSAGE, Template, json_template
from smsq_worker.vendors.vendor import VendorOptions

MAX_FILE: Final = 65_536
TABLES: Final = ("request", "variables", "answer", "reports", "codes")
_OURS: Final = frozenset({"host", "content-length", "transfer-encoding", "connection"})
_URL: Final = re.compile(r"(https?://[^/?#{}]+)((?:/[^/?#]*)*)")
URL: Final = (
    "https://host/path with placeholders only in the path; http is for this machine, or for an "
    "account's own url"
)
_BY_STATUS: Final = re.compile(r"http-[1-5][0-9]{2}")


Description = tuple[Outgoing, Answers, Incoming | None, Sequence[Path]]
"""What a file says, for one account; last the files of its catalogue, beside SMPP's states."""


def load(options: VendorOptions) -> Description:
    """Read an account's description. Raises SettingsError with a line for each mistake."""
    path = options.description
    if path is None:
        raise SettingsError(['vendor "http" needs `description`, the TOML file that describes it'])
    document, problems = read_document(path, TABLES, "[request] and [answer]", most=MAX_FILE)
    if document is not None:
        reader = _Document(path, document, options)
        found = reader.read()
        problems += reader.problems
        if not problems:
            return found
    raise SettingsError([f"{path}: {escaped(problem)}" for problem in problems])


class _Document(Reader):
    def __init__(self, path: Path, document: Table, options: VendorOptions) -> None:
        super().__init__(options, str(document))
        self._path, self._document = path, document

    def read(self) -> Description:
        """Return what could be read; it is whole if there are no problems."""
        for name in ("request", "answer"):
            if name not in self._document:
                self.say(f"[{name}] is missing")
        codes, outgoing = self._codes(), self._outgoing()
        answers = self._answers(outgoing.variables.split)
        reports = self._document.get("reports")
        incoming = None if reports is None else read_incoming(self, reports, (SMPP, *codes))
        return outgoing, answers, incoming, codes

    def _outgoing(self) -> Outgoing:
        text = f"text; a placeholder is one of {OF_MESSAGE}, {self.of_account}; {{{{ is a brace"
        read_text = partial(Template, constants=self.constants)
        texts = Field(table_of(read_text), f"a table of texts, and each {text}")
        found = self.fields(
            "request",
            self._document.get("request", {}),
            {
                "method": choice("GET", "POST"),
                "url": Field(self._url, URL),
                "headers": Field(
                    self._headers,
                    "a table of headers, each of printable ASCII with the placeholders "
                    f"{self.of_account}, and none of {', '.join(sorted(_OURS))}",
                ),
                "query": texts,
                "form": texts,
                "json": Field(
                    self._json,
                    f"a table or a list; each text in it is {text}; "
                    '"{variables}" alone is an object, "{values}" an array',
                ),
            },
            *(("method", "url") if "request" in self._document else ()),
            secret=True,
        )
        form, as_json = found.get("form", {}), found.get("json")
        if found.get("method") == "GET" and (form or as_json):
            self.say("[request]: a GET has no body; use query instead of form and json")
        if form and as_json:
            self.say("[request]: form and json are both there; a request has one body")
        origin, path = found.get("url", ("", ()))
        typed = {"content-type": JSON if as_json else FORM} if form or as_json else {}
        defaults = {"accept": "application/json", "accept-encoding": "identity"}
        headers = defaults | {"user-agent": "smsq"} | typed | found.get("headers", {})
        return Outgoing(
            method=found.get("method", ""),
            origin=(self._options.url or origin).rstrip("/"),
            path=path,
            headers={name.title(): value for name, value in headers.items()},
            query=found.get("query", {}),
            form=form,
            json=as_json,
            variables=self._variables(),
        )

    def _url(self, value: Any) -> tuple[str, tuple[Template, ...]]:
        found = _URL.fullmatch(text_line(value))
        if not found:
            raise ValueError
        host = urlsplit(parsers.http_url(found[1])).hostname or ""
        if found[1].startswith("http:") and not parsers.is_loopback(host):
            raise ValueError
        return found[1], tuple(Template(one, self.constants) for one in found[2].split("/")[1:])

    def _headers(self, value: Any) -> dict[str, str]:
        given = table_of(lambda one: parsers.header_text(self.constant(one)))(value)
        headers = {header_name(name): one for name, one in given.items()}
        if not _OURS.isdisjoint(headers):
            raise ValueError
        return headers

    def _json(self, value: Any) -> Any:
        if not isinstance(value, dict | list):
            raise ValueError  # noqa: TRY004 - what readers of fields raise
        return json_template(value, self.constants)

    def _variables(self) -> Variables:
        found = self.fields(
            "variables",
            self._document.get("variables", {}),
            {
                "split": Field(NAME, 'what separates the variables in a code, like ","'),
                "names": Field(names, NAMES.allowed),
                "templates": Field(
                    table_of(names), f"a table of templates, and each {NAMES.allowed}"
                ),
            },
        )
        several = [found.get("names", ()), *found.get("templates", {}).values()]
        if "split" not in found and any(len(names) > 1 for names in several):
            self.say('[variables]: several names need split, like split = ","')
        return Variables(**found)

    def _answers(self, split: str) -> Answers:
        found = self.fields(
            "answer",
            self._document.get("answer", {}),
            {
                "code": POINTERS,
                "mid": POINTER,
                "words": POINTERS,
                "pattern": Field(patterns.pattern, patterns.ALLOWED),
                **dict.fromkeys(KINDS, CODES),
                "other": choice("refused", "maybe_sent"),
            },
            *(("accepted",) if "answer" in self._document else ()),
        )
        pattern = found.get("pattern")
        if pattern and found.keys() & {"code", "mid", "words"}:
            self.say("[answer]: pattern has code, mid and words as its groups; name none besides")
        meanings: dict[str, str] = {}
        for kind in KINDS:
            for code in found.get(kind, ()):
                if code in meanings:
                    self.say(f"[answer]: code {code} is both {meanings[code]} and {kind}")
                meanings[code] = kind
        has_code = "code" in found or (pattern and "code" in pattern.groupindex)
        lone = [code for code in meanings if not has_code and not _BY_STATUS.fullmatch(code)]
        if lone:
            self.say(
                f"[answer]: nothing says where code {lone[0]} is; set code or pattern, "
                "or list statuses like http-200"
            )
        return Answers(
            code=found.get("code", ()),
            mid=found.get("mid"),
            words=found.get("words", ()),
            pattern=pattern,
            meanings=meanings,
            # Where a page does not say that all other codes are refusals, they are none.
            other=found.get("other", "maybe_sent"),
            secrets=[self.constants[f"secret{part}"] for part in ("", ".password", ".base64")],
            split=split,
        )

    def _codes(self) -> tuple[Path, ...]:
        codes = self._document.get("codes")
        if codes is None:
            return ()
        path = self._path.parent / codes if isinstance(codes, str) else self._path
        try:
            Catalogue.load(None, (SMPP, path))
        except SettingsError as error:
            self.problems += [one.removeprefix(f"{self._path}: ") for one in error.problems]
        return (path,)
