"""What smsq doctor finds where there are several accounts."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from harness.accounts import BACKUP_SECRET, MAIN, accounts_file, backup
from harness.scene import Scene
from smsq import keys
from smsq_worker.config.settings import Settings
from smsq_worker.doctor import accounts as examined
from smsq_worker.doctor import gateway
from smsq_worker.doctor.finding import Finding
from smsq_worker.doctor.installation import checks
from smsq_worker.domain.accounts import qualified
from smsq_worker.domain.states import Outcome
from smsq_worker.infra.ports import free_port
from smsq_worker.ledger import AttemptResult, accounts

BOTH = '[[routes]]\naccounts = ["main", "backup"]\n'
MAIN_ALONE = '[[routes]]\naccounts = ["main"]\n'


def load(environ: dict[str, str], folder: Path, *tables: str) -> Settings:
    file = accounts_file(folder, *(tables or (MAIN, backup(), BOTH)))
    return Settings.load(environ | {"SMSQ_ACCOUNTS_FILE": file})


def found(settings: Settings, client: redis.Redis) -> list[Finding]:
    accounts.introduce(client, settings.rules)
    return [*examined.check(settings, client)]


def texts(findings: list[Finding], level: str) -> list[str]:
    return [one.what for one in findings if one.level == level]


def test_where_all_is_well_each_account_says_so(
    environ: dict[str, str], client: redis.Redis, tmp_path: Path
) -> None:
    settings = load(environ, tmp_path)
    findings = found(settings, client)
    assert {one.level for one in findings} == {"ok"}
    told = " ".join(texts(findings, "ok"))
    assert "account main: " in told
    assert "account backup: 10/s, 0 reports awaited" in told
    assert f"2 accounts, {settings.rate_per_s + 10:g} requests a second together" in told


def test_of_one_account_nothing_is_said(environ: dict[str, str], client: redis.Redis) -> None:
    assert not [*examined.check(Settings.load(environ), client)]
    assert not {name for name in checks(Settings.load(environ)) if name.startswith("gateway ")}


def test_of_the_only_one_its_pauses_are_told(scene: Scene, environ: dict[str, str]) -> None:
    scene.control.pause("account", "topping up")
    (finding,) = examined.check(Settings.load(environ), scene.client)
    assert (finding.level, finding.what.partition(" (")[0]) == ("warning", "account is paused")
    assert finding.advice.endswith("to end it now: smsq resume account")


def test_a_machine_without_the_file_is_an_error(
    environ: dict[str, str], client: redis.Redis, tmp_path: Path
) -> None:
    accounts.introduce(client, load(environ, tmp_path).rules)
    (finding,) = examined.check(Settings.load(environ), client)
    assert finding.level == "error"
    assert "several accounts (backup), but SMSQ_ACCOUNTS_FILE is not set here" in finding.what


def test_pauses_and_refusals_in_a_row_are_told_with_their_account(
    environ: dict[str, str], client: redis.Redis, tmp_path: Path
) -> None:
    settings = load(environ, tmp_path)
    Scene(client, settings).control.pause("account", "topping up")
    client.hset(keys.at_account(keys.HEALTH, "backup"), "refusals", 4)
    warnings = texts(found(settings, client), "warning")
    assert warnings[0].startswith("account main is paused (operator: topping up, since")
    assert warnings[1] == "account backup: 4 refusals in a row"


def test_an_account_that_is_being_replaced_is_told_what_is_outstanding(
    environ: dict[str, str], client: redis.Redis, tmp_path: Path
) -> None:
    scene = Scene(
        client, load(environ, tmp_path, MAIN, backup(), '[[routes]]\naccounts = ["backup"]')
    )
    accounts.introduce(client, scene.rules)
    scene.enter("m1")
    go = scene.admitted("m1")
    result = AttemptResult("m1", go.attempt, Outcome.ACCEPTED, "", qualified("A", go.account))
    scene.ledger.record_many([result])
    without_a_route = load(environ, tmp_path, MAIN, backup(), MAIN_ALONE)
    told = [one for one in found(without_a_route, client) if "no route" in one.what]
    assert [one.what for one in told] == [
        "account backup is on no route; 1 report of it is awaited"
    ]
    gone = load(environ, tmp_path, MAIN, MAIN_ALONE)
    assert "account backup is not in SMSQ_ACCOUNTS_FILE, and 1 report of it is awaited" in texts(
        found(gone, client), "error"
    )


def test_what_the_only_account_has_outstanding_is_told_where_none_is_it(
    environ: dict[str, str], client: redis.Redis, tmp_path: Path
) -> None:
    scene = Scene(client, Settings.load(environ))
    scene.enter("m1")
    scene.go("m1")
    nobodys = f'{MAIN.replace("was_default", "only_these_templates")}secret = "a-secret"\n'.replace(
        "true", "false"
    )
    settings = load(environ, tmp_path, nobodys, backup(), BOTH)
    (told,) = texts(found(settings, client), "error")
    assert told.startswith("1 report of the account that was the only one is awaited")


def test_a_template_that_no_account_of_its_route_knows_is_an_error(
    environ: dict[str, str], client: redis.Redis, tmp_path: Path
) -> None:
    scene = Scene(client, load(environ, tmp_path))
    accounts.introduce(client, scene.rules)
    for name, template in (("m1", "SMS_1"), ("m2", "SMS_2")):
        scene.enter(name, template=template, phone=f"1380013800{name[1]}")
        go = scene.admitted(name)
        scene.ledger.record_many([AttemptResult(name, go.attempt, Outcome.ACCEPTED, "", name)])
    only = f'{MAIN}templates = {{ SMS_1 = "T-1" }}\nonly_these_templates = true\n'
    (told,) = texts(found(load(environ, tmp_path, only, MAIN_ALONE), client), "error")
    assert told == "1 template that is in use is known to no account of its route: SMS_2"


SECRETS = {
    "none": ({}, "ok", "accounts.backup: its secret is set"),
    "short": ({"secret": "abc"}, "warning", "its secret is shorter than 8, or in quotes"),
}


@pytest.mark.parametrize(("fields", "level", "told"), SECRETS.values(), ids=SECRETS)
def test_each_secret_is_looked_at_and_not_shown(
    environ: dict[str, str], tmp_path: Path, fields: dict[str, str], level: str, told: str
) -> None:
    url = f"http://127.0.0.1:{free_port()}/"
    settings = load(environ, tmp_path, MAIN, backup(url=url, **fields), BOTH)
    first, *others = gateway.check_account(settings, "backup")
    assert (first.level, told in first.what) == (level, True)
    assert BACKUP_SECRET not in f"{first}{others}"
    away = others[-1]
    assert (away.level, "check accounts.backup.url" in away.advice) == ("error", True)


def test_two_names_of_one_account_are_told(environ: dict[str, str], tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/"
    same = backup(url=url).replace("[accounts.backup]", "[accounts.third]").replace("token-0", "x")
    settings = load(environ, tmp_path, MAIN, backup(url=url), same, BOTH)
    first, *_ = gateway.check_account(settings, "third")
    assert first.what == "accounts.third has the secret and the url of accounts.backup"
