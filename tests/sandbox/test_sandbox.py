"""The sandbox gateway, by real HTTP: every row of its table does what its words say."""

from __future__ import annotations

import itertools
import json
import logging
import os
import re
import signal
import socket
import stat as file_modes
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import requests
from click.testing import CliRunner

from harness.sandboxes import serving
from smsq_worker import cli
from smsq_worker.cli.commands.sandbox import sandbox as sandbox_command
from smsq_worker.sandbox import OUTCOMES, BindError, Sandbox
from smsq_worker.sandbox.outcomes import ANY_OTHER, outcome_for
from smsq_worker.sandbox.reports import RETRY_DELAYS_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.sandboxes import RunningSandbox

SECRET = "s3cret-of-the-test"
CODE = "482913"
# Only a fault reaches it.
PATIENCE_S = 30.0
REPORT_DELAY_S = 0.02
SLOW_S = 0.08
FOR_EVER_S = 3600.0


# --- a real receiver ------------------------------------------------------------------------


@dataclass
class Received:
    """One POST that the receiver took or refused."""

    at: float
    content_type: str
    body: bytes

    @property
    def reports(self) -> list[dict[str, str]]:
        if self.content_type == "application/x-www-form-urlencoded":
            return [{name: values[0] for name, values in parse_qs(self.body.decode()).items()}]
        value = json.loads(self.body.decode("utf-8-sig"))
        return value if isinstance(value, list) else [value]


class Receiver:
    """An HTTP server that keeps what is POSTed to it.

    `statuses` are answered first, one for each POST, and 200 after them. While `gate` is
    cleared no POST is answered. With `away` connections are refused until `open`.
    """

    def __init__(self, *, away: bool = False) -> None:
        self.statuses: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.posts: list[Received] = []
        self._changed = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver._take(
                    Received(time.monotonic(), self.headers["Content-Type"], body)
                )
                receiver.gate.wait(PATIENCE_S)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                """Print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
        # So that close() waits for the threads that still answer a POST.
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._server.server_bind()
        self.url = f"http://127.0.0.1:{self._server.server_port}/reports/token"
        if not away:
            self.open()

    def open(self) -> None:
        self._server.server_activate()
        self._thread.start()

    def _take(self, post: Received) -> int:
        with self._changed:
            self.posts.append(post)
            self._changed.notify_all()
            return self.statuses.pop(0) if self.statuses else 200

    def wait(self, enough: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(enough, PATIENCE_S), "the report did not come"

    def about(self, mid: str) -> list[Received]:
        return [post for post in self.posts if any(r["mid"] == mid for r in post.reports)]

    def stats(self, mid: str, count: int) -> list[str]:
        """Wait for `count` POSTs about a mid; return its stat codes in order of arrival."""
        self.wait(lambda: len(self.about(mid)) >= count)
        return [r["stat"] for post in self.about(mid) for r in post.reports if r["mid"] == mid]

    def close(self) -> None:
        self.gate.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join(PATIENCE_S)
        self._server.server_close()


# --- what the tests share -------------------------------------------------------------------


@dataclass
class Bench:
    """A running sandbox, its receiver, and numbers that no other test uses."""

    sandbox: RunningSandbox
    receiver: Receiver
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def phone(self, digits: str) -> str:
        return f"139{next(self._numbers):04d}{'8000' if digits == ANY_OTHER else digits}"

    def send(self, phone: str, **changes: Any) -> requests.Response:
        return send(self.sandbox.url, phone, **changes)

    def accepted(self, phone: str) -> str:
        """Send; check that the documented answer came and that it was recorded; return the mid."""
        answer = self.send(phone)
        assert answer.status_code == 200
        body = answer.json()
        assert body == {"code": 200, "msg": "ok", "mid": body["mid"]}
        assert self.sandbox.mids(phone)[-1] == body["mid"]
        return str(body["mid"])

    def delivered(self, phone: str) -> None:
        """Send; check that the message is accepted and reported as delivered."""
        assert self.receiver.stats(self.accepted(phone), 1) == ["DELIVRD"]

    def barrier(self) -> None:
        """Return when whatever follows from an earlier call has happened.

        A report of an earlier call is due before this late one, and so it is on its way before
        it; the round trip after that gives it the time to arrive.
        """
        self.delivered(self.phone("7003"))
        self.delivered(self.phone(ANY_OTHER))


def send(url: str, phone: str, *, secret: str | None = SECRET, **params: Any) -> requests.Response:
    return requests.get(
        url,
        params={**arguments(phone), **params},
        headers={} if secret is None else {"Authorization": secret},
        timeout=PATIENCE_S,
    )


def arguments(phone: str) -> dict[str, str]:
    return {
        "module": "sms",
        "file": "send",
        "action": "send",
        "mobphone": phone,
        "code": CODE,
        "smstemplate": "SMS_1001",
    }


@contextmanager
def call_without_an_answer(bench: Bench, phone: str) -> Iterator[None]:
    """Call; see that no answer comes though later calls are answered; at the end, give up."""
    host, _, port = urlsplit(bench.sandbox.url).netloc.partition(":")
    head = f"GET /?{urlencode(arguments(phone))} HTTP/1.1\r\nHost: {host}\r\n"
    with socket.create_connection((host, int(port)), PATIENCE_S) as waiting:
        waiting.sendall(f"{head}Authorization: {SECRET}\r\n\r\n".encode())
        bench.barrier()
        waiting.setblocking(False)
        with pytest.raises(BlockingIOError):
            waiting.recv(1)
        yield


@pytest.fixture(scope="module", autouse=True)
def _patient_sandbox() -> Iterator[None]:
    """Let the sandbox give up no report of a receiver that is only slow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("smsq_worker.sandbox.reports.POST_TIMEOUT_S", PATIENCE_S)
        patch.setattr("smsq_worker.sandbox.handlers.EARLY_WAIT_S", FOR_EVER_S)
        yield


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with closing(Receiver()) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    gateway = closing(Receiver())
    with gateway as shared, serving(sandbox_for(shared.url)) as running:
        yield Bench(running, shared)


