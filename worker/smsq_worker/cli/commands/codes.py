"""`smsq codes`: what each stat code means, and what smsq does about it."""

from __future__ import annotations

import click

from smsq_worker.cli.helpers.accounts import account_option
from smsq_worker.cli.helpers.options import command, json_option, lang_option


@command(
    "smsq codes                  every code, its class and what smsq does",
    "smsq codes MA:0001          one code in plain words",
    "smsq codes mo254            the same as MO:0254",
    "smsq codes MO:1234          an answer of the upstream gateway",
    "smsq codes mk99             a carrier's code, known by its prefix",
    "smsq codes --seen           what came that the catalogue does not know",
    "smsq codes --json MA:0001   for a script",
    "smsq codes --account NAME   those of an account's vendor, of several accounts",
    "smsq codes --lang zh        in Chinese",
    "SMSQ_CODES_FILE=codes.toml smsq codes MO:1234",
)
@click.argument("stat", required=False)
@click.option("--seen", is_flag=True, help="List codes that came and are not in the catalogue.")
@account_option
@json_option
@lang_option
def codes(stat: str | None, *, seen: bool, account: str | None, as_json: bool) -> None:
    """Show the catalogue of stat codes, or explain one of them.

    STAT is a code as a delivery report carries it; leading zeros, case and a missing colon do
    not matter. Set SMSQ_CODES_FILE to a TOML file to override what the catalogue says.

    Of several accounts it shows the codes of one: of --account, or else of the one that was
    there before the others, or of the first.

    With --seen it lists the unknown codes of reports on your messages: how often each came, since
    when, the last time, and a mid to ask the vendor about; of several accounts at which.

    Exits with 1 where STAT is not in the catalogue, with 2 where the override file is wrong.
    """
    from smsq_worker.cli.views import codes as view

    view.show(stat, account, seen=seen, as_json=as_json)
