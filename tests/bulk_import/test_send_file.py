"""`smsq send-file`: what it reads, what it refuses, and how it goes on where it was broken off."""

from __future__ import annotations

import csv
import json
import os
import pty
import random
import signal
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

import smsq
from harness.cli import CODE, PHONE, here, run, unmasked_run
from harness.scene import DELIVRD, Scene
from harness.scene import stat as report_of
from harness.waiting import eventually
from smsq.contract import parse_campaign
from smsq_worker.bulk_import.bulk_file import BulkFile
from smsq_worker.bulk_import.check import Numbers
from smsq_worker.bulk_import.checkpoint import Checkpoint, NotAgain, open_checkpoint
from smsq_worker.bulk_import.enqueue import Enqueuer
from smsq_worker.bulk_import.rows import Rows
from smsq_worker.bulk_import.source import BadFile, Lines, opened, scan
from smsq_worker.config.settings import Settings
from smsq_worker.domain.states import Outcome

OTHER = "13900139000"
THIRD = "15000150000"
TWO = f"phone,template,code\n{PHONE},SMS_1001,{CODE}\n{OTHER},SMS_1002,771204\n"


@pytest.fixture(autouse=True)
def home(environ: dict[str, str], tmp_path: Path) -> Path:
    """A folder of this test's own; it is not the one of the files that are sent."""
    environ["SMSQ_HOME"] = str(tmp_path / "home")
    return tmp_path / "home" / "send-file"


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def _write(text: str | bytes, name: str = "numbers.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return _write


Command = Callable[..., tuple[int | str | None, str, str]]


@pytest.fixture
def command(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Runs the command line in this process: exit code, stdout, stderr."""
    monkeypatch.setenv("SMSQ_HOME", environ["SMSQ_HOME"])

    def _command(*words: str) -> tuple[int | str | None, str, str]:
        code, out, errors = here(monkeypatch, capsys, *words)
        assert PHONE not in out + errors
        assert CODE not in out + errors
        return code, out, errors

    return _command


def send_file(
    environ: dict[str, str], *words: str | Path
) -> tuple[int, dict[str, Any], subprocess.CompletedProcess[str]]:
    """Run the command with --json: exit code, summary, all of it."""
    done = run(environ, "send-file", *map(str, words), "--json")
    return done.returncode, json.loads(done.stdout or "{}"), done


def from_stdin(
    environ: dict[str, str], text: str | bytes, *words: str
) -> tuple[int, dict[str, Any], str]:
    done = unmasked_run(environ, "send-file", "-", *words, "--json", stdin=text)
    told = done.stdout.decode() + done.stderr.decode()
    assert PHONE not in told
    assert CODE not in told
    return done.returncode, json.loads(done.stdout or "{}"), done.stderr.decode()


def messages(client: redis.Redis) -> dict[str, tuple[str, str]]:
    """The number and the code of each message that is not final, by its id."""
    found = {key.rpartition(":")[2]: client.get(key) for key in client.scan_iter("smsq:p:*")}
    return {one: tuple(json.loads(text)) for one, text in found.items()}


def many(count: int, template: str = "SMS_1001") -> str:
    rows = (f"{13_000_000_000 + n},{template},{n:06}" for n in range(count))
    return "phone,template,code\n" + "\n".join(rows) + "\n"


# --- what is read -----------------------------------------------------------------------------

BOM = b"\xef\xbb\xbf"
VENDORS = "mobphone;smstemplate;code\n"
CHINESE = "手机号\t模板\t验证码\n"
READ = {
    "plain": TWO.encode(),
    "bom": BOM + TWO.encode(),
    "crlf": TWO.replace("\n", "\r\n").encode(),
    "no-last-newline": TWO.rstrip().encode(),
    "blank-lines": ("\n\n" + TWO.replace("\n", "\n\n") + ",,\n").encode(),
    "blanks": TWO.replace(",", " , ").encode(),
    "other-order": (
        f"code,phone,Template\n{CODE},{PHONE},SMS_1001\n771204,{OTHER},SMS_1002\n"
    ).encode(),
    "vendor": (VENDORS + TWO.partition("\n")[2].replace(",", ";")).encode(),
    "chinese": (CHINESE + TWO.partition("\n")[2].replace(",", "\t")).encode(),
    "gbk": (CHINESE + TWO.partition("\n")[2].replace(",", "\t")).encode("gbk"),
    "gb18030-late": (TWO.replace("code", "code,备注") + f"{THIRD},x,1,龘\n").encode("gb18030"),
    "quoted": TWO.replace(PHONE, f'"{PHONE}"').replace("771204", '"771204"').encode(),
    "written-otherwise": TWO.replace(PHONE, "+86 138-0013-8000").encode(),
    "two-boms": BOM + BOM + TWO.encode(),
    "bom-of-gb18030": ("\ufeff" + TWO + f"{THIRD},张,1\n").encode("gb18030"),
    "other-names": (f"联系电话,Template,CODE\n{TWO.partition(chr(10))[2]}").encode(),
    "spreadsheet": (
        ",,,\nPhone Number,Template,,Code,\n"
        f"{PHONE},SMS_1001,,{CODE},,,\n{OTHER},SMS_1002, ,771204,\n,,,,,,\n"
    ).encode(),
    "protected": TWO.replace(PHONE, "'+8613800138000").replace("SMS_1002", "SMS_1002 ").encode(),
    "jsonl": (
        f'{{"phone": "{PHONE}", "template": "SMS_1001", "code": "{CODE}", "ttl_s": null}}\n\n'
        f'{{"手机号": "{OTHER}", "smstemplate": "SMS_1002", "code": "771204", "ttl_s": 60}}'
    ).encode(),
}


def rows_of(
    path: Path, encoding: str | None = None, notify: tuple[str, ...] = (), **defaults: object
) -> list[Any]:
    with opened(str(path)) as source:
        found = scan(source.file, encoding)
        return list(Rows(Lines(source.file, found.encoding), str(path), defaults, notify))


@pytest.mark.parametrize("text", READ.values(), ids=READ)
def test_a_file_is_read(write: Write, text: bytes) -> None:
    rows = rows_of(write(text, "numbers.txt"))
    assert [row.problem for row in rows] == [""] * len(rows)
    assert [(r.message.phone, r.message.template, r.message.code) for r in rows[:2]] == [
        (PHONE, "SMS_1001", CODE),
        (OTHER, "SMS_1002", "771204"),
    ]
    assert PHONE not in repr(rows)
    assert CODE not in repr(rows)


def test_a_row_says_everything_or_takes_it_from_the_command_line(write: Write) -> None:
    text = (
        "phone,code,lane,ttl_s,key,reference,send_at,on_ambiguous,notify,template\n"
        f"{PHONE},1,otp,60,k,r,2000000,hold,app.done,\n"
        f'{OTHER},"a ""b""\nc",,,,,,,,T\n'
    ).replace("2000000", str(int(datetime.now(UTC).timestamp()) + 60))
    one, two = rows_of(
        write(text), notify=("app.done",), template="D", lane="bulk", reference="d", ttl_s=7.0
    )
    assert not one.problem + two.problem
    assert (one.message.lane, one.message.ttl_s, one.message.key) == ("otp", 60, "k")
    assert (one.message.reference, one.message.on_ambiguous) == ("r", "hold")
    assert (one.message.notify, one.message.template) == ("app.done", "D")
    assert one.message.send_at
    assert (two.message.code, two.message.template, two.line) == ('a "b"\nc', "T", 3)
    assert (two.message.lane, two.message.reference, two.message.ttl_s) == ("bulk", "d", 7)


BAD_ROWS = {
    "phone": (f"phone\n{PHONE}9\n", "phone must be a mainland mobile number"),
    "no-phone": ("phone,code\n,1\n", "phone must be"),
    "lane": (f"phone,lane\n{PHONE},fast\n", "lane must be one of otp, notice, bulk"),
    "ttl": (f"phone,ttl_s\n{PHONE},soon\n", "ttl_s must be a number of seconds"),
    "ttl-nan": (f"phone,ttl_s\n{PHONE},nan\n", "ttl_s must be"),
    "send-at": (f"phone,send_at\n{PHONE},20300131\n", "send_at must be"),
    "fields": (f"phone,code\n{PHONE},1,2\n", "3 fields, and the header has 2"),
    "no-name": (f"phone,,code\n{PHONE},x,1\n", "field 2 is not empty, and the header does not"),
    "float": (f"phone,code\n{PHONE},482913.0\n", "a spreadsheet or pandas has rewritten"),
    "exponent": (f"phone,code\n{PHONE},4.8E+05\n", "a spreadsheet or pandas has rewritten"),
    "phone-float": (f"phone\n{PHONE}.0\n", "a number as spreadsheets and pandas rewrite it"),
    "notify": (f"phone,notify\n{PHONE},app.refund\n", "notify must be a task that --allow-notify"),
    "json-notify": (f'{{"phone": "{PHONE}", "notify": ["x"]}}\n', "notify must be a task that"),
    "cr-inside": (f"phone,code\n{PHONE},1\r2\n", "a CR without a LF is inside the row"),
    "quotes": (f'phone,code\n"{PHONE}"1,2\n', "not CSV: "),
    "json": ('{"phone"\n', "not JSON"),
    "json-array": (f'{{"phone":"{PHONE}"}}\n["x"]\n', "not a JSON object"),
    "json-int": (f'{{"phone": {PHONE}}}\n', "phone must be"),
    "json-code": (f'{{"phone": "{PHONE}", "code": {CODE}}}\n', "leading zeros"),
    "json-name": (f'{{"fone": "{PHONE}"}}\n', "unknown: 'fone' (did you mean phone?)"),
    "json-two-names": (f'{{"phone": "{PHONE}", "手机号": "1"}}\n', "more than one name for phone"),
    "json-twice": (f'{{"phone": "{PHONE}", "phone": "1"}}\n', "phone is there more than once"),
    "json-deep": ('{"code": ' + "[" * 10_000 + "\n", "not JSON"),
    "json-half-a-pair": (f'{{"phone": "{PHONE}", "code": "\\ud800"}}\n', "half of a surrogate"),
}


@pytest.mark.parametrize(("text", "told"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_a_bad_row_is_told_by_its_line_and_nothing_is_sent(
    command: Command, client: redis.Redis, write: Write, text: str, told: str
) -> None:
    path = write(text)
    code, out, errors = command("send-file", str(path), "--template", "SMS_1001", "--json")
    assert code == 2
    (row,) = json.loads(out)["bad_rows"]
    assert told in row["reason"]
    assert row["line"] == text.count("\n")
    assert "nothing was sent" in errors
    code, out, errors = command("send-file", str(path), "--template", "SMS_1001")
    assert (code, out) == (2, "")
    assert f"  line {row['line']}: " in errors
    assert client.dbsize() == 0


LONG_ROWS = b"phone,code\n" + (b"13800138000," + b"1" * 488 + b"\n") * 2200
"""More than is looked at before any row."""
NO_FILE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "the file is empty"),
    "blank": (b"\n\n", "the file is empty"),
    "header-alone": (b"phone,template\n", "the file has no row"),
    "no-header": (f"{PHONE},SMS_1001,{CODE}\n".encode(), "the first line must name the columns"),
    "no-header-2": (f"1380013800,SMS_1001,{CODE}\n".encode(), "the first line must name the col"),
    "misspelt": (b"phone,tmplate\n1,2\n", "'tmplate' (did you mean template?); allowed are phone"),
    "a-code": (f"phone,{CODE}\n".encode(), "unknown: '****'"),
    "twice": (b"phone,mobphone\n1,2\n", "more than one column holds phone"),
    "no-phone": (b"code,template\n1,2\n", "no column holds the numbers"),
    "header-quotes": (b'phone,"code\n1,2\n', "the header, is no CSV"),
    "binary": (b"phone\n\0\1\2", "the file is binary"),
    "binary-late": (LONG_ROWS + b"\0\n", "holds a NUL byte"),
    "xlsx": (b"PK\x03\x04....", "a spreadsheet"),
    "utf-16": (TWO.encode("utf-16"), "in UTF-16"),
    "cr-alone": (TWO.replace("\n", "\r").encode(), "ends its lines with CR alone"),
    "cr-alone-long": (b"phone\r" + b"13800138000\r" * 9000, "ends its lines with CR alone"),
    "array": (b'[{"phone": "1"}]', "write one object a line"),
    "long-line": (b"phone\n" + b"1" * 10_000_000, "line 2 is longer than 64 KiB"),
    "open-quotes": (f'phone,code\n{PHONE},1\n{PHONE},"2\n{OTHER},3\n'.encode(), "line 3: a quote"),
    "open-quotes-long": (b'phone,code\n1,"\n' + b"1,2\n" * 100_000, "line 2: a quote is opened"),
    "utf-8-damaged": ("phone,备注\n1,张三\n".encode() + b"1,\xff\n", "line 3 is not UTF-8"),
    "bom-damaged": (BOM + b"phone,code\n1,\xff\n", "line 2 is not UTF-8"),
    "neither": (b"phone,code\n1,\x81@\n1,\xff\xff\n", "line 3 is not GB18030"),
    "cut-character": ("phone,备注\n1,张".encode()[:-1], "line 2 is not UTF-8, and the lines"),
}


@pytest.mark.parametrize(("text", "told"), NO_FILE.values(), ids=NO_FILE)
def test_what_is_no_such_file_is_refused(
    command: Command, client: redis.Redis, write: Write, text: bytes, told: str
) -> None:
    code, out, errors = command("send-file", str(write(text)), "--template", "T")
    assert (code, out) == (2, "")
    *progress, line = errors.splitlines()
    assert told in line
    assert all(one.startswith("checked ") for one in progress)  # of a machine that is busy
    assert client.dbsize() == 0


OPTIONS = {
    "lane": (("--lane", "fast"), "lane must be one of"),
    "ttl": (("--ttl-s", "0"), "ttl_s must be"),
    "send-at": (("--send-at", "tomorrow"), "send_at must be"),
    "template": (("--template", "x" * 65), "template must be"),
    "prefix": (("--key-prefix", ""), "--key-prefix takes 1 to 100"),
    "both": (("--dry-run", "--wait"), "not both"),
    "encoding": (("--encoding", "latin-1"), "'utf-8', 'gb18030'"),
    "home": (("--bad-rows", "/nowhere/at/all"), "cannot be written: No such file"),
}


@pytest.mark.parametrize(("words", "told"), OPTIONS.values(), ids=OPTIONS)
def test_a_bad_option_is_refused(
    command: Command, client: redis.Redis, write: Write, words: tuple[str, ...], told: str
) -> None:
    code, out, errors = command("send-file", str(write(TWO)), *words)
    assert (code, out) == (2, "")
    assert told in errors
    assert client.dbsize() == 0


@pytest.mark.parametrize(
    ("path", "told"),
    [("nowhere.csv", "No such file"), (".", "Is a directory"), ("\0", "no such name can be")],
)
def test_a_file_that_is_not_there_is_refused(path: str, told: str) -> None:
    with pytest.raises(BadFile, match=told), opened(path):
        pass


@given(st.lists(st.integers(13_000_000_000, 13_000_000_005), max_size=40))
def test_doubles_are_those_that_came_before(numbers: list[int]) -> None:
    found = Numbers()
    expected = []
    for line, n in enumerate(numbers, 2):
        if n in numbers[: line - 2]:
            expected.append((line, str(n)))
        found.add(str(n), line)
    assert found.doubles(3) == (len(expected), expected[:3])
    assert Numbers().doubles(3) == (0, [])


# --- checking alone ---------------------------------------------------------------------------


@pytest.mark.parametrize("keys", ["", Fernet.generate_key().decode()], ids=["plain", "encrypted"])
def test_a_dry_run_tells_what_would_be_and_sends_nothing(
    environ: dict[str, str], client: redis.Redis, home: Path, write: Write, keys: str
) -> None:
    environ["SMSQ_PAYLOAD_KEYS"] = keys
    assert run(environ, "suppressed", "add", THIRD).returncode == 0
    assert run(environ, "rate", "2").returncode == 0
    before = client.dbsize()
    path = write(f"phone,lane\n{PHONE}\n{OTHER}\n+86 {PHONE}\n{THIRD}\n1\n2\n{PHONE},fast\n")
    code, found, _ = send_file(environ, path, "--template", "T", "--dry-run")
    assert code == 1
    assert (found["rows"], found["bad"]) == (7, 3)
    assert sorted(found["reasons"].values()) == [1, 2]
    assert [row["line"] for row in found["bad_rows"]] == [6, 7, 8]
    assert (found["doubles"], found["double_rows"]) == (1, [{"line": 4, "phone": "138****8000"}])
    assert (found["suppressed"], found["would_be_sent"]) == (1, 3)
    assert (found["rate_per_s"], found["seconds"], found["expiring"]) == (2, 1.5, False)

    told = run(environ, "send-file", str(path), "--template", "T", "--dry-run").stdout
    assert "  2 x phone must be a mainland mobile number" in told
    assert "  line 8: lane must be one of otp, notice, bulk; got 'fast'" in told
    assert "would send  3, in 2 s at 2/s; nothing was sent" in told
    told = run(environ, "send-file", str(path), "--template", "T", "--dry-run", "--ttl-s", "1.4")
    assert "some would expire unsent" in told.stdout
    assert client.dbsize() == before
    assert not home.exists()


def test_a_dry_run_of_a_good_file_ends_with_0(environ: dict[str, str], write: Write) -> None:
    assert send_file(environ, write(TWO), "--dry-run")[0] == 0
    code, found, _ = from_stdin(environ, TWO.encode("gbk"), "--dry-run")
    assert (code, found["would_be_sent"]) == (0, 2)


def test_the_first_twenty_bad_rows_are_named_and_all_are_counted(
    environ: dict[str, str], write: Write
) -> None:
    lanes = "".join(f"{PHONE},lane{n:03}\n" for n in range(300))
    names = "".join(f'{{"phone": "{PHONE}", "n{n:03}": 1}}\n' for n in range(300))
    for path in (write(f"phone,lane\n{lanes}"), write(names, "n.jsonl")):
        code, found, _ = send_file(environ, path, "--template", "T", "--dry-run")
        assert (code, found["bad"], len(found["bad_rows"])) == (1, 300, 20)
        assert sum(found["reasons"].values()) == 300
        assert len(found["reasons"]) <= 101


# --- sending ----------------------------------------------------------------------------------


def test_a_file_is_sent_once(
    environ: dict[str, str], client: redis.Redis, home: Path, write: Write
) -> None:
    path = write(TWO)
    code, found, done = send_file(environ, path, "--reference", "june")
    assert (code, done.stderr) == (0, "")
    assert (found["rows"], found["enqueued"], found["before"], found["bad"]) == (2, 2, 0, 0)
    assert sorted(messages(client).values()) == [(PHONE, CODE), (OTHER, "771204")]
    ids = Path(found["ids"]).read_text().split()
    assert ids == sorted(messages(client), key=lambda one: messages(client)[one][0])
    status = smsq.status(ids[0])
    assert status is not None
    assert (status.lane, status.template, status.reference) == ("bulk", "SMS_1001", "june")
    for kept in home.iterdir():
        assert PHONE not in kept.read_text()
        assert CODE not in kept.read_text()

    for words in ((), ("--reference", "july")):
        code, _, done = send_file(environ, path, *words)
        assert (code, done.stdout) == (1, "")
        assert "the file was sent already: 20" in done.stderr
    assert len(messages(client)) == 2

    for words in (("--anew",), ("--key-prefix", "july")):
        assert send_file(environ, path, *words)[1]["enqueued"] == 2
    assert len(messages(client)) == 6
    shown = run(environ, "send-file", str(path), "--anew")
    assert shown.returncode == 0
    assert "enqueued    2\n" in shown.stdout


def test_bad_rows_go_to_a_file_and_the_rest_is_sent(
    environ: dict[str, str], client: redis.Redis, write: Write, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.csv"
    bad.touch(0o644)
    text = f'手机号;模板;备注\n{PHONE};T;张三\n123;T;"李;四"\n{OTHER};T;1;2\n"1"2;T;x\n'
    code, found, _ = send_file(environ, write(text.encode("gbk")), "--bad-rows", bad)
    assert (code, found["enqueued"], found["bad"]) == (1, 1, 3)
    assert stat.S_IMODE(bad.stat().st_mode) == 0o600
    header, first, second, third = bad.read_text("gb18030").splitlines()
    assert header == "手机号;模板;备注;line;reason"
    assert first.startswith('123;T;"李;四";3;"phone must be ')
    assert second == f"{OTHER};T;1;4;4 fields, and the header has 3;2"
    assert third.startswith('"""1""2;T;x";;;5;"not CSV: ')

    # Mended, it is a file like others.
    bad.write_bytes(bad.read_bytes().replace(b"123;", f"{THIRD};".encode()))
    again = tmp_path / "again.csv"
    code, found, _ = send_file(environ, bad, "--bad-rows", again)
    assert (code, found["enqueued"], found["bad"]) == (1, 1, 2)
    assert {phone for phone, _ in messages(client).values()} == {PHONE, THIRD}
    assert again.read_text("gb18030").splitlines()[0] == header


def test_bad_rows_of_json_are_json(environ: dict[str, str], write: Write, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    text = f'{{"phone": "{PHONE}"}}\n{{"phone": "\\ud800张"}}\n[1]\n'
    code, found, _ = send_file(environ, write(text), "--template", "T", "--bad-rows", bad)
    assert (code, found["enqueued"], found["bad"]) == (1, 1, 2)
    one, two = map(json.loads, bad.read_text().splitlines())
    assert (one["phone"], one["line"]) == ("\ud800张", 2)
    assert two == {"row": "[1]\n", "line": 3, "reason": "not a JSON object"}


def test_formulas_of_a_file_become_text_and_come_back_as_they_were(
    environ: dict[str, str], client: redis.Redis, write: Write, tmp_path: Path
) -> None:
    bad, again = tmp_path / "bad.csv", tmp_path / "again.csv"
    given = ["=1+1", "+86", "-1", "@SUM(A1)", "'=x", "＝1", " =2", "plain", "it's", "'quoted'"]
    text = "phone,template,code,reference\n" + "".join(f"123,T,{c},{c}\n" for c in given)
    code, found, _ = send_file(environ, write(text), "--bad-rows", bad)
    assert (code, found["bad"]) == (1, len(given))
    with bad.open(newline="") as file:
        _, *rows = csv.reader(file)
    shown = [c if c in {"'=x", "plain", "it's", "'quoted'"} else f"'{c}" for c in given]
    assert [row[2] for row in rows] == shown

    mended = bad.read_text().replace("123,", f"{PHONE},")
    code, found, _ = send_file(environ, write(mended), "--bad-rows", again)
    assert (code, found["bad"], found["enqueued"]) == (0, 0, len(given))
    kept = [
        rows_of(write(one), template="T") for one in (mended, text.replace("123,", f"{PHONE},"))
    ]
    assert [r.message for r in kept[0]] == [r.message for r in kept[1]]


@pytest.mark.parametrize("content", ["theirs", None])
def test_bad_rows_are_not_written_through_a_symlink(
    command: Command, write: Write, tmp_path: Path, content: str | None
) -> None:
    theirs, link = tmp_path / "theirs", tmp_path / "bad.csv"
    if content:
        theirs.write_text(content)
    link.symlink_to(theirs)
    code, out, errors = command("send-file", str(write(TWO)), "--bad-rows", str(link))
    assert (code, out) == (2, "")
    assert "cannot be written: it is a symbolic link" in errors
    assert (theirs.read_text() if theirs.exists() else None) == content


def test_bad_rows_are_a_new_file_whatever_else_the_old_one_is_called(
    environ: dict[str, str], write: Write, tmp_path: Path
) -> None:
    theirs, bad = tmp_path / "theirs", tmp_path / "bad.csv"
    theirs.write_text("theirs")
    bad.hardlink_to(theirs)
    code, _, _ = send_file(environ, write("phone,template\n123,T\n"), "--bad-rows", bad)
    assert code == 1
    assert theirs.read_text() == "theirs"
    assert bad.read_text().startswith("phone,template,line,reason\n123,T,2,")


def test_a_file_may_name_the_tasks_that_are_allowed(
    environ: dict[str, str], client: redis.Redis, write: Write
) -> None:
    text = f"phone,template,notify\n{PHONE},T,app.done\n{OTHER},T,\n{THIRD},T,app.seen\n"
    allowed = ("--allow-notify", "app.done", "--allow-notify", "app.seen")
    code, found, _ = send_file(environ, write(text), *allowed)
    assert (code, found["enqueued"]) == (0, 3)


def test_the_file_itself_is_no_place_for_bad_rows(environ: dict[str, str], write: Write) -> None:
    path = write(TWO)
    code, _, done = send_file(environ, path, "--bad-rows", path)
    assert code == 2
    assert "must not be the file that is sent" in done.stderr
    assert path.read_text() == TWO


def test_keys_of_ones_own_are_kept(
    environ: dict[str, str], client: redis.Redis, write: Write
) -> None:
    smsq.send_sms.delay(PHONE, "T", CODE, key="first")
    text = (
        f"phone,template,key\n{PHONE},T,first\n{OTHER},T,second\n{OTHER},T,second\n1380013800,T,\n"
    )
    code, found, _ = send_file(environ, write(text), "--bad-rows", os.devnull)
    assert (code, found["enqueued"], found["duplicates"], found["bad"]) == (1, 1, 2, 1)
    states = [smsq.status(one).state for one in Path(found["ids"]).read_text().split()]
    assert states == ["duplicate", "queued", "duplicate"]


# --- stdin ------------------------------------------------------------------------------------


def test_stdin_is_sent_up_to_its_first_bad_row(
    environ: dict[str, str], client: redis.Redis
) -> None:
    text = many(250) + f"123,T,{CODE}\n" + f"{PHONE},T,1\n"
    code, found, told = from_stdin(environ, text, "--key-prefix", "june")
    assert (code, found["enqueued"], found["finished"]) == (1, 250, False)
    assert "line 252: phone must be" in told
    assert "250 rows are enqueued" in told
    # The same again, mended.
    code, found, _ = from_stdin(
        environ, text.replace("\n123,", f"\n{OTHER},"), "--key-prefix", "june"
    )
    assert (code, found["enqueued"], found["before"]) == (0, 252, 250)
    assert len(messages(client)) == 252
    # Another file under the same name: its rows are others.
    code, found, _ = from_stdin(environ, many(3, "SMS_2"), "--key-prefix", "june")
    assert (code, found["enqueued"], found["before"]) == (0, 3, 0)


def test_stdin_may_put_bad_rows_aside(
    environ: dict[str, str], client: redis.Redis, tmp_path: Path
) -> None:
    text = f"手机号,变量\n{PHONE},张\n123,李\n{OTHER},王\n".encode("gbk")
    words = ("--key-prefix", "k", "--template", "T", "--bad-rows", str(tmp_path / "bad.csv"))
    code, found, _ = from_stdin(environ, text, *words)
    assert (code, found["rows"], found["enqueued"], found["bad"]) == (1, 3, 2, 1)
    assert sorted(messages(client).values()) == [(PHONE, "张"), (OTHER, "王")]


NO_STDIN = {
    "anew": (TWO.encode(), ("--anew",), "--anew is for files"),
    "no-key": (TWO.encode(), (), "line 2: no key, which each row of stdin or a pipe needs"),
    "empty": (b"", ("--key-prefix", "k"), "the file is empty"),
    "no-row": (b"phone,template\n", ("--key-prefix", "k"), "the file has no row"),
    "no-header": (f"{PHONE},T\n".encode(), ("--key-prefix", "k"), "must name the columns"),
    "binary": (b"PK\x03\x04", ("--key-prefix", "k"), "a spreadsheet"),
    "encoding": (
        "phone,备注\n".encode() + b"1,\xff\n",
        ("--key-prefix", "k", "--template", "T"),
        "line 2 is not UTF-8, as the file was until there",
    ),
}


@pytest.mark.parametrize(("text", "words", "told"), NO_STDIN.values(), ids=NO_STDIN)
def test_what_cannot_be_sent_from_stdin_is_told(
    environ: dict[str, str], client: redis.Redis, text: bytes, words: tuple[str, ...], told: str
) -> None:
    code, _, errors = from_stdin(environ, text, *words)
    assert code in {1, 2}
    assert told in errors
    assert client.dbsize() == 0


def test_stdin_needs_no_name_where_rows_have_keys(
    environ: dict[str, str], client: redis.Redis
) -> None:
    text = f'{{"phone": "{PHONE}", "template": "T", "key": "k"}}\n'
    assert from_stdin(environ, text)[1]["enqueued"] == 1
    code, found, _ = from_stdin(environ, text)
    assert (code, found["enqueued"], found["duplicates"]) == (0, 0, 1)


# --- broken off, and gone on ------------------------------------------------------------------


def start(environ: dict[str, str], path: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "smsq_worker", "send-file", str(path), "--json", *words],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def noted(home: Path) -> int:
    """How many rows are noted as enqueued."""
    for path in home.glob("*.json"):
        return int(json.loads(path.read_text())["enqueued"])
    return 0


def test_after_ctrl_c_the_same_command_goes_on(
    environ: dict[str, str], client: redis.Redis, home: Path, write: Write
) -> None:
    path = write(many(250))
    client.client_pause(60_000, all=False)  # of all that writes
    with start(environ, path) as process:
        # Its first write waits; flag "b" says so.
        eventually(lambda: any("b" in one["flags"] for one in client.client_list()))
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate()
    client.client_unpause()
    assert (process.returncode, json.loads(out)["finished"]) == (130, False)
    assert errors == (
        "smsq: stopped; 0 rows are enqueued. The same command goes on with the rest, and "
        "enqueues no row twice\n"
    )
    code, found, _ = send_file(environ, path)
    assert (code, found["enqueued"]) == (0, 250)
    assert_each_once(client, found, 250)


@pytest.mark.parametrize("option", ["--dry-run", "--yes"])
def test_a_report_that_nobody_reads_is_no_fault_of_the_disk(
    environ: dict[str, str], client: redis.Redis, write: Write, option: str
) -> None:
    path = write(many(3))
    reader, out = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "smsq_worker", "send-file", str(path), option]
    done = subprocess.run(
        command, env=environ, stdout=out, stderr=subprocess.PIPE, timeout=60, check=False
    )
    os.close(out)
    assert (done.returncode, done.stderr) == (1, b"")
    assert len(messages(client)) == (3 if option == "--yes" else 0)


def test_ctrl_c_while_stdin_is_read_says_how_far_it_came(
    environ: dict[str, str], client: redis.Redis, home: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "smsq_worker", "send-file", "-", "--key-prefix", "k"],
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stderr
        process.stdin.write(many(150))
        process.stdin.flush()
        eventually(lambda: noted(home))
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert "stopped; 100 rows are enqueued. The same input" in process.stderr.read()
    code, found, _ = from_stdin(environ, many(150), "--key-prefix", "k")
    assert (code, found["enqueued"], found["before"]) == (0, 150, 100)
    assert_each_once(client, found, 150)


def assert_each_once(client: redis.Redis, found: dict[str, Any], count: int) -> None:
    sent = Counter(phone for phone, _ in messages(client).values())
    assert len(sent) == count
    assert set(sent.values()) == {1}
    ids = Path(found["ids"]).read_text().split()
    assert len(ids) == count
    assert set(ids) == set(messages(client))


def test_a_batch_in_doubt_is_enqueued_once(
    environ: dict[str, str], client: redis.Redis, home: Path, write: Write
) -> None:
    path = write(many(250))
    killed = run(environ | {"SMSQ_TEST_KILL_AT": "after entry"}, "send-file", str(path))
    assert killed.returncode == -signal.SIGKILL
    assert len(messages(client)) == 100
    assert noted(home) == 0
    code, found, _ = send_file(environ, path)
    assert (code, found["enqueued"], found["before"]) == (0, 250, 100)
    assert_each_once(client, found, 250)


def test_kill_9_at_any_moment_loses_nothing_and_doubles_nothing(
    environ: dict[str, str], client: redis.Redis, home: Path, write: Write
) -> None:
    path = write(many(10_000))
    dice = random.Random(7)
    for _ in range(3):
        goal = noted(home) + dice.randrange(1500)
        with start(environ, path) as process:
            eventually(
                lambda process=process, goal=goal: process.poll() is not None or noted(home) > goal
            )
            process.kill()
            process.communicate()
    # It may have been quicker than we were.
    code, found, done = send_file(environ, path)
    if code == 1:
        assert "was sent already" in done.stderr
        found = {"enqueued": noted(home), "ids": next(home.glob("*.ids"))}
    assert found["enqueued"] == 10_000
    assert_each_once(client, found, 10_000)


def test_a_file_that_changes_while_it_is_sent_stops_the_run(
    client: redis.Redis, settings: Settings, home: Path, write: Write
) -> None:
    path = write(many(250))
    with opened(str(path)) as source, open_checkpoint(home, "x", {}) as one:

        def rows() -> Iterator[Any]:
            for row in Rows(Lines(source.file, None), "x", {}):
                if row.line == 150:
                    with path.open("a") as file:
                        file.write("1")
                yield row

        enqueuer = Enqueuer(one, source, lambda *_: None)
        with pytest.raises(BadFile, match="the file was changed"):
            enqueuer.enqueue(rows(), None, lambda _: None)
        assert (one.progress.enqueued, one.progress.line) == (100, 101)


def test_while_redis_is_away_it_is_said_how_far_it_came(
    environ: dict[str, str], home: Path, write: Write
) -> None:
    environ["SMSQ_REDIS_URL"] = "redis://127.0.0.1:1/0"
    code, found, done = send_file(environ, write(TWO))
    assert (code, found["enqueued"], found["finished"]) == (1, 0, False)
    assert "0 rows are enqueued. The same command goes on" in done.stderr
    code, _, done = send_file(environ, write(TWO), "--dry-run")
    assert (code, done.stdout) == (1, "")


@pytest.fixture
def broken_off(home: Path) -> Iterator[Callable[..., None]]:
    """Return what writes the checkpoint of an interrupted run."""

    def _broken_off(name: str, **changes: Any) -> None:
        with open_checkpoint(home, name, {}) as one:
            one.advance(2, ["id-1"])
        path = home / f"{name}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return _broken_off


def taken_up(home: Path, name: str) -> Checkpoint:
    with open_checkpoint(home, name, {}) as one:
        one.begin()
        return one


def test_keys_that_are_forgotten_are_not_relied_on(
    home: Path, broken_off: Callable[..., None]
) -> None:
    now = datetime.now(UTC).timestamp()
    broken_off("young", updated=now - timedelta(hours=23).total_seconds())
    assert taken_up(home, "young").progress.line == 2
    broken_off("other", options="of another run")
    with pytest.raises(NotAgain, match="up to line 2, with other options"):
        taken_up(home, "other")
    broken_off("old", updated=now - timedelta(hours=25).total_seconds())
    with pytest.raises(NotAgain, match=r"up to line 2, until 20.*forgotten after 24 h"):
        taken_up(home, "old")


def test_ids_that_were_not_noted_are_dropped(home: Path, broken_off: Callable[..., None]) -> None:
    broken_off("one")
    with (home / "one.ids").open("a") as file:
        file.write("id-2\nid-")
    taken_up(home, "one")
    assert (home / "one.ids").read_text() == "id-1\n"


@pytest.mark.parametrize("damage", ["", "[]", '{"line": 1}', "\0"])
def test_a_damaged_note_is_told(home: Path, broken_off: Callable[..., None], damage: str) -> None:
    broken_off("one")
    (home / "one.json").write_text(damage)
    with pytest.raises(BadFile, match="is damaged"):
        taken_up(home, "one")
    broken_off("two")
    (home / "two.ids").write_text("")
    with pytest.raises(BadFile, match="is damaged"):
        taken_up(home, "two")


def test_a_run_anew_that_is_broken_off_is_gone_on_with_by_the_same_command(
    environ: dict[str, str], client: redis.Redis, write: Write
) -> None:
    path = write(many(250))
    assert send_file(environ, path)[0] == 0
    run(environ | {"SMSQ_TEST_KILL_AT": "after entry"}, "send-file", str(path), "--anew")
    assert len(messages(client)) == 350
    code, found, _ = send_file(environ, path, "--anew")
    assert (code, found["enqueued"], found["before"]) == (0, 250, 100)
    assert len(messages(client)) == 500
    # What is finished is begun anew.
    assert send_file(environ, path, "--anew")[1]["before"] == 0
    assert len(messages(client)) == 750

    run(environ | {"SMSQ_TEST_KILL_AT": "after entry"}, "send-file", str(path), "--anew")
    code, _, done = send_file(environ, path, "--anew", "--reference", "x")
    assert code == 1
    assert "with other options; resume with the same ones, or remove " in done.stderr


def test_two_runs_of_one_file_do_not_meet(home: Path) -> None:
    with (
        open_checkpoint(home, "one", {}),
        pytest.raises(NotAgain, match="another run"),
        open_checkpoint(home, "one", {}, anew=True),
    ):
        pass


# --- following --------------------------------------------------------------------------------


def ids_of(home: Path, count: int) -> list[str]:
    def look() -> list[str]:
        return [one for file in home.glob("*.ids") for one in file.read_text().split()]

    return eventually(lambda: ids if len(ids := look()) == count else [])


def test_wait_ends_when_all_is_final_or_held(
    environ: dict[str, str], client: redis.Redis, settings: Settings, home: Path, write: Write
) -> None:
    scene = Scene(client, settings)
    path = write(TWO + f"{THIRD},SMS_1003\n")
    with start(environ, path, "--wait", "--on-ambiguous", "hold") as process:
        one, two, three = ids_of(home, 3)
        scene.go(one)
        scene.record(one, Outcome.ACCEPTED)
        scene.report(one, DELIVRD)
        scene.go(two)
        scene.record(two, Outcome.MAYBE_SENT)
        scene.go(three)
        scene.record(three, Outcome.REFUSED)
        out, errors = process.communicate()
    assert (process.returncode, errors) == (1, "")
    found = json.loads(out)
    assert found["states"] == {"delivered": 1, "held": 1, "failed": 1}

    client.delete(f"smsq:m:{three}")  # as it is when SMSQ_RETENTION_S is over
    code, found, done = send_file(environ, path, "--wait")
    assert (code, done.stderr) == (1, "")
    assert found["states"] == {"delivered": 1, "held": 1, "unknown": 1}
    assert "rows" not in found
    shown = run(environ, "send-file", str(path), "--wait")
    assert "delivered   1\nheld        1\nunknown     1\n" in shown.stdout


def test_after_ctrl_c_wait_follows_again(
    environ: dict[str, str], client: redis.Redis, settings: Settings, home: Path, write: Write
) -> None:
    scene = Scene(client, settings)
    path = write(TWO)
    with start(environ, path, "--wait") as process:
        eventually(lambda: any('"finished": 1' in f.read_text() for f in home.glob("*.json")))
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate()
    assert (process.returncode, json.loads(out)["finished"]) == (130, True)
    assert errors == "smsq: stopped; the messages go on, and --wait follows them again\n"
    for one in ids_of(home, 2):
        scene.go(one)
        scene.record(one, Outcome.ACCEPTED)
        scene.report(one, DELIVRD)
    code, found, _ = send_file(environ, path, "--wait")
    assert (code, found["states"], found["enqueued"]) == (0, {"delivered": 2}, 2)


# --- what it looks like, and what it takes ----------------------------------------------------


def test_progress_is_shown_on_a_terminal(environ: dict[str, str], write: Write) -> None:
    path = write(many(1000))
    for words, shown in (((), True), (("--no-progress",), False)):
        master, slave = pty.openpty()
        with subprocess.Popen(
            [sys.executable, "-m", "smsq_worker", "send-file", str(path), "--anew", *words],
            env=environ | {"TERM": "xterm"},
            stdout=subprocess.PIPE,
            stderr=slave,
        ) as process:
            os.close(slave)
            seen = b""
            try:
                while block := os.read(master, 65536):
                    seen += block
            except OSError:  # Linux' way to say that the other end is closed
                pass
            os.close(master)
            process.communicate()
        assert process.returncode == 0
        assert (b"of 1000" in seen) is shown


def test_memory_does_not_grow_with_the_file(environ: dict[str, str], write: Write) -> None:
    """The sender's own memory, not the server's: what a file ten times as long adds."""
    used = []
    for count in (3_000, 30_000):
        path = write(many(count))
        program = (
            "import resource, sys; from smsq_worker import cli\n"
            "try: cli.main()\n"
            "finally: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, "send-file", str(path), "--no-progress"],
            env=environ,
            capture_output=True,
            text=True,
            check=True,
        )
        used.append(int(done.stderr))
    assert used[1] - used[0] < 10_000  # KiB


# --- what failed ------------------------------------------------------------------------------


FAILED = report_of("MO:0254", "permanent")


def failing(scene: Scene, ids: list[str]) -> None:
    """Let the first be delivered, the second fail, the third expire."""
    one, two, three = ids
    for name in (one, two):
        scene.go(name)
        scene.record(name, Outcome.ACCEPTED)
    scene.report(one, DELIVRD)
    scene.report(two, FAILED)
    scene.run_out_of_ttl(three)


def test_what_failed_is_written_in_the_columns_of_the_file(
    environ: dict[str, str], client: redis.Redis, settings: Settings, home: Path, write: Write
) -> None:
    text = (
        f"姓名备注;手机号;模板;变量\n甲;{PHONE};SMS_1001;{CODE}\n"
        f"=乙;+86 {OTHER};SMS_1001;2\n丙;{THIRD};SMS_1001;3\n"
    ).replace("姓名备注", "备注")
    path = write(text.encode("gb18030"))
    out = path.with_name("failed.csv")
    send_file(environ, path)
    failing(Scene(client, settings), ids_of(home, 3))
    code, found, done = send_file(environ, path, "--wait", "--failed", out)
    assert (code, done.stderr) == (1, "")
    assert found["failed_rows"] == [
        {"line": 3, "state": "failed", "reason": "report:MO:0254"},
        {"line": 4, "state": "expired", "reason": ""},
    ]
    expected = (
        "备注;手机号;模板;变量;line;state;reason\n"
        f"'=乙;'+86 {OTHER};SMS_1001;2;3;failed;report:MO:0254\n"
        f"丙;{THIRD};SMS_1001;3;4;expired;\n"
    )
    assert out.read_text("gb18030") == expected
    assert stat.S_IMODE(out.stat().st_mode) == 0o600

    # The same of the campaign, at any later time, and on any machine that has the file.
    out.unlink()
    done = run(
        environ, *("campaign", "show", found["campaign"], "--failed", str(out), "--file", str(path))
    )
    assert done.stdout.splitlines() == [
        f"2 rows written to {out}",
        f"send again what certainly did not arrive: smsq redo --campaign {found['campaign']}",
    ]
    assert out.read_text("gb18030") == expected
    # It is not sent again by mistake: what may have arrived is among it.
    code, _, done = send_file(environ, out, "--dry-run")
    assert code == 2
    assert "'state'" in done.stderr


def test_without_the_file_the_numbers_of_what_failed_are_masked(
    environ: dict[str, str], client: redis.Redis, settings: Settings, home: Path, write: Write
) -> None:
    path = write(TWO + f"{THIRD},SMS_1003\n")
    send_file(environ, path, "--campaign", "spring", "--reference", "=1")
    ids = ids_of(home, 3)
    failing(Scene(client, settings), ids)
    out = path.with_name("failed.csv")
    assert run(environ, "campaign", "show", "spring", "--failed", str(out)).returncode == 0
    assert list(csv.reader(out.read_text().splitlines())) == [
        ["line", "state", "reason", "phone", "template", "reference", "id"],
        ["3", "failed", "report:MO:0254", "139****9000", "SMS_1002", "'=1", ids[1]],
        ["4", "expired", "", "150****0000", "SMS_1003", "'=1", ids[2]],
    ]
    done = run(
        environ, "send-file", str(path), "--wait", "--campaign", "spring", "--reference", "=1"
    )
    assert done.stdout.splitlines()[-4:] == [
        "  line 3: failed report:MO:0254",
        "  line 4: expired",
        "all of them: smsq campaign show spring --failed out.csv --file FILE",
        "send again what certainly did not arrive: smsq redo --campaign spring",
    ]


def test_what_is_of_another_file_is_counted_and_not_written(
    environ: dict[str, str], client: redis.Redis, settings: Settings, home: Path, write: Write
) -> None:
    path = write(TWO + f"{THIRD},SMS_1003\n")
    send_file(environ, path, "--campaign", "spring")
    failing(Scene(client, settings), ids_of(home, 3))
    other = write(f"phone,template\n\n{THIRD},SMS_1002\n{THIRD},SMS_1003\n", "other.csv")
    out = path.with_name("failed.csv")
    words = ("campaign", "show", "spring", "--failed", str(out), "--file", str(other))
    done = run(environ, *words)
    assert done.stdout.splitlines()[:2] == [
        f"1 row written to {out}",
        "1 more is of no row of this file; without the file it is listed by its mask",
    ]
    assert out.read_text().splitlines()[1:] == [f"{THIRD},SMS_1003,4,expired,"]
    done = run(environ, *words[:4], str(other), *words[5:])
    assert (done.returncode, "--failed must not be the file" in done.stderr) == (2, True)
    assert other.read_text().startswith("phone,template\n")


def test_what_came_from_a_pipe_is_told_by_its_line(
    environ: dict[str, str], client: redis.Redis, settings: Settings, tmp_path: Path
) -> None:
    text = f"phone,template\n{PHONE},SMS_1\n{OTHER},SMS_2\n{THIRD},SMS_3\n"
    given = ("send-file", "-", "--key-prefix", "june", "--campaign", "spring")
    assert unmasked_run(environ, *given, stdin=text).returncode == 0
    found = client.zrange("smsq:timers", 0, -1)
    rows = {client.hget(f"smsq:m:{one}", "row"): one for one in found}
    failing(Scene(client, settings), [rows[line] for line in "234"])
    out = tmp_path / "failed.csv"
    run(environ, "campaign", "show", "spring", "--failed", str(out))
    assert [row[:2] for row in csv.reader(out.read_text().splitlines())][1:] == [
        ["3", "failed"],
        ["4", "expired"],
    ]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("send-file", "x.csv", "--failed", "y.csv"), "--failed goes with --wait"),
        (("campaign", "show", "spring", "--file", "x.csv"), "--file goes with --failed"),
        (("campaign", "show", "spring", "--failed", "y", "--json"), "--failed takes neither"),
    ],
)
def test_what_does_not_go_together_is_refused(
    environ: dict[str, str], words: tuple[str, ...], why: str
) -> None:
    done = run(environ, *words)
    assert (done.returncode, why in done.stderr) == (2, True)


def test_the_campaign_of_a_file_never_looks_like_a_phone_number(write: Write) -> None:
    with opened(str(write(TWO))) as source:
        bulk = BulkFile(source, {}, None, "")
        assert bulk._scan
        bulk._scan = replace(bulk._scan, digest="13800138")
        name = bulk.campaign("00013800")
    assert parse_campaign(name) == name == "numbers.csv-hjogghjo-ggghjogg"
