"""A group of commands that says which one was meant."""

from __future__ import annotations

import click

from smsq.suggestions import nearest


class Group(click.Group):
    """Commands under one name."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the first word names. Raises UsageError with the nearest name."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = nearest(args[0], self.list_commands(ctx))
            if not near:
                raise
            told = f"{error.message} Did you mean {near[0]!r}?"
            raise click.UsageError(told, ctx) from None
