"""The accounts of SMSQ_ACCOUNTS_FILE: TOML with tables `accounts` and `routes`.

docs/reference/accounts.md has its form. Which secrets a process has is its own affair: one that
needs none of them does not have to be able to read their files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from smsq.parsers import number, whole
from smsq_worker.config import parsers
from smsq_worker.config.account_routes import read_routes
from smsq_worker.config.gateway_address import EXPOSED, Address
from smsq_worker.domain.accounts import DEFAULT, NAME, VENDOR, Account, Route
from smsq_worker.domain.printable import escaped
from smsq_worker.domain.toml_file import FLAG, Field, only, read_document, read_fields

MIN_RATE: Final = 0.001
MAX_RATE: Final = 10_000
MAX_BURST: Final = 10_000
RATE: Final = 10.0
MAX_ACCOUNTS: Final = 16
MAX_TEMPLATES: Final = 1000
MAX_TEXT: Final = 500
IDLE_IN_SUM: Final = 576
"""Connections of all accounts together that a process keeps while they are idle."""
EXAMPLE: Final = "a table like [accounts.main]"
SECRETS: Final = {"app_secret": "secret", "report_token": "report_token"}
"""What a role may need of the settings -> what that is called in the file."""


@dataclass(frozen=True, slots=True)
class GatewayAccount:
    """An account as a process has it: what the ledger knows of it, and how to reach its gateway."""

    account: Account
    address: Address
    vendor: str = VENDOR
    description: Path | None = None
    """Of vendor http: the file that says what its requests are like."""
    settings: tuple[tuple[str, str], ...] = ()
    """What else its vendor gets, and is no secret."""
    report_token: str = field(default="", repr=False)
    codes_file: Path | None = None


@dataclass(frozen=True, slots=True)
class AccountsFile:
    """What a file says."""

    accounts: tuple[GatewayAccount, ...] = ()
    routes: tuple[Route, ...] = ()
    problems: tuple[str, ...] = ()
    """A line for each mistake."""
    lacking: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Of SECRETS, a line for each account that does not have it here."""


def read(file: Path, alone: GatewayAccount, *, allow_plaintext: bool) -> AccountsFile:
    """Read a file, with all its mistakes.

    `alone` is the account that the settings describe without a file. The account that was it has
    from there what it does not say itself; the others have timeouts, CAs and the vendor's address.
    """
    document, problems = read_document(file, ["accounts", "routes"], EXAMPLE, secret=True)
    tables = (document or {}).get("accounts", {})
    found = _Accounts(file, alone, allow_plaintext=allow_plaintext)
    routes: tuple[Route, ...] = ()
    if isinstance(tables, dict) and tables:
        problems += found.read(tables)
        names = {name: one.account.key for name, one in found.read_so_far.items()}
        routes, more = read_routes((document or {}).get("routes", []), names)
        problems += more
    elif document is not None:
        problems.append(f"names no account; it must have {EXAMPLE}")
    at = f"SMSQ_ACCOUNTS_FILE: {file}: "
    return AccountsFile(
        tuple(found.read_so_far.values()),
        routes,
        tuple(at + escaped(line) for line in problems),
        {need: [at + escaped(line) for line in lines] for need, lines in found.lacking.items()},
    )


class _Table(NamedTuple):
    """An account's table, as far as it has been read."""

    name: str
    values: Mapping[str, Any]
    """Its good values."""
    given: AbstractSet[str]
    """The fields that it has, good or bad."""
    base: GatewayAccount
    """What it has where it says nothing itself."""
    problems: list[str]