def sandbox_for(report_url: str | None, **changes: Any) -> Sandbox:
    settings: dict[str, Any] = {
        "secret": SECRET,
        "report_url": report_url,
        "bind": ("127.0.0.1", 0),
        "report_delay_s": REPORT_DELAY_S,
        "slow_s": SLOW_S,
    }
    return Sandbox(**(settings | changes))


# --- the table, row by row ------------------------------------------------------------------

MA_CODES = (*range(1, 7), 9, 11, 15, 17, *range(21, 31), 33, 44)
REPORTED = {
    **{f"10{n:02d}": f"MA:{n:04d}" for n in MA_CODES},
    ANY_OTHER: "DELIVRD",
    "2008": "MO:0008",
    "2200": "MO:200",
    "2254": "MO:0254",
    "2255": "MO:0255",
    "2999": "MO:9999",
    "3000": "EXPIRED",
    "3001": "DELETED",
    "3002": "REJECTED",
    "3003": "REJECTD",
    "3004": "UNDELIV",
    "3005": "ACCEPTD",
    "3006": "UNKNOWN",
    "7012": "MA:00011",
}


@pytest.mark.parametrize(("digits", "stat"), REPORTED.items(), ids=REPORTED)
def test_a_message_is_accepted_and_reported_with_the_stat_of_its_number(
    bench: Bench, digits: str, stat: str
) -> None:
    phone = bench.phone(digits)

    mid = bench.accepted(phone)

    assert re.fullmatch(r"[0-9A-F]{16}", mid)
    assert bench.receiver.stats(mid, 1) == [stat]
    [post] = bench.receiver.about(mid)
    assert post.content_type == "application/json"
    assert json.loads(post.body) == {"mid": mid, "stat": stat}


REFUSED = {"4400": (400, "校验失败"), "4403": (403, "账户已停用")}


@pytest.mark.parametrize("digits", REFUSED)
def test_a_refused_number_is_answered_with_a_json_code_and_never_accepted(
    bench: Bench, digits: str
) -> None:
    phone = bench.phone(digits)
    code, msg = REFUSED[digits]

    for _ in range(2):
        answer = bench.send(phone)
        assert answer.status_code == 200
        assert answer.json() == {"code": code, "msg": msg, "mid": ""}

    assert (bench.sandbox.accepted(phone), bench.sandbox.calls(phone)) == (0, 2)


# digits: HTTP status, Retry-After
NOT_TAKEN_ONCE = {"4429": (429, "1"), "4501": (500, None), "4503": (503, "1")}


@pytest.mark.parametrize("digits", NOT_TAKEN_ONCE)
def test_an_http_error_that_heals_accepts_only_the_second_call(bench: Bench, digits: str) -> None:
    phone = bench.phone(digits)

    answer = bench.send(phone)

    assert (answer.status_code, answer.headers.get("Retry-After")) == NOT_TAKEN_ONCE[digits]
    assert bench.sandbox.accepted(phone) == 0
    bench.delivered(phone)
    assert bench.sandbox.accepted(phone) == 1


