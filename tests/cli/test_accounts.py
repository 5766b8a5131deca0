"""Commands where there are several accounts: what they show, what they change, what they refuse."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import redis

from harness.accounts import BACKUP, MAIN, ROUTES, accounts_file, backup
from harness.cli import run
from harness.scene import PHONE, TEMPLATE, Scene, stat
from smsq import keys
from smsq_worker.config.settings import Settings
from smsq_worker.delivery_reports.reconciler import Reconciler
from smsq_worker.domain.accounts import qualified
from smsq_worker.domain.states import Outcome
from smsq_worker.ledger import AttemptResult, accounts, quality
from smsq_worker.ledger.admin import Control
from smsq_worker.vendors.of_accounts import catalogues_of, vendors_of

PASSED = "account main was passed over: it was paused (operator: topping up"


@pytest.fixture
def several(environ: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """An environment with two accounts, the first of which was the only one."""
    file = accounts_file(tmp_path, MAIN, backup(rate_per_s=20, url="https://b.example/"), ROUTES)
    return environ | {"SMSQ_ACCOUNTS_FILE": file}


@pytest.fixture
def scene(several: dict[str, str], client: redis.Redis) -> Scene:
    settings = Settings.load(several)
    accounts.introduce(client, settings.rules)
    return Scene(client, settings)


def end(scene: Scene, name: str, outcome: Outcome, **more: object) -> None:
    """Let a message go, and record what came of it."""
    go = scene.admitted(name)
    mid = (
        qualified(f"{name.upper()}{go.attempt}", go.account) if outcome is Outcome.ACCEPTED else ""
    )
    given = {"detail": "", "mid": mid, "in_hand": True} | more
    scene.ledger.record_many(
        [AttemptResult(name, go.attempt, outcome, account=go.account, begun=go.begun, **given)]
    )


def told(environ: dict[str, str], *words: str) -> dict[str, object]:
    done = run(environ, *words, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, object] = json.loads(done.stdout)
    return found


# smsq accounts


def test_without_a_file_there_is_one_account(environ: dict[str, str], client: redis.Redis) -> None:
    lines = run(environ, "accounts").stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["account", "state", "rate", "in", "flight", "reports"],
        ["default", "open", f"{Settings.load(environ).rate_per_s:g}/s", "0", "0"],
    ]
    assert told(environ, "accounts")["routes"] == []


def test_each_account_is_shown_with_what_stops_it(several: dict[str, str], scene: Scene) -> None:
    for name in ("m1", "m2"):
        scene.enter(name)
    end(scene, "m1", Outcome.ACCEPTED)
    scene.control.pause("account", "topping up")
    end(scene, "m2", Outcome.ACCEPTED)
    scene.control.pause("template@backup:SMS_2", "")
    found = told(several, "accounts")
    main, other = found["accounts"]
    assert (main["name"], main["state"], main["pause"]["detail"]) == (
        "main",
        "paused",
        "topping up",
    )
    assert (main["awaiting_reports"], other["awaiting_reports"]) == (1, 1)
    assert (other["name"], other["state"], other["rate"]["limit"]) == (BACKUP, "open", 20)
    assert [pause["scope"] for pause in other["template_pauses"]] == ["template@backup:SMS_2"]
    assert found["routes"] == [
        {"lane": None, "template": None, "accounts": ["main", "backup"], "weights": None}
    ]
    lines = run(several, "accounts").stdout
    assert "paused: account main (operator: topping up, since" in lines
    assert "until smsq resume template SMS_2 --account backup" in lines
    assert lines.endswith("route: all else: main, then backup\n")


def test_an_account_that_takes_nothing_now_is_shown_with_the_reason(
    several: dict[str, str], scene: Scene
) -> None:
    names = [f"m{n}" for n in range(22)]
    for name in names:
        scene.enter(name, lane="otp", phone=f"138001380{name[1:]:>02}")
    scene.client.hset(keys.RATE, mapping={"limit": 10, "burst": 30})
    taken = [scene.admitted(name).account for name in names[:-1]]
    assert set(taken[:20]) == {""}  # As many as may be under way without any answer.
    assert taken[20] == BACKUP
    scene.client.hset(keys.at_account(keys.RATE, BACKUP), "tat", scene.now_us() + 60_000_000)
    silent = "account main is silent: 20 attempts are under way and none has an answer yet"
    main, other = told(several, "accounts")["accounts"]
    assert (main["silent"], main["next_slot_s"], other["silent"]) == (True, 0.0, False)
    assert other["next_slot_s"] > 1
    for words in (("accounts",), ("explain", names[-1])):
        lines = run(several, *words).stdout
        assert silent in lines
        assert "account backup has no free slot for the next " in lines


def test_while_all_are_paused_none_goes(several: dict[str, str], scene: Scene) -> None:
    for scope in ("account", "account@backup"):
        scene.control.pause(scope, "")
    assert "now       0/s: all accounts are paused\n" in run(several, "status").stdout
    assert told(several, "status")["rate"]["now"] == 0


def test_what_each_delivers_is_shown_and_how_weights_follow(
    environ: dict[str, str], tmp_path: Path, client: redis.Redis
) -> None:
    route = '[[routes]]\naccounts = { main = 3, backup = 1 }\nprefer = "delivery"\n'
    file = accounts_file(tmp_path, MAIN, backup(url="https://b.example/"), route)
    several = environ | {"SMSQ_ACCOUNTS_FILE": file}
    url = environ["SMSQ_REDIS_URL"]
    fields = {"accepted": 40, "failed": 4, "delivered:60": 30, "delivered:inf": 6, "ms": 720_000}
    key = keys.quality(quality.last_hour(client, url))
    client.hset(key, mapping={f"otp\t{what}\t@\tT": n for what, n in fields.items()})
    client.hset(keys.WEIGHTS, mapping={"share:  @": "-1 3", "share:  @backup": "1 1"})
    found = told(several, "accounts")
    main, other = found["accounts"]
    expected = {"accepted": 40, "delivered": 36, "failed": 4, "rate_15_min": 0.75, "mean_s": 20.0}
    assert expected.items() <= main["delivery"].items()
    assert main["delivery"]["templates"] == [{"template": "T"} | expected]
    assert (other["delivery"]["accepted"], other["delivery"]["rate_15_min"]) == (0, None)
    assert found["routes"][0]["weights_now"] == {"main": 2.727, "backup": 1.1}
    lines = run(several, "accounts").stdout
    assert "weights by delivery: main 2.73, backup 1.1, of main 3, backup 1 in the file" in lines
    assert "delivered by main within 15 minutes: 75.0 % of 40 accepted in the hour" in lines


def test_a_machine_without_the_file_says_so_and_acts_on_none(
    environ: dict[str, str], scene: Scene
) -> None:
    for words in (("accounts",), ("pause",), ("rate", "5"), ("rate",)):
        done = run(environ, *words)
        assert (done.returncode, done.stdout) == (2, "")
        assert "several accounts (backup), but SMSQ_ACCOUNTS_FILE is not set here" in done.stderr
    assert scene.control.pauses() == []
    # This shows what it can: who looks at night should see that it is not all.
    done = run(environ, "status")
    assert "several accounts (backup), but SMSQ_ACCOUNTS_FILE is not set here" in done.stderr


# smsq pause, resume, rate


@pytest.mark.parametrize("words", [("account", "backup"), ("account@backup",)])
def test_one_is_paused_and_resumed(
    several: dict[str, str], control: Control, words: tuple[str, ...]
) -> None:
    done = run(several, "pause", *words)
    assert done.stdout == "paused account backup; to go on: smsq resume account backup\n"
    assert [pause.scope for pause in control.pauses()] == ["account@backup"]
    assert run(several, "pause", *words).stderr == (
        "account backup is already paused by an operator\n"
    )
    assert run(several, "resume", "account", "main").stderr == (
        "account main was not paused; paused now: account backup\n"
    )
    done = run(several, "resume", *words)
    assert done.stdout.startswith("resumed account backup (operator, since")
    assert control.pauses() == []


def test_the_account_that_was_there_keeps_its_keys_under_its_name(
    several: dict[str, str], control: Control
) -> None:
    run(several, "pause", "account", "main")
    run(several, "rate", "--account", "main", "7")
    assert [pause.scope for pause in control.pauses()] == ["account"]
    assert control.rate().limit == 7
    assert "pause scope=account@main  paused" in run(several, "audit").stdout


@pytest.mark.parametrize(
    ("words", "scopes"),
    [
        ((), ["template:SMS_1", "template@backup:SMS_1"]),
        (("--account", "backup"), ["template@backup:SMS_1"]),
    ],
)
def test_a_template_is_paused_at_all_or_at_one(
    several: dict[str, str], control: Control, words: tuple[str, ...], scopes: list[str]
) -> None:
    done = run(several, "pause", "template", "SMS_1", *words)
    assert done.returncode == 0
    assert sorted(pause.scope for pause in control.pauses()) == scopes
    assert run(several, "resume", "template", "SMS_1", *words).returncode == 0
    assert control.pauses() == []


REFUSED = {
    "pause": (("pause",), "there are several accounts; name one of them: main, backup"),
    "resume": (("resume",), "there are several accounts; name one of them: main, backup"),
    "rate": (("rate", "5"), "there are several accounts; name one of them: main, backup"),
    "misspelt": (("pause", "account", "bakup"), "there are main, backup; did you mean backup?"),
    "rate-of-none": (("rate", "--account", "b"), "no account of that name; there are main, backup"),
    "probe": (("send", PHONE, "SMS_1", "--account", "x"), "no account of that name"),
    "twice": (("pause", "account", "main", "--account", "backup"), "is named twice, and differs"),
}


@pytest.mark.parametrize(("words", "why"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_clear_is_refused(
    several: dict[str, str], control: Control, words: tuple[str, ...], why: str
) -> None:
    done = run(several, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert why in done.stderr.replace("\n", " ")
    assert control.pauses() == []


def test_each_has_its_rate(several: dict[str, str], control: Control) -> None:
    done = run(several, "rate", "--account", "backup", "40")
    assert done.stdout.splitlines()[0] == (
        "backup  limit  40/s, burst 1: set by an operator; smsq rate --account backup --reset goes "
        "back to the file"
    )
    found = told(several, "rate")["accounts"]
    assert {name: one["limit"] for name, one in found.items()} == {
        "main": Settings.load(several).rate_per_s,
        "backup": 40,
    }
    run(several, "rate", "--account", "backup", "--reset")
    assert told(several, "rate", "--account", "backup")["limit"] == 20


# A probe


def test_a_probe_goes_over_its_account_or_not_at_all(several: dict[str, str], scene: Scene) -> None:
    done = run(several, "send", PHONE, TEMPLATE, "482913", "--account", "backup")
    probe = done.stdout.strip()
    assert scene.admitted(probe).account == BACKUP
    scene.control.pause("account@backup", "")
    waits = run(several, "send", PHONE, TEMPLATE, "1234", "--account", "backup").stdout.strip()
    assert scene.stays(waits) == "deferred"
    to_main = run(several, "send", PHONE, TEMPLATE, "1234", "--account", "main").stdout.strip()
    assert scene.admitted(to_main).account == ""


def test_a_refused_probe_tells_of_its_account_alone(several: dict[str, str], scene: Scene) -> None:
    probe = run(several, "send", PHONE, TEMPLATE, "482913", "--account", "backup").stdout.strip()
    end(scene, probe, Outcome.REFUSED, detail="gateway:400 校验失败")
    assert (scene.status(probe).state, scene.status(probe).reason) == ("failed", "gateway:400")


def test_without_a_file_a_probe_is_a_message(environ: dict[str, str], client: redis.Redis) -> None:
    done = run(environ, "send", PHONE, TEMPLATE, "482913", "--account", "default")
    assert client.hget(keys.message(done.stdout.strip()), "via") is None


# What tells of messages


@pytest.fixture
def moved(scene: Scene) -> Scene:
    """A message that its first account certainly did not take, and its second did."""
    scene.enter("m1")
    end(scene, "m1", Outcome.NOT_SENT, detail="ConnectionRefusedError")
    end(scene, "m1", Outcome.ACCEPTED)
    return scene


def test_the_account_of_each_attempt_is_told(several: dict[str, str], moved: Scene) -> None:
    found = told(several, "status", "m1")["attempts"]
    assert [one["account"] for one in found] == ["main", "backup"]
    assert " main not_sent ConnectionRefusedError" in run(several, "status", "m1").stdout
    rows = told(several, "list")["messages"]
    assert [row["account"] for row in rows] == ["backup"]
    (row,) = csv.DictReader(io.StringIO(run(several, "list", "--csv").stdout))
    assert row["account"] == "backup"


def test_explain_tells_the_way_of_a_message(several: dict[str, str], moved: Scene) -> None:
    texts = [one["text"] for one in told(several, "explain", "m1")["events"]]
    assert texts[1].startswith("attempt 1, over account main: the gateway certainly did not take")
    assert texts[2].endswith("tried over another account, as the last did not take it")
    assert texts[3].startswith("attempt 2, over account backup: the gateway accepted it")
    assert told(several, "explain", "M12")["id"] == "m1"  # by its mid


def test_explain_tells_why_the_first_account_was_passed_over(
    several: dict[str, str], scene: Scene
) -> None:
    scene.control.pause("account", "topping up")
    scene.enter("m1")
    found = told(several, "explain", "m1")["next"]
    assert found[1]["text"] == "it goes over account main or backup, in this order"
    assert found[2]["text"].startswith(
        "it waits for the end of the pause of account main (operator"
    )
    end(scene, "m1", Outcome.ACCEPTED)
    texts = [one["text"] for one in told(several, "explain", "m1")["events"]]
    assert any(text.startswith(PASSED) for text in texts)


def test_explain_tells_that_an_account_left_a_doubt(several: dict[str, str], scene: Scene) -> None:
    scene.enter("m1")
    end(scene, "m1", Outcome.MAYBE_SENT, detail="ReadTimeout", wait_s=60.0)
    scene.run_out("m1")
    found = [one["text"] for one in told(several, "explain", "m1")["next"]]
    assert "it goes over account backup or main, in this order" in found
    end(scene, "m1", Outcome.ACCEPTED)
    texts = [one["text"] for one in told(several, "explain", "m1")["events"]]
    assert "account main was passed over: it had left attempt 1 in doubt" in texts


def test_a_probe_waits_for_its_own_account_alone(several: dict[str, str], scene: Scene) -> None:
    scene.enter("m1")
    began = scene.now_ms() - 60_000
    scene.client.hset(keys.message("m1"), mapping={"via": "@", "enqueued": began})
    for scope in ("account", "account@backup"):
        scene.control.pause(scope, "test")
        scene.control.resume(scope, "test")
    end(scene, "m1", Outcome.ACCEPTED)
    texts = " ".join(one["text"] for one in told(several, "explain", "m1")["events"])
    assert "account main was paused until" in texts
    assert "account backup was paused until" not in texts


def test_explain_tells_at_which_account_a_number_rests(
    several: dict[str, str], scene: Scene
) -> None:
    reports = {
        account: stat("MA:0022", "transient", s, hold_ms=s * 1000, scope="frequency")
        for account, s in (("", 1800), ("backup", 900))
    }
    for name, account in (("m1", ""), ("m2", "backup")):
        scene.enter(name, lane="notice")
        end(scene, name, Outcome.ACCEPTED)
        scene.report_on(qualified(f"{name.upper()}1", account), reports[account])
    texts = [one["text"] for one in told(several, "explain", "m2")["events"]]
    words = "account main was passed over: a report said that it takes nothing for the number until"
    assert any(text.startswith(words) for text in texts)
    scene.enter("m3", lane="notice")
    assert scene.stays("m3") == "deferred"
    assert "refuses its number until then" in told(several, "explain", "m3")["next"][0]["text"]


def test_explain_tells_of_every_account_where_all_are_paused(
    several: dict[str, str], scene: Scene
) -> None:
    scene.enter("m1")
    for scope in ("account", "breaker@backup"):
        scene.control.pause(scope, "")
    texts = [one["text"] for one in told(several, "explain", "m1")["next"]]
    assert "the pause of account main" in texts[0]
    assert "the pause of breaker backup" in texts[1]
    assert told(several, "status")["stopped"]


def test_the_overview_has_all_accounts(several: dict[str, str], scene: Scene) -> None:
    scene.control.pause("account@backup", "")
    found = told(several, "status")
    assert [one["state"] for one in found["accounts"]] == ["open", "paused"]
    main = Settings.load(several).rate_per_s
    assert (found["stopped"], found["rate"]["limit"], found["rate"]["now"]) == (
        False,
        main + 20,
        main,
    )
    text = run(several, "status").stdout
    assert "account   backup: paused, 20/s, 0 reports awaited" in text
    assert "paused    account backup (operator, since" in text


def test_one_account_shows_no_field_of_accounts(
    environ: dict[str, str], client: redis.Redis
) -> None:
    scene = Scene(client, Settings.load(environ))
    scene.enter("m1")
    scene.accept("m1")
    assert "account" not in json.dumps(told(environ, "status"))
    assert "account" not in json.dumps(told(environ, "status", "m1"))
    assert "account" not in json.dumps(told(environ, "list"))
    assert "account" not in json.dumps(told(environ, "explain", "m1"))


# What a code means is its account's vendor's affair


@pytest.fixture
def coded(several: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The same; at the second account MK:0001 is no failure, and XB:1 has a meaning."""
    own = tmp_path / "backup.toml"
    own.write_text(
        '[codes."MK:0001"]\nzh = "空"\nen = "quite another thing"\nmay_have_been_sent = true\n'
        '[codes."XB:1"]\nzh = "他"\nen = "only there"\nclass = "permanent"\nscope = "recipient"\n',
        encoding="utf-8",
    )
    text = accounts_file(
        tmp_path, MAIN, backup(codes_file=str(own), rate_per_s=1000, burst=100), ROUTES
    )
    return several | {"SMSQ_ACCOUNTS_FILE": text}


