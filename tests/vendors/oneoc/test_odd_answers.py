"""Answers that say one thing in an odd way, and odd ones that do not: a table of both."""

from __future__ import annotations

import gzip
import json
import logging
import socket
from pathlib import Path

import pytest
import redis

from harness import wakeups
from harness.gateways import gateway_at
from harness.raw_server import Request, Server, http_answer, is_silent, says
from smsq.contract import Lane, parse
from smsq.ledger_writer import LedgerWriter
from smsq_worker.config.gateway_address import Address
from smsq_worker.config.settings import Settings
from smsq_worker.domain.states import Outcome
from smsq_worker.infra.answer import MAX_ANSWER
from smsq_worker.ledger.admin import Control
from smsq_worker.runtime import Runtime
from smsq_worker.vendors.oneoc.response import understand
from smsq_worker.vendors.vendor import GatewayResult

GOOD = '{"code": 200, "msg": "ok", "mid": "A1"}'
SENT = '{"code":200,"msg":"发送成功","mid":"A1"}'
NO = '{"code": 400, "msg": "校验失败", "mid": ""}'
WARNING = (
    '<br />\n<b>Warning</b>:  Undefined array key "x" in <b>/www/send.php</b> '
    "on line <b>3</b><br />\n"
)
BOM = "\ufeff"

CHARSET, AROUND, NOT_QUITE = "not in UTF-8", "text around its JSON", "not quite JSON"
LETTERS = "keys in other letters"


@pytest.mark.parametrize(
    ("body", "odd"),
    [
        pytest.param('{"code": 200.0, "mid": "A1"}', "", id="200.0"),
        pytest.param('{"code": "200.0", "mid": "A1"}', "", id="200.0 as text"),
        pytest.param('{"code": 2e2, "mid": "A1"}', "", id="2e2"),
        pytest.param('{"code": 200, "mid": "A1", "cost": NaN}', "", id="NaN in a field of its own"),
        pytest.param(BOM * 2 + GOOD, "", id="two BOMs"),
        pytest.param(SENT.encode("gbk"), CHARSET, id="GBK"),
        pytest.param(SENT.replace("成", "㐀").encode("gb18030"), CHARSET, id="GB18030"),
        pytest.param(GOOD.encode("utf-16"), CHARSET, id="UTF-16"),
        pytest.param(GOOD.encode("utf-16-le"), CHARSET, id="UTF-16 without a BOM"),
        pytest.param(
            b'{"code":200,"msg":"\xe5\x8f\x91\xe9","mid":"A1"}', CHARSET, id="cut in a sign"
        ),
        pytest.param(WARNING + GOOD, AROUND, id="a warning of PHP before"),
        pytest.param("\nNotice: x in y on line 3\n" + GOOD, AROUND, id="the same as text"),
        pytest.param((WARNING + SENT).encode("gbk"), AROUND, id="a warning, and GBK"),
        pytest.param(f"<pre>{GOOD}</pre>", AROUND, id="HTML around"),
        pytest.param(f"{BOM}\n{WARNING}{BOM}{GOOD}", AROUND, id="a BOM between"),
        pytest.param(GOOD + "<!-- 0.03 s -->", AROUND, id="a comment of HTML behind"),
        pytest.param(GOOD + "\n// node 7", AROUND, id="a comment behind"),
        pytest.param(GOOD + "\0", AROUND, id="a NUL behind"),
        pytest.param(GOOD + "<script>if (a) { b() }</script>", AROUND, id="a script behind"),
        pytest.param(GOOD + "}", AROUND, id="a brace too many"),
        pytest.param('{"code":200,"msg":"a\nb","mid":"A1"}', NOT_QUITE, id="a line end in a text"),
        pytest.param('{"Code": 200, "Msg": "ok", "Mid": "A1"}', LETTERS, id="capitals"),
        pytest.param('{"CODE": "200", "MID": "A1"}', LETTERS, id="all capitals"),
    ],
)
def test_what_says_yes_is_accepted(body: str | bytes, odd: str) -> None:
    data = body if isinstance(body, bytes) else body.encode()
    assert understand(200, {}, data) == GatewayResult(Outcome.ACCEPTED, "", "A1", odd=odd)