NEVER_TAKEN = {"4500": 500, "4502": 502}


@pytest.mark.parametrize("digits", NEVER_TAKEN)
def test_an_http_error_that_stays_accepts_nothing(bench: Bench, digits: str) -> None:
    phone = bench.phone(digits)

    statuses = [bench.send(phone).status_code for _ in range(2)]

    assert statuses == [NEVER_TAKEN[digits]] * 2
    assert (bench.sandbox.accepted(phone), bench.sandbox.calls(phone)) == (0, 2)


def _is_not_answered(bench: Bench, phone: str) -> None:
    with call_without_an_answer(bench, phone):
        pass


def _is_reset(bench: Bench, phone: str) -> None:
    with pytest.raises(requests.ConnectionError, match="ConnectionResetError"):
        bench.send(phone)


def _is_cut(bench: Bench, phone: str) -> None:
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="IncompleteRead"):
        bench.send(phone)


def _is_html(bench: Bench, phone: str, status: int = 200) -> None:
    answer = bench.send(phone)
    assert answer.status_code == status
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.text.startswith("<html>")


def _is_http_500(bench: Bench, phone: str) -> None:
    _is_html(bench, phone, 500)


def _is_http_504(bench: Bench, phone: str) -> None:
    _is_html(bench, phone, 504)


def _is_half_a_json(bench: Bench, phone: str) -> None:
    answer = bench.send(phone)
    assert answer.status_code == 200
    assert answer.text.startswith('{"code":200')
    with pytest.raises(requests.JSONDecodeError):
        answer.json()


def _is_empty(bench: Bench, phone: str) -> None:
    answer = bench.send(phone)
    assert (answer.status_code, answer.content) == (200, b"")


ACCEPTED_IN_DOUBT: dict[str, Callable[[Bench, str], None]] = {
    "4504": _is_http_504,
    "6001": _is_not_answered,
    "6002": _is_reset,
    "6004": _is_html,
    "6006": _is_half_a_json,
    "6007": _is_empty,
    "6009": _is_cut,
    "6012": _is_http_500,
}


@pytest.mark.parametrize("digits", ACCEPTED_IN_DOUBT)
def test_a_call_in_doubt_was_accepted_and_is_reported(bench: Bench, digits: str) -> None:
    phone = bench.phone(digits)

    for call in (1, 2):
        ACCEPTED_IN_DOUBT[digits](bench, phone)
        bench.receiver.wait(lambda: bench.sandbox.accepted(phone) == call)  # noqa: B023
    for mid in bench.sandbox.mids(phone):
        assert bench.receiver.stats(mid, 1) == ["DELIVRD"]


def test_6003_resets_the_connection_and_accepts_nothing(bench: Bench) -> None:
    phone = bench.phone("6003")

    _is_reset(bench, phone)
    _is_reset(bench, phone)

    assert (bench.sandbox.accepted(phone), bench.sandbox.calls(phone)) == (0, 2)


# digits: what the first call meets, and whether it was accepted
IN_DOUBT_ONCE: dict[str, tuple[Callable[[Bench, str], None], int]] = {
    "6101": (_is_not_answered, 1),
    "6102": (_is_reset, 1),
    "6103": (_is_reset, 0),
    "6104": (_is_html, 1),
    "6106": (_is_half_a_json, 1),
    "6107": (_is_empty, 1),
    "6109": (_is_cut, 1),
    "6112": (_is_http_500, 1),
}


@pytest.mark.parametrize("digits", IN_DOUBT_ONCE)
def test_a_call_in_doubt_of_a_61_number_is_followed_by_one_that_is_well(
    bench: Bench, digits: str
) -> None:
    phone = bench.phone(digits)
    misbehaves, accepted = IN_DOUBT_ONCE[digits]

    misbehaves(bench, phone)

    bench.receiver.wait(lambda: bench.sandbox.accepted(phone) == accepted)
    bench.delivered(phone)
    assert bench.sandbox.accepted(phone) == accepted + 1


def test_6000_answers_after_the_slow_delay(bench: Bench) -> None:
    began = time.monotonic()

    bench.delivered(bench.phone("6000"))

    assert time.monotonic() - began >= SLOW_S


def test_6005_is_accepted_without_a_mid_in_the_answer(bench: Bench) -> None:
    phone = bench.phone("6005")

    assert bench.send(phone).json() == {"code": 200, "msg": "ok"}

    [mid] = bench.sandbox.mids(phone)
    assert bench.receiver.stats(mid, 1) == ["DELIVRD"]