def failed_at(environ: dict[str, str], scene: Scene, account: str, name: str, stat: str) -> str:
    """Bring a message to its end by a report of an account; give its mid."""
    scene.enter(name, phone=f"1380000{name[1:]:0>4}")
    if account:
        scene.control.pause("account", "topping up")
    end(scene, name, Outcome.ACCEPTED)
    scene.control.resume("account", "")
    settings = Settings.load(environ)
    catalogues = catalogues_of(settings, vendors_of(settings))
    mid = qualified(f"{name.upper()}1", account)
    reports = Reconciler(scene.ledger, catalogues)
    assert reports.reconcile([(mid, stat)]) == "1 failed"
    return mid


def test_a_code_is_explained_by_the_catalogue_of_its_account(
    coded: dict[str, str], scene: Scene
) -> None:
    failed_at(coded, scene, "backup", "m1", "MK:0001")
    failed_at(coded, scene, "", "m2", "MK:0001")
    there, here = (told(coded, "explain", name) for name in ("m1", "m2"))
    said = [one["text"] for one in there["events"] if one["kind"] in {"report", "end"}]
    assert all("quite another thing" in text for text in said)
    assert "does not rule out that it was delivered" in there["words"]
    assert "quite another" not in json.dumps(here)
    assert "a report says that it was not delivered" in here["words"]
    ticket = run(coded, "explain", "m1", "--ticket", "--lang", "en").stdout
    assert "stat: MK:0001 (quite another thing" in ticket


