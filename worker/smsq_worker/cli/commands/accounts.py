"""`smsq accounts`: how each account at a gateway stands."""

from __future__ import annotations

from smsq_worker.cli.helpers.options import command, json_option


@command("smsq accounts", "smsq accounts --json")
@json_option
def accounts(*, as_json: bool) -> None:
    """Show each account: its state, its rate, what is under way, its pauses, and the routes.

    The accounts are those of SMSQ_ACCOUNTS_FILE; without it there is one, default. A state is
    open, paused (by an operator, no balance, or refusals in a row), outage (the gateway fails), or
    probing (a message may go to find out). Under `reports` are messages that it accepted and whose
    final report is still to come. What each has delivered within 15 minutes is of the last hour
    that has been over for as long.

    Exits with 2 where the ledger has several accounts, and none are known here.
    """
    from smsq_worker.cli.views.accounts import show_accounts

    show_accounts(as_json=as_json)
