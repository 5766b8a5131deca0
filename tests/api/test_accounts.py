"""Reports of several accounts: each has its own address, whose token says whose they are."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import pytest
import redis
import requests

from harness.accounts import (
    BACKUP,
    BACKUP_SECRET,
    BACKUP_TOKEN,
    MAIN,
    ROUTES,
    accounts_file,
    backup,
)
from harness.api import MID, PATIENCE_S, REPORT, Serve, inbox, serving_here
from harness.credentials import TOKEN
from harness.paths import ROOT
from harness.scene import Scene
from smsq import SettingsError
from smsq_worker.api.body import MAX_BODY
from smsq_worker.api.head import MAX_HEAD
from smsq_worker.api.report_addresses import PARTS, ReportAddresses, Reporter
from smsq_worker.config.settings import Settings
from smsq_worker.delivery_reports.coalescer import WriteCoalescer
from smsq_worker.domain.states import Outcome
from smsq_worker.vendors.oneoc.vendor import OneOc
from smsq_worker.vendors.vendor import Reports

TWILIO = ROOT / "examples" / "vendors" / "twilio.toml"
FIELDS = {"MessageSid": MID, "MessageStatus": "delivered"}
AUTH_TOKEN = "auth-token-55"


@pytest.fixture
def serve(client: redis.Redis, environ: Mapping[str, str], tmp_path: Path) -> Serve:
    return partial(serving_here, client, environ, tmp_path)


def report(url: str, token: str, method: str = "POST", **sent: object) -> requests.Response:
    """Report to an account's address."""
    told = sent or {"json": REPORT}
    address = f"{url}/reports/{token}"
    return requests.request(method, address, timeout=PATIENCE_S, **told)  # type: ignore[arg-type]


def signed(url: str, token: str = AUTH_TOKEN) -> dict[str, object]:
    """Give a report as the vendor of that description signs it."""
    text = f"{url}/reports/{BACKUP_TOKEN}" + "".join(map("".join, sorted(FIELDS.items())))
    digest = hmac.new(token.encode(), text.encode(), hashlib.sha1).digest()
    headers = {"X-Twilio-Signature": base64.b64encode(digest).decode()}
    return {"data": FIELDS, "headers": headers}


def test_the_token_says_whose_a_report_is(
    serve: Serve, client: redis.Redis, tmp_path: Path
) -> None:
    file = accounts_file(tmp_path, MAIN, backup(), ROUTES)
    with serve(SMSQ_ACCOUNTS_FILE=file) as url:
        for token in (TOKEN, BACKUP_TOKEN):
            answer = report(url, token)
            assert (answer.status_code, answer.json()) == (200, {"code": 200, "msg": "ok"})
        assert report(url, f"{BACKUP_TOKEN}0").status_code == 404
        assert inbox(client) == {(MID, "DELIVRD"), (f"{MID} backup", "DELIVRD")}


def test_a_message_shows_the_names_of_its_accounts(
    serve: Serve, client: redis.Redis, tmp_path: Path, environ: Mapping[str, str]
) -> None:
    several = dict(environ) | {
        "SMSQ_ACCOUNTS_FILE": accounts_file(tmp_path, MAIN, backup(), ROUTES)
    }
    scene = Scene(client, Settings.load(several))
    scene.call("m1", Outcome.ACCEPTED)
    scene.control.pause("account", "")
    scene.enter("m2")
    scene.accept("m2", account=BACKUP)
    secret = "relay-secret-0123456789"
    for environment, names in ((several, ["main", "backup"]), ({}, [None, "backup"])):
        with serve(**environment | {"SMSQ_RELAY_SECRET": secret}) as url:
            headers = {"Authorization": secret}
            for name, account in zip(("m1", "m2"), names, strict=True):
                address = f"{url}/messages/{name}"
                found = requests.get(address, headers=headers, timeout=PATIENCE_S).json()
                assert found["attempts"][0].get("account") == account
            schemas = requests.get(f"{url}/openapi.json", timeout=PATIENCE_S).json()["components"]
            described = schemas["schemas"]["Attempt"]["properties"]
            assert ("account" in described) == bool(environment)


def test_a_vendor_may_report_in_the_query(
    serve: Serve, client: redis.Redis, tmp_path: Path
) -> None:
    with serve(SMSQ_ACCOUNTS_FILE=accounts_file(tmp_path, MAIN, backup(), ROUTES)) as url:
        assert report(url, BACKUP_TOKEN, "GET", params=REPORT).status_code == 200
        assert report(url, BACKUP_TOKEN, "HEAD", params=REPORT).status_code == 405
        methods = requests.get(f"{url}/openapi.json", timeout=PATIENCE_S).json()["paths"]
    assert set(methods["/reports/{token}"]) == {"get", "post"}
    assert inbox(client) == {(f"{MID} backup", "DELIVRD")}