def test_what_is_sent_again_is_judged_by_the_catalogue_of_its_account(
    coded: dict[str, str], scene: Scene
) -> None:
    coded |= {"SMSQ_REDO_S": "86400"}
    scene = Scene(scene.client, Settings.load(coded))
    failed_at(coded, scene, "backup", "m1", "MK:0001")
    failed_at(coded, scene, "backup", "m2", "XB:1")
    failed_at(coded, scene, "", "m3", "MK:0001")
    found = told(coded, "redo", "--dry-run", "--since", "2020-01-01")
    assert found["did_not_arrive"] == {"report:XB:0001": 1, "report:MK:0001": 1}
    assert found["may_have_arrived"] == {"report:MK:0001": 1}


def test_a_report_that_is_parked_is_found_whose_ever_it_is(
    coded: dict[str, str], scene: Scene
) -> None:
    settings = Settings.load(coded)
    catalogues = catalogues_of(settings, vendors_of(settings))
    reports = Reconciler(scene.ledger, catalogues)
    reports.reconcile([("LOST1 backup", "XB:1")])
    found = told(coded, "explain", "LOST1")
    assert (found["state"], found["mid"]) == ("parked", "LOST1")
    assert "only there" in found["events"][0]["text"]


def test_codes_are_those_of_an_account(coded: dict[str, str], scene: Scene) -> None:
    assert told(coded, "codes", "XB:1", "--account", "backup")["en"] == "only there"
    assert (
        "(accounts.backup.codes_file)" in run(coded, "codes", "XB1", "--account", "backup").stdout
    )
    done = run(coded, "codes", "XB:1")
    assert (done.returncode, "accounts.main.codes_file names" in done.stderr) == (1, True)
    assert len(told(coded, "codes", "--account", "backup")) == len(told(coded, "codes")) + 1
    done = run(coded, "codes", "--account", "bakup")
    assert (done.returncode, "did you mean backup?" in done.stderr) == (2, True)


