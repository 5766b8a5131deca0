"""How commands print and how they fail: the one place that writes on a terminal.

What comes from callers, the gateway or Redis may hold anything, so everything is escaped here.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import click

from smsq_worker.bulk_import import formulas
from smsq_worker.cli.helpers.layout import fitted, terminal_columns
from smsq_worker.domain.printable import escaped, json_text


def echo(line: str = "", *, err: bool = False, mark: str = "", **style: Any) -> None:
    """Print a line; on a terminal it is broken between words. `mark` is a part in a style."""
    parts = fitted_lines([line], err=err)
    if mark:
        parts[0] = parts[0].replace(mark, click.style(mark, **style), 1)
    click.echo("\n".join(parts), err=err)


def echo_lines(lines: Iterable[str], *, err: bool = False) -> None:
    """Print lines."""
    for line in lines:
        echo(line, err=err)


def echo_json(value: Any, *, default: Callable[[Any], Any] | None = None) -> None:
    """Print a value as JSON; `default` is as of json.dumps, where it is not for times alone."""
    if default is None:
        from smsq_worker.inspection.formatting import moment

        default = moment
    click.echo(json_text(value, indent=2, default=default))


def echo_json_part(value: Any) -> None:
    """Print a value as JSON, and let the line go on."""
    click.echo(json_text(value), nl=False)


def echo_csv(heads: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Print CSV in which no cell is a formula; None is an empty one."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(heads)
    for row in rows:
        cells = ("" if value is None else escaped(str(value)) for value in row)
        writer.writerow(formulas.written(cells))


def echo_own(text: str) -> None:
    """Print smsq's own text as it is, such as a script."""
    click.echo(text)


def fail(why: str, code: int = 1) -> NoReturn:
    """Print the reason to stderr, and exit."""
    echo_lines(why.split("\n"), err=True)
    raise SystemExit(code)


def fitted_lines(lines: Iterable[str], *, err: bool = False) -> list[str]:
    """Return lines as they are printed."""
    width = terminal_columns(err=err)
    return [part for line in lines for part in fitted(escaped(line), width)]
