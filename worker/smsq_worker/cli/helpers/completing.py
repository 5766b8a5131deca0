"""Answering a shell's question for completions, by click's own protocol.

The shell asks at each press of Tab, and to import a command takes half a second. So what every
command takes is kept in `shape.json`, from which click commands are made that can only complete.
After a change of any command or option make it anew, or a test fails:

    python -m smsq_worker.cli.helpers.completing > worker/smsq_worker/cli/helpers/shape.json
"""

from __future__ import annotations

import json
import sys
from importlib.resources import files
from typing import Any, Final, NoReturn

import click
from click.shell_completion import CompletionItem

VARIABLE: Final = "_SMSQ_COMPLETE"
"""What the shell's script sets, as click makes it of the program's name."""


def answer() -> NoReturn:
    """Print the completions that the environment asks for, and exit; nothing else is printed."""
    try:
        shape = json.loads(files(__package__).joinpath("shape.json").read_text("utf-8"))
        _command("smsq", shape).main(prog_name="smsq", complete_var=VARIABLE)
    except Exception:  # noqa: BLE001 - it would stand in the middle of what somebody types
        sys.exit(1)
    sys.exit(0)


def shape_of(command: click.Command, ctx: click.Context) -> dict[str, Any]:
    """Describe what a command takes."""
    shape: dict[str, Any] = {"help": command.get_short_help_str(100)}
    shape["params"] = [_param_shape(param, ctx) for param in command.params]
    if isinstance(command, click.Group):
        shape["commands"] = {}
        for name in command.list_commands(ctx):
            below = command.get_command(ctx, name)
            if below is not None:
                inner = click.Context(below, parent=ctx, info_name=name)
                shape["commands"][name] = shape_of(below, inner)
    return shape


def _param_shape(param: click.Parameter, ctx: click.Context) -> dict[str, Any]:
    offered = [[item.value, item.type] for item in param.shell_complete(ctx, "")]
    shape: dict[str, Any] = {"names": [*param.opts, *param.secondary_opts], "offered": offered}
    if isinstance(param, click.Option):
        return shape | {"flag": param.is_flag, "help": param.help or ""}
    return shape | {"many": param.nargs != 1}


def _command(name: str, shape: dict[str, Any]) -> click.Command:
    params = list(map(_param, shape["params"]))
    if "commands" not in shape:
        return click.Command(name, params=params, short_help=shape["help"])
    below = {name: _command(name, one) for name, one in shape["commands"].items()}
    return click.Group(name, commands=below, params=params, short_help=shape["help"])


def _param(shape: dict[str, Any]) -> click.Parameter:
    def complete(
        ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        # Of several words the first alone is one of a few.
        if shape.get("many") and ctx.params.get(param.name or ""):
            return []
        return [
            CompletionItem(value if kind == "plain" else incomplete, type=kind)
            for value, kind in shape["offered"]
            if kind != "plain" or value.startswith(incomplete)
        ]

    if "flag" in shape:
        flag = shape["flag"]
        return click.Option(
            shape["names"], is_flag=flag, help=shape["help"], shell_complete=complete
        )
    nargs = -1 if shape["many"] else 1
    return click.Argument(shape["names"], nargs=nargs, shell_complete=complete)


if __name__ == "__main__":
    from smsq_worker.cli import group

    made = group()
    told = shape_of(made, click.Context(made, info_name="smsq"))
    sys.stdout.write(json.dumps(told, ensure_ascii=False, indent=1) + "\n")
