"""How the ledger's scripts are put together."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import redis

import smsq
import smsq_worker.ledger
from smsq import keys
from smsq_worker.config.settings import Settings
from smsq_worker.ledger.scripts import Scripts

LUA = Path(smsq_worker.ledger.__file__).parent / "lua"
PRODUCERS = Path(smsq.__file__).parent
FILES = sorted([*LUA.rglob("*.lua"), *PRODUCERS.glob("*.lua")])
ACTS = sorted(path.stem for path in LUA.glob("*.lua"))
KEYS = {name: value for name, value in vars(keys).items() if str(value).startswith(keys.PREFIX)}


def code(text: str) -> str:
    """A script without its comments."""
    return re.sub(r"--.*", "", text)


def defined(text: str) -> set[str]:
    """The locals of a script's main chunk."""
    names: set[str] = set()
    for function, several in re.findall(r"^local (?:function (\w+)|([\w, ]+))", text, re.MULTILINE):
        names |= {function} if function else set(re.split(r",\s*", several.strip()))
    return names


BORROWED = [PRODUCERS / f"{name}.lua" for name in ("audit", "campaigns", "idempotency", "wakeup")]
NEEDED = {path.stem: path for path in [*LUA.glob("shared/*.lua"), *BORROWED]}
SHARED = {name for path in NEEDED.values() for name in defined(path.read_text())}


def test_there_are_scripts() -> None:
    assert len(FILES) > 30
    assert len(ACTS) > 20


def test_no_script_writes_the_name_of_a_key() -> None:
    assert {path for path in FILES if re.search(r"smsq:\w+", path.read_text())} == set()


def test_a_script_gets_the_names_of_its_keys() -> None:
    filled_in = keys.fill_in("return {KEY_TIMERS, #KEY_MESSAGE, KEY_MESSAGE .. 'x'}")
    assert filled_in == "return {'smsq:timers', #'smsq:m:', 'smsq:m:' .. 'x'}"


def test_a_misspelt_key_is_found_when_a_script_is_put_together() -> None:
    with pytest.raises(KeyError, match="TIMER"):
        keys.fill_in("return KEY_TIMER")


def test_every_key_stands_in_the_table() -> None:
    table = re.findall(r"smsq:[\w:]+", str(keys.__doc__))
    missing = {name for name, value in KEYS.items() if not any(one == value for one in table)}
    assert missing == {"PREFIX"}


@pytest.mark.parametrize("act", ACTS)
def test_an_act_is_prepended_all_that_it_uses(
    client: redis.Redis, settings: Settings, act: str
) -> None:
    script = Scripts(settings.rules).act(act)
    assert client.script_load(script.text) == script.sha
    text = code(script.text)
    own = set(re.findall(r"local (?:function )?(\w+)", text))
    for names in re.findall(r"\bfor ([\w, ]+?) (?:in|=)|function[ \w]*\(([\w, ]*)\)", text):
        own |= set(re.split(r",\s*", ",".join(names)))
    used = set(re.findall(r"(?<![.:\w])(\w+(?=\()|[A-Z_]{2,}\b)", text))
    assert not (used & SHARED) - own - defined(text)


@pytest.mark.parametrize("act", ACTS)
def test_no_act_is_prepended_a_file_that_it_does_not_use(act: str) -> None:
    text = (LUA / f"{act}.lua").read_text()
    for name in re.findall(r"^-- needs: (.+)$", text, re.MULTILINE):
        for one in name.split():
            assert one == "clock_step" or any(
                re.search(rf"\b{local}\b", code(text)) for local in defined(NEEDED[one].read_text())
            ), one


@pytest.mark.parametrize("act", ACTS)
def test_no_act_is_prepended_a_function_that_it_does_not_use(
    client: redis.Redis, settings: Settings, act: str
) -> None:
    text = code(Scripts(settings.rules).act(act).text)
    for name in re.findall(r"^local function (\w+)", text, re.MULTILINE):
        assert len(re.findall(rf"\b{name}\b", text)) > 1, name
