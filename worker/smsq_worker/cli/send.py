"""`smsq send`: enqueue one message."""

from __future__ import annotations

import click

from smsq import send_sms


@click.command()
@click.argument("phone")
@click.argument("template")
@click.argument("code", default="")
@click.option("--lane", default="notice", show_default=True, help="otp, notice or bulk.")
@click.option("--ttl", "ttl_s", type=float, help="Seconds in which sending is still useful.")
@click.option("--key", help="Idempotency key: the same key is sent once in 24 h.")
@click.option("--on-ambiguous", help="resend (the default) or hold.")
@click.option("--send-at", help="Not before: ISO 8601 with an offset.")
@click.option("--reference", help="Your own text, given back in the status.")
def send(phone: str, template: str, code: str, **options: str | float | None) -> None:
    """Enqueue one message and print its id.

    Example: smsq send 13800138000 SMS_1001 482913 --lane otp
    """
    click.echo(send_sms.apply_async((phone, template, code), options).id)
