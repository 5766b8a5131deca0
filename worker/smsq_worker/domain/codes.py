"""The catalogue of stat codes: what a delivery report means and what follows from it.

The data is a vendor's; an operator's override file of the same form overrides it field by field.
Nothing is read before `Catalogue.load`.

An entry `MK:*` covers every code MK:0000, MK:12AB, ... without its own entry. The closer one
counts: an exact entry, whichever file it is in, before a wildcard, whichever file that is in.
So whoever overrides `MK:*` says what the others mean, and changes none that is known by its number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from smsq.contract import Lane
from smsq.errors import SettingsError
from smsq.suggestions import nearest
from smsq_worker.domain import testnumbers
from smsq_worker.domain.code_spelling import STAT_LIMIT, as_key, normalise, wildcard_of
from smsq_worker.domain.toml_file import FLAG, Field, listed, only, read_fields, read_tables

# By their paths: to import a vendor takes the extras.
_VENDORS = resources.files("smsq_worker") / "vendors"
SMPP = _VENDORS / "smpp.toml"
"""The states that all vendors know."""
ONEOC = _VENDORS / "oneoc" / "codes.toml"
"""The default vendor's codes."""
UNTIL_LIFTED_S = 315_360_000  # ten years, and the longest time a field takes


class CodeClass(StrEnum):
    """What a report says of its message."""

    DELIVERED = "delivered"
    PENDING = "pending"
    PERMANENT = "permanent"
    TRANSIENT = "transient"
    UNKNOWN = "unknown"


class Scope(StrEnum):
    """Where the cause lies, and so who is to be alerted and what else it affects."""

    RECIPIENT = "recipient"
    CONTENT = "content"
    TEMPLATE = "template"
    ACCOUNT = "account"
    ROUTE = "route"
    GATEWAY = "gateway"
    FREQUENCY = "frequency"


@dataclass(frozen=True, slots=True)
class Code:
    """One stat code and what smsq does about it.

    `retry_after_s` counts for class transient alone; in scope frequency nothing is sent to the
    number for that time. `suppress_s` > 0 suppresses the number for that time, in `suppress_lanes`
    alone where there are any. `pause` is "", "account" (at the first report) or "template" (on a
    pattern of reports). `slow_down` means that requests come too fast. `may_have_been_sent` means
    that the phone may have got the message in spite of the report, so a resend may be a duplicate.
    `source` says where the meaning was found; "" is the vendor's own page, or SMPP.
    """

    stat: str
    zh: str = ""
    en: str = ""
    code_class: CodeClass = CodeClass.UNKNOWN
    scope: Scope | None = None
    retry_after_s: int = 0
    suppress_s: int = 0
    pause: str = ""
    slow_down: bool = False
    may_have_been_sent: bool = False
    suppress_lanes: tuple[Lane, ...] = ()
    source: str = ""


_UNLISTED = Code("", zh="未收录的状态码", en="not in the catalogue")


class Catalogue:
    """Every known code; iterates over them in the order of the files."""

    def __init__(self, codes: Mapping[str, Code], test_codes: Mapping[str, str]) -> None:
        self._codes = dict(codes)
        self.test_codes = test_codes
        """How test numbers begin -> the stat that is reported of them, where it is not DELIVRD."""

    @classmethod
    def load(
        cls,
        override: Path | None = None,
        shipped: Sequence[Traversable] = (SMPP, ONEOC),
        *,
        named_by: str = "SMSQ_CODES_FILE",
    ) -> Catalogue:
        """Read a vendor's codes, each file over the one before, and apply the override file.

        A vendor's file may have other tables besides. Raises SettingsError with a line for each
        mistake; `named_by` is what names the override file.
        """
        codes: dict[str, Code] = {}
        problems = [
            f"{file}: {problem}" for file in shipped for problem in _lay_over(codes, file, None)
        ]
        test_codes: dict[str, str] = {}
        if override is not None:
            wrong = _lay_over(codes, override, ["test_numbers"])
            problems += [f"{named_by}: {override}: {problem}" for problem in wrong]
            if not problems:
                test_codes, problems = _read_test_codes(cls(codes, {}), override, named_by)
        if problems:
            raise SettingsError(problems)
        return cls(codes, test_codes)

    def __iter__(self) -> Iterator[Code]:
        return iter(self._codes.values())

    def classify(self, stat: str) -> Code:
        """Return what a report's stat means, class unknown if not listed; never raises."""
        key = normalise(stat)
        return self._find(key) or replace(_UNLISTED, stat=key)

    def get(self, stat: str) -> Code | None:
        """Return the entry that covers what a person wrote, perhaps a wildcard's, or None."""
        key = as_key(stat)
        return self._find(key) or self._codes.get(f"{key}:*")

    def entry(self, stat: str) -> str | None:
        """Return the name of the entry that covers a stat, perhaps a wildcard, or None."""
        key = normalise(stat)
        if key in self._codes:
            return key
        wildcard = wildcard_of(key)
        return wildcard if wildcard in self._codes else None

    def nearest(self, stat: str) -> list[str]:
        """Return at most three codes that are spelled like this one, the closest first."""
        return nearest(normalise(stat), self._codes, most=3)

    def _find(self, key: str) -> Code | None:
        if key in self._codes:
            return self._codes[key]
        name = self.entry(key)
        return replace(self._codes[name], stat=key) if name else None


