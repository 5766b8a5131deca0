"""Options that several commands share. Imports nothing heavy: it is read to complete any option."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Final, TypeAlias

import click
from click.core import ParameterSource

from smsq_worker.i18n import Lang, _, use

MAX_REASON: Final = 200
REASON_RULE: Final = f"printable text of at most {MAX_REASON} characters, on one line"

Decorator: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]


def _for_a_machine(_ctx: click.Context, _param: click.Parameter, value: bool) -> bool:
    if value:
        use(Lang.EN)
    return value


json_option: Final = click.option(
    "--json", "as_json", is_flag=True, callback=_for_a_machine, help="Print JSON."
)
watch_option: Final = click.option(
    "--watch",
    "every_s",
    metavar="[SECONDS]",
    type=click.IntRange(1, 86_400),
    is_flag=False,
    flag_value=2,
    help="Repeat every 2 s, or SECONDS, until Ctrl-C.",
)
encoding_option: Final = click.option(
    "--encoding", type=click.Choice(["utf-8", "gb18030"]), help="If detected wrongly."
)


ttl_option: Final = click.option(
    "--ttl", "--ttl-s", "ttl_s", type=float, help="Seconds in which sending is still useful."
)


def command(
    *examples: str,
    of: click.Group | None = None,
    cls: type[click.Command] = click.Command,
    file: Sequence[str] = (),
) -> Callable[[Callable[..., Any]], click.Command]:
    """Declare a command, below another if it is `of` one, by its function and worked examples.

    `file` is the content of a file that they name.
    """

    def decorate(function: Callable[..., Any]) -> click.Command:
        name = function.__name__.rstrip("_").replace("_", "-")
        made = click.command(name, cls, epilog=_epilog(examples, file))(function)
        if of is not None:
            of.add_command(made)
        return made

    return decorate


def listing(*examples: str) -> Callable[[Callable[..., Any]], click.Group]:
    """Declare a command that lists something, with --json, and has others below it."""

    def decorate(function: Callable[..., Any]) -> click.Group:
        @click.group(invoke_without_command=True, epilog=_epilog(examples))
        @json_option
        @wraps(function)
        def group(**given: Any) -> None:
            if not click.get_current_context().invoked_subcommand:
                function(**given)

        return group

    return decorate


def _epilog(examples: Sequence[str], file: Sequence[str] = ()) -> str:
    # What follows \b is not wrapped.
    sections = ["\b", "Examples:", *(f"  {line}" for line in examples)]
    if file:
        sections += ["A file:", *(f"  {line}" for line in file)]
    return "\n".join(sections)


def suggest(*words: str) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Return a `shell_complete` that offers words, the first time, where any text is accepted."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        if param.nargs < 0 and ctx.params.get(param.name or ""):
            return []
        return [word for word in words if word.startswith(incomplete)]

    return complete


def by_option(groups: Sequence[str], default: str = "") -> Decorator:
    """Declare --by, which takes some of `groups` with commas between, as a tuple."""

    def read(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[str, ...]:
        words = tuple(dict.fromkeys(word.strip() for word in value.split(",") if word.strip()))
        if unknown := next((word for word in words if word not in groups), None):
            from smsq.suggestions import hint

            allowed = _("it takes words out of {names}", names=", ".join(groups))
            raise click.BadParameter(
                f"{unknown!r:.40}: {allowed}{hint(unknown, groups)}", param_hint="--by"
            )
        return words

    return click.option(
        "--by",
        default=default,
        show_default=bool(default),
        callback=read,
        metavar="WORDS",
        shell_complete=suggest(*groups),
        help=f"With commas between: {', '.join(groups)}.",
    )


def with_hint(words: str, near: Sequence[str]) -> str:
    """Return words, and behind them what may be meant, if anything is."""
    if not near:
        return words
    return _("{advice}; {more}", advice=words, more=_("did you mean {codes}?", codes=near[0]))


def message_options(*, lane: str, rows: str = "") -> Decorator:
    """Declare the arguments of `send_sms` that a command takes as options.

    `lane` is the default lane, `rows` which messages a lane is for.
    """
    options = (
        click.option(
            "--lane",
            default=lane,
            show_default=True,
            help=f"otp, notice or bulk{rows}.",
            shell_complete=suggest("otp", "notice", "bulk"),
        ),
        ttl_option,
        click.option("--send-at", metavar="TIME", help="Not before: ISO 8601 with an offset."),
        click.option(
            "--on-ambiguous",
            help="resend (the default) or hold.",
            shell_complete=suggest("resend", "hold"),
        ),
        click.option("--reference", help="Your own text, returned in the status."),
    )
    return declare(*options)


def named_or_all(argument: str, help_of_all: str) -> Decorator:
    """Declare an argument for several names, and --all in place of them."""
    return declare(
        click.argument(argument, nargs=-1),
        click.option("--all", "everything", is_flag=True, help=help_of_all),
    )


def declare(*decorators: Decorator) -> Decorator:
    """Return several decorators as one."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for one in reversed(decorators):
            command = one(command)
        return command

    return decorate


def _choose(_ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value is not None:
        use(Lang(value))


_LANG: Final[dict[str, Any]] = {
    "type": click.Choice([lang.value for lang in Lang]),
    "callback": _choose,
    "expose_value": False,
    # Before --help, and before whatever complains of other options.
    "is_eager": True,
    "help": "Language of what people read; the default is that of LC_ALL, LC_MESSAGES or LANG.",
}
lang_option: Final = click.option("--lang", **_LANG)


def any_lang_option(*, hidden: bool) -> click.Option:
    """Return --lang as an option of all commands, hidden or shown in their help."""
    return click.Option(["--lang"], hidden=hidden, **_LANG)


def is_lang_given(ctx: click.Context) -> bool:
    """Return whether the command line itself names the language."""
    around = ctx.parent is not None and is_lang_given(ctx.parent)
    return around or ctx.get_parameter_source("lang") is ParameterSource.COMMANDLINE


def is_reason(text: str) -> bool:
    """Return whether a text can stand in logs and lists."""
    return len(text) <= MAX_REASON and text.isprintable()


def check_reason(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    """Check a --reason."""
    if not is_reason(value):
        words = _("it takes printable text of at most {n} characters, on one line", n=MAX_REASON)
        raise click.BadParameter(words)
    return value
