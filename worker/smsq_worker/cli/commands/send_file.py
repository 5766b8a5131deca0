"""`smsq send-file`: enqueue the messages of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from smsq_worker.cli.helpers.asking import yes_option
from smsq_worker.cli.helpers.options import command, encoding_option, json_option, message_options
from smsq_worker.i18n import _

_MAX_PREFIX: Final = 100


def _read_prefix(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str:
    if value is not None and not (0 < len(value) <= _MAX_PREFIX and value.isprintable()):
        raise click.UsageError(_("--key-prefix takes 1 to {n} printable characters", n=_MAX_PREFIX))
    return value or ""


@command(
    "smsq send-file numbers.csv --dry-run",
    "smsq send-file numbers.csv --template SMS_1001 --bad-rows bad.csv",
    "smsq send-file numbers.csv --wait --failed failed.csv",
    "smsq send-file numbers.jsonl --lane notice --send-at 2027-01-31T09:00:00+08:00 --wait",
    "zcat numbers.csv.gz | smsq send-file - --key-prefix june",
    file=(
        "phone,template,code",
        "13800138000,SMS_1001,482913",
        "+86 139-0013-9000,SMS_1001,771204",
    ),
)
@click.argument("file", type=click.Path(allow_dash=True))
@click.option("--template", help="For rows that name none.")
@message_options(lane="bulk", rows=", for rows that name none")
@click.option("--campaign", metavar="NAME", help="The default is the file's name and digest.")
@click.option(
    "--key-prefix",
    metavar="NAME",
    callback=_read_prefix,
    help="A name for this import; stdin needs one.",
)
@encoding_option
@click.option("--dry-run", is_flag=True, help="Check everything, enqueue nothing.")
@click.option("--bad-rows", "bad_path", type=click.Path(path_type=Path), help="Put bad rows there.")
@click.option(
    "--allow-notify",
    metavar="TASK",
    multiple=True,
    help="A task that the column notify may name; else none.",
)
@click.option("--anew", is_flag=True, help="Send all of it, though it was sent before.")
@yes_option
@click.option("--wait", is_flag=True, help="Follow the messages to their end.")
@click.option(
    "--failed",
    "failed_path",
    type=click.Path(path_type=Path),
    help="With --wait: put the rows that failed there, with line, state and reason.",
)
@json_option
@click.option("--no-progress", "quiet", is_flag=True, help="Show no progress.")
def send_file(file: str, **given: Any) -> None:
    """Enqueue the messages of FILE, CSV or JSON Lines; - is stdin.

    The first line of CSV names the columns: phone, template, code, lane, ttl_s, key, reference,
    send_at, on_ambiguous, notify; also mobphone, smstemplate, 手机号, 电话, 模板, 变量, 验证码.
    Columns without a name must be empty. Text is UTF-8 if all of it is, else GB18030 (GBK).

    The whole file is checked first, and nothing is sent if a row is bad, unless --bad-rows says
    where to put such rows. stdin is checked row by row, and ends at the first bad one.

    The file's messages are one campaign: `smsq campaign` shows it, and pauses, slows or cancels it.

    After Ctrl-C or a crash the same command goes on where it was, and enqueues no row twice. A
    file that was sent is not sent again without --anew.

    Exits with 1 where a row was bad or had another message's key, or a message that --wait followed
    was not delivered; with 2 where the file or an option cannot be used, and then nothing was sent.
    """
    from smsq_worker.cli.views import send_file as view

    view.send_file(file, view.Options(**given))
