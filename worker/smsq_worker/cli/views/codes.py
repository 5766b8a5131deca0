"""The catalogue of stat codes, one code, or those that it lacks, as `smsq codes` prints them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from smsq.errors import SettingsError
from smsq.settings import misspelt
from smsq_worker.cli.helpers.accounts import accounts_of, choose
from smsq_worker.cli.helpers.layout import padded, terminal_columns
from smsq_worker.cli.helpers.ledger_client import open_ledger
from smsq_worker.cli.helpers.output import echo, echo_json, echo_lines, fail
from smsq_worker.config.settings import Settings
from smsq_worker.domain.code_spelling import normalise
from smsq_worker.domain.codes import Catalogue, Catalogues, Code, CodeClass
from smsq_worker.domain.printable import escaped
from smsq_worker.i18n import Lang, _, language, ngettext, pgettext
from smsq_worker.inspection.code_text import action, class_name, class_words, meaning
from smsq_worker.inspection.formatting import local
from smsq_worker.ledger.codes_seen import codes_seen
from smsq_worker.vendors.of_accounts import catalogues_of, vendors_of
from smsq_worker.vendors.oneoc.relay_request import WRONG_SECRET

# How people write what the gateway answers to a wrong secret.
_WRONG_SECRET = frozenset({"400", "GATEWAY:400"})
# Wider than the widest row: what is piped into grep is one line for each code.
_PIPE_COLUMNS = 400
# In a narrower terminal the last columns would be a few characters wide.
_LEAST_COLUMNS = 120


@dataclass(frozen=True, slots=True)
class _Codes:
    """The catalogue of an account."""

    catalogue: Catalogue
    shipped: Catalogue
    """The same without the override file."""
    override: Path | None
    named_by: str
    """What names the override file, or would."""


def show(stat: str | None, account: str | None, *, seen: bool, as_json: bool) -> None:
    """Print the catalogue, one code, or what it does not know; exits with 1 for an unknown code."""
    if seen and stat is not None:
        raise click.UsageError(_("either STAT or --seen, not both"))
    if seen:
        _show_seen(account, as_json=as_json)
        return
    codes = _load(account)
    if stat is None:
        _show_all(codes.catalogue, as_json=as_json)
        return
    code = codes.catalogue.get(stat)
    if code is None:
        fail(_unknown(codes, stat))
    if as_json:
        echo_json(_as_dict(code))
    else:
        echo_lines(_explain(code, codes))


def _show_all(catalogue: Catalogue, *, as_json: bool) -> None:
    if as_json:
        echo_json([_as_dict(code) for code in catalogue])
    elif 0 < terminal_columns() < _LEAST_COLUMNS:
        echo_lines(_narrow(catalogue))
    else:
        Console(width=terminal_columns() or _PIPE_COLUMNS).print(_table(catalogue))


def _show_seen(account: str | None, *, as_json: bool) -> None:
    """Print the codes that came and are not known, account by account, the most frequent first."""
    settings, client = open_ledger()
    catalogues = Catalogues(catalogues_of(settings))
    accounts = accounts_of(settings)
    several = bool(settings.rules.accounts)
    seen = [
        (one.name if several else "", code)
        for one in ((choose(account, accounts),) if account else accounts)
        for code in codes_seen(client, settings.redis_url, one.key)
        # The workers may have had another override file when the code came.
        if catalogues.of(one.key).classify(code.stat).code_class is CodeClass.UNKNOWN
    ]
    if as_json:
        echo_json([({"account": name} if name else {}) | asdict(one) for name, one in seen])
        return
    for name, one in seen:
        line = ngettext(
            "{stat}  {n} time  since {first}  last {last}  mid {mid}",
            "{stat}  {n} times  since {first}  last {last}  mid {mid}",
            one.count,
            stat=one.stat,
            first=local(one.first_at),
            last=local(one.last_at),
            mid=one.mid,
        )
        echo(line + (_("  account {name}", name=name) if name else ""))
    words = ngettext(
        "{n} code that the catalogue does not know",
        "{n} codes that the catalogue does not know",
        len(seen),
    )
    echo(words)


def _load(account: str | None) -> _Codes:
    """Return the catalogue of an account; without several accounts no other setting is looked at.

    Raises SettingsError, UsageError.
    """
    if account is not None or os.environ.get("SMSQ_ACCOUNTS_FILE"):
        return _load_of(account)
    if problems := list(misspelt(Settings, os.environ)):
        raise SettingsError(problems)
    name = os.environ.get("SMSQ_CODES_FILE")
    override = Path(name) if name else None
    return _Codes(Catalogue.load(override), Catalogue.load(), override, "SMSQ_CODES_FILE")


def _load_of(account: str | None) -> _Codes:
    settings = Settings.load(os.environ)
    accounts, vendors = settings.accounts, vendors_of(settings)
    key = choose(account, accounts_of(settings)).key if account is not None else ""
    one = next((one for one in accounts if one.account.key == key), accounts[0])
    named_by = f"accounts.{one.account.name}.codes_file"
    return _Codes(
        catalogues_of(settings, vendors)[one.account.key],
        Catalogue.load(None, vendors[one.account.key].codes),
        one.codes_file,
        named_by if settings.accounts_file else "SMSQ_CODES_FILE",
    )


def _explain(code: Code, codes: _Codes) -> list[str]:
    labelled = [
        (
            _("class"),
            _("{name}: {meaning}", name=_class(code), meaning=class_words(code.code_class)),
        ),
        (_("scope"), _scope(code) or _("none")),
        (_("action"), f"{action(code)}{_limits(code)}"),
        (_("was sent"), _was_sent(code)),
        *_found_where(code, codes.catalogue),
        (_("override"), _override_words(code, codes)),
    ]
    head = f"{code.stat}  {meaning(code)}"
    if language() is Lang.EN:
        head = f"{code.stat}  {code.zh}"
        labelled.insert(0, ("meaning", code.en or "none is given"))
    return [head, *(f"  {padded(name, 10)}{text}" for name, text in labelled)]


def _scope(code: Code) -> str:
    return pgettext("scope", code.scope) if code.scope else ""


def _class(code: Code) -> str:
    """Return a class's name as the override file takes it, and its translation."""
    name = class_name(code.code_class)
    return name if name == code.code_class else f"{code.code_class} {name}"