def test_a_misspelt_account_is_told_in_chinese_too(coded: dict[str, str]) -> None:
    done = run(coded | {"LC_ALL": "zh_CN.UTF-8"}, "codes", "--account", "bakup")
    assert "没有该名称的账号；现有 main, backup；是否指 backup？" in done.stderr


def test_unknown_codes_are_listed_by_account(coded: dict[str, str], scene: Scene) -> None:
    for name, account in (("m1", "backup"), ("m2", "")):
        scene.enter(name)
        if account:
            scene.control.pause("account", "")
        end(scene, name, Outcome.ACCEPTED)
        scene.control.resume("account", "")
    settings = Settings.load(coded)
    catalogues = catalogues_of(settings, vendors_of(settings))
    reports = Reconciler(scene.ledger, catalogues)
    reports.reconcile([("M11 backup", "XC:1"), ("M21", "XB:1")])
    rows = told(coded, "codes", "--seen")
    assert [(row["account"], row["stat"], row["mid"]) for row in rows] == [
        ("main", "XB:0001", "M21"),
        ("backup", "XC:0001", "M11"),
    ]
    (row,) = told(coded, "codes", "--seen", "--account", "backup")
    assert row["stat"] == "XC:0001"
    assert "mid M11  account backup" in run(coded, "codes", "--seen").stdout


