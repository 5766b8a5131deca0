"""The catalogue of stat codes, or one code, as `smsq codes` prints them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from smsq.contract import Lane
from smsq.errors import SettingsError
from smsq.settings import misspelt
from smsq_worker.cli.helpers.output import echo_json, fail
from smsq_worker.config.settings import Settings
from smsq_worker.domain.codes import Catalogue, Code, CodeClass, normalise
from smsq_worker.inspection.code_text import Lang, action, class_name, class_words

# Wider than the widest row: what is piped into grep is one line for each code.
_PIPE_COLUMNS = 400


def show_one(stat: str, lang: Lang, *, as_json: bool) -> None:
    """Print one code; exits with 1 where it is not in the catalogue."""
    override, catalogue = load_catalogue()
    code = catalogue.get(stat)
    if code is None:
        fail(_unknown(catalogue, stat))
    if as_json:
        echo_json(_as_dict(code))
    else:
        click.echo("\n".join(_explain(code, catalogue, override, lang)))


def show_all(lang: Lang, *, as_json: bool) -> None:
    """Print the catalogue."""
    _, catalogue = load_catalogue()
    if as_json:
        echo_json([_as_dict(code) for code in catalogue])
        return
    console = Console()
    if not console.file.isatty():
        console.width = _PIPE_COLUMNS
    console.print(_table(catalogue, lang))


def load_catalogue() -> tuple[Path | None, Catalogue]:
    """Return the override file's path and the catalogue; exits with 2 where the file is wrong."""
    if problems := list(misspelt(Settings, os.environ)):
        raise SettingsError(problems)
    name = os.environ.get("SMSQ_CODES_FILE")
    override = Path(name) if name else None
    try:
        return override, Catalogue.load(override)
    except SettingsError as error:
        fail("\n".join(error.problems), 2)


def _explain(code: Code, catalogue: Catalogue, override: Path | None, lang: Lang) -> list[str]:
    """Return the lines that describe one code."""
    in_english = [f"  meaning   {code.en or 'none is given'}"] * (lang is Lang.EN)
    return [
        f"{code.stat}  {code.zh}",
        *in_english,
        f"  class     {class_name(code.code_class, lang)}: {class_words(code.code_class, lang)}",
        f"  scope     {code.scope or 'none'}",
        f"  action    {action(code)}{_limits(code)}",
        f"  was sent  {_was_sent(code)}",
        *_found_where(code, catalogue),
        f"  override  {_override_words(code, override)}",
    ]


def _as_dict(code: Code) -> dict[str, str | int | bool | list[Lane]]:
    """Return a code as JSON shows it, with the field names of the override file."""
    return {
        "stat": code.stat,
        "zh": code.zh,
        "en": code.en,
        "class": code.code_class,
        "scope": code.scope or "",
        "retry_after_s": code.retry_after_s,
        "suppress_s": code.suppress_s,
        "pause": code.pause,
        "slow_down": code.slow_down,
        "may_have_been_sent": code.may_have_been_sent,
        "suppress_lanes": list(code.suppress_lanes),
        "source": code.source,
        "action": action(code),
    }


def _found_where(code: Code, catalogue: Catalogue) -> Iterator[str]:
    """Yield by which entry it is known, if that is not its own, and where its meaning is from."""
    entry = catalogue.entry(code.stat)
    if entry and entry != code.stat:
        yield f"  entry     {entry}: {code.stat} has none of its own"
    if code.source:
        yield f"  source    {code.source}"


def _limits(code: Code) -> str:
    """Return which settings bound the action."""
    if _costs_nothing(code):
        return " (as often as it takes within the message's ttl: the account is at fault)"
    if code.code_class is CodeClass.TRANSIENT:
        return " (at most SMSQ_MAX_RESENDS times, and within the message's ttl)"
    if code.code_class in {CodeClass.PENDING, CodeClass.UNKNOWN}:
        return " (unreported after SMSQ_REPORT_WAIT_S)"
    return ""


def _costs_nothing(code: Code) -> bool:
    """Return whether resends are not counted: nothing was sent, and the account is at fault."""
    transient = code.code_class is CodeClass.TRANSIENT
    return transient and code.pause == "account" and not code.may_have_been_sent


def _was_sent(code: Code) -> str:
    if code.may_have_been_sent:
        return "perhaps: a resend may reach the phone a second time"
    return {
        CodeClass.DELIVERED: "yes",
        CodeClass.PENDING: "yes, but it has not arrived yet",
        CodeClass.UNKNOWN: "not known",
    }.get(code.code_class, "no")


def _override_words(code: Code, override: Path | None) -> str:
    table = f'[codes."{code.stat}"]'
    if override is None:
        return (
            f"none: SMSQ_CODES_FILE is not set; {table} in a TOML file it names would change this"
        )
    if Catalogue.load().get(code.stat) == code:
        return f"{override} (SMSQ_CODES_FILE) leaves this as shipped; {table} there would change it"
    return f"changed by {override} (SMSQ_CODES_FILE)"


def _unknown(catalogue: Catalogue, stat: str) -> str:
    close = catalogue.nearest(stat)
    hint = f"did you mean {' or '.join(close)}?" if close else "see them all: smsq codes"
    key = normalise(stat)
    if "?" in key:  # it cannot be given a class
        return f"{key} is not in the catalogue; {hint}"
    prefix = f' or, for all codes like it, [codes."{key.partition(":")[0]}:*"]' * (":" in key)
    return (
        f"{key} is not in the catalogue; {hint}\n"
        "A message that it is reported of waits for a better report, and ends as unreported after "
        "SMSQ_REPORT_WAIT_S.\n"
        f'To give it a class: [codes."{key}"]{prefix} in a TOML file that SMSQ_CODES_FILE names. '
        "What came so far: smsq codes --seen"
    )


def _table(catalogue: Catalogue, lang: Lang) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False)
    for heading in ("code", "class", "scope"):
        table.add_column(heading, no_wrap=True)
    for heading in ("action", "中文", *["English"] * (lang is Lang.EN)):
        table.add_column(heading, overflow="fold")  # Chinese has no blanks to wrap at
    for code in catalogue:
        texts = (code.zh, code.en) if lang is Lang.EN else (code.zh or code.en,)
        name = class_name(code.code_class, lang)
        row = (code.stat, name, code.scope or "", action(code), *texts)
        # Text: an override file's [words] are no markup.
        table.add_row(*(Text(cell) for cell in row))
    return table