@pytest.mark.parametrize(
    ("body", "odd"),
    [
        pytest.param(NO.encode("gbk"), CHARSET, id="GBK"),
        pytest.param(WARNING + NO, AROUND, id="a warning of PHP before"),
        pytest.param(NO + "<!-- x -->", AROUND, id="a comment behind"),
        pytest.param(NO.replace("code", "Code"), "", id="a capital"),
    ],
)
def test_what_says_no_is_refused(body: str | bytes, odd: str) -> None:
    data = body if isinstance(body, bytes) else body.encode()
    expected = GatewayResult(Outcome.REFUSED, "gateway:400 校验失败", odd=odd or LETTERS)
    assert understand(200, {}, data) == expected


DOUBT = [
    pytest.param(GOOD + GOOD, id="two"),
    pytest.param(f"{GOOD}\n{NO}", id="two that contradict"),
    pytest.param(f"{NO}\n{GOOD}", id="the other way round"),
    pytest.param(f"[{GOOD}]", id="a list"),
    pytest.param(f"[{GOOD}] x", id="a list and more"),
    pytest.param(WARNING + GOOD[:-1], id="cut off"),
    pytest.param(WARNING + '{"code": 200, "msg": "ok"}', id="no mid, and text around"),
    pytest.param(WARNING + '{"code": 200, "mid": ""}', id="an empty mid, and text around"),
    pytest.param(WARNING + '{"mid": "A1"}', id="no code"),
    pytest.param(b'{"code": 200, "mid": "\xe5"}', id="a mid that cannot be read"),
    pytest.param(f'{{"error": "x", "last": {GOOD}}} x', id="deeper, and text around"),
    pytest.param(f'{{"error": x, "last": {GOOD}}}', id="within what is no JSON"),
    pytest.param(f"<b>Fatal error</b>: bad answer {GOOD} in a.php", id="quoted in an error"),
    pytest.param(f"callback({GOOD});", id="JSONP"),
    pytest.param(json.dumps(GOOD) + " x", id="JSON in a text"),
    pytest.param('{"Code": 200}', id="a capital and no mid"),
    pytest.param('{"code": 200.5, "mid": "A1"}', id="a fraction"),
    pytest.param('{"code": "200.0.0", "mid": "A1"}', id="two points"),
    pytest.param('{"code": NaN, "mid": "A1"}', id="NaN as code"),
    pytest.param('{"code": 1e999, "mid": "A1"}', id="an infinite code"),
    pytest.param('{"code": 200, "mid": "A1",}', id="a comma too many"),
    pytest.param(gzip.compress(GOOD.encode()), id="gzip that nobody announced"),
    pytest.param("{" * 100_000, id="nested without end"),
    pytest.param(f"code=200&mid=A1 {{{GOOD}", id="behind a brace"),
]


@pytest.mark.parametrize("body", DOUBT)
def test_what_may_mean_either_stays_in_doubt(body: str | bytes) -> None:
    data = body if isinstance(body, bytes) else body.encode()
    expected = GatewayResult(Outcome.MAYBE_SENT, "unreadable answer, http 200", trouble=True)
    assert understand(200, {}, data) == expected


def test_a_page_of_an_error_that_holds_an_answer_says_nothing() -> None:
    for status in (500, 502):
        call = understand(status, {}, (WARNING + GOOD).encode())
        assert call == GatewayResult(Outcome.MAYBE_SENT, f"http {status}", trouble=True)
    assert understand(404, {}, (WARNING + GOOD).encode()).outcome is Outcome.REFUSED


# Over the wire


def send(server: Server, read_timeout_s: float = 30.0) -> GatewayResult:
    gateway = gateway_at(Address(server.url, "secret", read_timeout_s=read_timeout_s))
    try:
        return gateway.submit("13800138000", "SMS_1001", "482913")
    finally:
        gateway.close()