def test_6008_answers_byte_by_byte(bench: Bench) -> None:
    began = time.monotonic()

    mid = bench.accepted(bench.phone("6008"))

    body = json.dumps({"code": 200, "msg": "ok", "mid": mid}, separators=(",", ":"))
    assert time.monotonic() - began >= len(body) * SLOW_S / 8
    assert bench.receiver.stats(mid, 1) == ["DELIVRD"]


def test_6010_has_its_code_as_a_text(bench: Bench) -> None:
    phone = bench.phone("6010")

    body = bench.send(phone).json()

    [mid] = bench.sandbox.mids(phone)
    assert body == {"code": "200", "msg": "ok", "mid": mid}
    assert bench.receiver.stats(mid, 1) == ["DELIVRD"]


def test_6011_has_a_bom_and_blanks_around_json_that_calls_itself_html(bench: Bench) -> None:
    phone = bench.phone("6011")

    answer = bench.send(phone)

    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.content.startswith(b"\xef\xbb\xbf\r\n {")
    [mid] = bench.sandbox.mids(phone)
    assert json.loads(answer.content.decode("utf-8-sig"))["mid"] == mid
    assert bench.receiver.stats(mid, 1) == ["DELIVRD"]


def test_7000_is_reported_and_the_report_answered_before_the_send_is(receiver: Receiver) -> None:
    receiver.gate.clear()
    with serving(sandbox_for(receiver.url)) as running, ThreadPoolExecutor() as pool:
        phone = "13900007000"
        answer = pool.submit(send, running.url, phone)

        receiver.wait(lambda: len(receiver.posts) == 1)
        mid = running.mids(phone)[0]
        # Given the receiver has not answered the report, another call is answered, not this one.
        assert send(running.url, "13900008000").json()["code"] == 200
        assert receiver.stats(mid, 1) == ["DELIVRD"]
        assert not answer.done()

        receiver.gate.set()
        assert answer.result(PATIENCE_S).json()["mid"] == mid


# digits: the stat codes of its own mid in order of arrival
SEVERAL_REPORTS = {
    "7001": ["DELIVRD", "DELIVRD"],
    "7004": ["DELIVRD", "ACCEPTD"],
    "7005": ["DELIVRD", "MA:0009"],
    "7006": ["MA:0009", "DELIVRD"],
}


@pytest.mark.parametrize("digits", SEVERAL_REPORTS)
def test_a_message_with_two_reports_gets_them_in_the_order_of_the_table(
    bench: Bench, digits: str
) -> None:
    mid = bench.accepted(bench.phone(digits))

    assert bench.receiver.stats(mid, 2) == SEVERAL_REPORTS[digits]


@pytest.mark.parametrize(("digits", "stats"), [("7002", []), ("3005", ["ACCEPTD"])])
def test_nothing_follows_where_the_table_says_so(
    bench: Bench, digits: str, stats: list[str]
) -> None:
    mid = bench.accepted(bench.phone(digits))

    bench.barrier()

    assert bench.receiver.stats(mid, len(stats)) == stats


def test_7003_is_reported_after_ten_times_the_delay(bench: Bench) -> None:
    began = time.monotonic()

    mid = bench.accepted(bench.phone("7003"))

    assert bench.receiver.stats(mid, 1) == ["DELIVRD"]
    assert bench.receiver.about(mid)[0].at - began >= 10 * REPORT_DELAY_S


def test_7007_fails_the_first_send_and_delivers_the_second(bench: Bench) -> None:
    phone = bench.phone("7007")

    first, second = bench.accepted(phone), bench.accepted(phone)

    assert bench.receiver.stats(first, 1) == ["MO:0254"]
    assert bench.receiver.stats(second, 1) == ["DELIVRD"]


def test_7008_comes_in_an_array_with_a_report_of_an_unknown_mid(bench: Bench) -> None:
    mid = bench.accepted(bench.phone("7008"))

    assert bench.receiver.stats(mid, 1) == ["DELIVRD"]
    [post] = bench.receiver.about(mid)
    own, other = json.loads(post.body)
    assert own == {"mid": mid, "stat": "DELIVRD"}
    assert re.fullmatch(r"[0-9A-F]{16}", other["mid"])
    assert other["mid"] != mid


def test_7009_comes_as_a_form(bench: Bench) -> None:
    mid = bench.accepted(bench.phone("7009"))

    assert bench.receiver.stats(mid, 1) == ["DELIVRD"]
    [post] = bench.receiver.about(mid)
    assert post.content_type == "application/x-www-form-urlencoded"
    assert post.body == f"mid={mid}&stat=DELIVRD".encode()