def test_each_vendor_reads_its_reports_and_is_answered_in_its_own_way(
    serve: Serve, client: redis.Redis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    described = TWILIO.read_text(encoding="utf-8").replace(', origin = "{settings.origin}"', "")
    (tmp_path / "vendor.toml").write_text(described)
    table = backup(vendor="http", description="vendor.toml", secret=f"AC1:{AUTH_TOKEN}")
    table += 'settings = { service = "MG1" }\n'
    with serve(SMSQ_ACCOUNTS_FILE=accounts_file(tmp_path, MAIN, table, ROUTES)) as url:
        assert report(url, BACKUP_TOKEN, **signed(url)).status_code == 200
        forged = report(url, BACKUP_TOKEN, **signed(url, "another"))
        assert forged.status_code == 403
        # Also of what is refused before anybody looks at it.
        for answer, status in (
            (report(url, BACKUP_TOKEN, data=b"x" * (MAX_BODY + 1)), 413),
            (report(url, BACKUP_TOKEN, "DELETE"), 405),
        ):
            assert (answer.status_code, answer.text) == (status, "not a report")
        assert report(url, TOKEN, "DELETE").json()["code"] == 405
        assert report(url, f"{BACKUP_TOKEN}x", "DELETE").json()["code"] == 405
        # The default account's gateway goes on as before.
        assert report(url, TOKEN, data=b"no report").json()["code"] == 400
    assert inbox(client) == {(f"{MID} backup", "DELIVRD")}
    told = [line for line in caplog.messages if "was refused with" in line]
    assert [re.sub(r"from \S+ was refused with|:.*", "", line) for line in told] == [
        "a report of account backup  403 (signature)",
        "a report of account backup  413 (size)",
        "a report of account backup  405 (method)",
        "a report of account main  405 (method)",
        "a report of account main  400 (malformed)",
    ]


@pytest.mark.parametrize("mid", [f"{MID} backup", "", "a\nb", "t" * 65, "é"])
def test_no_vendor_reports_on_what_is_another_accounts(
    serve: Serve,
    client: redis.Redis,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mid: str,
) -> None:
    # One that another package brings, and that does not look at its mids.
    found = Reports(((mid, "DELIVRD"), (MID, "DELIVRD")), 0)
    monkeypatch.setattr(OneOc, "read_reports", lambda *_: found)
    with serve(SMSQ_ACCOUNTS_FILE=accounts_file(tmp_path, MAIN, backup(), ROUTES)) as url:
        assert report(url, TOKEN).status_code == 400
    assert inbox(client) == {(MID, "DELIVRD")}


def test_a_flood_by_one_vendor_takes_no_room_from_another(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = []

    async def submit(_: object, reports: Sequence[tuple[str, str]], turn: str) -> None:
        turns.append((turn, [*reports]))

    monkeypatch.setattr(WriteCoalescer, "submit", submit)
    with serve(SMSQ_ACCOUNTS_FILE=accounts_file(tmp_path, MAIN, backup(), ROUTES)) as url:
        for token in (TOKEN, BACKUP_TOKEN, TOKEN):
            assert report(url, token).status_code == 200
    (first, _), (second, _), (third, _) = turns
    assert first == third
    assert first != second


def test_an_api_that_could_not_check_signatures_does_not_start(tmp_path: Path) -> None:
    shutil.copy(TWILIO, tmp_path / "vendor.toml")
    table = backup(vendor="http", description="vendor.toml", secret_file="absent")
    table = table.replace(f'secret = "{BACKUP_SECRET}"\n', "")
    table += 'settings = { service = "MG1", origin = "https://sms.example.com" }\n'
    file = accounts_file(tmp_path, MAIN, table, ROUTES)
    environ = {"SMSQ_ACCOUNTS_FILE": file, "SMSQ_REPORT_TOKEN": TOKEN}
    settings = Settings.load(environ, need=("report_token",))
    with pytest.raises(SettingsError, match=r"accounts\.backup: its reports need its secret"):
        ReportAddresses.of(settings)


def test_every_token_is_compared_with() -> None:
    addresses = ReportAddresses.of(Settings(report_token=TOKEN))
    found = addresses.find(TOKEN)
    assert found is not None
    assert found.key == ""
    for wrong in ("", TOKEN[:-1], f"{TOKEN}x", "é" * 20):
        assert addresses.find(wrong) is None
    assert addresses.of_path(f"/reports/{TOKEN}") is found
    assert addresses.of_path("/reports/") is None
    assert addresses.meant(f"/other/{TOKEN}/x") is found
    assert addresses.meant("//") is None


def test_a_path_of_thousands_of_parts_costs_no_more_than_one_of_a_few() -> None:
    compared = []

    class Counting(ReportAddresses):
        def find(self, token: str) -> Reporter | None:
            compared.append(token)
            return super().find(token)

    addresses = Counting.of(Settings(report_token=TOKEN))
    for path in ("/" * MAX_HEAD, "/a" * MAX_HEAD, f"{'/a' * MAX_HEAD}/{TOKEN}"):
        assert addresses.meant(path) is None
    assert len(compared) <= 3 * PARTS
    assert addresses.meant(f"/proxy/a/b/reports/{TOKEN}{'/a' * MAX_HEAD}") is not None
