"""The catalogue of stat codes, its override file and `smsq codes`."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from harness.cli import here
from smsq.contract import Lane
from smsq.errors import SettingsError
from smsq_worker.cli.commands.codes import codes as codes_command
from smsq_worker.domain.code_spelling import as_written, normalise
from smsq_worker.domain.codes import Catalogue, Code, CodeClass, Scope
from smsq_worker.inspection.formatting import span

if TYPE_CHECKING:
    from pathlib import Path

DAY_S = 86_400

# The table of the vendor's page, word for word.
VENDOR = {
    "DELIVRD": "短信投递成功",
    "EXPIRED": "Message validity period has expired",
    "DELETED": "Message has been deleted.",
    "REJECTED": "Message is in a rejected state",
    "MA:0001": "全局黑名单号码",
    "MA:0002": "内容非法",
    "MA:0003": "无法找到下级路由",
    "MA:0004": "错误的内容长度",
    "MA:0005": "目的号码格式错误",
    "MA:0006": "系统拒绝",
    "MA:0009": "未定义错误",
    "MA:0011": "未知系统内部错误",
    "MA:0015": "余额不足",
    "MA:0017": "签名无效",
    "MA:0021": "号码格式错误",
    "MA:0022": "下发次数限制",
    "MA:0023": "客户黑名单号码",
    "MA:0024": "内容未报备",
    "MA:0025": "不支持该短信",
    "MA:0026": "分条发送,组包超时",
    "MA:0027": "通道黑名单",
    "MA:0028": "全局黑名单号段",
    "MA:0029": "通道黑名单号段",
    "MA:0030": "直接产生拒绝报告",
    "MA:0033": "地区拦截",
    "MA:0044": "号段拦截",
    "MO:200": "不支持分条短信",
    "MO:0254": "转发提交超时",
    "MO:0255": "转发提交过程中,连接断开",
    "MO:NNNN": "NNNN为对外提交过程中,上级网关的返回值,具体含义需上级网关解释",
}

CLASSES = {
    "delivered": ("DELIVRD",),
    "pending": ("ACCEPTD", "ML:*"),
    "permanent": (
        *("DELETED", "REJECTED", "REJECTD", "UNDELIV", "MA:0001", "MA:0002", "MA:0004", "MA:0005"),
        *("MA:0006", "MA:0012", "MA:0014", "MA:0017", "MA:0021", "MA:0023", "MA:0024", "MA:0025"),
        *("MA:0027", "MA:0028", "MA:0029", "MA:0030", "MA:0033", "MA:0036", "MA:0044", "MO:200"),
        *("MK:0001", "MI:0013", "DB:0139", "DB:0141", "DB:0142", "ID:0076"),
        *("MJ:*", "MK:*", "MN:*"),
    ),
    "transient": (
        *("EXPIRED", "MA:0003", "MA:0009", "MA:0011", "MA:0015", "MA:0022", "MA:0026", "MA:0054"),
        *("MO:0008", "MO:0254", "MO:0255", "MI:*", "CA:*", "IC:*"),
    ),
    "unknown": ("UNKNOWN", "MO:*", "MM:*"),
}

VARIANTS = {
    "as documented": ("MA:0001", "MA:0001"),
    "blanks around": (" \tMA:0001\u00a0\r\n", "MA:0001"),
    "blanks at the colon": ("MA : 0001", "MA:0001"),
    "lower case": ("delivrd", "DELIVRD"),
    "full-width colon": ("MO：0254", "MO:0254"),
    "no colon": ("MA0001", "MA:0001"),
    "too many zeros": ("MA:00011", "MA:0011"),
    "too few zeros": ("MA:1", "MA:0001"),
    "three digits": ("MO:254", "MO:0254"),
    "MO:200 as documented": ("MO:200", "MO:200"),
    "MO:200 padded": ("MO:0200", "MO:200"),
    "MO:200 padded too far": ("mo 00200", "MO:200"),
    "MA:200 is not MO:200": ("MA:200", "MA:0200"),
    "only zeros": ("MO:0", "MO:0000"),
    "more than four digits": ("MO:12345", "MO:12345"),
    "any number of zeros": ("MO:" + "0" * 5000 + "254", "MO:0254"),
    "the receipt's short name": ("REJECTD", "REJECTED"),
    "the state's full name": ("Delivered", "DELIVRD"),
    "blank": (" \n", "EMPTY"),
    "empty": ("", "EMPTY"),
    "a carrier's code": ("mk99", "MK:0099"),
    "a carrier's code that has letters": ("db:12a", "DB:12A"),
    "foreign letters": ("MK:é\x00\x1b[31m", "MK:????31M"),
    "letters that become ASCII in upper case": ("DELıVRD", "DEL?VRD"),
    "too long": ("X" * 40, "X" * 31 + "?"),
    "a lone surrogate": ("\ud800", "?"),
}


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue.load()


def cases(table: dict[str, Any]) -> list[Any]:
    return [pytest.param(*value, id=name) for name, value in table.items()]


# ---- The shipped data ----


@pytest.mark.parametrize(("stat", "meaning"), VENDOR.items(), ids=VENDOR)
def test_every_code_of_the_vendors_page_has_the_vendors_meaning(
    catalogue: Catalogue, stat: str, meaning: str
) -> None:
    code = catalogue.get(stat)
    assert code is not None
    assert meaning == (code.zh if not meaning.isascii() else code.en)


@pytest.mark.parametrize(
    ("stat", "code_class"),
    [
        pytest.param(stat, code_class, id=stat)
        for code_class, stats in CLASSES.items()
        for stat in stats
    ],
)
def test_every_code_has_its_class(catalogue: Catalogue, stat: str, code_class: str) -> None:
    code = catalogue.get(stat)
    assert code is not None
    assert code.code_class == code_class


def test_the_catalogue_has_no_code_that_the_tables_here_do_not_name(catalogue: Catalogue) -> None:
    named = {stat for stats in CLASSES.values() for stat in stats} - {"REJECTD"}
    assert {code.stat for code in catalogue} == named


def test_the_users_own_rule_blacklisted_is_permanent_and_timeout_is_transient(
    catalogue: Catalogue,
) -> None:
    assert catalogue.classify("MA:0001") == Code(
        stat="MA:0001",
        zh="全局黑名单号码",
        en="number is on the global blacklist",
        code_class=CodeClass.PERMANENT,
        scope=Scope.RECIPIENT,
        suppress_s=30 * DAY_S,
        suppress_lanes=(Lane.BULK,),
    )
    assert catalogue.classify("MO:0254") == Code(
        stat="MO:0254",
        zh="转发提交超时",
        en="submit to the upstream gateway timed out",
        code_class=CodeClass.TRANSIENT,
        scope=Scope.ROUTE,
        retry_after_s=60,
        may_have_been_sent=True,
    )


def test_every_entry_has_both_meanings_and_its_own_spelling(catalogue: Catalogue) -> None:
    for code in catalogue:
        assert code.zh, code.stat
        assert code.en, code.stat
        assert normalise(code.stat.replace(":*", ":0000")) == code.stat.replace(":*", ":0000")


def test_carriers_codes_say_where_their_meaning_is_from(catalogue: Catalogue) -> None:
    of_the_vendor = {normalise(stat) for stat in VENDOR} | {"MO:*"}
    for code in catalogue:
        is_carriers = ":" in code.stat and code.stat not in of_the_vendor
        assert bool(code.source) == is_carriers, code.stat


def test_transient_codes_and_only_they_have_a_time_to_retry(catalogue: Catalogue) -> None:
    for code in catalogue:
        assert (code.retry_after_s > 0) == (code.code_class is CodeClass.TRANSIENT), code.stat


def test_too_many_messages_to_a_number_hold_that_number(catalogue: Catalogue) -> None:
    held = {code.stat: code.retry_after_s for code in catalogue if code.scope is Scope.FREQUENCY}
    assert held == {"MA:0022": 1800, "DB:0142": 0}


def test_an_empty_account_is_asked_again_soon_because_its_pause_holds_the_rest_back(
    catalogue: Catalogue,
) -> None:
    assert catalogue.classify("MA:0015").retry_after_s == 60


def test_only_codes_about_the_recipient_suppress_its_number(catalogue: Catalogue) -> None:
    suppressing = {code.stat: code.suppress_s // DAY_S for code in catalogue if code.suppress_s}
    assert suppressing == {
        "MA:0001": 30,
        "MA:0005": 7,
        "MA:0021": 7,
        "MA:0023": 3650,
        "MA:0027": 30,
        "MK:0001": 30,
        "DB:0141": 180,
    }
    in_bulk = {code.stat for code in catalogue if code.suppress_lanes == (Lane.BULK,)}
    assert in_bulk == {"MA:0001", "MA:0027"}
    assert not any(code.suppress_lanes for code in catalogue if code.stat not in in_bulk)
    found = [code for code in catalogue if code.suppress_s]
    assert {code.code_class for code in found} == {CodeClass.PERMANENT}
    # A channel's blacklist is its account's, where there are several.
    assert {code.stat for code in found if code.scope is not Scope.RECIPIENT} == {"MA:0027"}


def test_the_codes_that_pause_slow_down_or_may_have_been_sent_are_these(
    catalogue: Catalogue,
) -> None:
    assert {code.stat: code.pause for code in catalogue if code.pause} == {
        "MA:0015": "account",
        "MA:0017": "template",
        "MA:0024": "template",
    }
    assert {code.stat for code in catalogue if code.slow_down} == {"MO:0008"}
    assert {code.stat for code in catalogue if code.may_have_been_sent} == {
        *("EXPIRED", "MI:*"),
        *("MA:0026", "MA:0054", "MO:0254", "MO:0255"),
    }


def test_a_rejection_has_no_scope_for_gateways_differ(catalogue: Catalogue) -> None:
    for stat in ("REJECTD", "REJECTED", "MN:0017"):
        code = catalogue.classify(stat)
        assert (code.code_class, code.scope) == (CodeClass.PERMANENT, None)


@pytest.mark.parametrize(
    ("prefix", "state"),
    [
        ("MI", "EXPIRED"),
        ("MJ", "DELETED"),
        ("MK", "UNDELIV"),
        ("ML", "ACCEPTD"),
        ("MM", "UNKNOWN"),
        ("MN", "REJECTD"),
    ],
)
def test_a_carriers_prefix_means_its_state(catalogue: Catalogue, prefix: str, state: str) -> None:
    of_state = catalogue.classify(state)
    code = catalogue.classify(f"{prefix}:0777")
    assert (code.stat, catalogue.entry(code.stat)) == (f"{prefix}:0777", f"{prefix}:*")
    for name in ("code_class", "retry_after_s", "may_have_been_sent", "suppress_s", "pause"):
        assert getattr(code, name) == getattr(of_state, name), name


# ---- Reading what a gateway writes ----


@pytest.mark.parametrize(("written", "expected"), cases(VARIANTS))
def test_a_stat_is_read_in_every_spelling(written: str, expected: str) -> None:
    assert normalise(written) == expected


def test_an_answer_of_the_upstream_gateway_is_unknown_by_the_wildcard(
    catalogue: Catalogue,
) -> None:
    wildcard = catalogue.get("MO:*")
    assert wildcard is not None
    assert catalogue.classify("mo9999") == replace(wildcard, stat="MO:9999")
    assert catalogue.classify("MO:9999").code_class is CodeClass.UNKNOWN
    assert catalogue.get("MO:9999") == catalogue.classify("MO:9999")


@pytest.mark.parametrize(
    ("written", "passed_on"),
    [
        (" REJECTD\r\n", "REJECTD"),
        ("mk:0001", "mk:0001"),
        ("MA : 0001", "MA : 0001"),
        ("MO\uff1a0254", "MO:0254"),
        ("<script>", "?SCRIPT?"),
        ("MK:1\x1b[2J", "MK:1??2J"),
        ("'; drop", "?? DROP".replace(" ", "?")),
        ("X" * 40, "X" * 31 + "?"),
        ("", "EMPTY"),
    ],
)
def test_a_stat_is_passed_on_as_it_was_written_unless_it_could_do_harm(
    written: str, passed_on: str
) -> None:
    assert as_written(written) == passed_on


@pytest.mark.parametrize(
    "stat", ["XA:0001", "ZZ:0099", "MO:garbage", "MO:*", "MA:0099", "", "?", "MO:-1"]
)
def test_a_code_that_nobody_listed_is_unknown_and_keeps_its_text(
    catalogue: Catalogue, stat: str
) -> None:
    assert catalogue.classify(stat) == Code(
        normalise(stat), "未收录的状态码", "not in the catalogue"
    )


def test_a_cut_text_is_never_taken_for_a_code_it_begins_like(catalogue: Catalogue) -> None:
    stat = "MO:" + "0" * 25 + "254" + " and more"
    assert normalise(normalise(stat)) == normalise(stat)
    assert catalogue.classify(stat).code_class is CodeClass.UNKNOWN


def test_a_megabyte_of_blanks_is_read_at_once() -> None:
    started = time.monotonic()
    normalise("MA" + " " * 1_000_000 + "x")
    assert time.monotonic() - started < 1


CODE_LIKE = st.from_regex(r"\s*(M[AO])\s*[:：]?\s*0*[0-9]{0,40}.?", fullmatch=True)


@given(stat=st.text() | CODE_LIKE | st.text(alphabet=st.characters()))
def test_classify_never_raises_and_bounds_the_stat_whatever_the_text(
    stat: str, catalogue: Catalogue
) -> None:
    code = catalogue.classify(stat)
    assert re.fullmatch(r"[A-Z0-9:_.?-]{1,32}", code.stat)
    assert catalogue.classify(code.stat) == code
    assert len(catalogue.nearest(stat)) <= 3


def test_did_you_mean_names_the_closest_codes(catalogue: Catalogue) -> None:
    assert catalogue.nearest("DELIVERD")[0] == "DELIVRD"
    assert catalogue.nearest("MO:O254")[0] == "MO:0254"
    assert catalogue.nearest("完全不同") == []


def test_the_order_is_the_same_each_time(catalogue: Catalogue) -> None:
    stats = [code.stat for code in catalogue]
    assert stats == [code.stat for code in Catalogue.load()]
    assert stats[0] == "DELIVRD"
    assert stats[-1] == "IC:*"


# ---- The override file ----


@pytest.fixture
def override(tmp_path: Path) -> Path:
    return tmp_path / "override.toml"


def problems_of(override: Path) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as raised:
        Catalogue.load(override)
    return raised.value.problems


def test_an_override_changes_the_fields_it_names_and_no_others(
    catalogue: Catalogue, override: Path
) -> None:
    override.write_text('[codes."MO:254"]\nretry_after_s = 90\nscope = ""\n', encoding="utf-8")

    changed = Catalogue.load(override)

    shipped = catalogue.classify("MO:0254")
    assert changed.classify("MO:0254") == replace(shipped, retry_after_s=90, scope=None)
    assert changed.classify("MO:0255") == catalogue.classify("MO:0255")


def test_the_contracts_example_is_a_valid_override(override: Path) -> None:
    override.write_text(
        """
