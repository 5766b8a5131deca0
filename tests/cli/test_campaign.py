"""`smsq campaign`, `send-file --campaign` and the relay's `campaign`: what they do and say."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import redis

import smsq
from harness.cli import here
from harness.scene import DELIVRD, PHONE, Scene
from smsq import keys
from smsq.redis_ledger import RedisLedger
from smsq_worker.domain.states import Outcome
from smsq_worker.ledger.campaigns import Campaigns

Smsq = Callable[..., tuple[Any, str, str]]
ROWS = [{"phone": f"1380000{n:04}", "template": "SMS_1001", "key": f"k{n}"} for n in range(3)]


@pytest.fixture
def command(
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Smsq:
    monkeypatch.setenv("SMSQ_HOME", str(tmp_path))
    monkeypatch.setenv("SMSQ_OPERATOR", "kim")
    return lambda *words: here(monkeypatch, capsys, *words)


def test_a_campaign_is_paused_resumed_slowed_and_cancelled(
    client: redis.Redis, scene: Scene, command: Smsq
) -> None:
    assert smsq.send_many(ROWS, campaign="spring") == 3
    assert command("campaign", "pause", "spring") == (
        0,
        "paused campaign spring; to go on: smsq campaign resume spring\n",
        "",
    )
    code, _, told = command("campaign", "pause", "spring")
    assert (code, told) == (1, "campaign spring was paused before\n")
    assert command("campaign", "resume", "spring")[:2] == (0, "resumed campaign spring\n")
    assert command("campaign", "resume", "spring")[0] == 1
    assert "at most 20 a second" in command("campaign", "rate", "spring", "20")[1]
    assert command("campaign", "rate", "spring", "--reset")[0] == 0
    assert "spring, at the rate of all" in command("campaign", "rate", "spring")[1]
    code, told, _ = command("campaign", "cancel", "spring")
    assert (code, told) == (0, "cancelled campaign spring: 3 cancelled, 0 under way\n")
    assert command("campaign", "cancel", "spring")[0] == 1
    done = [entry["what"] for _, entry in client.xrange(keys.AUDIT)]  # type: ignore[union-attr]
    assert done == [
        *("campaign pause", "campaign resume", "campaign rate", "campaign rate", "campaign cancel")
    ]
    with pytest.raises(smsq.CampaignCancelled) as raised:
        smsq.send_many(ROWS, campaign="spring")
    assert (raised.value.campaign, raised.value.enqueued) == ("spring", 0)
    with pytest.raises(smsq.CampaignCancelled):
        smsq.send_sms.delay(PHONE, "SMS_1001", campaign="spring")
    assert smsq.send_many(ROWS, campaign="the right one").duplicates == ()


def test_a_campaign_is_listed_and_shown(scene: Scene, command: Smsq) -> None:
    for name in ("a", "b"):
        scene.enter(name, lane="bulk", campaign="spring", phone=f"1390000000{ord(name) % 10}")
    scene.accept("a")
    scene.report("a", DELIVRD)
    code, told, _ = command("campaign")
    assert code == 0
    assert told.startswith("spring  1 of 2 ended, began ")
    code, told, _ = command("campaign", "show", "spring")
    assert code == 0
    for words in (
        "messages   2: queued 1, delivered 1",
        "delivered  100.0%",
        "left       at least",
    ):
        assert words in told
    code, told, _ = command("campaign", "show", "spring", "--json")
    found = json.loads(told)
    assert found["counts"] == {"queued": 1, "delivered": 1}
    assert (found["name"], found["lane"], found["template"]) == ("spring", "bulk", "SMS_1001")
    assert json.loads(command("campaign", "--json")[1]) == [found]


def test_a_bar_is_drawn_until_its_end(scene: Scene, command: Smsq) -> None:
    scene.enter("a", lane="bulk", campaign="spring")
    Campaigns(scene.client, scene.rules).do("cancel", "spring")
    code, told, _ = command("campaign", "show", "spring", "--watch", "1")
    assert code == 0
    assert "cancelled 1" in told


@pytest.mark.parametrize("deed", ["show", "pause", "resume", "cancel"])
def test_an_unknown_campaign_is_said_to_be_unknown(command: Smsq, deed: str) -> None:
    code, _, told = command("campaign", deed, "autumn")
    assert code == 1
    assert told == "nothing is known of a campaign autumn; smsq campaign lists them\n"


def test_a_file_is_a_campaign(
    client: redis.Redis, settings: Any, command: Smsq, tmp_path: Path
) -> None:
    file = tmp_path / "numbers.csv"
    file.write_text(f"phone,template\n{PHONE},SMS_1001\n")
    code, told, _ = command("send-file", str(file), "--json", "--no-progress")
    assert code == 0
    name = json.loads(told)["campaign"]
    assert name.startswith("numbers.csv-")
    assert " " not in name
    campaigns = Campaigns(client, settings.rules)
    assert [one.name for one in campaigns.all()] == [name]
    assert command("campaign", "cancel", "numbers.csv")[2].endswith(f"; did you mean {name}?\n")
    campaigns.do("cancel", name)
    code, _, told = command("send-file", str(file), "--json", "--no-progress", "--anew")
    assert code == 0, "sent anew it is another campaign"
    campaigns.do("pause", "own")
    file.write_text(f"phone,template\n{PHONE},SMS_2002\n")
    code, told, _ = command("send-file", str(file), "--campaign", "my own", "--no-progress")
    assert code == 0
    assert "campaign    my own\n  to stop it: smsq campaign cancel 'my own'\n" in told
    file.write_text(f"phone,template\n{PHONE},SMS_2003\n")
    assert command("send-file", str(file), "--campaign", "own", "--no-progress")[0] == 0
    campaigns.do("cancel", "own")
    file.write_text(f"phone,template\n{PHONE},SMS_3003\n")
    code, _, told = command("send-file", str(file), "--campaign", "own", "--no-progress")
    assert code == 1
    assert "campaign own was cancelled" in told


def test_the_name_of_a_file_with_a_number_is_not_shown(command: Smsq, tmp_path: Path) -> None:
    file = tmp_path / "13800138000.csv"
    file.write_text(f"phone,template\n{PHONE},SMS_1001\n")
    _, told, _ = command("send-file", str(file), "--json", "--no-progress")
    assert json.loads(told)["campaign"].startswith("file-")


def test_explain_says_that_a_message_waits_for_its_campaign(scene: Scene, command: Smsq) -> None:
    scene.enter("a", lane="bulk", campaign="spring")
    Campaigns(scene.client, scene.rules).do("pause", "spring")
    scene.admit("a")
    assert (
        "it waits for its campaign, which is paused or slowed: smsq campaign show spring"
        in command("explain", "a")[1]
    )
    Campaigns(scene.client, scene.rules).do("cancel", "spring")
    code, told, _ = command("explain", "a")
    assert code == 0
    assert "it was cancelled; it certainly was not sent" in told
    assert json.loads(command("status", "a", "--json")[1])["state"] == "cancelled"


def test_what_stops_everything_stops_the_time_that_is_left(scene: Scene, command: Smsq) -> None:
    scene.enter("a", lane="bulk", campaign="spring")
    assert "left       at least" in command("campaign", "show", "spring")[1]
    command("pause", "--reason", "night")
    told = command("campaign", "show", "spring")[1]
    assert "left       stopped\n" in told
    assert "account (operator: night" in told


def test_a_doubt_is_counted_in_the_answer_and_explain_names_the_campaign(
    scene: Scene, command: Smsq
) -> None:
    for name in ("a", "b"):
        scene.enter(name, lane="bulk", campaign="spring", phone=f"1390000000{ord(name) % 10}")
    scene.go("a")
    scene.record("a", Outcome.MAYBE_SENT)
    code, told, _ = command("campaign", "cancel", "spring")
    assert code == 0
    assert told.startswith("cancelled campaign spring: 1 cancelled, 0 under way, 1 failed, as an ")
    assert "campaign spring\n" in command("explain", "a")[1]


def test_the_overview_says_that_messages_wait_for_paused_campaigns(command: Smsq) -> None:
    smsq.send_many(ROWS, campaign="spring")
    assert "campaigns" not in command("status")[1]
    command("campaign", "pause", "spring")
    assert (
        "paused    campaigns: 3 messages of theirs wait, look: smsq campaign\n"
        in command("status")[1]
    )
    told = json.loads(command("status", "--json")[1])
    assert told["paused_campaigns"] == {"campaigns": 1, "waiting": 3}
    command("campaign", "resume", "spring")
    assert "campaigns" not in command("status")[1]


def test_a_campaign_is_not_paused_by_the_command_for_templates(command: Smsq) -> None:
    code, _, told = command("pause", "campaign", "spring")
    assert code == 2
    assert "a campaign: smsq campaign pause NAME" in told


@pytest.mark.parametrize("deed", ["list", "count", "redo"])
def test_a_search_in_an_unknown_campaign_says_that_there_is_none(
    scene: Scene, command: Smsq, deed: str
) -> None:
    words = (deed, "--campaign", "sprin")
    none = "nothing is known of a campaign sprin; smsq campaign lists them"
    assert command(*words) == (1, "", f"{none}\n")
    scene.enter("a", lane="bulk", campaign="spring")
    near = f"{none}; did you mean spring?"
    assert command(*words) == (1, "", f"{near}\n")
    assert command(deed, "--campaign", "spring")[0] == 0
    assert command(deed, "--campaign", "aut*")[0] == 0
    if deed != "redo":
        code, told, _ = command(deed, "--campaign", "spring,sprin")
        assert (code, told.splitlines()[-1]) == (0, near)


def test_a_list_has_the_campaign_and_what_is_sent_again(scene: Scene, command: Smsq) -> None:
    scene.enter("a", lane="bulk", campaign="spring")
    scene.enter("b", lane="bulk")
    scene.client.hset(keys.message("b"), "redo_of", "a")
    rows = {one["id"]: one for one in json.loads(command("list", "--json")[1])["messages"]}
    assert [(rows[one]["campaign"], rows[one]["redo_of"]) for one in "ab"] == [
        ("spring", None),
        (None, "a"),
    ]
    head, *lines = command("list", "--csv", "--campaign", "spring")[1].splitlines()
    assert head.endswith(",finished_at,campaign,redo_of")
    assert [line.endswith(",spring,") for line in lines] == [True]
    found = smsq.status("b")
    assert found is not None
    assert found.redo_of == "a"


def test_explain_names_what_is_sent_again_and_as_what(scene: Scene, command: Smsq) -> None:
    for name in ("old", "new"):
        scene.enter(name)
    scene.client.hset(keys.message("old"), "redone_by", "new")
    scene.client.hset(keys.message("new"), "redo_of", "old")
    assert "again    sent again as new\n" in command("explain", "old")[1]
    assert "again    sends old again\n" in command("explain", "new")[1]
    told = [json.loads(command("explain", one, "--json")[1]) for one in ("old", "new")]
    assert [(one["redo_of"], one["redone_by"]) for one in told] == [(None, "new"), ("old", None)]


def test_explain_says_that_a_reference_is_looked_up_in_an_index(
    scene: Scene, command: Smsq, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        scene.enter(name, reference="order-7")
    shown = command("explain", "order-7")[1]
    assert shown.count("queued") == 2
    assert "SMSQ_INDEX" not in shown
    assert "SMSQ_INDEX" not in command("explain", "order-8")[2]
    monkeypatch.setenv("SMSQ_INDEX", "0")
    assert "messages sent with SMSQ_INDEX=0 are not in" in command("explain", "order-8")[2]
    assert "SMSQ_INDEX=0" in " ".join(command("explain", "order-7")[1].split())
    monkeypatch.delenv("SMSQ_INDEX")
    scene.client.delete(keys.IDS)
    assert "smsq list --scan --reference" in command("explain", "order-7")[2]


def test_a_file_is_not_resumed_into_a_cancelled_campaign(
    scene: Scene, command: Smsq, tmp_path: Path
) -> None:
    file = tmp_path / "numbers.csv"
    rows = [f"1390000{n:04},SMS_1001\n" for n in range(150)]
    file.write_text("phone,template\n" + "".join(rows))
    words = ("send-file", str(file), "--no-progress")
    enter, batches = RedisLedger.entering_many, count()

    def once(*args: Any, **named: Any) -> Any:
        if next(batches) == 1:
            raise smsq.LedgerUnavailable("it went away")
        return enter(*args, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RedisLedger, "entering_many", once)
        code, _, told = command(*words)
    assert (code, "it went away; 100 rows are enqueued" in told) == (1, True)
    campaigns = Campaigns(scene.client, scene.rules)
    (found,) = campaigns.all()
    campaigns.do("cancel", found.name)
    code, _, told = command(*words)
    assert code == 1
    assert told.splitlines()[-1] == (
        f"smsq: campaign {found.name} was cancelled, and takes no more; 100 rows are enqueued. The "
        "same command with another --campaign goes on with the rest; with --anew, too, it sends "
        "all of the file"
    )
    assert [one.total for one in campaigns.all()] == [100]
    assert command(*words, "--campaign", "the rest")[0] == 0
    assert {one.name: one.total for one in campaigns.all()} == {found.name: 100, "the rest": 50}


def test_explain_says_that_a_key_is_given_up_by_what_was_not_sent(
    scene: Scene, command: Smsq
) -> None:
    scene.enter("a", key="login-7")
    assert "message  a\n" in command("explain", "login-7")[1]
    scene.run_out_of_ttl("a")
    code, shown, told = command("explain", "login-7")
    assert (code, shown) == (1, "")
    assert (
        "an idempotency key is not found any more once its message certainly was not sent" in told
    )


def test_a_rate_above_that_of_all_is_said_to_slow_nothing(scene: Scene, command: Smsq) -> None:
    scene.enter("a", campaign="spring")
    scene.control.set_rate(20, 1)
    assert (
        command("campaign", "rate", "spring", "20")[1] == "campaign spring: at most 20 a second\n"
    )
    code, told, _ = command("campaign", "rate", "spring", "21")
    assert code == 0
    assert told.splitlines()[1] == (
        "all messages together go at 20 a second at most, so this slows nothing: see smsq rate"
    )
    assert command("campaign", "rate", "spring", "--reset")[1].count("\n") == 1


def test_a_redo_into_a_campaign_that_is_there_says_so(scene: Scene, command: Smsq) -> None:
    scene.enter("a", campaign="spring")
    words = ("redo", "--since", "1h", "--dry-run", "--name")
    told = command(*words, "spring")[1]
    assert (
        "campaign spring has 1 message already: smsq campaign show counts them together\n" in told
    )
    assert "already" not in command(*words, "autumn")[1]
