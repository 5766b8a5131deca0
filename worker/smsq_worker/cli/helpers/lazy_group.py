"""The group of all commands. Completing a command's name imports none of their modules."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import click

from smsq_worker.cli.commands import COMMANDS
from smsq_worker.cli.helpers.options import any_lang_option
from smsq_worker.cli.helpers.translated_help import HelpContext, forget_help_option
from smsq_worker.domain.printable import escaped


class LazyGroup(click.Group):
    """Lists its commands by their summaries, and imports one when it is named."""

    context_class = HelpContext

    def __init__(self, name: str, **attributes: Any) -> None:
        stubs = [click.Command(name, short_help=summary) for name, summary in COMMANDS.items()]
        version = click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_show_version,
            help="Show the versions of smsq and of what it runs on.",
        )
        params = [any_lang_option(hidden=False), version]
        super().__init__(name, commands=stubs, params=params, **attributes)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names in the order of the table, not of the alphabet."""
        return list(self.commands)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the words of a call."""
        with _escaped_errors():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that is named."""
        with _escaped_errors():
            return super().invoke(ctx)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Import the command that the first word names."""
        name, command, rest = super().resolve_command(ctx, args)
        if name is not None:
            function = name.replace("-", "_")
            module = import_module(f"smsq_worker.cli.commands.{function}")
            command = getattr(module, function)
            _speak(command)
        return name, command, rest


def _show_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    import platform
    from importlib.metadata import version

    from smsq_worker.cli.helpers.output import echo

    below = ", ".join(f"{name} {version(name)}" for name in ("celery", "kombu", "redis"))
    echo(f"smsq {version('smsq')} (Python {platform.python_version()}, {below})")
    ctx.exit()


def _speak(command: click.Command) -> None:
    """Make a command, and those below it, take --lang and translate their help."""
    command.context_class = HelpContext
    forget_help_option(command)
    if command.add_help_option and not any("--lang" in param.opts for param in command.params):
        command.params.append(any_lang_option(hidden=True))
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            _speak(inner)


@contextmanager
def _escaped_errors() -> Iterator[None]:
    """Escape what click's errors quote: words come from scripts, too."""
    try:
        yield
    except click.ClickException as error:
        text = "\n".join(map(escaped, error.message.split("\n")))
        error.message = text  # type: ignore[misc]
        raise
