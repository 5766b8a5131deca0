"""Which numbers are test numbers, and what is reported of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from smsq.errors import SettingsError
from smsq_worker.config.settings import Settings
from smsq_worker.domain.codes import Catalogue
from smsq_worker.domain.testnumbers import MID_PREFIX, MOST, new_mid, read, reported, stat_for
from smsq_worker.vendors.mids import clean_mid
from smsq_worker.vendors.oneoc.response import understand


def test_a_pattern_is_the_beginning_of_its_numbers() -> None:
    assert read(" 1380000xxxx,13900139000 , 1590000123X,1380000XXXX") == (
        *("1380000", "13900139000", "1590000123"),
    )


@pytest.mark.parametrize(
    "text",
    [
        *("138000xxxxx", "1xxxxxxxxxx", "xxxxxxxxxxx", "*", "138", "1380000xxx", "1380000xxxxx"),
        *("12800001234", "1380000x123", "+8613800138000", "１３８００１３８０００", "13800138000,"),
    ],
)
def test_what_covers_too_much_or_is_no_number_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.load({"SMSQ_TEST_NUMBERS": text})
    (problem,) = raised.value.problems
    assert problem.startswith("SMSQ_TEST_NUMBERS: its value is not allowed; it takes a number of")
    assert f"(see number {text.count(',') + 1})" in problem
    assert "1380" not in problem.replace("1380000xxxx", "")


def test_there_are_not_too_many() -> None:
    with pytest.raises(ValueError, match=f"at most {MOST}"):
        read(",".join(f"138001{n:05}" for n in range(MOST + 1)))


def test_the_settings_do_not_show_them() -> None:
    assert "1380000" not in repr(Settings.load({"SMSQ_TEST_NUMBERS": "1380000xxxx"}))


@pytest.mark.parametrize(
    ("codes", "stats"),
    [
        ({}, ["DELIVRD", "DELIVRD", None]),
        ({"13800001234": "MK:0001"}, ["MK:0001", "DELIVRD", None]),
        ({"138000012": "MK:0001", "13800001234": "EXPIRED"}, ["EXPIRED", "DELIVRD", None]),
        ({"13800": "MK:0001", "139": "EXPIRED"}, ["MK:0001", "MK:0001", None]),
    ],
    ids=["none", "of one", "the closest counts", "a wider one; it adds no number"],
)
def test_a_code_is_that_of_the_closest_pattern(
    codes: Mapping[str, str], stats: list[str | None]
) -> None:
    numbers = reported(["1380000"], codes)
    assert [stat_for(one, numbers) for one in ("13800001234", "13800009999", "13900139000")] == (
        stats
    )


def test_the_override_file_names_their_codes(tmp_path: Path) -> None:
    file = tmp_path / "codes.toml"
    file.write_text('[test_numbers]\n13800001234 = "mk 1"\n"1380000xxxx" = "EXPIRED"\n')
    assert Catalogue.load(file).test_codes == {"13800001234": "MK:0001", "1380000": "EXPIRED"}


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ('[test_numbers]\n1 = "DELIVRD"', "test_numbers: name 1 is not allowed; it takes a number"),
        ('[test_numbers]\n13800138000 = "NEW"', "test_numbers: value 1 is not allowed; it takes"),
        ('[test_numbers]\n13800138000 = "MK:*"', "test_numbers: value 1 is not allowed; it takes"),
        ("[test_numbers]\n13800138000 = 1", "test_numbers: value 1 is not allowed; it takes"),
        ("test_numbers = 1", "test_numbers: 1 is not a table; write a number in quotes"),
        ("[test_number]", 'table "test_number" is unknown; known are [codes], [test_numbers]'),
    ],
)
def test_a_mistake_in_the_file_is_told_once_and_repeats_no_number(
    lines: str, problem: str, tmp_path: Path
) -> None:
    file = tmp_path / "codes.toml"
    file.write_text(lines)
    with pytest.raises(SettingsError) as raised:
        Catalogue.load(file)
    (told,) = raised.value.problems
    assert told.startswith(f"SMSQ_CODES_FILE: {file}: {problem}")
    assert "13800138000" not in told


def test_nobody_but_a_worker_can_give_out_the_mid_of_a_test() -> None:
    mid = new_mid()
    assert mid.startswith(MID_PREFIX)
    assert mid != new_mid()
    assert clean_mid(mid) == ""
    answer = b'{"code": 200, "msg": "ok", "mid": "%s"}' % mid.encode()
    result = understand(200, {}, answer)
    assert (result.outcome, result.mid, result.detail) == ("accepted", "", "no usable mid")
