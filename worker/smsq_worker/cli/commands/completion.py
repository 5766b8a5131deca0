"""`smsq completion`: the script by which a shell completes commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from smsq_worker.cli.helpers.options import command
from smsq_worker.cli.helpers.output import echo_own
from smsq_worker.i18n import _


@command(
    "smsq completion bash > ~/.local/share/bash-completion/completions/smsq",
    "smsq completion zsh > ~/.zfunc/_smsq     with ~/.zfunc in fpath",
    "smsq completion fish > ~/.config/fish/completions/smsq.fish",
    'eval "$(smsq completion bash)"           in this shell only',
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script by which a shell completes commands, options and their values.

    bash must be 4.4 or newer.
    """
    made = get_completion_class(shell)
    if made is None:  # pragma: no cover - click has all three
        raise click.UsageError(_("click has no completion for {shell}", shell=shell))
    echo_own(made(ctx.find_root().command, {}, "smsq", "_SMSQ_COMPLETE").source())