def _as_dict(code: Code) -> dict[str, Any]:
    """Return a code as JSON shows it, with the field names of the override file."""
    shown = asdict(code) | {"scope": code.scope or "", "action": action(code)}
    return {"class" if name == "code_class" else name: value for name, value in shown.items()}


def _found_where(code: Code, catalogue: Catalogue) -> Iterator[tuple[str, str]]:
    """Yield by which entry it is known, if that is not its own, and where its meaning is from."""
    entry = catalogue.entry(code.stat)
    if entry and entry != code.stat:
        words = _("{entry}: {code} has none of its own", entry=entry, code=code.stat)
        yield _("entry"), words
    if code.source:
        yield _("source"), code.source


def _limits(code: Code) -> str:
    if _costs_nothing(code):
        return _(" (as often as it takes within the message's ttl: the account is at fault)")
    if code.code_class is CodeClass.TRANSIENT:
        return _(" (at most SMSQ_MAX_RESENDS times, and within the message's ttl)")
    if code.code_class in {CodeClass.PENDING, CodeClass.UNKNOWN}:
        return _(" (unreported after SMSQ_REPORT_WAIT_S)")
    return ""


def _costs_nothing(code: Code) -> bool:
    """Return whether resends are not counted: nothing was sent, and the account is at fault."""
    transient = code.code_class is CodeClass.TRANSIENT
    return transient and code.pause == "account" and not code.may_have_been_sent


def _was_sent(code: Code) -> str:
    if code.may_have_been_sent:
        return _("perhaps: a resend may reach the phone a second time")
    return {
        CodeClass.DELIVERED: _("yes"),
        CodeClass.PENDING: _("yes, but it has not arrived yet"),
        CodeClass.UNKNOWN: _("not known"),
    }.get(code.code_class, _("no"))


def _override_words(code: Code, codes: _Codes) -> str:
    table = f'[codes."{code.stat}"]'
    if codes.override is None:
        return _(
            "none: {setting} is not set; {table} in a TOML file it names would change this",
            setting=codes.named_by,
            table=table,
        )
    if codes.shipped.get(code.stat) == code:
        return _(
            "{file} ({setting}) leaves this as shipped; {table} there would change it",
            file=codes.override,
            setting=codes.named_by,
            table=table,
        )
    return _("changed by {file} ({setting})", file=codes.override, setting=codes.named_by)


def _unknown(codes: _Codes, stat: str) -> str:
    code = normalise(stat)
    if code in _WRONG_SECRET or WRONG_SECRET in stat:
        return _(
            "{answer} (400) is no report: the gateway answers a call so, most often because "
            "SMSQ_APP_SECRET is wrong",
            answer=WRONG_SECRET,
        )
    close = codes.catalogue.nearest(stat)
    hint = (
        _("did you mean {codes}?", codes=_(" or ").join(close))
        if close
        else _("see them all: smsq codes")
    )
    if "?" in code:  # it cannot be given a class
        return _("{code} is not in the catalogue; {hint}", code=code, hint=hint)
    table = f'[codes."{code}"]'
    if ":" in code:
        like_it = f'[codes."{code.partition(":")[0]}:*"]'
        table = _("{table} or, for all codes like it, {like_it}", table=table, like_it=like_it)
    return _(
        "{code} is not in the catalogue; {hint}\n"
        "A message that it is reported of waits for a better report, and ends as unreported after "
        "SMSQ_REPORT_WAIT_S.\n"
        "To give it a class: {table} in a TOML file that {setting} names. "
        "What came so far: smsq codes --seen",
        code=code,
        setting=codes.named_by,
        hint=hint,
        table=table,
    )


def _narrow(catalogue: Catalogue) -> Iterator[str]:
    for code in catalogue:
        yield "  ".join(filter(None, (code.stat, _class(code), _scope(code), action(code))))
        texts = (code.zh, code.en) if language() is Lang.EN else (code.zh or code.en,)
        yield from (f"    {text}" for text in texts if text)


def _table(catalogue: Catalogue) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False)
    for heading in (_("code"), _("class"), _("scope")):
        table.add_column(heading, no_wrap=True)
    for heading in (_("action"), "中文", *["English"] * (language() is Lang.EN)):
        table.add_column(heading, overflow="fold")  # Chinese has no blanks to wrap at
    for code in catalogue:
        texts = (code.zh, code.en) if language() is Lang.EN else (code.zh or code.en,)
        name = _class(code)
        row = (code.stat, name, _scope(code), action(code), *texts)
        # Text: an override file's [words] are no markup.
        table.add_row(*(Text(escaped(cell)) for cell in row))
    return table
