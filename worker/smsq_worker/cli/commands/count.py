"""`smsq count`: how many messages there are, by reason, template, hour and more."""

from __future__ import annotations

from typing import Any

import click

from smsq_worker.cli.helpers.options import examples, json_option, suggest
from smsq_worker.cli.helpers.selecting import selection_options
from smsq_worker.i18n import _

GROUPS = ("state", "reason", "template", "lane", "campaign", "caller", "stat", "hour", "day")


@click.command(
    epilog=examples(
        "smsq count --since 10:00",
        "smsq count --state failed --since 2h --by reason,template",
        "smsq count --campaign spring --by hour,state",
    )
)
@selection_options
@click.option(
    "--by",
    default="state",
    show_default=True,
    metavar="WORDS",
    shell_complete=suggest(*GROUPS),
    help=f"With commas between: {', '.join(GROUPS)}.",
)
@click.option("--scan", is_flag=True, help="Look through the whole ledger, not the index.")
@json_option
def count(by: str, *, scan: bool, as_json: bool, **asked: Any) -> None:
    """Count messages. It takes the same conditions as `smsq list`, and some seconds a million.

    Exits with 2 where a condition means nothing.
    """
    from smsq.suggestions import did_you_mean
    from smsq_worker.cli.views import selected

    words = tuple(dict.fromkeys(word.strip() for word in by.split(",") if word.strip()))
    for word in words:
        if word not in GROUPS:
            hint = did_you_mean(word, GROUPS)
            allowed = _("it takes words out of {names}", names=", ".join(GROUPS))
            raise click.BadParameter(
                f"{word!r:.40}: {allowed}{hint and f'; {hint}'}", param_hint="--by"
            )
    selected.show_counts(asked, words, scan=scan, as_json=as_json)
