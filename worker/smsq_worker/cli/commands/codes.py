"""`smsq codes`: show what each stat code means and what smsq does about it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NoReturn

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from smsq.errors import SettingsError
from smsq.settings import misspelt
from smsq_worker.cli.helpers.lang import lang_option
from smsq_worker.config.settings import Settings
from smsq_worker.domain.codes import Catalogue, Code, CodeClass, normalise
from smsq_worker.inspection.code_text import Lang, action, class_name, class_words

# Wider than the widest row: what is piped into grep is one line for each code.
_PIPE_COLUMNS = 400


# What follows \b is printed as it stands.
_EXAMPLES = """\b
Examples:
  smsq codes                  every code, its class and what smsq does
  smsq codes MA:0001          one code in plain words
  smsq codes mo254            the same as MO:0254
  smsq codes MO:1234          an answer of the upstream gateway
  smsq codes --json MA:0001   for a script
  smsq codes --lang zh        in Chinese
  SMSQ_CODES_FILE=codes.toml smsq codes MO:1234
"""


@click.command(epilog=_EXAMPLES)
@click.argument("stat", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a list, or one object for STAT.")
@lang_option
def codes(stat: str | None, *, as_json: bool, lang: Lang) -> None:
    """Show the catalogue of stat codes, or explain one of them.

    STAT is a code as a delivery report carries it; leading zeros, case and a missing colon do
    not matter. Set SMSQ_CODES_FILE to a TOML file to override what the catalogue says.

    Exits with 1 where STAT is not in the catalogue, with 2 where the override file is wrong.
    """
    override = _override_path()
    catalogue = _load(override)
    if stat is None:
        _show_all(catalogue, lang, as_json=as_json)
        return
    code = catalogue.get(stat)
    if code is None:
        _refuse(_unknown(catalogue, stat), exit_code=1)
    if as_json:
        _echo_json(as_dict(code))
    else:
        click.echo("\n".join(explain(code, override, lang)))


def explain(code: Code, override: Path | None, lang: Lang) -> list[str]:
    """Return the lines that tell all about one code."""
    in_english = [f"  meaning   {code.en or 'none is given'}"] * (lang is Lang.EN)
    return [
        f"{code.stat}  {code.zh}",
        *in_english,
        f"  class     {class_name(code.code_class, lang)}: {class_words(code.code_class, lang)}",
        f"  scope     {code.scope or 'none'}",
        f"  action    {action(code)}{_limits(code)}",
        f"  was sent  {_was_sent(code)}",
        f"  override  {_override_words(code, override)}",
    ]


def as_dict(code: Code) -> dict[str, str | int | bool]:
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
        "action": action(code),
    }


def _limits(code: Code) -> str:
    """Name the settings that bound the action, for whoever wonders why it ended."""
    if _costs_nothing(code):
        return " (as often as it takes within the message's ttl: the account is at fault)"
    if code.code_class is CodeClass.TRANSIENT:
        return " (at most SMSQ_MAX_RESENDS times, and within the message's ttl)"
    if code.code_class in {CodeClass.PENDING, CodeClass.UNKNOWN}:
        return " (unreported after SMSQ_REPORT_WAIT_S)"
    return ""


def _costs_nothing(code: Code) -> bool:
    """Tell whether a resend is not counted, because it did not come and the account is at fault."""
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


def _override_path() -> Path | None:
    name = os.environ.get("SMSQ_CODES_FILE")
    return Path(name) if name else None


def _load(override: Path | None) -> Catalogue:
    if problems := list(misspelt(Settings, os.environ)):
        raise SettingsError(problems)
    try:
        return Catalogue.load(override)
    except SettingsError as error:
        _refuse("\n".join(error.problems), exit_code=2)


def _refuse(why: str, *, exit_code: int) -> NoReturn:
    click.echo(why, err=True)
    raise SystemExit(exit_code)


def _unknown(catalogue: Catalogue, stat: str) -> str:
    close = catalogue.nearest(stat)
    hint = f"did you mean {' or '.join(close)}?" if close else "see them all: smsq codes"
    return f"{normalise(stat)} is not in the catalogue; {hint}"


def _show_all(catalogue: Catalogue, lang: Lang, *, as_json: bool) -> None:
    if as_json:
        _echo_json([as_dict(code) for code in catalogue])
        return
    console = Console()
    if not console.file.isatty():
        console.width = _PIPE_COLUMNS
    console.print(_table(catalogue, lang))


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


def _echo_json(value: object) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))
