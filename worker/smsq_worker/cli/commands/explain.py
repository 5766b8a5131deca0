"""`smsq explain`: what happened to a message, and what happens next."""

from __future__ import annotations

import click

from smsq_worker.cli.helpers.options import command, is_lang_given, json_option, lang_option
from smsq_worker.i18n import Lang, _, use

MAX_LAST = 1000
MAX_WORD = 255


@command(
    "smsq explain 4dd2cb4e-3b39-4be9-93a2-1a7d1de3d2f5",
    "smsq explain 1151894566D2EDD9            by the gateway's mid",
    "smsq explain 13800138000 --last 5        the newest messages to a number",
    "smsq explain order-7                     by your reference, or the idempotency key",
    "smsq explain spring                      the newest messages of a campaign",
    "smsq explain 1151894566D2EDD9 --lang zh  in Chinese",
    "smsq explain 1151894566D2EDD9 --ticket   for the vendor's support form",
    "smsq explain 1151894566D2EDD9 --json",
)
@click.argument("what", metavar="ID|MID|PHONE|CAMPAIGN|KEY|REFERENCE")
@click.option(
    "--last",
    type=click.IntRange(1, MAX_LAST),
    default=20,
    show_default=True,
    help="Where several messages match: list at most this many of the newest.",
)
@click.option(
    "--ticket",
    is_flag=True,
    help="Print the block for the vendor's support form, in Chinese unless --lang says otherwise.",
)
@click.option(
    "--show-number",
    is_flag=True,
    help="With --ticket: the whole number, where the ledger still has it, that is until its end.",
)
@json_option
@lang_option
@click.pass_context
def explain(
    ctx: click.Context, what: str, *, last: int, ticket: bool, show_number: bool, as_json: bool
) -> None:
    """Show what happened to a message, in order, and what happens next and when.

    The message is named by its id or by a mid. With a phone number, the newest messages to it are
    listed; a single one is shown in full. That searches the whole ledger, in slices of a
    millisecond: some seconds for a million messages. The middle digits of a message that has
    ended are not kept, so messages to similar numbers may be among them.

    Any other word is a campaign, an idempotency key or a reference, in this order; `smsq list` has
    an option for each. A key leads to its holder for 24 hours, and no longer once that certainly
    was not sent: the key is free then.

    Exits with 1 where nothing is known of it, with 2 where it can be none of these.
    """
    from smsq_worker.cli.views.explain import show_explanation

    word = what.strip()
    if not word or len(word) > MAX_WORD or not word.isprintable():
        words = _("it takes a message's id, a mid, a number, a campaign, a key or a reference")
        raise click.UsageError(words)
    if ticket and as_json:
        raise click.UsageError(_("either --ticket or --json, not both"))
    if show_number and not ticket:
        raise click.UsageError(_("--show-number goes with --ticket"))
    if ticket and not is_lang_given(ctx):
        use(Lang.ZH)  # The vendor reads it.
    show_explanation(word, last=last, as_json=as_json, ticket=ticket, show_number=show_number)