class _Accounts:
    def __init__(self, file: Path, alone: GatewayAccount, *, allow_plaintext: bool) -> None:
        self._file = file
        self._alone = alone
        self._allow_plaintext = allow_plaintext
        self.read_so_far: dict[str, GatewayAccount] = {}
        self.lacking: dict[str, list[str]] = {need: [] for need in SECRETS}

    def read(self, tables: Mapping[str, Any]) -> list[str]:
        """Read all tables; return their mistakes."""
        problems = list(self._exposed(tables))
        if len(tables) > MAX_ACCOUNTS:
            problems.append(f"at most {MAX_ACCOUNTS} accounts; there are {len(tables)}")
        room = min(self._alone.address.connections, IDLE_IN_SUM // len(tables))
        address = replace(self._alone.address, connections=room)
        self._alone = replace(self._alone, address=address)
        for name, table in tables.items():
            one, found = self._account(name, table)
            self.read_so_far[name] = one
            problems += [f"accounts.{name}{problem}" for problem in found]
        return problems

    def _exposed(self, tables: Mapping[str, Any]) -> Sequence[str]:
        """Secrets may stand in the file itself only where nobody else can read it."""
        own = [table for table in tables.values() if isinstance(table, dict)]
        has_secret = any(not table.keys().isdisjoint(SECRETS.values()) for table in own)
        mode = self._file.stat().st_mode & 0o777
        if not (has_secret and mode & 0o077):
            return ()
        advice = "make it readable by its owner alone (chmod 600)"
        advice += ", or use secret_file and report_token_file"
        return [f"holds secrets and has mode {mode:04o}; {advice}"]

    def _account(self, name: str, table: Any) -> tuple[GatewayAccount, list[str]]:
        values, problems = read_fields(table, _FIELDS, secret=True)
        given = table.keys() if isinstance(table, dict) else set[str]()
        inherits = values.get("was_default", False)
        problems[:0] = self._name_problems(name, inherits=inherits)
        base = self._alone if inherits else self._blank()
        own = _Table(name, values, given, base, problems)
        paths = {one: self._path(one, values[one], problems) for one in _PATHS if one in values}
        account = Account(
            name,
            "" if inherits else name,
            values.get("rate_per_s", base.account.rate_per_s),
            values.get("burst", base.account.rate_burst),
            tuple(values.get("templates", {}).items()),
            only_these=values.get("only_these_templates", False),
        )
        if account.only_these and not account.templates:
            problems.append(", field only_these_templates: must be false without field templates")
        vendor = values.get("vendor", VENDOR)
        bundle, verify = paths.get("ca_bundle"), base.address.verify
        address = replace(
            base.address,
            url=values.get("url", base.address.url if vendor == VENDOR else ""),
            secret=self._secret("app_secret", own),
            verify=str(bundle) if bundle and verify else verify,
            connect_timeout_s=values.get("connect_timeout_s", base.address.connect_timeout_s),
            read_timeout_s=values.get("read_timeout_s", base.address.read_timeout_s),
        )
        found = GatewayAccount(
            account,
            address,
            vendor,
            paths.get("description"),
            tuple(values.get("settings", {}).items()),
            self._secret("report_token", own),
            paths.get("codes_file", base.codes_file),
        )
        problems += self._clashes(found)
        return found, problems

    def _blank(self) -> GatewayAccount:
        """Return what an account has that says nothing itself, and was not the only one."""
        account = replace(self._alone.account, rate_per_s=RATE, rate_burst=1)
        address = replace(self._alone.address, secret="")
        return replace(
            self._alone, account=account, address=address, report_token="", codes_file=None
        )

    def _name_problems(self, name: str, *, inherits: bool) -> Sequence[str]:
        if not NAME.fullmatch(name):
            return [": a name has 1 to 32 of a-z, 0-9 and -, and does not begin with -"]
        if name == DEFAULT and not inherits:
            line = ": is how the only account is called where there is no file"
            return [f"{line}; choose another name, or set was_default = true"]
        return ()

    def _path(self, field: str, text: str, problems: list[str]) -> Path | None:
        try:
            return _PATHS[field](str(self._file.parent / text))
        except ValueError as error:
            problems.append(f", field {field}: must be {error}")
            return None

    def _secret(self, need: str, table: _Table) -> str:
        """Return a secret, and "" where this process has none: then it is noted as lacking."""
        own, file = SECRETS[need], f"{SECRETS[need]}_file"
        values, base = table.values, table.base
        inherited = base.address.secret if need == "app_secret" else base.report_token
        secret = str(values.get(own, ""))
        if own in values and file in values:
            table.problems.append(f", field {file}: {own} is set too; set one of them")
        elif file in values:
            try:
                secret = parsers.secret_file(str(self._file.parent / values[file]))
                secret = parsers.path_token(secret) if need == "report_token" else secret
            except ValueError as error:
                self._lacks(need, table, f"{file}: must be {error}")
                return ""
        elif not (secret or inherited) and table.given.isdisjoint({own, file}):
            self._lacks(need, table, f"{own}: must be set, or {file}")
        if secret and inherited and secret != inherited:
            setting = "SMSQ_APP_SECRET" if need == "app_secret" else "SMSQ_REPORT_TOKEN"
            differs = f"{setting} is set too and differs; set one of them"
            table.problems.append(f", field {own}: {differs}")
        return secret or inherited

    def _lacks(self, need: str, table: _Table, what: str) -> None:
        self.lacking[need].append(f"accounts.{table.name}, field {what}")

    def _clashes(self, found: GatewayAccount) -> list[str]:
        """Return what cannot be beside the accounts before it, or at all."""
        problems = []
        for name, other in self.read_so_far.items():
            if not (found.account.key or other.account.key):
                problems.append(f", field was_default: is that of accounts.{name}; only one has it")
            elif found.report_token and found.report_token == other.report_token:
                problems.append(
                    f", field report_token: is that of accounts.{name}; each needs its own"
                )
        if found.address.is_exposed and not self._allow_plaintext:
            problems.append(f", field url: {EXPOSED}")
        return problems


def _like(parse: Callable[[str], Any], *types: type) -> Field:
    """Return a field that takes what a setting of these types takes, by default a text."""

    def read_value(value: Any) -> Any:
        if type(value) not in (types or (str,)):  # true is an int
            raise ValueError
        return parse(str(value))

    try:
        parse("\n")
    except ValueError as error:
        return Field(read_value, str(error))
    raise AssertionError


def _texts(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= MAX_TEMPLATES
        and all(map(_text, (*value.keys(), *value.values())))
    )


def _text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_TEXT and value.isprintable()


_PATHS: Final[Mapping[str, Callable[[str], Path]]] = {
    "description": parsers.existing_file,
    "codes_file": parsers.existing_file,
    "ca_bundle": parsers.ca_bundle,
}
_PATH: Final = Field(only(_text), "the path of a file, which may be relative to this one")
_TABLE: Final = Field(
    only(_texts), f"a table of at most {MAX_TEMPLATES} texts of 1 to {MAX_TEXT} characters"
)
RATE_PER_S: Final = _like(number(MIN_RATE, MAX_RATE), int, float)
_FIELDS: Final = {
    "vendor": Field(only(_text), "the name of a vendor, like 1oc"),
    "url": _like(parsers.http_url),
    "secret": _like(parsers.header_text),
    "secret_file": _PATH,
    "report_token": _like(parsers.path_token),
    "report_token_file": _PATH,
    "rate_per_s": RATE_PER_S,
    "burst": _like(whole(1, MAX_BURST), int),
    "templates": _TABLE,
    "only_these_templates": FLAG,
    "was_default": FLAG,
    "codes_file": _PATH,
    "description": _PATH,
    "settings": _TABLE,
    "ca_bundle": _PATH,
    "connect_timeout_s": _like(number(0, 60, above=True), int, float),
    "read_timeout_s": _like(number(0, 300, above=True), int, float),
}
