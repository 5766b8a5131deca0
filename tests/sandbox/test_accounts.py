"""Several accounts on one machine, by real HTTP: each by itself, and switched while it runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner

from harness.receiver import Receiver
from harness.sandboxes import serving
from harness.waiting import eventually
from smsq_worker.cli.commands.sandbox import sandbox as sandbox_command
from smsq_worker.sandbox import MOODS, Sandbox, SandboxAccounts

PHONE = "13900008000"
SECRETS = {"main": "sEcReT-main", "backup": "sEcReT-backup"}
IMPATIENT_S = 0.3
"""Only as long as shows that no answer comes; any that does comes at once."""


class Played:
    """Two accounts that run, and the address of their switches."""

    def __init__(self, accounts: SandboxAccounts, switches: str) -> None:
        self.accounts, self.switches = accounts, switches

    def send(self, account: str, secret: str = "", phone: str = PHONE) -> requests.Response:
        query = {"module": "sms", "file": "send", "action": "send"}
        return requests.get(
            self.accounts.urls[account],
            params=query | {"mobphone": phone, "smstemplate": "SMS_1"},
            headers={"Authorization": secret or SECRETS[account], "Connection": "close"},
            timeout=IMPATIENT_S,
        )

    def switch(self, account: str, mood: str) -> requests.Response:
        return requests.post(f"{self.switches}/sandbox/accounts/{account}/{mood}", timeout=10)


def _two(log: Path | None = None, **reports: str) -> SandboxAccounts:
    return SandboxAccounts(
        ("127.0.0.1", 0),
        [
            Sandbox(
                secret=secret,
                report_url=reports.get(name),
                bind=("127.0.0.1", 0),
                report_delay_s=0.01,
                account=name,
                log_path=log,
            )
            for name, secret in SECRETS.items()
        ],
    )


@pytest.fixture
def played() -> Iterator[Played]:
    accounts = _two()
    with serving(accounts) as running:
        yield Played(accounts, running.url)


def test_each_has_its_secret_and_its_journal(tmp_path: Path) -> None:
    accounts, log = _two(tmp_path / "log"), tmp_path / "log"
    with serving(accounts) as running:
        played = Played(accounts, running.url)
        assert played.send("main").json()["code"] == 200
        assert played.send("backup", SECRETS["main"]).json()["msg"] == "校验失败"
        assert played.send("backup").json()["code"] == 200
        told = requests.get(f"{running.url}/sandbox/accounts", timeout=10).json()
    assert {name: one["accepted"] for name, one in told.items()} == {"main": 1, "backup": 1}
    assert told["backup"]["requests"] == 2
    written = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["account"] for line in written] == ["main", "backup"]


def test_each_reports_to_its_own_address() -> None:
    with Receiver() as main, Receiver() as backup:
        accounts = _two(main=main.url, backup=backup.url)
        with serving(accounts) as running:
            played = Played(accounts, running.url)
            mids = [played.send(name).json()["mid"] for name in SECRETS]
            played.switch("backup", "no-balance")
            last = played.send("backup").json()["mid"]
            eventually(lambda: len(main.posts) + len(backup.posts) == 3)
    assert main.bodies == [{"mid": mids[0], "stat": "DELIVRD"}]
    assert {"mid": last, "stat": "MA:0015"} in backup.bodies


@pytest.mark.parametrize("mood", MOODS)
def test_one_is_switched_while_the_other_goes_on(played: Played, mood: str) -> None:
    told = played.switch("main", mood).json()
    assert told["behaviour"] == mood
    match mood:
        case "normal" | "no-balance":
            assert played.send("main").json()["code"] == 200
        case "down":
            with pytest.raises(requests.ConnectionError, match="refused"):
                played.send("main")
        case "silent":
            with pytest.raises(requests.ReadTimeout):
                played.send("main")
        case "503":
            assert played.send("main").status_code == 503
        case "refused":
            assert played.send("main").json()["code"] == 400
        case "garbage":
            assert played.send("main").text.startswith("<html>")
    assert played.send("backup").json()["code"] == 200
    assert played.switch("main", "normal").status_code == 200
    assert played.send("main").json()["code"] == 200


def test_a_wrong_switch_is_told_what_there_is(played: Played) -> None:
    answer = played.switch("mian", "down")
    assert (answer.status_code, "main, backup" in answer.text) == (404, True)
    answer = played.switch("main", "dwon")
    assert (answer.status_code, ", ".join(MOODS) in answer.text) == (404, True)


FILE = """
[accounts.main]
url = "{main}"
secret = "sEcReT-main"
report_token = "tOkEn-main-0123456789"
[accounts.backup]
url = "http://127.0.0.1:8092/"
{more}
secret = "sEcReT-backup"
report_token = "tOkEn-backup-0123456789"
[[routes]]
accounts = ["main", "backup"]
"""
UNPLAYABLE = {
    "elsewhere": ("https://sms.example/", "", "accounts.main: its url is https://sms.example/"),
    "no-port": ("http://127.0.0.1/", "", "a port of its own, like http://127.0.0.1:8091/"),
    "same-port": (
        "http://127.0.0.1:8092/",
        "",
        "accounts.backup: its url has the port of accounts.main",
    ),
    "switches": (
        "http://127.0.0.1:8090/",
        "",
        "accounts.main: its url has the port of SMSQ_SANDBOX_BIND",
    ),
}


@pytest.mark.parametrize(("main", "more", "told"), UNPLAYABLE.values(), ids=UNPLAYABLE)
def test_what_cannot_be_played_is_told(tmp_path: Path, main: str, more: str, told: str) -> None:
    file = tmp_path / "accounts.toml"
    file.write_text(FILE.format(main=main, more=more))
    file.chmod(0o600)
    done = CliRunner().invoke(sandbox_command, ["--accounts", str(file)])
    assert done.exit_code != 0
    assert told in f"{done.output}{done.exception}"