def test_7010_comes_as_text_with_a_bom(bench: Bench) -> None:
    mid = bench.accepted(bench.phone("7010"))

    assert bench.receiver.stats(mid, 1) == ["DELIVRD"]
    [post] = bench.receiver.about(mid)
    assert post.content_type == "text/plain; charset=utf-8"
    assert post.body.startswith(b"\xef\xbb\xbf{")


def test_7011_is_reported_after_a_mid_that_nobody_was_given(receiver: Receiver) -> None:
    with serving(sandbox_for(receiver.url)) as running:
        mid = send(running.url, "13900007011").json()["mid"]
        receiver.wait(lambda: len(receiver.posts) == 2)

    strange, own = (post.reports[0] for post in receiver.posts)
    assert strange["stat"] == "DELIVRD"
    assert strange["mid"] != mid
    assert own == {"mid": mid, "stat": "DELIVRD"}


# Those that have a test of their own.
ONE_BY_ONE = (
    *("6000", "6003", "6005", "6008", "6010", "6011"),
    *("7000", "7002", "7003", "7007", "7008", "7009", "7010", "7011"),
)


def test_every_row_of_the_table_is_tested_above() -> None:
    tested = [
        *REPORTED,
        *REFUSED,
        *NOT_TAKEN_ONCE,
        *NEVER_TAKEN,
        *ACCEPTED_IN_DOUBT,
        *IN_DOUBT_ONCE,
        *SEVERAL_REPORTS,
        *ONE_BY_ONE,
    ]

    assert sorted(row.digits for row in OUTCOMES) == sorted(tested)


def test_names_are_unique_and_every_row_has_words() -> None:
    assert len({row.name for row in OUTCOMES}) == len(OUTCOMES)
    assert all(row.words for row in OUTCOMES)


@pytest.mark.parametrize("phone", ["13800138000", "13812342001", "1", "", "130any other"])
def test_what_is_not_in_the_table_is_delivered(phone: str) -> None:
    assert outcome_for(phone).name == "delivered"


# --- the request ----------------------------------------------------------------------------


@pytest.mark.parametrize("secret", [None, "", "wrong", SECRET + "x", SECRET[:-1], "密码"])
def test_a_wrong_secret_is_refused_as_documented(bench: Bench, secret: str | None) -> None:
    phone = bench.phone(ANY_OTHER)
    sent = secret.encode() if secret is not None else None

    answer = bench.send(phone, secret=sent)

    assert answer.status_code == 200
    assert answer.json() == {"code": 400, "msg": "校验失败", "mid": ""}
    assert (bench.sandbox.accepted(phone), bench.sandbox.calls(phone)) == (0, 0)


@pytest.mark.parametrize(
    ("changes", "msg"),
    [
        ({"module": "mms"}, "接口不存在"),
        ({"file": ""}, "接口不存在"),
        ({"action": None}, "接口不存在"),
        ({"mobphone": None}, "手机号码不能为空"),
        ({"mobphone": " "}, "手机号码不能为空"),
        ({"smstemplate": None}, "短信模板不能为空"),
    ],
    ids=str,
)
def test_a_request_that_is_not_whole_is_refused(
    bench: Bench, changes: dict[str, str | None], msg: str
) -> None:
    before = bench.sandbox.total

    answer = bench.send(bench.phone(ANY_OTHER), **changes)

    assert answer.status_code == 200
    assert answer.json() == {"code": 400, "msg": msg, "mid": ""}
    assert bench.sandbox.total == before


def test_a_code_may_be_absent(bench: Bench) -> None:
    assert bench.send(bench.phone(ANY_OTHER), code=None).json()["code"] == 200


def test_a_post_with_a_form_is_the_same_as_a_get(bench: Bench) -> None:
    phone = bench.phone(ANY_OTHER)
    form = {"module": "sms", "file": "send", "action": "send", "code": CODE}

    answer = requests.post(
        bench.sandbox.url,
        data={**form, "mobphone": phone, "smstemplate": "SMS_1001"},
        headers={"Authorization": SECRET},
        timeout=PATIENCE_S,
    )

    assert answer.json()["mid"] == bench.sandbox.mids(phone)[0]


# --- reports --------------------------------------------------------------------------------


def test_a_report_that_is_not_taken_is_posted_again(receiver: Receiver) -> None:
    receiver.statuses = [503, 302]
    with serving(sandbox_for(receiver.url)) as running:
        mid = send(running.url, "13900008000").json()["mid"]

        assert receiver.stats(mid, 3) == ["DELIVRD"] * 3

    first, second, third = (post.at for post in receiver.posts)
    assert second - first >= RETRY_DELAYS_S[0]
    assert third - second >= RETRY_DELAYS_S[1]