@pytest.mark.parametrize(
    "before",
    [
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n", id="100"),
        pytest.param(b"HTTP/1.1 102 Processing\r\nX: y\r\n\r\n", id="102"),
        pytest.param(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", id="103"),
        pytest.param(b"HTTP/1.1 199 Odd\r\n\r\n", id="199"),
        pytest.param(
            b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" * 3, id="many"
        ),
    ],
)
def test_what_comes_before_the_answer_is_skipped(before: bytes) -> None:
    with Server(says(before + http_answer(GOOD.encode()))) as server:
        gateway = gateway_at(Address(server.url, "secret"))
        for _ in range(2):
            call = gateway.submit("13800138000", "SMS_1001", "482913")
            assert call == GatewayResult(Outcome.ACCEPTED, "", "A1")
        gateway.close()
    assert (len(server.requests), server.connections) == (2, 1)


def test_another_protocol_is_no_answer() -> None:
    switched = b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + http_answer(GOOD.encode())
    with Server(says(switched)) as server:
        assert send(server).outcome is Outcome.MAYBE_SENT


def test_hints_without_end_take_no_longer_than_an_answer_may() -> None:
    def hints(sock: socket.socket, _: Request) -> None:
        while True:
            sock.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n")

    with Server(hints) as server:
        assert send(server, read_timeout_s=0.2).outcome is Outcome.MAYBE_SENT
    assert len(server.requests) == 1


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
LONG = OK + b"Content-Length: 99\r\n\r\n"
CHUNK = b"%x\r\n%s\r\n" % (len(GOOD), GOOD.encode())


@pytest.mark.parametrize(
    ("script", "odd"),
    [
        pytest.param(says(LONG + GOOD.encode(), keep=False), "IncompleteRead", id="too long"),
        pytest.param(is_silent(LONG + GOOD.encode()), "ReadTimeoutError", id="and then silence"),
        pytest.param(is_silent(OK + b"\r\n" + GOOD.encode()), "ReadTimeoutError", id="no length"),
        pytest.param(says(CHUNKED + CHUNK, keep=False), "ProtocolError", id="no last chunk"),
        pytest.param(is_silent(CHUNKED + CHUNK), "ReadTimeoutError", id="no last chunk, silence"),
        pytest.param(
            says(http_answer(GOOD.encode() + b" " * MAX_ANSWER)), "answer too long", id="too much"
        ),
        pytest.param(
            says(CHUNKED + CHUNK + b"0\r\nX-Sum: 7\r\n\r\n", keep=False), "", id="a trailer"
        ),
    ],
)
def test_a_whole_object_counts_though_the_body_does_not_end_as_it_should(
    script: object, odd: str
) -> None:
    with Server(script) as server:  # type: ignore[arg-type]
        call = send(server, read_timeout_s=0.5)
    assert (call.outcome, call.mid) == (Outcome.ACCEPTED, "A1")
    assert (call.odd != "") == (odd != "")
    assert odd in call.odd or call.odd == "ProtocolError"


@pytest.mark.parametrize("length", [10, len(GOOD) - 1])
def test_half_an_object_does_not(length: int) -> None:
    short = OK + b"Content-Length: %d\r\n\r\n" % length + GOOD.encode()
    with Server(says(short)) as server:
        call = send(server)
    assert call == GatewayResult(Outcome.MAYBE_SENT, "unreadable answer, http 200", trouble=True)


def test_each_oddity_is_warned_of_once_and_nothing_private_is_shown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bodies = [SENT.encode("gbk")] * 3 + [(WARNING + GOOD).encode()] * 2 + [GOOD.encode()]

    def script(sock: socket.socket, _: Request) -> bool:
        sock.sendall(http_answer(bodies[len(server.requests) - 1]))
        return True

    with caplog.at_level(logging.WARNING), Server(script) as server:
        gateway = gateway_at(Address(server.url, "secret"))
        for _ in bodies:
            call = gateway.submit("13800138000", "SMS_1001", "482913")
            assert (call.outcome, call.mid) == (Outcome.ACCEPTED, "A1")
        gateway.close()
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert CHARSET in told[0]
    assert AROUND in told[1]
    assert "13800138000" not in caplog.text


def test_twenty_refusals_in_gbk_pause_the_account(
    environ: dict[str, str], client: redis.Redis, tmp_path: Path
) -> None:
    with Server(says(http_answer(NO.encode("gbk")))) as server:
        own = {"SMSQ_GATEWAY_URL": server.url, "SMSQ_HOME": str(tmp_path)}
        settings = Settings.load(environ | own)
        runtime = Runtime(settings)
        entrance = LedgerWriter(client, settings)
        for n in range(20):
            entrance.enter(f"m{n}", parse(("13800138000", "SMS_1001", "1"), {}))
            assert wakeups.send(runtime, f"m{n}", Lane.NOTICE) == "failed"
        runtime.close()
    assert [pause.scope for pause in Control(client, settings.rules).pauses()] == ["account"]