# What takes how long


def test_an_estimate_is_of_all_accounts_together(
    several: dict[str, str], scene: Scene, tmp_path: Path
) -> None:
    several = several | {"SMSQ_RATE_PER_S": "10", "SMSQ_RATE_BURST": "1"}
    scene = Scene(scene.client, Settings.load(several))
    scene.claim()
    for n in range(90):
        scene.enter(f"m{n}", lane="bulk", campaign="spring", phone=f"139{n:08}")
    show = run(several, "campaign", "show", "spring").stdout
    assert "left       at least 3 s\n" in show
    file = tmp_path / "numbers.csv"
    file.write_text("phone,template\n" + "".join(f"138{n:08},SMS_1\n" for n in range(60)))
    report = told(several, "send-file", str(file), "--dry-run")
    assert (report["rate_per_s"], report["seconds"]) == (30, 2)
    assert told(several, "redo", "--since", "1h", "--dry-run")["rate_per_s"] == 30
    assert "go at 30 a second at most" in run(several, "campaign", "rate", "spring", "31").stdout


def test_a_campaign_goes_on_while_one_of_its_accounts_does(
    several: dict[str, str], scene: Scene
) -> None:
    scene.enter("m1", lane="bulk", campaign="spring")
    scene.control.pause("account@backup", "topping up")
    scene.control.pause(f"template@backup:{TEMPLATE}", "a word in it")
    show = run(several, "campaign", "show", "spring").stdout
    assert "left       at least" in show
    scene.control.pause("account", "topping up")
    show = run(several, "campaign", "show", "spring").stdout
    assert "left       stopped\n" in show
    assert "a word in it" not in show
