"""What `smsq pause` and `smsq resume` apply to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from smsq_worker.cli.helpers.options import suggest
from smsq_worker.i18n import N_, _

_F = TypeVar("_F", bound=Callable[..., Any])

PAUSABLE: Final = ("account", "template")
RESUMABLE: Final = ("account", "breaker", "template")
_ALLOWED: Final = {
    PAUSABLE: N_("it is about account (the default) or template NAME"),
    RESUMABLE: N_("it is about account (the default, with the breaker), breaker or template NAME"),
}


def scope_argument(kinds: tuple[str, ...]) -> Callable[[_F], _F]:
    """Declare the words that name a scope."""
    metavar = " | ".join("template NAME" if kind == "template" else kind for kind in kinds)
    return click.argument("scope", nargs=-1, metavar=f"[{metavar}]", shell_complete=suggest(*kinds))


def read_scope(words: tuple[str, ...], kinds: tuple[str, ...]) -> str:
    """Read a scope as it is printed anywhere, also in JSON; without words, the account.

    Raises UsageError, InvalidMessage.
    """
    from smsq.contract import parse_template
    from smsq_worker.ledger.admin import ACCOUNT, BREAKER, template_scope

    match words:
        case () | ("account",):
            return ACCOUNT
        case ("breaker",) if "breaker" in kinds:
            return BREAKER
        case ("breaker",):
            raise click.UsageError(
                _(
                    "smsq opens the breaker itself, while the gateway fails; to stop sending: "
                    "smsq pause account"
                )
            )
        case ("template", name):
            return template_scope(parse_template(name))
        case (word,) if word.startswith(template_scope("")):
            return template_scope(parse_template(word.removeprefix(template_scope(""))))
        case ("template", *_):
            raise click.UsageError(
                _(
                    "{allowed}; a template has one NAME, quote its blanks",
                    allowed=_(_ALLOWED[kinds]),
                )
            )
    raise click.UsageError(_hinted(words[0], kinds))


def _hinted(word: str, kinds: tuple[str, ...]) -> str:
    """Return what is allowed, and what was meant; not the word, which may be a number."""
    from smsq.suggestions import nearest

    allowed, near = _(_ALLOWED[kinds]), nearest(word, kinds)
    if word == "campaign":
        more = _("a campaign: smsq campaign pause NAME, or resume")
    elif near:
        more = _("did you mean {codes}?", codes=near[0])
    else:
        return allowed
    return _("{advice}; {more}", advice=allowed, more=more)
