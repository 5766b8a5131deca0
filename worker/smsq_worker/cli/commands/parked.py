"""`smsq parked`: reports whose mid matches no message."""

from __future__ import annotations

from smsq_worker.cli.helpers.options import command, json_option
from smsq_worker.cli.helpers.output import echo, echo_json

AT_MOST = 1000


@command(
    "smsq parked",
    "smsq parked --json",
    "smsq explain 1151894566D2EDD9",
)
@json_option
def parked(*, as_json: bool) -> None:
    """List reports whose mid belongs to no known message, or to several, the oldest first.

    They wait for SMSQ_REPORT_WAIT_S, in case the response with their mid is recorded late. Many
    of them mean that responses were lost, or that somebody else sends over the same account.
    """
    from smsq_worker.cli.helpers.ledger_client import open_ledger
    from smsq_worker.i18n import _, ngettext
    from smsq_worker.inspection.formatting import local
    from smsq_worker.ledger import Ledger

    settings, client = open_ledger()
    ledger = Ledger(client, settings.rules)
    found = [(mid, since, ledger.parked_stats(mid)) for mid, since in ledger.parked(AT_MOST)]
    if as_json:
        echo_json([{"mid": mid, "since": at, "stats": stats} for mid, at, stats in found])
        return
    for mid, at, stats in found:
        echo(f"{mid}  {local(at)}  {' '.join(stats)}")
    count = len(found)
    if count == AT_MOST and (in_all := ledger.waiting().parked) > count:
        count = in_all
        echo(_("these are the oldest {n}, of all:", n=AT_MOST))
    echo(ngettext("{n} mid", "{n} mids", count))
