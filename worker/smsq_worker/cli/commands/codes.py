"""`smsq codes`: what each stat code means, and what smsq does about it."""

from __future__ import annotations

import click

from smsq_worker.cli.helpers.options import examples, json_option, lang_option


@click.command(
    epilog=examples(
        "smsq codes                  every code, its class and what smsq does",
        "smsq codes MA:0001          one code in plain words",
        "smsq codes mo254            the same as MO:0254",
        "smsq codes MO:1234          an answer of the upstream gateway",
        "smsq codes --json MA:0001   for a script",
        "smsq codes --lang zh        in Chinese",
        "SMSQ_CODES_FILE=codes.toml smsq codes MO:1234",
    )
)
@click.argument("stat", required=False)
@json_option
@lang_option
def codes(stat: str | None, *, as_json: bool) -> None:
    """Show the catalogue of stat codes, or explain one of them.

    STAT is a code as a delivery report carries it; leading zeros, case and a missing colon do
    not matter. Set SMSQ_CODES_FILE to a TOML file to override what the catalogue says.

    Exits with 1 where STAT is not in the catalogue, with 2 where the override file is wrong.
    """
    from smsq_worker.cli.views import codes as view

    if stat is None:
        view.show_all(as_json=as_json)
    else:
        view.show_one(stat, as_json=as_json)
