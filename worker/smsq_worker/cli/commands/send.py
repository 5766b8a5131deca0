"""`smsq send`: enqueue one message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from smsq_worker.cli.helpers.accounts import account_option
from smsq_worker.cli.helpers.options import command, message_options

if TYPE_CHECKING:
    from smsq_worker.config.settings import Settings


@command(
    "smsq send 13800138000 SMS_1001 482913 --lane otp",
    "smsq send '+86 138-0013-8000' SMS_1001 482913 --key login-7781 --ttl 120",
    "smsq send 13800138000 SMS_2001 --send-at 2027-01-31T09:00:00+08:00",
    "smsq send 13800138000 SMS_1001 482913 --account backup",
    'id=$(smsq send 13800138000 SMS_1001 482913) && smsq explain "$id"',
)
@click.argument("phone")
@click.argument("template")
@click.argument("code", default="")
@message_options(lane="notice")
@click.option("--key", help="Idempotency key: the same key is sent once in 24 h.")
@account_option
def send(
    phone: str, template: str, code: str, *, account: str | None, **options: str | float | None
) -> None:
    """Enqueue one message and print its id.

    With --account it is a probe of one of several accounts: it goes over that one, or not at all.

    Exits with 1 where Redis does not accept it, with 2 where an argument breaks a rule or the key
    was used for another number or template.
    """
    import os

    from smsq import send_sms
    from smsq_worker.cli.helpers.output import echo
    from smsq_worker.config.settings import Settings
    from smsq_worker.i18n import _

    settings = Settings.load(os.environ)  # A producer would take memory://, which ends with this.
    if account is None:
        result = send_sms.apply_async((phone, template, code), options)
        message_id, duplicate_of = result.id, result.duplicate_of
    else:
        message_id, duplicate_of = _probe(settings, account, (phone, template, code), options)
    echo(message_id)
    if duplicate_of:
        words = _("its key is that of {id}, so it is not sent", id=duplicate_of)
        echo(f"smsq: {words}", err=True)


def _probe(
    settings: Settings,
    account: str,
    args: tuple[str, ...],
    options: Mapping[str, str | float | None],
) -> tuple[str, str | None]:
    """Enqueue a message that goes over one account alone; return its id, and a duplicate's."""
    from smsq.contract import parse
    from smsq.entries import NO_ORIGIN, Origin
    from smsq.ids import new_id
    from smsq.tasks import enqueue
    from smsq_worker.cli.helpers.accounts import accounts_of, choose, open_known

    chosen = choose(account, accounts_of(settings))
    open_known(settings)
    message, message_id = parse(args, options), new_id()
    origin = Origin(via=f"@{chosen.key}") if settings.rules.accounts else NO_ORIGIN
    return message_id, enqueue(message_id, message, origin).duplicate_of
