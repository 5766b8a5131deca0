"""`smsq send`: enqueue one message."""

from __future__ import annotations

import click

from smsq_worker.cli.helpers.options import examples, message_options


@click.command(
    epilog=examples(
        "smsq send 13800138000 SMS_1001 482913 --lane otp",
        "smsq send '+86 138-0013-8000' SMS_1001 482913 --key login-7781 --ttl 120",
        "smsq send 13800138000 SMS_2001 --send-at 2030-01-31T09:00:00+08:00",
        'id=$(smsq send 13800138000 SMS_1001 482913) && smsq explain "$id"',
    )
)
@click.argument("phone")
@click.argument("template")
@click.argument("code", default="")
@message_options(lane="notice", ttl="--ttl")
@click.option("--key", help="Idempotency key: the same key is sent once in 24 h.")
def send(phone: str, template: str, code: str, **options: str | float | None) -> None:
    """Enqueue one message and print its id.

    Exits with 1 where Redis does not accept it, with 2 where an argument breaks a rule or the key
    was used for another number or template.
    """
    from smsq import send_sms
    from smsq_worker.cli.helpers.output import echo
    from smsq_worker.i18n import _

    result = send_sms.apply_async((phone, template, code), options)
    echo(result.id)
    if result.duplicate_of:
        words = _("its key is that of {id}, so it is not sent", id=result.duplicate_of)
        echo(f"smsq: {words}", err=True)
