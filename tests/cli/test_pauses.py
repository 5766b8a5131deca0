"""`smsq pause` and `smsq resume`: what they change, what they say, what they refuse."""

from __future__ import annotations

import json

import pytest
import redis

from harness.cli import PHONE, run
from harness.scopes import template_scope
from smsq import keys
from smsq_worker.ledger.admin import ACCOUNT, BREAKER, Control


def pause_by_itself(client: redis.Redis, scope: str, cause: str, detail: str) -> None:
    """Pause as the scripts do by themselves."""
    now = client.time()[0] * 1000
    told = {"cause": cause, "detail": detail, "since": now, "probe_at": now + 30_000}
    client.hset(keys.PAUSES, scope, json.dumps(told))


def scopes(control: Control) -> list[str]:
    return [pause.scope for pause in control.pauses()]


@pytest.mark.parametrize(
    ("words", "scope", "named"),
    [
        ((), ACCOUNT, "account"),
        (("account",), ACCOUNT, "account"),
        (("template", "SMS_1001"), template_scope("SMS_1001"), "template SMS_1001"),
        (("template:SMS_1001",), template_scope("SMS_1001"), "template SMS_1001"),
        (("template", "验证码 1"), template_scope("验证码 1"), "template 验证码 1"),
        (("template:-x",), template_scope("-x"), "template -x"),
    ],
)
def test_what_is_paused_is_resumed(
    environ: dict[str, str], control: Control, words: tuple[str, ...], scope: str, named: str
) -> None:
    done = run(environ, "pause", *words, "--reason", "wrong text")
    assert (done.returncode, done.stderr) == (0, "")
    typed = {"template 验证码 1": "template '验证码 1'", "template -x": "template:-x"}.get(
        named, named
    )
    assert done.stdout == f"paused {named}; to go on: smsq resume {typed}\n"
    (pause,) = control.pauses()
    assert (pause.scope, pause.cause, pause.detail) == (scope, "operator", "wrong text")

    again = run(environ, "pause", *words)
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr == f"{named} is already paused by an operator\n"

    done = run(environ, "resume", *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"resumed {named} (operator: wrong text, since 20")
    assert control.pauses() == []

    again = run(environ, "resume", *words)
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr == f"{named} was not paused\n"


def test_an_operator_takes_a_pause_over_that_began_by_itself(
    environ: dict[str, str], client: redis.Redis, control: Control
) -> None:
    pause_by_itself(client, ACCOUNT, "report", "MA:0015")
    assert run(environ, "pause").returncode == 0
    (pause,) = control.pauses()
    assert (pause.cause, pause.probe_at) == ("operator", None)


def test_resuming_the_account_ends_an_outage_too(
    environ: dict[str, str], client: redis.Redis, control: Control
) -> None:
    pause_by_itself(client, ACCOUNT, "refusals", "20 in a row, the last: gateway:400")
    pause_by_itself(client, BREAKER, "outage", "ReadTimeout")
    control.pause(template_scope("SMS_1"), "")
    done = run(environ, "resume")
    assert done.returncode == 0
    first, second = done.stdout.splitlines()
    assert first.startswith("resumed account (refusals: 20 in a row, the last: gateway:400, since")
    assert second.startswith("resumed breaker (outage: ReadTimeout, since")
    assert scopes(control) == [template_scope("SMS_1")]


def test_the_breaker_is_resumed_alone_by_the_name_that_status_shows(
    environ: dict[str, str], client: redis.Redis, control: Control
) -> None:
    pause_by_itself(client, BREAKER, "outage", "ReadTimeout")
    assert "\npaused    breaker (outage: ReadTimeout, since" in run(environ, "status").stdout
    assert run(environ, "pause").returncode == 0
    done = run(environ, "resume", "breaker")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("resumed breaker (outage: ReadTimeout, since")
    assert scopes(control) == [ACCOUNT]
    done = run(environ, "pause", "breaker")
    assert (done.returncode, done.stdout) == (2, "")
    assert "smsq opens the breaker itself" in done.stderr
    assert "smsq pause account" in done.stderr


def test_resuming_the_wrong_scope_names_what_is_paused(
    environ: dict[str, str], control: Control
) -> None:
    control.pause(template_scope("SMS_1001"), "")
    done = run(environ, "resume")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "account was not paused; paused now: template SMS_1001\n"
    done = run(environ, "resume", "template", "SMS_1011")
    assert done.stderr == "template SMS_1011 was not paused; paused now: template SMS_1001\n"
    assert scopes(control) == [template_scope("SMS_1001")]


def test_a_ledger_of_a_newer_release_is_told_in_words(
    environ: dict[str, str], client: redis.Redis
) -> None:
    client.hset(keys.SCHEMA, mapping={"version": 99, "readable_by": 99})
    for words in (("status",), ("rate",), ("pause",), ("resume",)):
        done = run(environ, *words)
        assert (done.returncode, done.stdout) == (2 if words != ("status",) else 1, "")
        assert "is for releases that know its schema 99; this smsq" in done.stderr
        assert "upgrade this process" in done.stderr


# Words after `pause` or `resume`: what stderr must hold.
MISSPELT = {
    "acount": (("acount",), "or template NAME; did you mean account?"),
    "templat": (("templat", "SMS_1001"), "or template NAME; did you mean template?"),
    "name-alone": (("SMS_1001",), "it is about account (the default"),
    "no-name": (("template",), "a template has one NAME"),
    "two-names": (("template", "SMS_1001", "SMS_1002"), "a template has one NAME"),
    "no-such-account": (("account", "SMS_1001"), "there is no account of that name, only default"),
    "two-accounts": (("account", "main", "backup"), "or template NAME"),
    "number": ((PHONE,), "or template NAME"),
    "empty-name": (("template", ""), "template must be a str of 1 to 64 characters"),
    "long-name": (("template", "S" * 65), "template must be a str of 1 to 64 characters"),
    "no-text": (("template", "\udcff"), "template must be a str"),
}


@pytest.mark.parametrize("command", ["pause", "resume"])
@pytest.mark.parametrize(("words", "told"), MISSPELT.values(), ids=MISSPELT)
def test_a_misspelt_scope_is_refused_with_what_is_allowed(
    environ: dict[str, str], client: redis.Redis, command: str, words: tuple[str, ...], told: str
) -> None:
    client.flushall()
    done = run(environ, command, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert client.dbsize() == 0


@pytest.mark.parametrize("reason", ["two\nlines", "\udcff", "x" * 201])
def test_a_reason_must_fit_into_a_log(
    environ: dict[str, str], client: redis.Redis, reason: str
) -> None:
    done = run(environ, "pause", "--reason", reason)
    assert (done.returncode, done.stdout) == (2, "")
    assert "printable text of at most 200 characters" in done.stderr
    assert client.dbsize() == 0