class Noticed(logging.Handler):
    """While the block runs, sets `event` once the sandbox logs `text`."""

    logger = logging.getLogger("smsq_worker.sandbox")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.event = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if self.text in record.getMessage():
            self.event.set()

    def __enter__(self) -> Self:
        self.level_before = self.logger.level
        self.logger.setLevel(logging.INFO)
        self.logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.logger.removeHandler(self)
        self.logger.setLevel(self.level_before)

    def wait(self) -> None:
        assert self.event.wait(PATIENCE_S), f"not logged: {self.text}"


def test_a_receiver_that_was_away_gets_its_reports_when_it_is_back() -> None:
    refused = Noticed("not taken: ConnectionRefusedError")
    # Its port is its own all the time, so that nobody else can answer there.
    with (
        refused,
        closing(Receiver(away=True)) as receiver,
        serving(sandbox_for(receiver.url)) as running,
    ):
        mid = send(running.url, "13900008000").json()["mid"]
        refused.wait()
        receiver.open()
        assert receiver.stats(mid, 1) == ["DELIVRD"]


def test_a_report_is_given_up_in_the_end(
    receiver: Receiver, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smsq_worker.sandbox.reports.RETRY_DELAYS_S", (0.0, 0.0))
    receiver.statuses = [500] * 3

    given_up = Noticed("abandoned: HTTP 500")
    with given_up, serving(sandbox_for(receiver.url)) as running:
        send(running.url, "13900008000")
        given_up.wait()

    assert len(receiver.posts) == 3
    assert "token" not in caplog.text


def test_a_receiver_that_hangs_holds_up_no_answer(receiver: Receiver) -> None:
    receiver.gate.clear()
    with serving(sandbox_for(receiver.url, report_delay_s=0.0)) as running:
        mids = [send(running.url, "13900008000").json()["mid"] for _ in range(3)]
        receiver.wait(lambda: len(receiver.posts) >= 3)
        mids.append(send(running.url, "13900008000").json()["mid"])
        receiver.gate.set()
        assert running.mids("13900008000") == mids


def test_without_a_report_address_none_is_sent() -> None:
    with serving(sandbox_for(None)) as running:
        assert send(running.url, "13900007000").json()["code"] == 200
        assert running.total == 1


# --- what was accepted ----------------------------------------------------------------------


def test_what_was_accepted_can_be_read(receiver: Receiver) -> None:
    def read(path: str) -> Any:
        return requests.get(running.url + path, timeout=PATIENCE_S).json()

    with serving(sandbox_for(receiver.url)) as running:
        for phone in ("13900008000", "13900008000", "13900001001", "13900004400"):
            send(running.url, phone)
        send(running.url, "13900008000", secret="wrong")

        assert read("/sandbox/accepted") == {
            "total": 3,
            "numbers": {"13900008000": 2, "13900001001": 1},
        }
        one = read("/sandbox/accepted/13900008000")
        assert (one["phone"], one["count"]) == ("13900008000", 2)
        assert one["mids"] == running.mids("13900008000")
        assert [entry["template"] for entry in one["accepted"]] == ["SMS_1001"] * 2
        assert read("/sandbox/accepted/13900009999")["count"] == 0
        assert read("/sandbox/calls") == {
            "total": 5,
            "outcomes": {"delivered": 2, "ma-0001": 1, "refused-400": 1, "wrong-secret": 1},
            "numbers": {"13900008000": 2, "13900001001": 1, "13900004400": 1},
        }
        assert requests.get(running.url + "/healthz", timeout=PATIENCE_S).text == "ok"


def test_the_log_file_has_a_line_for_each_accepted_call_and_is_appended_to(
    receiver: Receiver, tmp_path: Path
) -> None:
    path = tmp_path / "accepted.jsonl"
    mids = []
    for _ in range(2):
        with serving(sandbox_for(receiver.url, log_path=path)) as running:
            send(running.url, "13900004400")
            mids.append(send(running.url, "13900008000").json()["mid"])
            lines = path.read_text(encoding="utf-8").splitlines()
            assert len(lines) == len(mids)

    entries = [json.loads(line) for line in lines]
    assert [entry["mid"] for entry in entries] == mids
    assert {entry["phone"] for entry in entries} == {"13900008000"}
    assert set(entries[0]) == {"phone", "outcome", "at", "mid", "template"}
    assert CODE not in path.read_text(encoding="utf-8")
    assert file_modes.S_IMODE(path.stat().st_mode) & 0o077 == 0


def test_no_log_line_has_a_whole_number_a_code_or_a_secret(
    receiver: Receiver, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The test's own client logs its requests; that is not the sandbox's doing.
    caplog.set_level(logging.WARNING, "urllib3")
    caplog.set_level(logging.DEBUG)
    receiver.statuses = [500]
    with serving(sandbox_for(receiver.url)) as running:
        for digits in ("8000", "4400", "4500", "6002", "6009"):
            phone = f"1390000{digits}"
            try:
                send(running.url, phone)
            except requests.RequestException:
                assert digits in {"6002", "6009"}
        send(running.url, "13900008000", secret="wrong")
        send(running.url + "/nowhere", "13900008000")
        send(running.url, "13900008000", smstemplate=b"\xff")
        receiver.wait(lambda: len(receiver.posts) >= 4)
        # An error in the sandbox itself is logged without what was asked.
        monkeypatch.setattr("smsq_worker.sandbox.handlers.outcome_for", {}.__getitem__)
        assert send(running.url, "13900008000").status_code == 500

    assert "139****8000" in caplog.text
    assert "KeyError in the sandbox" in caplog.text
    for private in ("13900008000", "13900006002", CODE, SECRET, "token"):
        assert private not in caplog.text


# --- start and stop -------------------------------------------------------------------------


@pytest.mark.parametrize("digits", ["6000", "6001", "6008", "7000"])
def test_stopping_ends_a_call_that_is_not_answered_yet(
    receiver: Receiver, caplog: pytest.LogCaptureFixture, digits: str
) -> None:
    threads = set(threading.enumerate())
    receiver.statuses = [500] * 100
    phone = f"1390000{digits}"
    with ThreadPoolExecutor() as pool:
        with serving(sandbox_for(receiver.url, slow_s=FOR_EVER_S)) as running:
            answer = pool.submit(send, running.url, phone)
            receiver.wait(lambda: len(receiver.posts) >= 1)
            assert running.accepted(phone) == 1
            assert send(running.url, "13900008000").json()["code"] == 200
            running.stop()
            running.stop()
        with pytest.raises(requests.RequestException):
            answer.result(PATIENCE_S)

    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert not {t for t in threading.enumerate() if t.name == "smsq-sandbox"} - threads


def test_a_call_that_is_never_answered_ends_when_its_client_gives_up(bench: Bench) -> None:
    with Noticed("139****6001 request 1: closed before the response") as ended:
        with call_without_an_answer(bench, bench.phone("6001")):
            assert not ended.event.is_set()

        ended.wait()


def test_a_port_in_use_is_an_error_that_names_the_address(bench: Bench) -> None:
    port = int(bench.sandbox.url.rsplit(":")[-1])

    with (
        pytest.raises(BindError, match=rf"127\.0\.0\.1:{port}: Address already in use"),
        serving(sandbox_for(None, bind=("127.0.0.1", port))),
    ):
        pass


def test_it_listens_on_ipv6() -> None:
    with serving(sandbox_for(None, bind=("::1", 0))) as running:
        assert running.url.startswith("http://[::1]:")
        assert send(running.url, "13900008000").json()["code"] == 200


# --- smsq sandbox ---------------------------------------------------------------------------


def test_outcomes_prints_every_row() -> None:
    result = CliRunner().invoke(sandbox_command, ["--outcomes"])

    assert result.exit_code == 0
    for row in OUTCOMES:
        assert re.search(
            rf"^{row.digits} +{row.name} +{re.escape(row.words)}$", result.output, re.MULTILINE
        )


def test_outcomes_as_json_is_the_table() -> None:
    result = CliRunner().invoke(sandbox_command, ["--outcomes", "--json"])

    assert json.loads(result.output) == [
        {"digits": row.digits, "name": row.name, "words": row.words} for row in OUTCOMES
    ]


Refused = Callable[[list[str], dict[str, str]], list[str]]


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run `smsq sandbox` where it must not start; give the lines that it says."""

    def run(arguments: list[str], environment: dict[str, str]) -> list[str]:
        for name in [name for name in os.environ if name.startswith("SMSQ_")]:
            monkeypatch.delenv(name)
        for name, text in environment.items():
            monkeypatch.setenv(name, text)
        monkeypatch.setattr(sys, "argv", ["smsq", "sandbox", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, errors = capsys.readouterr()
        assert (ended.value.code, out) == (2, "")
        return errors.splitlines()

    return run


@pytest.mark.parametrize(
    ("arguments", "environment", "named"),
    [
        ([], {}, "SMSQ_APP_SECRET"),
        ([], {"SMSQ_APP_SECRET": "  "}, "SMSQ_APP_SECRET"),
        ([], {"SMSQ_APP_SECRET_FILE": "/nonexistent/secret"}, "SMSQ_APP_SECRET_FILE"),
        ([], {"SMSQ_SANDBOX_BIND": "8090"}, "SMSQ_SANDBOX_BIND"),
        ([], {"SMSQ_SANDBOX_BIND": "127.0.0.1:99999"}, "SMSQ_SANDBOX_BIND"),
        (["--bind", "127.0.0.1:99999"], {}, "SMSQ_SANDBOX_BIND"),
        (["--report-url", "127.0.0.1/t0ken"], {}, "SMSQ_SANDBOX_REPORT_URL"),
        ([], {"SMSQ_SANDBOX_REPORT_URL": "127.0.0.1/t0ken"}, "SMSQ_SANDBOX_REPORT_URL"),
        (["--report-delay", "-1"], {}, "--report-delay"),
        (["--json"], {"SMSQ_APP_SECRET": SECRET}, "--outcomes"),
        (["--log", "/nonexistent/log"], {"SMSQ_APP_SECRET": SECRET}, "--log"),
    ],
    ids=str,
)
def test_a_wrong_setting_is_named_and_exits_with_2(
    refused: Refused, arguments: list[str], environment: dict[str, str], named: str
) -> None:
    told = refused(arguments, environment)

    assert named in "".join(told)
    assert "t0ken" not in "".join(told)


def test_all_that_is_wrong_is_told_at_once(refused: Refused) -> None:
    wrong = {"SMSQ_APP_SECRETS": "x", "SMSQ_SANDBOX_BIND": "8090", "SMSQ_MAX_RESENDS": "many"}

    told = refused(["--report-url", "127.0.0.1/t0ken"], wrong)

    assert [line.split(": ")[:2] for line in told] == [
        ["smsq", "SMSQ_APP_SECRETS"],
        ["smsq", "SMSQ_MAX_RESENDS"],
        ["smsq", "SMSQ_SANDBOX_BIND"],
        ["smsq", "SMSQ_SANDBOX_REPORT_URL"],
        ["smsq", "SMSQ_APP_SECRET"],
    ]


@pytest.mark.parametrize("by_option", [True, False], ids=["option", "setting"])
def test_a_port_in_use_names_the_setting_in_one_line(
    bench: Bench, refused: Refused, by_option: bool
) -> None:
    taken = urlsplit(bench.sandbox.url).netloc
    # An option goes before the setting, whatever that is.
    arguments = ["--bind", taken] if by_option else []
    environment = {"SMSQ_SANDBOX_BIND": "nonsense" if by_option else taken}

    (line,) = refused(arguments, {"SMSQ_APP_SECRET": SECRET, **environment})

    where = f"smsq: SMSQ_SANDBOX_BIND (--bind): cannot listen on {taken}"
    assert line == f"{where}: Address already in use; set another HOST:PORT"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_a_signal(
    receiver: Receiver, tmp_path: Path, number: signal.Signals
) -> None:
    secret_file = tmp_path / "secret"
    secret_file.write_text(SECRET + "\n", encoding="utf-8")
    code = "from smsq_worker.cli.commands.sandbox import sandbox; sandbox()"
    process = subprocess.Popen(
        # Not -X dev: asyncio would say what took it long.
        [sys.executable, "-W", "default", "-c", code, "--report-delay", "0.01"],
        env={
            **{name: text for name, text in os.environ.items() if not name.startswith("SMSQ_")},
            "SMSQ_APP_SECRET_FILE": str(secret_file),
            "SMSQ_SANDBOX_BIND": "127.0.0.1:0",
            "SMSQ_SANDBOX_REPORT_URL": receiver.url,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    impatience = threading.Timer(2 * PATIENCE_S, process.kill)
    impatience.start()
    with process:
        assert process.stdout is not None
        ready = re.fullmatch(r"Sandbox gateway ready: (http://\S+)\n", process.stdout.readline())
        assert ready
        mid = send(ready[1], "13900008000").json()["mid"]
        assert receiver.stats(mid, 1) == ["DELIVRD"]
        process.send_signal(number)
        _, logged = process.communicate(timeout=PATIENCE_S)
    impatience.cancel()
    impatience.join()

    assert process.returncode == 0
    assert re.fullmatch(rf"\S+ \S+ 139\*\*\*\*8000 request 1: delivered, {mid}\n", logged)