[codes."MO:0254"]
class = "transient"      # delivered | pending | permanent | transient | unknown
scope = "route"          # recipient | content | template | account | route | gateway | frequency
retry_after_s = 60
suppress_s = 0           # > 0: suppress the number for so long
pause = ""               # "account" or "template"
may_have_been_sent = true
""",
        encoding="utf-8",
    )
    assert list(Catalogue.load(override)) == list(Catalogue.load())


def test_an_override_adds_codes_with_or_without_a_meaning(override: Path) -> None:
    override.write_text(
        """
[codes."mo:12"]
class = "transient"
retry_after_s = 30

[codes."XK:0001"]
class = "permanent"
scope = "account"
zh = "测试"
en = "a test"
pause = "account"
slow_down = true
suppress_s = 5
""",
        encoding="utf-8",
    )

    added = Catalogue.load(override)

    assert added.classify("MO:0012") == Code(
        "MO:0012", code_class=CodeClass.TRANSIENT, retry_after_s=30
    )
    assert added.classify("xk:0001") == Code(
        *("XK:0001", "测试", "a test", CodeClass.PERMANENT, Scope.ACCOUNT, 0, 5, "account", True)
    )
    assert [code.stat for code in added][-2:] == ["MO:0012", "XK:0001"]


@pytest.mark.parametrize("name", ["MO:*", "mo:nnnn"])
def test_an_override_of_the_wildcard_holds_for_every_other_answer(
    override: Path, name: str
) -> None:
    override.write_text(f'[codes."{name}"]\nclass = "permanent"\n', encoding="utf-8")

    changed = Catalogue.load(override)

    assert changed.classify("MO:9999").code_class is CodeClass.PERMANENT
    assert changed.classify("MO:0254").code_class is CodeClass.TRANSIENT


@pytest.mark.parametrize("name", ["XX:*", "xx:xxxx", "XX:NNNN", "xx*"])
def test_an_override_may_say_what_a_prefix_means(override: Path, name: str) -> None:
    override.write_text(
        f'[codes."{name}"]\nclass = "permanent"\n[codes."XX:0001"]\nclass = "pending"\n',
        encoding="utf-8",
    )
    changed = Catalogue.load(override)
    assert changed.classify("xx7") == Code("XX:0007", code_class=CodeClass.PERMANENT)
    assert changed.classify("XX:0001").code_class is CodeClass.PENDING
    assert changed.classify("XXX:0007").code_class is CodeClass.UNKNOWN


def test_an_entry_of_its_own_counts_before_a_wildcard_of_any_file(override: Path) -> None:
    override.write_text(
        '[codes."MK:*"]\nclass = "unknown"\n[codes."MI:0077"]\nclass = "permanent"\n',
        encoding="utf-8",
    )
    changed = Catalogue.load(override)
    assert changed.classify("MK:0777").code_class is CodeClass.UNKNOWN
    assert changed.classify("MK:0777").zh == Catalogue.load().classify("MK:0777").zh
    assert changed.classify("MK:0001") == Catalogue.load().classify("MK:0001")
    assert changed.classify("MI:0077").code_class is CodeClass.PERMANENT
    assert changed.classify("MI:0078").code_class is CodeClass.TRANSIENT


def test_an_override_names_the_lanes_of_its_suppression(override: Path) -> None:
    override.write_text(
        '[codes."MA:0001"]\nsuppress_lanes = []\n'
        '[codes."MA:0023"]\nsuppress_lanes = ["bulk", "notice", "bulk"]\n',
        encoding="utf-8",
    )
    changed = Catalogue.load(override)
    assert changed.classify("MA:0001").suppress_lanes == ()
    assert changed.classify("MA:0023").suppress_lanes == (Lane.NOTICE, Lane.BULK)


@pytest.mark.parametrize("content", ["", "# nothing\n", "[codes]\n", "\ufeff[codes]\r\n"])
def test_an_override_may_be_empty_or_come_from_windows(override: Path, content: str) -> None:
    override.write_text(content, encoding="utf-8", newline="")
    assert list(Catalogue.load(override)) == list(Catalogue.load())


MISTAKES = {
    "unknown table": ("[code.DELIVRD]", 'table "code" is unknown', "did you mean codes?"),
    "codes is no table": ("codes = 3", "codes: 3 is not a table", '[codes."MO:0254"]'),
    "code is no table": (
        '[codes]\n"MA:0001" = 5',
        'code "MA:0001": 5 is not a table',
        "class, scope, retry_after_s",
    ),
    "unknown field": (
        '[codes."MA:0001"]\nretry_after = 5',
        'code "MA:0001", field retry_after: is unknown',
        "did you mean retry_after_s?",
    ),
    "unknown field like no other": (
        '[codes."MA:0001"]\nxyz = 5',
        "field xyz: is unknown",
        "known are zh, en, class",
    ),
    "value not allowed": (
        '[codes."MA:0001"]\nclass = "transcient"',
        'field class: "transcient" is not allowed',
        "one of delivered, pending, permanent, transient, unknown",
    ),
    "class of the wrong type": (
        '[codes."MA:0001"]\nclass = ["transient"]',
        'field class: ["transient"] is not allowed',
        "one of delivered",
    ),
    "scope not allowed": (
        '[codes."MA:0001"]\nscope = "phone"',
        'field scope: "phone" is not allowed',
        'one of recipient, content, template, account, route, gateway, frequency, or ""',
    ),
    "scope of the wrong type": (
        '[codes."MA:0001"]\nscope = false',
        "field scope: false is not allowed",
        "one of recipient",
    ),
    "pause not allowed": (
        '[codes."MA:0001"]\npause = "route"',
        'field pause: "route" is not allowed',
        'account, template, or ""',
    ),
    "negative": (
        '[codes."MA:0001"]\nsuppress_s = -1',
        "field suppress_s: -1 is not allowed",
        "seconds from 0 to 315360000",
    ),
    "too large": (
        '[codes."MA:0001"]\nsuppress_s = 999999999999',
        "field suppress_s: 999999999999 is not allowed",
        "seconds from 0 to 315360000",
    ),
    "a number beyond showing": (
        f'[codes."MA:0001"]\nsuppress_s = 0x{"f" * 5000}',
        "field suppress_s: a number of thousands of digits is not allowed",
        "seconds from 0 to 315360000",
    ),
    "bool for a number": (
        '[codes."MA:0001"]\nsuppress_s = true',
        "field suppress_s: true is not allowed",
        "whole number",
    ),
    "fraction": (
        '[codes."MO:0254"]\nretry_after_s = 1.5',
        "field retry_after_s: 1.5 is not allowed",
        "whole number",
    ),
    "text for a bool": (
        '[codes."MO:0008"]\nslow_down = "yes"',
        'field slow_down: "yes" is not allowed',
        "true or false",
    ),
    "number for a bool": (
        '[codes."MO:0254"]\nmay_have_been_sent = 1',
        "field may_have_been_sent: 1 is not allowed",
        "true or false",
    ),
    "a date for a text": (
        '[codes."MO:0254"]\nen = 2025-07-06',
        'field en: "2025-07-06" is not allowed',
        "text on one line",
    ),
    "no list of lanes": (
        '[codes."MA:0001"]\nsuppress_lanes = "bulk"',
        'field suppress_lanes: "bulk" is not allowed',
        "a list of lanes out of otp, notice, bulk; [] for all",
    ),
    "a lane that is none": (
        '[codes."MA:0001"]\nsuppress_lanes = ["bulk", ["otp"]]',
        "field suppress_lanes: ",
        "a list of lanes out of",
    ),
    "made transient without a time": (
        '[codes."MA:0001"]\nclass = "transient"',
        "field retry_after_s: 0 is not allowed with class transient",
        "from 1 to 315360000",
    ),
    "transient without its time": (
        '[codes."MO:254"]\nretry_after_s = 0',
        'code "MO:254", field retry_after_s: 0 is not allowed with class transient',
        "from 1 to 315360000",
    ),
    "the same code twice": (
        '[codes."MO:254"]\n[codes."MO:0254"]',
        'code "MO:0254": is the same code as "MO:254"',
        "give it once",
    ),
    "no code": ('[codes."é"]', 'code "é": is not a code', "A-Z 0-9 : _ . -"),
    "blank code": ('[codes." "]', 'code " ": is not a code', "1 to 32 characters"),
    "not TOML": ("[codes]\nx =", "is not TOML in UTF-8: ", "Invalid value"),
    "a code without quotes": ("[codes.MO:0254]", "is not TOML", 'in quotes: [codes."MO:0254"]'),
    "a number beyond reading": ("x = " + "9" * 5000, "is not TOML", "digits"),
}


@pytest.mark.parametrize(("content", "found", "allowed"), cases(MISTAKES))
def test_a_mistake_names_the_setting_the_file_the_place_and_what_is_allowed(
    override: Path, content: str, found: str, allowed: str
) -> None:
    override.write_text(content, encoding="utf-8")

    (problem,) = problems_of(override)

    assert problem.startswith(f"SMSQ_CODES_FILE: {override}: ")
    assert found in problem
    assert allowed in problem


def test_all_mistakes_are_told_at_once(override: Path) -> None:
    override.write_text(
        """
