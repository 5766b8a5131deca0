"""`smsq suppressed`: the list, its changes, and its way as CSV from one ledger to another."""

from __future__ import annotations

import csv
import json
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis

import smsq
from harness.cli import PHONE, run, unmasked
from smsq import keys
from smsq.contract import Lane
from smsq_worker.ledger import Ledger
from smsq_worker.ledger.admin import Control
from smsq_worker.ledger.suppressed import Suppressed

OTHER = "13900139000"
THIRD = "15000150000"
HEADER = "phone,reason,since,until"
EXPORTED = f"{HEADER},lanes"
TEN_YEARS = timedelta(days=3650)


def suppressed(environ: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command that shows no number."""
    return run(environ, "suppressed", *words)


def known(control: Control) -> dict[str, Suppressed]:
    return {row.phone: row for row in control.suppressed()}


def suppress_by_report(client: redis.Redis, phone: str, who: str) -> None:
    """Suppress as a report does; "" is the phone where only its digest is known."""
    now = client.time()[0] * 1000
    entry = {"phone": phone, "reason": "MA:0022", "since": now, "until": now + 9_000_000}
    client.hset(keys.SUPPRESSED, keys.phone_hash(who), json.dumps(entry))


# --- the list and its changes ---------------------------------------------------------------


def test_an_added_number_gets_nothing_until_it_is_removed(
    environ: dict[str, str], control: Control, ledger: Ledger
) -> None:
    done = suppressed(environ, "add", "+86 138-0013-8000", OTHER, "--reason", "asked for it")
    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout.splitlines()
    assert first.startswith("138****8000  suppressed until it is removed, at the latest until 20")
    assert second.startswith("139****9000  suppressed until it is removed, at the latest until 20")
    row = known(control)[PHONE]
    assert row.reason == "asked for it"
    assert abs(row.until - row.since - TEN_YEARS) < timedelta(minutes=5)

    refused = smsq.send_sms.delay(PHONE, "SMS_1001", "1")
    ledger.admit(refused.id)
    status = smsq.status(refused.id)
    assert status is not None
    assert (status.state, status.reason) == ("failed", "local:suppressed")

    done = suppressed(environ, "remove", PHONE)
    assert (done.returncode, done.stdout) == (0, "138****8000  removed\n")
    assert set(known(control)) == {OTHER}


@pytest.mark.parametrize("until", ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59.999999Z"])
def test_for_ever_is_a_time_that_every_zone_can_show(
    environ: dict[str, str], control: Control, until: str
) -> None:
    environ["TZ"] = "Asia/Shanghai"
    done = suppressed(environ, "add", PHONE, "--until", until)
    assert (done.returncode, done.stderr) == (0, "")
    assert "until 9999-12-31 23:59:59+00:00" in done.stdout
    assert "9999-12-31 23:59:59+00:00" in suppressed(environ, "list").stdout


def test_removing_what_is_not_there_ends_with_1(environ: dict[str, str], control: Control) -> None:
    control.suppress(OTHER, "operator", datetime.now(UTC) + TEN_YEARS)
    done = suppressed(environ, "remove", PHONE, OTHER)
    assert done.returncode == 1
    assert done.stdout == "138****8000  was not suppressed\n139****9000  removed\n"
    assert not known(control)


@pytest.mark.parametrize("words", [(), ("list",)])
def test_the_list_is_masked(
    environ: dict[str, str], client: redis.Redis, control: Control, words: tuple[str, ...]
) -> None:
    assert suppressed(environ, *words).stdout == "0 suppressed\n"
    assert json.loads(suppressed(environ, *words, "--json").stdout) == []
    control.suppress(PHONE, "投诉", datetime.now(UTC) + TEN_YEARS)
    suppress_by_report(client, "", THIRD)
    listed = suppressed(environ, *words)
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "138****8000  " in listed.stdout
    assert "投诉\n" in listed.stdout
    assert "(digest)  " in listed.stdout
    assert listed.stdout.endswith("2 suppressed\n")
    rows = json.loads(suppressed(environ, *words, "--json").stdout)
    assert {(row["phone"], row["reason"]) for row in rows} == {
        ("138****8000", "投诉"),
        ("(digest)", "MA:0022"),
    }
    assert all(datetime.fromisoformat(row["until"]).tzinfo for row in rows)


def test_json_may_be_said_before_list_too(environ: dict[str, str], client: redis.Redis) -> None:
    assert suppressed(environ, "--json", "list").stdout == "[]\n"


@pytest.mark.parametrize(
    ("words", "until"),
    [
        (("--until", "2099-01-31"), datetime(2099, 1, 31, tzinfo=UTC)),
        (("--until", "2099-01-31T08:00:00+08:00"), datetime(2099, 1, 31, tzinfo=UTC)),
        (("--until", "2099-01-31T00:00:00Z"), datetime(2099, 1, 31, tzinfo=UTC)),
    ],
)
def test_a_number_is_suppressed_until_a_date(
    environ: dict[str, str], control: Control, words: tuple[str, ...], until: datetime
) -> None:
    assert suppressed(environ, "add", PHONE, *words).returncode == 0
    assert known(control)[PHONE].until == until


def test_a_number_is_suppressed_for_days(environ: dict[str, str], control: Control) -> None:
    assert suppressed(environ, "add", PHONE, "--days", "30").returncode == 0
    row = known(control)[PHONE]
    assert abs(row.until - row.since - timedelta(days=30)) < timedelta(minutes=5)


def test_a_number_is_suppressed_in_some_lanes(
    environ: dict[str, str], control: Control, ledger: Ledger
) -> None:
    done = suppressed(environ, "add", PHONE, "--lane", "bulk", "--lane", "notice")
    assert done.stdout.startswith(
        "138****8000  suppressed in lane bulk and notice until it is removed"
    )
    assert suppressed(environ).stdout.splitlines()[0].endswith("  operator in lane notice and bulk")
    (row,) = json.loads(suppressed(environ, "--json").stdout)
    assert row["lanes"] == ["notice", "bulk"]
    for lane, answer in (("otp", "sending"), ("bulk", "failed")):
        message = smsq.send_sms.delay(PHONE, "SMS_1001", "1", lane=lane)
        ledger.admit(message.id)
        status = smsq.status(message.id)
        assert status is not None
        assert status.state == answer
    assert suppressed(environ, "remove", PHONE, "--lane", "bulk").returncode == 0
    assert suppressed(environ, "remove", PHONE, "--lane", "bulk").returncode == 1
    assert known(control)[PHONE].lanes == (Lane.NOTICE,)


# Words after `suppressed`: what stderr must hold.
REFUSED = {
    "short": (("add", "1380013800"), "phone must be a mainland mobile number"),
    "unquoted": (("add", "138", "0013", "8000"), "PHONE 1 of 3: phone must be"),
    "second": (("add", PHONE, "12345"), "PHONE 2 of 2: phone must be"),
    "remove": (("remove", "12345"), "phone must be"),
    "no-text": (("add", "\udcff"), "phone must be"),
    "nobody": (("add",), "Missing argument 'PHONE...'"),
    "days": (("add", PHONE, "--days", "0"), "0 is not in the range 1<=x<=3650"),
    "days-word": (("add", PHONE, "--days", "many"), "'--days'"),
    "until-past": (("add", PHONE, "--until", "2020-01-31"), "--until must be in the future"),
    "until-word": (("add", PHONE, "--until", "tomorow"), "--until must be an ISO 8601 time"),
    "until-no-day": (("add", PHONE, "--until", "2099-02-30"), "--until must be an ISO 8601 time"),
    "until-naive": (("add", PHONE, "--until", "2099-01-31T08:00"), "must be an ISO 8601 time with"),
    "until-overflow": (("add", PHONE, "--until", "9999-12-31T23:00-08:00"), "must be an ISO 8601"),
    "both": (
        ("add", PHONE, "--days", "3", "--until", "2099-01-31"),
        "either --days or --until, not both",
    ),
    "reason": (("add", PHONE, "--reason", "a\nb"), "printable text of at most 200 characters"),
    "lane": (("add", PHONE, "--lane", "otpp"), "'otpp' is not one of 'otp', 'notice', 'bulk'"),
    "misspelt": (("ad", PHONE), "No such command 'ad'"),
    "no-file": (("import", "nowhere.csv"), "No such file"),
    "no-folder": (("export", "nowhere/at/all.csv"), "cannot be written: No such file"),
}


@pytest.mark.parametrize(("words", "told"), REFUSED.values(), ids=REFUSED)
def test_a_bad_argument_is_refused_with_2_and_nothing_is_changed(
    environ: dict[str, str], client: redis.Redis, words: tuple[str, ...], told: str
) -> None:
    done = suppressed(environ, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert client.dbsize() == 0


# --- import ---------------------------------------------------------------------------------

BOM = b"\xef\xbb\xbf"
TAKEN = {
    "numbers": f"phone\n{PHONE}\n{OTHER}\n".encode(),
    "all-columns": f"{HEADER}\n{PHONE},投诉,2026-01-31,2099-01-31\n{OTHER},,,\n".encode(),
    "bom": BOM + f"phone\r\n{PHONE}\r\n{OTHER}\r\n".encode(),
    "no-last-newline": f"phone\n{PHONE}\n{OTHER}".encode(),
    "other-order": f"until,phone\n2099-01-31,{PHONE}\n,{OTHER}\n".encode(),
    "fewer-fields": f"{HEADER}\n{PHONE}\n{OTHER},投诉\n".encode(),
    "blanks": f"Phone , reason\n +86 138 0013 8000 ,\n\n{OTHER}, x \n\n".encode(),
    "quoted": f'"phone","reason"\n"{PHONE}","a, b"\n"139-0013-9000",""\n'.encode(),
    "semicolons": f"phone;reason\n{PHONE};x\n{OTHER};\n".encode(),
    "gbk": f"联系电话,原因\n{PHONE},投诉\n{OTHER},\n".encode("gbk"),
    "two-boms": BOM + BOM + f"Phone Number\n{PHONE}\n{OTHER}\n".encode(),
    "empty-columns": f"phone,,\n{PHONE},,,,\n{OTHER}\n,,\n".encode(),
    "json-lines": f'{{"phone": "{PHONE}"}}\n{{"手机": "{OTHER}", "reason": "x"}}\n'.encode(),
    "twice": f"phone,reason\n{PHONE},a\n{OTHER},b\n{PHONE},c\n".encode(),
}


@pytest.mark.parametrize("text", TAKEN.values(), ids=TAKEN)
def test_a_list_is_imported(
    environ: dict[str, str], control: Control, tmp_path: Path, text: bytes
) -> None:
    file = tmp_path / "numbers.csv"
    file.write_bytes(text)
    done = suppressed(environ, "import", str(file))
    assert (done.returncode, done.stdout, done.stderr) == (0, "2 numbers imported\n", "")
    assert set(known(control)) == {PHONE, OTHER}


def test_a_list_comes_from_stdin_with_what_it_says(
    environ: dict[str, str], control: Control
) -> None:
    control.suppress(PHONE, "operator", datetime.now(UTC) + timedelta(days=1))
    text = f"{HEADER}\n{PHONE},投诉,2026-01-31T08:00:00+08:00,2099-01-31\n{OTHER},,,2020-01-01\n"
    done = unmasked(environ, "import", "-", stdin=text)
    assert done.returncode == 0
    assert done.stdout == b"1 number imported, 1 left out: their time is over\n"
    assert known(control) == {
        PHONE: Suppressed(
            PHONE, "投诉", datetime(2026, 1, 31, tzinfo=UTC), datetime(2099, 1, 31, tzinfo=UTC)
        )
    }


def test_every_bad_line_is_named_and_nothing_is_imported(
    environ: dict[str, str], client: redis.Redis
) -> None:
    lines = [
        HEADER,
        f"{PHONE},good,,",
        "12345,short,,",
        "",
        f"{OTHER},when,soon,",
        f"{OTHER},when,,2099-01-31T08:00:00",
        f"{OTHER},{'x' * 201},,",
        f"{OTHER},more,,,x,",
        ",nobody,,",
        "1.38E+10,spreadsheet,,",
        f"{OTHER},good,,",
    ]
    text = "\n".join(lines).encode() + b"\n" + OTHER.encode() + b",\xcd\xb6\xff\xff,,\n"
    done = unmasked(environ, "import", "-", stdin=text)
    assert (done.returncode, done.stdout) == (1, b"")
    *told, last = done.stderr.decode().splitlines()
    assert last == "nothing was imported"
    assert [one.partition(": ")[0] for one in told] == [
        *(f"line {n}" for n in (3, 5, 6, 7, 8, 9, 10)),
        "line 12 is not GB18030 (GBK), as the file was until there",
    ]
    assert "phone must be a mainland mobile number" in told[0]
    assert "since must be an ISO 8601 time with an offset" in told[1]
    assert "until must be an ISO 8601 time with an offset" in told[2]
    assert "reason must be printable text of at most 200 characters" in told[3]
    assert "6 fields, and the header has 4" in told[4]
    assert "spreadsheets and pandas rewrite it" in told[6]
    assert OTHER not in done.stderr.decode()
    assert client.dbsize() == 0


BAD_LISTS = {
    "no-header": f"{PHONE}\n".encode(),
    "misspelt-header": f"phone,reson\n{PHONE},x\n".encode(),
    "a-campaign": f"phone,code\n{PHONE},x\n".encode(),
}


@pytest.mark.parametrize("text", BAD_LISTS.values(), ids=BAD_LISTS)
def test_what_has_no_header_is_no_list(
    environ: dict[str, str], client: redis.Redis, text: bytes
) -> None:
    done = unmasked(environ, "import", "-", stdin=text)
    assert (done.returncode, done.stdout) == (1, b"")
    first, last = done.stderr.decode().splitlines()
    assert first.endswith("allowed are phone, or 手机号, 电话, and reason, since, until, lanes")
    assert last == "nothing was imported"
    assert client.dbsize() == 0


NO_LISTS = {
    "nothing": (b"", "the file is empty"),
    "utf-16": (f"phone\n{PHONE}\n".encode("utf-16"), "the file is in UTF-16; save it as CSV"),
    "column-twice": (f"phone,电话\n{PHONE},{OTHER}\n".encode(), "more than one column holds"),
    "xlsx": (b"PK\x03\x04...", "the file is a spreadsheet or an archive"),
    "not-csv": (b"\x00\xff\x00\n", "the file is binary"),
    "cr-alone": (f"phone\r{PHONE}\r".encode(), "the file ends its lines with CR alone"),
}


@pytest.mark.parametrize(("text", "told"), NO_LISTS.values(), ids=NO_LISTS)
def test_what_send_file_does_not_read_is_no_list(
    environ: dict[str, str], client: redis.Redis, tmp_path: Path, text: bytes, told: str
) -> None:
    file = tmp_path / "list.csv"
    file.write_bytes(text)
    for done in (
        unmasked(environ, "import", str(file)),
        unmasked(environ, "import", "-", stdin=text),
    ):
        assert (done.returncode, done.stdout) == (1, b"")
        first, last = done.stderr.decode().splitlines()
        assert first.startswith(told)
        assert last == "nothing was imported"
    assert client.dbsize() == 0


def test_a_quote_that_does_not_end_is_named(environ: dict[str, str], client: redis.Redis) -> None:
    text = f'{HEADER}\n{PHONE},"endless,,\n{OTHER},,,\n'
    done = unmasked(environ, "import", "-", stdin=text)
    assert done.returncode == 1
    assert b"line 2: a quote is opened in this row and never closed" in done.stderr
    assert client.dbsize() == 0


# --- export ---------------------------------------------------------------------------------


def test_an_export_is_imported_as_the_same_list(
    environ: dict[str, str], client: redis.Redis, control: Control, tmp_path: Path
) -> None:
    for n in range(1500):
        reason = ('a, "b"', "投诉 🙂", "operator", "=cmd|' /C calc'!A0", "'-1", "@x")[n % 6]
        control.suppress(f"138{n:08}", reason, datetime.now(UTC) + timedelta(days=n + 1))
    suppress_by_report(client, OTHER, OTHER)
    before = known(control)
    file = tmp_path / "backup.csv"
    done = suppressed(environ, "export", str(file))
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "1501 numbers exported\n"
    with file.open(newline="", encoding="utf-8") as written:
        assert not [cell for row in csv.reader(written) for cell in row if cell[:1] in set("=+-@")]
    client.delete(keys.SUPPRESSED)
    assert suppressed(environ, "import", str(file)).stdout == "1501 numbers imported\n"
    assert known(control) == before


def test_lanes_come_back_from_an_export(environ: dict[str, str], control: Control) -> None:
    until = datetime(2099, 1, 31, tzinfo=UTC)
    control.suppress(PHONE, "no advertisements", until, [Lane.BULK])
    control.suppress(PHONE, "wrong number", until, [Lane.OTP, Lane.NOTICE])
    control.suppress(OTHER, "asked for it", until)
    before = set(control.suppressed())
    assert len(before) == 3
    text = unmasked(environ, "export").stdout.decode()
    for phone in (PHONE, OTHER):
        control.unsuppress(phone)
    assert unmasked(environ, "import", "-", stdin=text).stdout == b"2 numbers imported\n"
    assert set(control.suppressed()) == before


def test_an_import_says_which_lanes_there_are(environ: dict[str, str]) -> None:
    done = unmasked(environ, "import", "-", stdin=f"phone,lanes\n{PHONE},bulk otpp\n")
    assert b"line 2: lanes must be some of otp notice bulk with blanks" in done.stderr


def test_an_export_goes_to_stdout_without_those_of_whom_only_a_digest_is_known(
    environ: dict[str, str], client: redis.Redis, control: Control
) -> None:
    control.suppress(PHONE, "投诉", datetime(2099, 1, 31, tzinfo=UTC))
    suppress_by_report(client, "", OTHER)
    done = unmasked(environ | {"PYTHONIOENCODING": "ascii"}, "export")
    assert done.returncode == 0
    header, row = done.stdout.decode().splitlines()
    assert header == EXPORTED
    phone, reason, since, until, lanes = row.split(",")
    assert (phone, reason, until, lanes) == (PHONE, "投诉", "2099-01-31T00:00:00+00:00", "")
    assert datetime.fromisoformat(since).utcoffset() == timedelta(0)
    assert done.stderr == b"1 number exported, 1 left out: only their digests are known\n"


@pytest.mark.parametrize("there", [False, True])
def test_an_exported_file_is_for_its_owner_alone(
    environ: dict[str, str], client: redis.Redis, tmp_path: Path, there: bool
) -> None:
    file = tmp_path / "backup.csv"
    if there:
        file.write_text("an older one\n")
        file.chmod(0o644)
    assert suppressed(environ, "export", str(file)).returncode == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text() == f"{EXPORTED}\n"
    assert list(tmp_path.iterdir()) == [file]


def test_an_export_is_not_written_through_a_symlink(
    environ: dict[str, str], client: redis.Redis, tmp_path: Path
) -> None:
    theirs, link = tmp_path / "theirs", tmp_path / "backup.csv"
    theirs.write_text("theirs")
    link.symlink_to(theirs)
    done = suppressed(environ, "export", str(link))
    assert (done.returncode, done.stdout) == (2, "")
    assert "backup.csv cannot be written: it is a symbolic link to a file" in done.stderr
    assert theirs.read_text() == "theirs"
    # What a shell opens is for the shell to answer for.
    piped = unmasked(environ, "export", "/dev/stdout")
    assert piped.stdout.decode() == f"{EXPORTED}\n"


def test_without_redis_an_export_leaves_an_older_file_as_it_was(
    environ: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "backup.csv"
    file.write_text("an older one\n")
    done = suppressed(environ | {"SMSQ_REDIS_URL": "redis://127.0.0.1:1/0"}, "export", str(file))
    assert done.returncode == 1
    assert "did not answer" in done.stderr
    assert file.read_text() == "an older one\n"
    assert list(tmp_path.iterdir()) == [file]
