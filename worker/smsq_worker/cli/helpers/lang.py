"""`--lang`: in which language codes and their classes are told."""

from __future__ import annotations

import os

import click

from smsq_worker.inspection.code_text import Lang


def _lang(_: click.Context, __: click.Parameter, value: str | None) -> Lang:
    return Lang.of(os.environ) if value is None else Lang(value)


lang_option = click.option(
    "--lang",
    type=click.Choice([str(lang) for lang in Lang]),
    callback=_lang,
    help="Language of codes and classes; without it that of LC_ALL or LANG.",
)
