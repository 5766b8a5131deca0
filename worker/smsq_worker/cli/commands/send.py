"""`smsq send`: enqueue one message."""

from __future__ import annotations

import click

from smsq import send_sms
from smsq.contract import Lane, OnAmbiguous
from smsq_worker.cli.helpers.offer import offer

# What follows \b is printed as it stands.
_EXAMPLES = """\b
Examples:
  smsq send 13800138000 SMS_1001 482913 --lane otp
  smsq send '+86 138-0013-8000' SMS_1001 482913 --key login-7781 --ttl 120
  smsq send 13800138000 SMS_2001 --send-at 2030-01-31T09:00:00+08:00
  id=$(smsq send 13800138000 SMS_1001 482913) && smsq explain "$id"
"""


@click.command(epilog=_EXAMPLES)
@click.argument("phone")
@click.argument("template")
@click.argument("code", default="")
@click.option(
    "--lane",
    default="notice",
    show_default=True,
    help="otp, notice or bulk.",
    shell_complete=offer(*Lane),
)
@click.option("--ttl", "ttl_s", type=float, help="Seconds in which sending is still useful.")
@click.option("--key", help="Idempotency key: the same key is sent once in 24 h.")
@click.option(
    "--on-ambiguous", help="resend (the default) or hold.", shell_complete=offer(*OnAmbiguous)
)
@click.option("--send-at", help="Not before: ISO 8601 with an offset.")
@click.option("--reference", help="Your own text, given back in the status.")
def send(phone: str, template: str, code: str, **options: str | float | None) -> None:
    """Enqueue one message and print its id.

    Exits with 1 where Redis does not take it, with 2 where an argument breaks a rule or the key was
    taken for another number or template.
    """
    result = send_sms.apply_async((phone, template, code), options)
    click.echo(result.id)
    if result.duplicate_of:
        click.echo(f"smsq: its key is that of {result.duplicate_of}, so it is not sent", err=True)