NO_CODES: Final = Catalogue({}, {})
"""Of an account that nobody knows."""


class Catalogues:
    """The catalogues of accounts, for showing people what codes mean."""

    def __init__(self, of_accounts: Mapping[str, Catalogue]) -> None:
        """Take them by the keys of their accounts, which are in order."""
        self._of_accounts = of_accounts

    @property
    def first(self) -> Catalogue:
        """Return that of the account that was the only one, or of the first."""
        return self._of_accounts.get("") or next(iter(self._of_accounts.values()))

    def of(self, account: str | None) -> Catalogue:
        """Return that of an account, by its key; an empty one where nobody knows the account."""
        return self._of_accounts.get(account or "", NO_CODES)


_TEXT = Field(only(lambda v: isinstance(v, str) and v.isprintable()), "text on one line")
_SECONDS = Field(
    only(lambda v: type(v) is int and 0 <= v <= UNTIL_LIFTED_S),  # to isinstance, true is an int
    f"a whole number of seconds from 0 to {UNTIL_LIFTED_S}",
)
_PAUSES = ("", "account", "template")
_FIELDS: Final = {
    "zh": _TEXT,
    "en": _TEXT,
    "class": Field(CodeClass, f"one of {', '.join(CodeClass)}"),
    "scope": Field(
        lambda v: None if v == "" else Scope(v), f'one of {", ".join(Scope)}, or "" for none'
    ),
    "retry_after_s": _SECONDS,
    "suppress_s": _SECONDS,
    "pause": Field(only(lambda v: v in _PAUSES), 'one of account, template, or "" for none'),
    "slow_down": FLAG,
    "may_have_been_sent": FLAG,
    "suppress_lanes": Field(
        lambda v: tuple(sorted(set(listed(Lane)(v)), key=[*Lane].index)),
        f"a list of lanes out of {', '.join(Lane)}; [] for all",
    ),
    "source": _TEXT,
}


def _lay_over(
    codes: dict[str, Code], source: Traversable, others: Sequence[str] | None
) -> list[str]:
    """Merge a file into codes and return its mistakes; valid entries are merged all the same."""
    example = 'a code in quotes: [codes."MO:0254"]'
    tables, problems = read_tables(source, "codes", example, others=others)
    written_as: dict[str, str] = {}
    for written, table in (tables or {}).items():
        key = as_key(written)
        if "?" in key or not written.strip():
            found = [f": is not a code, which has 1 to {STAT_LIMIT} characters of A-Z 0-9 : _ . -"]
        elif key in written_as:
            found = [f': is the same code as "{written_as[key]}"; give it once']
        else:
            found = _merge_code(codes, key, table)
        problems += [f'code "{written}"{problem}' for problem in found]
        written_as.setdefault(key, written)
    return problems


def _read_test_codes(
    catalogue: Catalogue, source: Traversable, named_by: str
) -> tuple[dict[str, str], list[str]]:
    """Return what a file says is reported of test numbers, and its mistakes, without numbers."""
    example = 'a number in quotes: "13800000001" = "MK:0001" below [test_numbers]'
    tables, problems = read_tables(source, "test_numbers", example, others=["codes"])
    found: dict[str, str] = {}
    for n, (pattern, stat) in enumerate((tables or {}).items(), 1):
        try:
            first = testnumbers.prefix(pattern)
        except ValueError as error:
            problems.append(f"test_numbers: name {n} is not allowed; it takes {error}")
            continue
        code = catalogue.get(stat) if isinstance(stat, str) else None
        if code is None or code.stat.endswith("*"):
            problems.append(
                f"test_numbers: value {n} is not allowed; it takes a code of the catalogue, "
                'like "MK:0001"'
            )
        else:
            found[first] = code.stat
    return found, [f"{named_by}: {source}: {problem}" for problem in problems]


def _merge_code(codes: dict[str, Code], key: str, table: object) -> list[str]:
    values, problems = read_fields(table, _FIELDS)
    if "class" in values:
        values["code_class"] = values.pop("class")
    code = replace(codes.get(key, Code(key)), **values)
    # After a bad field this would only complain of the value that the field leaves behind.
    if not problems and code.code_class is CodeClass.TRANSIENT and code.retry_after_s == 0:
        problems.append(
            ", field retry_after_s: 0 is not allowed with class transient;"
            f" it must be a whole number from 1 to {UNTIL_LIFTED_S}"
        )
    if isinstance(table, dict):
        codes[key] = code
    return problems