[code.X]
[codes."MO:0254"]
clas = "transient"
retry_after_s = -1
may_have_been_sent = "yes"
[codes."MA:0001"]
class = "transient"
[codes."MA:0002"]
en = "this one is right"
""",
        encoding="utf-8",
    )

    problems = problems_of(override)

    places = [
        'table "code" is unknown',
        'code "MO:0254", field clas: ',
        'code "MO:0254", field retry_after_s: -1',
        'code "MO:0254", field may_have_been_sent: ',
        'code "MA:0001", field retry_after_s: 0',
    ]
    assert len(problems) == len(places)
    assert all(place in problem for place, problem in zip(places, problems, strict=True))


def test_a_missing_override_file_is_told(override: Path) -> None:
    (problem,) = problems_of(override)
    assert problem.startswith(f"SMSQ_CODES_FILE: {override}: cannot be read: No such file")


def test_a_folder_for_an_override_file_is_told(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path)
    assert "cannot be read: " in problem


def test_an_override_file_that_is_not_utf8_is_told(override: Path) -> None:
    override.write_bytes('[codes."MA:0001"]\nzh = "黑名单"'.encode("gb18030"))
    (problem,) = problems_of(override)
    assert "is not TOML in UTF-8" in problem


# ---- smsq codes ----


def run(*arguments: str, override: Path | None = None) -> Result:
    environment = {"SMSQ_CODES_FILE": str(override) if override else None, "LC_ALL": "C.UTF-8"}
    return CliRunner().invoke(codes_command, list(arguments), env=environment)


def test_the_command_lists_every_code_on_a_line_of_its_own(catalogue: Catalogue) -> None:
    result = run()
    assert result.exit_code == 0
    assert result.stderr == ""
    lines = {line.split()[0]: line for line in result.stdout.splitlines() if line.strip()}
    for code in catalogue:
        assert code.zh in lines[code.stat]
        assert code.en in lines[code.stat]
    assert "fail for good, suppress the number for 30 d in lane bulk" in lines["MA:0001"]
    assert "fail for good, suppress the number until lifted" in lines["MA:0023"]
    assert "resend after 1 min, pause the account" in lines["MA:0015"]
    assert "fail for good, pause the template on repeat" in lines["MA:0017"]
    assert "resend after 30 min, hold the number for 30 min" in lines["MA:0022"]
    assert "resend after 1 min, slow down" in lines["MO:0008"]


EXPLAINED = {
    "permanent": (
        "ma1",
        ("MA:0001  全局黑名单号码", "permanent", "30 d in lane bulk", "was sent  no"),
    ),
    "transient": ("MO：254", ("MO:0254", "resend after 1 min", "SMSQ_MAX_RESENDS", "perhaps")),
    "delivered": ("DELIVRD", ("短信投递成功", "finish as delivered", "was sent  yes")),
    "pending": ("ACCEPTD", ("wait for the final report", "SMSQ_REPORT_WAIT_S", "not arrived")),
    "wildcard": ("MO:1234", ("MO:1234", "上级网关的返回值", "not known", '[codes."MO:1234"]')),
    "wildcard itself": ("MO:NNNN", ("MO:*", '[codes."MO:*"]')),
    "by its prefix": (
        "mk99",
        ("MK:0099  短信无法送达", "MK:*: MK:0099 has none", "source    http"),
    ),
    "a prefix": ("mk", ("MK:*  短信无法送达",)),
    "how to override": ("DELIVRD", ("SMSQ_CODES_FILE is not set", '[codes."DELIVRD"]')),
}


@pytest.mark.parametrize("stat", ["MO:0254", "MA:0022", "MO:0008"])
def test_the_command_says_what_bounds_the_resends(stat: str) -> None:
    bound = "(at most SMSQ_MAX_RESENDS times, and within the message's ttl)"
    assert bound in run(stat).stdout


def test_only_the_ttl_bounds_the_resends_while_the_account_is_paused() -> None:
    told = run("MA:0015").stdout
    assert "pause the account (as often as it takes within the message's ttl: " in told
    assert "SMSQ_MAX_RESENDS" not in told


def test_they_are_counted_even_then_where_the_message_may_have_been_sent(override: Path) -> None:
    override.write_text('[codes."MA:0015"]\nmay_have_been_sent = true\n', encoding="utf-8")
    assert "at most SMSQ_MAX_RESENDS times" in run("MA:0015", override=override).stdout


ACTIONS = {
    "held though it failed": (
        'class = "permanent"\nscope = "frequency"\nretry_after_s = 90',
        "fail for good, hold the number for 1 min 30 s",
    ),
    "no time to hold it for": (
        'class = "permanent"\nscope = "frequency"',
        "fail for good",
    ),
    "everything at once": (
        'suppress_s = 120\npause = "account"\nslow_down = true',
        "wait for a better report, suppress the number for 2 min, pause the account, slow down",
    ),
}


@pytest.mark.parametrize(("fields", "words"), cases(ACTIONS))
def test_the_action_names_all_that_follows_for_other_messages(
    override: Path, fields: str, words: str
) -> None:
    override.write_text(f'[codes."MO:1"]\n{fields}\n', encoding="utf-8")
    assert json.loads(run("--json", "MO:1", override=override).stdout)["action"] == words


@pytest.mark.parametrize(("stat", "words"), cases(EXPLAINED))
def test_the_command_explains_one_code(stat: str, words: tuple[str, ...]) -> None:
    result = run(stat)
    assert result.exit_code == 0
    for word in words:
        assert word in result.stdout


def test_the_command_says_which_file_changed_a_code(override: Path) -> None:
    override.write_text('[codes."MO:0254"]\nretry_after_s = 90\n', encoding="utf-8")
    changed = run("MO:0254", override=override)
    assert "resend after 1 min 30 s" in changed.stdout
    assert f"changed by {override}" in changed.stdout
    assert "leaves this as shipped" in run("MO:0255", override=override).stdout


def test_the_command_shows_a_code_without_a_meaning_and_prints_brackets_as_they_are(
    override: Path,
) -> None:
    override.write_text('[codes."MO:1"]\n[codes."MO:2"]\nzh = "[red]x"', encoding="utf-8")
    assert "none is given" in run("MO:1", override=override).stdout
    assert "[red]x" in run(override=override).stdout


def test_the_command_prints_json_with_the_fields_of_the_override_file(
    catalogue: Catalogue,
) -> None:
    listed = json.loads(run("--json").stdout)
    assert [entry["stat"] for entry in listed] == [code.stat for code in catalogue]

    one = json.loads(run("--json", "MO:254").stdout)
    assert one in listed
    assert one == {
        "stat": "MO:0254",
        "zh": "转发提交超时",
        "en": "submit to the upstream gateway timed out",
        "class": "transient",
        "scope": "route",
        "retry_after_s": 60,
        "suppress_s": 0,
        "pause": "",
        "slow_down": False,
        "may_have_been_sent": True,
        "suppress_lanes": [],
        "source": "",
        "action": "resend after 1 min",
    }


@pytest.mark.parametrize("flags", [(), ("--json",)], ids=["words", "json"])
def test_the_command_refuses_an_unknown_code_with_a_suggestion(flags: tuple[str, ...]) -> None:
    result = run(*flags, "DELIVERD")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "DELIVERD is not in the catalogue; did you mean DELIVRD" in result.stderr


@pytest.mark.parametrize("stat", ["zz99", "ZZ:0099", "zz：99"])
def test_the_command_says_what_becomes_of_an_unknown_code_and_how_to_give_it_a_class(
    stat: str,
) -> None:
    result = run(stat)
    assert (result.exit_code, result.stdout) == (1, "")
    for words in (
        "ZZ:0099 is not in the catalogue; ",
        "ends as unreported after SMSQ_REPORT_WAIT_S",
        '[codes."ZZ:0099"] or, for all codes like it, [codes."ZZ:*"]',
        "smsq codes --seen",
    ):
        assert words in result.stderr


def test_the_command_points_to_the_list_where_nothing_is_similar() -> None:
    result = run("\x1b[2J完全不同")
    assert result.exit_code == 1
    assert result.stderr == "??2J???? is not in the catalogue; see them all: smsq codes\n"


@pytest.mark.parametrize("arguments", [(), ("DELIVRD",), ("--json",)])
def test_the_command_prints_every_mistake_of_the_override_and_exits_with_2(
    override: Path,
    arguments: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    override.write_text("[codes.X]\nclass = 1\npause = 2\n", encoding="utf-8")
    monkeypatch.setenv("SMSQ_CODES_FILE", str(override))
    code, out, err = here(monkeypatch, capsys, "codes", *arguments)
    assert (code, out) == (2, "")
    assert [line.split(": ")[0] for line in err.splitlines()] == ["smsq", "smsq"]
    assert [line.split(": ")[3] for line in err.splitlines()] == [
        'code "X", field class',
        'code "X", field pause',
    ]


def test_the_command_treats_an_empty_setting_as_none() -> None:
    assert CliRunner().invoke(codes_command, [], env={"SMSQ_CODES_FILE": ""}).exit_code == 0


def test_the_help_has_examples_that_work() -> None:
    text = run("--help").stdout
    examples = re.findall(r"^ *smsq codes(.*?)(?:\s{2,}.*)?$", text, flags=re.MULTILINE)
    assert len(examples) >= 5
    for example in examples:
        # Asks Redis, or for a file of accounts: tests/cli/test_codes_seen.py, test_accounts.py.
        if example in {" --seen", " --account NAME"}:
            continue
        assert run(*example.split()).exit_code == 0, example


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (90, "1 min 30 s"),
        (60, "1 min"),
        (7200, "2 h"),
        (5400, "1 h 30 min"),
        (172_800, "2 d"),
    ],
)
def test_a_duration_is_written_in_its_two_largest_units(seconds: int, words: str) -> None:
    assert span(seconds) == words
