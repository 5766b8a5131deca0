"""`smsq --version`: what an issue or a ticket should say."""

from __future__ import annotations

import click


def version_option() -> click.Option:
    """Return the option, which prints the versions and ends."""
    return click.Option(
        ["--version"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_show,
        help="Show the versions of smsq and of what it runs on.",
    )


def _show(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    import platform
    from importlib.metadata import version

    from smsq_worker.cli.helpers.output import echo

    below = ", ".join(f"{name} {version(name)}" for name in ("celery", "kombu", "redis"))
    echo(f"smsq {version('smsq')} (Python {platform.python_version()}, {below})")
    ctx.exit()
