"""SMSQ_ACCOUNTS_FILE: what it gives, and a clear line for each mistake in it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import trustme

from harness.credentials import SECRET, TOKEN
from smsq import SettingsError
from smsq.contract import Lane
from smsq_worker import i18n
from smsq_worker.config.account_routes import MAX_ROUTES
from smsq_worker.config.accounts_file import IDLE_IN_SUM, MAX_ACCOUNTS
from smsq_worker.config.gateway_address import Address
from smsq_worker.config.settings import Settings
from smsq_worker.domain.accounts import Account, Route
from smsq_worker.domain.toml_file import MAX_BYTES
from smsq_worker.i18n.told import told

OTHER = "other-secret-7Kd2"
OTHER_TOKEN = "other-token-0123456789"
ONE = {"SMSQ_APP_SECRET": SECRET, "SMSQ_REPORT_TOKEN": TOKEN, "SMSQ_RATE_PER_S": "7"}
BACKUP = f"""
[accounts.backup]
secret = "{OTHER}"
report_token = "{OTHER_TOKEN}"
"""
TWO = f"""
[accounts.main]
was_default = true
{BACKUP}"""
ROUTES = """
[[routes]]
accounts = ["main", "backup"]
"""
NEED = ("app_secret", "report_token")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "accounts.toml"
    path.touch(mode=0o600)
    return path


def load(file: Path, text: str, *, need: tuple[str, ...] = NEED, **more: str) -> Settings:
    file.write_text(text)
    return Settings.load({**ONE, **more, "SMSQ_ACCOUNTS_FILE": str(file)}, need=need)


def problems(file: Path, text: str, *, need: tuple[str, ...] = NEED, **more: str) -> list[str]:
    """What is wrong with a file, without what all lines begin with; no secret is in them."""
    with pytest.raises(SettingsError) as refused:
        load(file, text, need=need, **more)
    said = "\n".join(refused.value.problems)
    assert not any(secret in said for secret in (SECRET, TOKEN, OTHER, OTHER_TOKEN))
    begins = f"SMSQ_ACCOUNTS_FILE: {file}: "
    assert all(line.startswith(begins) for line in refused.value.problems), said
    return [line.removeprefix(begins) for line in refused.value.problems]


def test_without_a_file_there_is_the_account_of_the_settings_and_nothing_more() -> None:
    settings = Settings.load(ONE, need=NEED)
    (one,) = settings.accounts
    assert one.account == Account("default", "", 7.0, 1)
    assert (one.address, one.report_token) == (settings.address, TOKEN)
    assert (settings.rules.accounts, settings.rules.routes) == ((), ())


def test_the_account_that_was_the_only_one_has_what_the_settings_say(file: Path) -> None:
    settings = load(file, TWO + ROUTES)
    main, backup = settings.accounts
    assert (main.account, main.report_token) == (Account("main", "", 7.0, 1), TOKEN)
    assert (main.address.secret, backup.address.secret) == (SECRET, OTHER)
    assert backup.account == Account("backup", "backup", 10.0, 1)
    assert backup.report_token == OTHER_TOKEN
    assert main.address.url == backup.address.url == "https://sms.1oc.cn/"
    assert settings.rules.accounts == (main.account, backup.account)
    assert settings.rules.routes == (Route(("", "backup")),)
    assert OTHER not in repr(settings.accounts)
    assert OTHER_TOKEN not in repr(settings.accounts)


def test_an_account_says_all_that_a_gateway_needs(file: Path) -> None:
    for name in ("codes.toml", "vendor.toml"):
        (file.parent / name).touch()
    trustme.CA().cert_pem.write_to_path(str(file.parent / "ca.pem"))
    (file.parent / "secret").write_text(f"{OTHER}\n")
    (file.parent / "token").write_text(f"{OTHER_TOKEN}\n")
    file.chmod(0o644)
    settings = load(
        file,
        """
        [accounts.far]
        vendor = "http"
        url = "https://sms.example.com/v1"
        secret_file = "secret"
        report_token_file = "token"
        rate_per_s = 0.5
        burst = 3
        only_these_templates = true
        codes_file = "codes.toml"
        description = "vendor.toml"
        ca_bundle = "ca.pem"
        connect_timeout_s = 1
        read_timeout_s = 4.5
        [accounts.far.templates]
        SMS_1001 = "T-77"
        [accounts.far.settings]
        sender = "Shop"
        [[routes]]
        accounts = ["far"]
        """,
    )
    (far,) = settings.accounts
    assert far.account == Account("far", "far", 0.5, 3, (("SMS_1001", "T-77"),), only_these=True)
    bundle = str(file.parent / "ca.pem")
    assert far.address == Address("https://sms.example.com/v1", OTHER, bundle, 1, 4.5)
    assert (far.vendor, far.settings) == ("http", (("sender", "Shop"),))
    assert (far.description, far.codes_file) == (
        file.parent / "vendor.toml",
        file.parent / "codes.toml",
    )


def test_routes_are_by_lane_and_template_in_order_or_by_weight(file: Path) -> None:
    settings = load(
        file,
        TWO
        + """
        [[routes]]
        lane = "otp"
        template = "SMS_1"
        accounts = ["backup"]
        [[routes]]
        lane = "otp"
        accounts = ["backup", "main"]
        [[routes]]
        accounts = { main = 3, backup = 1 }
        prefer = "delivery"
        """,
    )
    assert settings.rules.routes == (
        Route(("backup",), (), Lane.OTP, "SMS_1"),
        Route(("backup", ""), (), Lane.OTP),
        Route(("", "backup"), (3, 1), prefer="delivery"),
    )


def test_who_needs_no_secret_may_be_unable_to_read_any(file: Path) -> None:
    text = """
        [accounts.main]
        secret_file = "absent"
        report_token_file = "absent"
        [[routes]]
        accounts = ["main"]
        """
    assert load(file, text, need=()).accounts[0].address.secret == ""
    readable = "the path of a readable file that holds the secret"
    for need, field in (("app_secret", "secret_file"), ("report_token", "report_token_file")):
        assert problems(file, text, need=(need,)) == [
            f"accounts.main, field {field}: must be {readable}"
        ]


def test_a_pipe_is_no_file(file: Path) -> None:
    """Opening one waits for whoever writes to it, which may be nobody."""
    pipe = file.parent / "pipe"
    os.mkfifo(pipe)
    wrong = {
        one: "file that holds the secret" if one.startswith(("secret", "report")) else "file"
        for one in ("secret_file", "report_token_file", "codes_file", "description", "ca_bundle")
    }
    for name, allowed in wrong.items():
        (line, *_) = problems(file, f'{MAIN}{name} = "pipe"\n{ALL}')
        assert line.startswith(f"accounts.main, field {name}: must be the path of a ")
        assert allowed in line
    for device in (str(pipe), "/dev/zero"):
        with pytest.raises(
            SettingsError, match="cannot be read: it is a pipe or a device; it must"
        ):
            Settings.load(ONE | {"SMSQ_ACCOUNTS_FILE": device})
    for name in ("SMSQ_APP_SECRET_FILE", "SMSQ_CODES_FILE", "SMSQ_GATEWAY_CA_BUNDLE"):
        with pytest.raises(SettingsError, match=name):
            Settings.load({name: str(pipe)})
    for name in ("SMSQ_REDIS_URL", "SMSQ_BROKER_URL"):
        url = f"rediss://h/0?ssl_cert_reqs=required&ssl_ca_certs={pipe}"
        with pytest.raises(SettingsError, match="an address whose ssl_ca_certs is a regular file"):
            Settings.load({name: url})


def test_an_account_without_a_route_is_kept_for_its_reports(file: Path) -> None:
    settings = load(file, TWO + '[[routes]]\naccounts = ["main"]')
    assert [one.account.name for one in settings.accounts] == ["main", "backup"]


def test_all_accounts_together_keep_a_bounded_number_of_idle_connections(file: Path) -> None:
    names = [f"a{n}" for n in range(MAX_ACCOUNTS)]
    tables = "\n".join(
        f'[accounts.{name}]\nsecret = "{name}"\nreport_token = "{name * 8}"' for name in names
    )
    found = load(file, f'{tables}\n[[routes]]\naccounts = ["a0"]').accounts
    assert len(found) == MAX_ACCOUNTS
    assert 0 < sum(one.address.connections for one in found) <= IDLE_IN_SUM


MAIN = "[accounts.main]\nwas_default = true\n"
ALL = '[[routes]]\naccounts = ["main"]\n'
FIELD = "accounts.main, field"
WRONG = {
    "no account": (ALL, ["names no account; it must have a table like [accounts.main]"]),
    "accounts are no table": ("accounts = 3", ["names no account"]),
    "not TOML": (f'secret = "{OTHER}', ["is not TOML in UTF-8: at "]),
    "nested too deeply": (f"a = {'[' * 5000}", ["is not TOML in UTF-8; write a table like"]),
    "too long": ("#" * (MAX_BYTES + 1), [f"has more than {MAX_BYTES} bytes; write a table like"]),
    "another table": (f"[route]\n{MAIN}{ALL}", ['table "route" is unknown; known are [accounts]']),
    "a name": (
        '[accounts."Main 2"]\nwas_default = true\n[[routes]]\naccounts = ["Main 2"]',
        ["accounts.Main 2: a name has 1 to 32 of a-z, 0-9 and -, and does not begin with -"],
    ),
    "a name that is two lines": (
        f'{MAIN}[accounts."a\\nb\\u001b[31m"]\nwas_default = false\n{ALL}',
        [
            r"accounts.a\nb\x1b[31m: a name has 1 to 32 of a-z",
            r"accounts.a\nb\x1b[31m, field secret: must be set",
            r"accounts.a\nb\x1b[31m, field report_token: must be set",
        ],
    ),
    "the name default": (
        f'{BACKUP.replace("backup", "default")}[[routes]]\naccounts = ["default"]',
        ["accounts.default: is how the only account is called where there is no file; choose"],
    ),
    "an unknown field": (
        f"{MAIN}rate = 5\n{ALL}",
        [f"{FIELD} rate: is unknown; known are vendor, url,"],
    ),
    "a hint": (f"{MAIN}rate_pers = 5\n{ALL}", ["did you mean rate_per_s?"]),
    "rates": (
        f"{MAIN}rate_per_s = 0\nburst = 1.5\n{ALL}",
        [
            f"{FIELD} rate_per_s: must be a number from 0.001 to 10000",
            f"{FIELD} burst: must be a whole number from 1 to 10000",
        ],
    ),
    "true is no number": (f"{MAIN}rate_per_s = true\n{ALL}", [f"{FIELD} rate_per_s: must be"]),
    "a url": (f'{MAIN}url = "sms.example.com"\n{ALL}', [f"{FIELD} url: must be https://host/path"]),
    "plain http": (f'{MAIN}url = "http://a.example/"\n{ALL}', [f"{FIELD} url: is plain http to"]),
    "paths": (
        f'{MAIN}codes_file = "no.toml"\ndescription = "no.toml"\nca_bundle = "no.pem"\n{ALL}',
        [
            f"{FIELD} {name}: must be the path of a"
            for name in ("ca_bundle", "codes_file", "description")
        ],
    ),
    "a secret twice": (
        f'{MAIN}secret = "{SECRET}"\nsecret_file = "secret"\n{ALL}',
        [f"{FIELD} secret_file: secret is set too; set one of them"],
    ),
    "another secret than the setting's": (
        f'{MAIN}secret = "{OTHER}"\n{ALL}',
        [f"{FIELD} secret: SMSQ_APP_SECRET is set too and differs; set one of them"],
    ),
    "another token than the setting's": (
        f'{MAIN}report_token = "{OTHER_TOKEN}"\n{ALL}',
        [f"{FIELD} report_token: SMSQ_REPORT_TOKEN is set too and differs; set one of them"],
    ),
    "secrets that are missing": (
        f'[accounts.backup]\n{MAIN}[[routes]]\naccounts = ["main"]',
        [
            "accounts.backup, field secret: must be set, or secret_file",
            "accounts.backup, field report_token: must be set, or report_token_file",
        ],
    ),
    "a token that can be guessed": (
        BACKUP.replace(OTHER_TOKEN, "short") + '[[routes]]\naccounts = ["backup"]',
        ["accounts.backup, field report_token: must be at least 16 letters, digits, - and _"],
    ),
    "one token for two": (
        TWO.replace(OTHER_TOKEN, TOKEN) + ROUTES,
        ["accounts.backup, field report_token: is that of accounts.main; each needs its own"],
    ),
    "two that were the only one": (
        f"{MAIN}[accounts.backup]\nwas_default = true\n{ALL}",
        ["field was_default: is that of accounts.main; only one has it"],
    ),
    "only templates that are not there": (
        f"{MAIN}only_these_templates = true\n{ALL}",
        [f"{FIELD} only_these_templates: must be false without field templates"],
    ),
    "templates": (
        f"{MAIN}templates = {{ SMS_1 = 3 }}\n{ALL}",
        [f"{FIELD} templates: must be a table of at most 1000 texts of 1 to 500 characters"],
    ),
    "no route": (MAIN, ["has no [[routes]]; the last, or the only one, must be for all messages"]),
    "a route's account": (
        f'{TWO}[[routes]]\naccounts = ["main", "bakup"]',
        ["routes, number 1, field accounts: there is no account bakup; known are main, backup"],
    ),
    "an account twice": (f'{MAIN}[[routes]]\naccounts = ["main", "main"]', ["a list of accounts,"]),
    "no account in a route": (
        f"{MAIN}[[routes]]\naccounts = []",
        ["number 1, field accounts: must"],
    ),
    "a route without accounts": (f'{MAIN}[[routes]]\nlane = "otp"', ["field accounts: must be a"]),
    "a weight of 0": (
        f"{TWO}[[routes]]\naccounts = {{ main = 3, backup = 0 }}",
        ["a table of accounts and their shares from 1 to 1000"],
    ),
    "a lane": (
        f'{MAIN}[[routes]]\nlane = "top"\naccounts = ["main"]\n{ALL}',
        ["routes, number 1, field lane: must be one of otp, notice, bulk"],
    ),
    "a preference without weights": (
        f'{MAIN}[[routes]]\naccounts = ["main"]\nprefer = "delivery"',
        ["routes, number 1, field prefer: needs a table of shares in field accounts"],
    ),
    "a route behind one for everything": (
        f'{MAIN}{ALL}[[routes]]\nlane = "otp"\naccounts = ["main"]\n{ALL}',
        [
            "routes, number 2: no message comes to it, as number 1 takes all of its messages; put",
            "routes, number 3: no message comes to it, as number 1 takes all of its messages; put",
        ],
    ),
    "no route for everything": (
        f'{MAIN}[[routes]]\nlane = "otp"\naccounts = ["main"]',
        ["routes: the last must be for all messages, without lane and template"],
    ),
    "too many routes": (
        MAIN + ALL * (MAX_ROUTES + 1),
        [f"at most {MAX_ROUTES} routes; there are {MAX_ROUTES + 1}"],
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_each_mistake_is_a_line_that_says_what_is_allowed(file: Path, name: str) -> None:
    text, expected = WRONG[name]
    told = problems(file, text)
    assert len(told) == len(expected), told
    for wanted in expected:
        assert any(wanted in line for line in told), told


def test_too_many_accounts_are_refused(file: Path) -> None:
    tables = "".join(
        f'[accounts.a{n}]\nsecret = "s"\nreport_token = "{n:016}"\n'
        for n in range(MAX_ACCOUNTS + 1)
    )
    text = f'{tables}[[routes]]\naccounts = ["a1"]'
    assert problems(file, text) == [f"at most {MAX_ACCOUNTS} accounts; there are 17"]


def test_mistakes_of_all_tables_are_told_at_once(file: Path) -> None:
    text = '[accounts.A]\nburst = 0\n[accounts.b]\nurl = 3\n[[routes]]\naccounts = ["c"]'
    assert len(problems(file, text)) == len(["name", "burst", "url", "account c"]) + 2 * len(NEED)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_secrets_stand_only_in_a_file_that_nobody_else_reads(file: Path, mode: int) -> None:
    file.chmod(mode)
    (line,) = problems(file, TWO + ROUTES)
    assert line.startswith(f"holds secrets and has mode {mode:04o}; make it readable by its owner")
    assert load(file, MAIN + ALL)


def test_a_file_that_is_not_there_is_told_and_nothing_else(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.load({"SMSQ_ACCOUNTS_FILE": str(tmp_path / "no.toml")}, need=NEED)
    (line,) = refused.value.problems
    assert line.endswith(
        "cannot be read: No such file or directory; it must be a readable TOML file"
    )


def test_a_lease_outlasts_the_longest_call_of_any_account(file: Path) -> None:
    text = TWO.replace("was_default = true", "was_default = true\nread_timeout_s = 90") + ROUTES
    with pytest.raises(SettingsError, match="SMSQ_LEASE_S: 60 must be more than the longest call"):
        load(file, text)
    settings = load(file, text, SMSQ_LEASE_S="200")
    assert settings.longest_call_s == settings.accounts[0].address.longest_call_s > 90


def test_settings_that_count_for_no_account_are_named(file: Path) -> None:
    alone = BACKUP + '[[routes]]\naccounts = ["backup"]'
    assert (
        load(file, alone)
        .overruled(ONE)
        .startswith("SMSQ_APP_SECRET, SMSQ_RATE_PER_S, SMSQ_REPORT_TOKEN: of no account")
    )
    assert load(file, alone).overruled({}) == ""
    assert load(file, TWO + ROUTES).overruled(ONE) == ""
    assert Settings.load(ONE).overruled(ONE) == ""


@pytest.mark.parametrize("name", WRONG)
def test_each_mistake_can_be_told_in_chinese(file: Path, name: str) -> None:
    for line in problems(file, WRONG[name][0]):
        with i18n.speaking(i18n.Lang.ZH):
            shown = told(f"SMSQ_ACCOUNTS_FILE: {line}")
        assert re.search(r"[\u4e00-\u9fff]", shown), line
        assert not re.search(r"\b(must|is|are|has|have|needs)\b", shown), shown
