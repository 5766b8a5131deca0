"""`smsq send-file`: enqueue the messages of a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import click

from smsq.contract import Lane, OnAmbiguous, parse
from smsq_worker.bulk_import.campaign import NotAgain
from smsq_worker.bulk_import.job import Job
from smsq_worker.bulk_import.source import GB18030, UTF_8, BadFile, opened
from smsq_worker.cli.helpers.filerun import STOPPED, Wish, dry_run, fail, send
from smsq_worker.cli.helpers.ledger_client import connect_ledger
from smsq_worker.config.settings import Settings

_MAX_PREFIX: Final = 100

# What follows \b is printed as it stands.
_EXAMPLES = """\b
Examples:
  smsq send-file numbers.csv --dry-run
  smsq send-file numbers.csv --template SMS_1001 --bad-rows bad.csv
  smsq send-file numbers.jsonl --lane notice --send-at 2030-01-31T09:00:00+08:00 --wait
  zcat numbers.csv.gz | smsq send-file - --key-prefix june
A file:
  phone,template,code
  13800138000,SMS_1001,482913
  +86 139-0013-9000,SMS_1001,771204
"""


@click.command("send-file", epilog=_EXAMPLES)
@click.argument("file", type=click.Path(allow_dash=True))
@click.option("--template", help="For rows that name none.")
@click.option(
    "--lane",
    default="bulk",
    show_default=True,
    help="For rows that name none.",
    shell_complete=offer(*Lane),
)
@click.option("--ttl-s", type=float, help="Seconds in which sending is still useful.")
@click.option("--send-at", metavar="ISO", help="Not before: ISO 8601 with an offset.")
@click.option(
    "--on-ambiguous", help="resend (the default) or hold.", shell_complete=offer(*OnAmbiguous)
)
@click.option("--reference", help="Your own text, given back in the status.")
@click.option("--key-prefix", metavar="NAME", help="This sending's name; stdin needs one.")
@click.option("--encoding", type=click.Choice([UTF_8, GB18030]), help="Where it is found wrongly.")
@click.option("--dry-run", "only_check", is_flag=True, help="Check everything, enqueue nothing.")
@click.option("--bad-rows", "bad_path", type=click.Path(path_type=Path), help="Put bad rows there.")
@click.option("--anew", is_flag=True, help="Send all of it, though it was sent before.")
@click.option("--wait", "wait_", is_flag=True, help="Follow the messages to their end.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--no-progress", "quiet", is_flag=True, help="Show no progress.")
def send_file(
    file: str,
    *,
    key_prefix: str | None,
    encoding: str | None,
    only_check: bool,
    bad_path: Path | None,
    anew: bool,
    wait_: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Enqueue the messages of FILE, CSV or JSON Lines; - is stdin.

    The first line of CSV names the columns: phone, template, code, lane, ttl_s, key, reference,
    send_at, on_ambiguous, notify; also mobphone, smstemplate, 手机号, 模板, 变量, 验证码. Text is
    UTF-8 if all of it is, else GB18030 (GBK).

    The whole file is checked first, and nothing is sent if a row is bad, unless --bad-rows says
    where to put such rows. stdin is checked row by row, and ends at the first bad one.

    After Ctrl-C or a crash the same command goes on where it was, and enqueues no row twice. A
    file that was sent is not sent again without --anew.

    Exits with 1 where a row was bad or had another message's key, or a message that --wait followed
    was not delivered; with 2 where the file or an option cannot be used, and then nothing was sent.
    """
    defaults = {name: value for name, value in options.items() if value is not None}
    _check_options(defaults, key_prefix)
    if only_check and wait_:
        raise click.UsageError("either --dry-run or --wait, not both")
    settings = Settings.load(os.environ)
    wish = Wish(settings, connect_ledger(settings), bad_path, wait_, anew, as_json, quiet)
    try:
        with opened(file) as source:
            job = Job(source, defaults, encoding, key_prefix or "")
            (dry_run if only_check else send)(job, wish)
    except BadFile as error:
        fail(str(error), 2)
    except NotAgain as error:
        fail(str(error), 1)
    except OSError as error:
        fail(f"the disk fails: {error.strerror}", 1)
    except KeyboardInterrupt:
        fail("stopped; nothing was enqueued", STOPPED)


def _check_options(defaults: dict[str, Any], prefix: str | None) -> None:
    """Check what would make every row bad. Raises InvalidMessage and click's UsageError."""
    parse((), {"phone": "13000000000", "template": "any"} | defaults)
    if prefix is not None and not (0 < len(prefix) <= _MAX_PREFIX and prefix.isprintable()):
        raise click.UsageError(f"--key-prefix takes 1 to {_MAX_PREFIX} printable characters")
