"""`smsq explain --ticket`: the block for the vendor's support form."""

from __future__ import annotations

import re

import pytest
import redis
from cryptography.fernet import Fernet

from harness.cli import here
from harness.scene import PHONE, Scene, mid_of, stat
from harness.timeline import Explain, lines_of
from smsq.contract import mask_phone
from smsq_worker.config.settings import Settings
from smsq_worker.domain.states import Outcome

MASKED = mask_phone(PHONE)
TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d"


def test_it_names_every_call_that_may_have_arrived_in_chinese(
    explain: Explain, scene: Scene
) -> None:
    scene.call("m1", Outcome.NOT_SENT, detail="ConnectTimeout")
    scene.run_out()
    scene.go()
    scene.record("m1", Outcome.MAYBE_SENT, detail="ReadTimeout")
    scene.run_out()
    scene.go()
    scene.record("m1", Outcome.ACCEPTED, detail="")
    scene.report("m1", stat("MA:0001", "permanent"))
    lines = [re.sub(TIME, "TIME", line) for line in lines_of(explain("m1", "--ticket"))]
    assert lines == [
        "短信查询",
        f"号码：{MASKED}（消息已到终态，账本不再保存完整号码）",
        "模板：SMS_1001",
        "提交时间：TIME（第 2 次提交）",
        "  mid：无（未收到网关响应）",
        "  网关返回：ReadTimeout",
        "  状态码：无（未收到状态报告）",
        "提交时间：TIME（第 3 次提交）",
        f"  mid：{mid_of('m1', 3)}",
        "  状态码：MA:0001（全局黑名单号码）",
        "我方消息 ID：m1",
    ]


@pytest.mark.parametrize("words", [("--lang", "en", "explain"), ("explain", "--lang", "en")])
def test_it_is_english_where_that_is_asked_for(
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
) -> None:
    scene.call("m1", Outcome.ACCEPTED, detail="")
    _, out, _ = here(monkeypatch, capsys, *words, mid_of("m1", 1), "--ticket")
    assert out.startswith(f"Question about an SMS\nnumber: {MASKED} (masked; --show-number shows")


@pytest.mark.parametrize("is_sealed", [False, True], ids=["plain", "encrypted"])
def test_the_whole_number_is_shown_on_demand_alone_and_while_the_ledger_has_it(
    client: redis.Redis,
    environ: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    is_sealed: bool,
) -> None:
    if is_sealed:
        environ |= {"SMSQ_PAYLOAD_KEYS": Fernet.generate_key().decode()}
        monkeypatch.setenv("SMSQ_PAYLOAD_KEYS", environ["SMSQ_PAYLOAD_KEYS"])
    scene = Scene(client, Settings.load(environ | {"SMSQ_REDO_S": "0"}))
    scene.call("m1", Outcome.ACCEPTED, detail="")

    def shown(*options: str) -> str:
        return here(monkeypatch, capsys, "explain", "m1", "--ticket", *options)[1]

    assert f"号码：{MASKED}（已脱敏；完整号码用 --show-number 显示）\n" in shown()
    assert f"号码：{PHONE}\n" in shown("--show-number")
    scene.report("m1", stat("MA:0001", "permanent"))
    assert PHONE not in shown("--show-number")
    assert "账本不再保存完整号码" in shown("--show-number")


def test_without_a_call_that_arrived_there_is_nothing_to_ask(
    explain: Explain, scene: Scene
) -> None:
    scene.call("m1", Outcome.NOT_SENT)
    code, out, errors = explain("m1", "--ticket")
    assert (code, out) == (1, "")
    assert "无需向供应商查询" in errors


def test_a_mid_that_matches_nothing_is_asked_about_too(explain: Explain, scene: Scene) -> None:
    scene.ledger.report("1151894566D2EDD9", "MA:0002", stat("MA:0002", "permanent"))
    assert lines_of(explain("1151894566D2EDD9", "--ticket")) == [
        "短信查询",
        "mid：1151894566D2EDD9",
        "状态码：MA:0002（内容非法）",
    ]


@pytest.mark.parametrize(
    ("options", "told"),
    [(("--ticket", "--json"), "not both"), (("--show-number",), "goes with --ticket")],
)
def test_options_that_do_not_go_together_are_refused(
    explain: Explain, options: tuple[str, ...], told: str
) -> None:
    code, _, errors = explain("m1", *options)
    assert code == 2
    assert told in errors
