"""The API against what nobody wrote: its own description's cases, and bytes."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

import redis
import requests

from harness.api import (
    IMPATIENT,
    PATIENCE_S,
    SHORT_S,
    RunningApi,
    answer_of,
    connection,
    serving_here,
)
from harness.api_requests import PLAIN, RAW
from harness.credentials import RELAY, TOKEN
from harness.relay_requests import SHAPES

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_headers_conformance,response_schema_conformance"
)


def test_the_description_is_true(
    module_api: RunningApi, client: redis.Redis, environ: Mapping[str, str], tmp_path: Path
) -> None:
    command = [
        Path(sys.executable).with_name("schemathesis"),
        "run",
        f"{module_api.url}/openapi.json",
        "--phases=fuzzing",
        f"--checks={CHECKS}",
        f"--header=Authorization:{RELAY}",
        "--max-examples=40",
        "--seed=1",
        "--continue-on-failure",
        "--no-color",
    ]
    done = subprocess.run(
        command, env=environ, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


SOUND = [
    *SHAPES.values(),
    b"POST /reports/%s HTTP/1.1\r\nHost: door\r\nContent-Length: %d\r\n\r\n%s"
    % (TOKEN.encode(), len(PLAIN), PLAIN),
    b"GET /messages/x HTTP/1.1\r\nHost: door\r\nAuthorization: %s\r\n\r\n" % RELAY.encode(),
    b"GET /healthz HTTP/1.1\r\n\r\nGET /readyz HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n",
]
REQUESTS = [*SOUND, *RAW.values()]
TOKENS = [b"\r\n", b"\r\n\r\n", b"\n", b"\x00", b"%", b"%ff", b"&", b"=", b":", b" ", b"\xff" * 9]
TOKENS += [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n"]
TOKENS += [b"HTTP/1.1", b"HTTP/1.0", b"POST", b"-1", b"9" * 30, b"x" * 5000, b"--b0", b"0\r\n\r\n"]
CASES, AT_ONCE = 3000, 750


def mutated(dice: random.Random) -> bytes:
    """Spoil a request in a few places; or make up bytes."""
    if dice.random() < 0.1:
        return dice.randbytes(dice.randrange(1, 400))
    # From everywhere, or most would soon be refused for guessing.
    source = b"HTTP/1.1\r\nX-Forwarded-For: 10.%d.%d.1\r\n" % (*dice.randbytes(2),)
    text = bytearray(dice.choice(SOUND).replace(b"HTTP/1.1\r\n", source, 1))
    for _ in range(dice.randrange(1, 4)):
        at, length = dice.randrange(len(text) + 1), dice.choice([0, 1, 1, 4, 30])
        other = dice.choice(REQUESTS)
        begin = dice.randrange(len(other))
        text[at : at + length] = dice.choice(
            [b"", dice.choice(TOKENS), dice.randbytes(2), other[begin : begin + 40]]
        )
    return bytes(text)


def answers_to(url: str, sent: list[bytes]) -> Iterator[bytes]:
    """Send each over a connection of its own; give what comes until the API closes it."""
    with ExitStack() as open_ones:
        socks = [open_ones.enter_context(connection(url)) for _ in sent]
        for sock, request in zip(socks, sent, strict=True):
            with suppress(ConnectionError):  # the API may close before it has read all
                sock.sendall(request)
        yield from map(answer_of, socks)


def test_no_bytes_make_the_api_fail_or_hang(
    client: redis.Redis, environ: Mapping[str, str], tmp_path: Path
) -> None:
    dice = random.Random(20_250_706)
    statuses: Counter[bytes] = Counter()
    with serving_here(
        client,
        environ,
        tmp_path,
        IMPATIENT,
        keep_alive_s=1,
        body_timeout_s=SHORT_S,
        SMSQ_TRUSTED_PROXIES="127.0.0.1",
    ) as url:
        for _ in range(CASES // AT_ONCE):
            batch = [mutated(dice) for _ in range(AT_ONCE)]
            for request, told in zip(batch, answers_to(url, batch), strict=True):
                found = re.findall(rb"^HTTP/1\.1 ([0-9]{3})", told, re.MULTILINE)
                assert not any(status >= b"5" for status in found), request
                assert b"Traceback" not in told, request
                statuses.update(found)
        assert requests.get(f"{url}/healthz", timeout=PATIENCE_S).ok
    # Or they would have been too spoilt to come to more than the parser.
    assert min(statuses[b"200"], statuses[b"400"], client.llen("sms.notice")) > 100
