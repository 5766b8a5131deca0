"""What `smsq pause` and `smsq resume` apply to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from smsq_worker.cli.helpers.accounts import choose
from smsq_worker.cli.helpers.options import suggest, with_hint
from smsq_worker.i18n import N_, _

if TYPE_CHECKING:
    from smsq_worker.domain.accounts import Account
    from smsq_worker.domain.scopes import Scope

_F = TypeVar("_F", bound=Callable[..., Any])

PAUSABLE: Final = ("account", "template")
RESUMABLE: Final = ("account", "breaker", "template")
_ALLOWED: Final = {
    PAUSABLE: N_("it is about account (the default) or template NAME"),
    RESUMABLE: N_("it is about account (the default, with the breaker), breaker or template NAME"),
}


def scope_argument(kinds: tuple[str, ...]) -> Callable[[_F], _F]:
    """Declare the words that name a scope."""
    metavar = " | ".join(
        "template NAME" if kind == "template" else f"{kind} [NAME]" for kind in kinds
    )
    return click.argument("scope", nargs=-1, metavar=f"[{metavar}]", shell_complete=suggest(*kinds))


def read_scopes(
    words: tuple[str, ...],
    kinds: tuple[str, ...],
    accounts: Sequence[Account],
    account: str | None,
) -> list[str]:
    """Read a scope as it is printed anywhere, also in JSON; without words, the only account.

    A template's are several where no account is named. Raises UsageError, InvalidMessage.
    """
    from smsq_worker.domain.scopes import Scope

    scope = _read(words, kinds)
    if scope.account and account and scope.account != account:
        raise click.UsageError(_("the account is named twice, and differs"))
    name = scope.account or account
    if scope.kind == "template" and name is None:
        return [str(Scope("template", one.key, scope.template)) for one in accounts]
    return [str(scope._replace(account=choose(name, accounts).key))]


def _read(words: tuple[str, ...], kinds: tuple[str, ...]) -> Scope:
    """Read the words alone; the account by its name, "" where they name none."""
    from smsq.contract import parse_template
    from smsq_worker.domain.scopes import Scope, read_scope

    first = words[0] if words else "account"
    scope = read_scope(first)
    match scope, words[1:]:
        case ("breaker", _, ""), _ if "breaker" not in kinds:
            raise click.UsageError(
                _(
                    "smsq opens the breaker itself, while the gateway fails; to stop sending: "
                    "smsq pause account"
                )
            )
        case ("account" | "breaker", _, ""), () if ":" not in first:
            return scope
        case ("account" | "breaker" as kind, "", ""), (name,) if ":" not in first:
            return Scope(kind, name)
        case ("template", name, ""), (template,) if ":" not in first:
            return Scope("template", name, parse_template(template))
        case ("template", _, template), () if ":" in first:
            return scope._replace(template=parse_template(template))
        case ("template", _, _), _:
            raise click.UsageError(
                _(
                    "{allowed}; a template has one NAME, quote its blanks",
                    allowed=_(_ALLOWED[kinds]),
                )
            )
    raise click.UsageError(_hinted(first, kinds))


def _hinted(word: str, kinds: tuple[str, ...]) -> str:
    """Return what is allowed, and what was meant; not the word, which may be a number."""
    from smsq.suggestions import nearest

    allowed = _(_ALLOWED[kinds])
    if word != "campaign":
        return with_hint(allowed, nearest(word, kinds))
    more = _("a campaign: smsq campaign pause NAME, or resume")
    return _("{advice}; {more}", advice=allowed, more=more)
