"""Every command has an answer in time, whatever Redis does."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import pytest

from harness.cli import watching
from harness.faulty_line import Line, freezing
from harness.silent_redis import SOON_S, Silent, dribbling, frozen, hurried
from harness.waiting import eventually
from smsq_worker import cli

PHONE = "13800138000"
ASK_NO_REDIS = {"completion"}
GO_ON_WITHOUT_IT = {"demo", "up", "worker", "serve", "sandbox", "flower"}
"""Those that run until they are stopped."""
ARGUMENTS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "send": ((PHONE, "SMS_1001"), (PHONE, "SMS_1001", "--account", "default")),
    "accounts": ((), ("--json",)),
    "send-file": (("FILE",), ("FILE", "--dry-run")),
    "status": ((), ("--json",), ("m1",)),
    "explain": (("m1",), (PHONE,), ("order 7",)),
    "list": ((), ("--scan",)),
    "count": ((),),
    "report": ((),),
    "redo": (("--since", "2h", "--dry-run"), ("--campaign", "spring", "--yes")),
    "rate": ((), ("50",), ("--reset",)),
    "pause": ((), ("template", "SMS_1001")),
    "resume": ((),),
    "codes": (("--seen",),),
    "campaign": ((),),
    "campaign show": (("spring",), ("spring", "--failed", "FILE")),
    "campaign pause": (("spring",),),
    "campaign resume": (("spring",),),
    "campaign cancel": (("spring",),),
    "campaign rate": (("spring", "20"),),
    "suppressed": ((),),
    "suppressed list": ((),),
    "suppressed add": ((PHONE,),),
    "suppressed remove": ((PHONE,),),
    "suppressed import": (("LIST",),),
    "suppressed export": (("-",),),
    "held": ((),),
    "held resend": (("m1",), ("--all",)),
    "held drop": (("m1",),),
    "parked": ((),),
    "cancel": (("m1",), ("m1", "m2", "--json")),
    "audit": ((), ("--json",)),
    "notices": ((),),
    "notices replay": (("webhook:failed:m1",), ("--all",)),
    "notices drop": (("webhook:failed:m1",),),
    "doctor": ((),),
    "functions": ((),),
    "functions load": ((),),
    "functions drop": (("smsq_1_00000000",),),
}

RUN_ALL = """
    import contextlib, io, json, sys, time
    from smsq_worker import cli

    for name in cli.COMMANDS:
        cli.group().get_command(None, name)
    for words in json.load(sys.stdin):
        sys.argv = ["smsq", *words]
        told = io.StringIO()
        began = time.monotonic()
        with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
            try:
                code = cli.main()
            except SystemExit as ended:
                code = ended.code
        print(json.dumps([words, code, told.getvalue(), time.monotonic() - began]), flush=True)
"""


def leaves(command: click.Command, name: str = "") -> Iterator[str]:
    """Name a command and all below it."""
    if name:
        yield name
    if isinstance(command, click.Group):
        context = click.Context(command)
        for one in command.list_commands(context):
            _, below, _ = command.resolve_command(context, [one])
            assert below is not None
            yield from leaves(below, f"{name} {one}".strip())


def test_every_command_is_tried_here() -> None:
    all_of_them = {name for name in leaves(cli.group()) if name.split()[0] not in GO_ON_WITHOUT_IT}
    assert {name for name in all_of_them if name.split()[0] not in ASK_NO_REDIS} == set(ARGUMENTS)


@pytest.mark.parametrize("kind", [frozen, dribbling], ids=lambda one: one.__name__)
def test_every_command_has_an_answer_in_time(
    environ: dict[str, str], kind: Silent, tmp_path: Path
) -> None:
    (tmp_path / "FILE").write_text(f"phone,template\n{PHONE},SMS_1001\n")
    (tmp_path / "LIST").write_text(f"phone\n{PHONE}\n")
    all_of_them = [[*name.split(), *one] for name, tries in ARGUMENTS.items() for one in tries]
    with kind() as url:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", textwrap.dedent(RUN_ALL)],
            input=json.dumps(all_of_them),
            env=hurried(environ, url, SMSQ_HOME=str(tmp_path)),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [words for words, *_ in lines] == all_of_them
    for words, code, told, took_s in lines:
        assert code == 1, (words, code, told)
        if words == ["doctor"]:
            assert took_s < 15, "it has its own time, 7.5 s"
            continue
        assert took_s < SOON_S, words
        last = told.splitlines()[-1]
        assert last.startswith("smsq: "), told
        assert "no answer in time" in last, told


def test_who_watches_is_told_soon_that_nothing_is_seen_and_goes_on(
    environ: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"

    def shown(words: str) -> int:
        return out.read_text().count(words)

    with (
        freezing() as server,
        Line(server.port) as line,
        watching(environ | {"SMSQ_REDIS_URL": line.url}, out),
    ):
        eventually(lambda: shown("rate      "))
        line.silence()
        began = time.monotonic()
        eventually(lambda: shown("no answer in time; trying again"))
        assert time.monotonic() - began < SOON_S
        line.reopen()
        seen = shown("rate      ")
        eventually(lambda: shown("rate      ") > seen)
