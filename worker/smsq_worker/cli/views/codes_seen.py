"""The codes that came and that the catalogue does not know, as `smsq codes --seen` prints them."""

from __future__ import annotations

import os

from smsq_worker.cli.helpers.ledger_client import connect_ledger
from smsq_worker.cli.helpers.output import echo, echo_json, echo_lines
from smsq_worker.cli.views.codes import load_catalogue
from smsq_worker.config.settings import Settings
from smsq_worker.domain.codes import CodeClass
from smsq_worker.i18n import ngettext
from smsq_worker.inspection.formatting import local, moment
from smsq_worker.ledger.codes_seen import codes_seen


def show(*, as_json: bool) -> None:
    """Print the list, the most frequent first."""
    catalogue = load_catalogue()[1]
    settings = Settings.load(os.environ)
    seen = [
        one
        for one in codes_seen(connect_ledger(settings), settings.redis_url)
        # The workers may have had another override file when the code came.
        if catalogue.classify(one.stat).code_class is CodeClass.UNKNOWN
    ]
    if as_json:
        echo_json(
            [
                {
                    "stat": one.stat,
                    "count": one.count,
                    "first_at": moment(one.first_at),
                    "last_at": moment(one.last_at),
                    "mid": one.mid,
                }
                for one in seen
            ]
        )
        return
    echo_lines(
        ngettext(
            "{stat}  {n} time  since {first}  last {last}  mid {mid}",
            "{stat}  {n} times  since {first}  last {last}  mid {mid}",
            one.count,
            stat=one.stat,
            first=local(one.first_at),
            last=local(one.last_at),
            mid=one.mid,
        )
        for one in seen
    )
    echo(
        ngettext(
            "{n} code that the catalogue does not know",
            "{n} codes that the catalogue does not know",
            len(seen),
        )
    )
