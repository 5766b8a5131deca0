"""Requests in all shapes that clients give them, good and bad."""

from __future__ import annotations

import json

from harness.api import MID, REPORT
from harness.credentials import RELAY, TOKEN

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
PLAIN = json.dumps(REPORT).encode()
AS_FORM = f"mid={MID}&stat=DELIVRD".encode()


def lines(*text: str, body: bytes = b"") -> bytes:
    return "\r\n".join([*text, "", ""]).encode("latin-1") + body


HOST = "Host: door"
POST = f"POST /reports/{TOKEN} HTTP/1.1"
RAW = {
    "binary": b"\x00\x01\xff\xfe\r\n\r\n",
    "tls": b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
    "http-0.9": lines("GET /healthz"),
    "http-9": lines("GET /healthz HTTP/9.9", HOST),
    "http-1.0": lines("GET /healthz HTTP/1.0"),
    "http-2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "unknown-method": lines("SEND / HTTP/1.1", HOST),
    "no-path": lines("GET  HTTP/1.1", HOST),
    "path-not-ascii": lines("GET /\xe9\xff HTTP/1.1", HOST),
    "path-not-utf-8": lines("GET /messages/%ff%fe%00 HTTP/1.1", HOST, f"Authorization: {RELAY}"),
    "path-of-bad-escapes": lines("GET /messages/%%%zz HTTP/1.1", HOST, f"Authorization: {RELAY}"),
    "path-with-dots": lines("GET /../../etc/passwd HTTP/1.1", HOST),
    "path-of-60-kib": lines(f"GET /{'x' * 60_000} HTTP/1.1", HOST),
    "url-of-another-host": lines("GET http://elsewhere:1/x HTTP/1.1", HOST),
    "asterisk": lines("OPTIONS * HTTP/1.1", HOST),
    "connect": lines("CONNECT elsewhere:443 HTTP/1.1", HOST),
    "header-with-nul": lines("GET /healthz HTTP/1.1", HOST, "X: \x00"),
    "header-without-colon": lines("GET /healthz HTTP/1.1", HOST, "nonsense"),
    "headers-by-the-thousand": lines("GET /x HTTP/1.1", HOST, *(f"X-{n}: 1" for n in range(2000))),
    "authorization-not-ascii": lines("GET /messages/1 HTTP/1.1", HOST, "Authorization: \xe9\xff"),
    "authorization-twice": lines(
        "GET /messages/1 HTTP/1.1", HOST, "Authorization: x", f"Authorization: {RELAY}"
    ),
    "content-type-not-ascii": lines(
        POST, HOST, "Content-Type: multipart/form-data; x=\xff", "Content-Length: 1", body=b"x"
    ),
    "length-negative": lines(POST, HOST, "Content-Length: -1"),
    "length-empty": lines(POST, HOST, "Content-Length: "),
    "length-of-other-digits": lines(POST, HOST, "Content-Length: \xb2"),
    "length-of-thousands-of-digits": lines(POST, HOST, f"Content-Length: {'0' * 5000}1", body=b"x"),
    "length-in-hex": lines(POST, HOST, "Content-Length: 0x10"),
    "length-of-100-digits": lines(POST, HOST, f"Content-Length: {'9' * 100}"),
    "length-of-a-terabyte": lines(POST, HOST, "Content-Length: 1099511627776"),
    "two-lengths": lines(POST, HOST, "Content-Length: 1", "Content-Length: 2", body=b"xx"),
    "length-and-chunks": lines(
        POST, HOST, "Content-Length: 4", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"
    ),
    "chunks-of-nonsense": lines(POST, HOST, "Transfer-Encoding: chunked", body=b"zz\r\n\r\n"),
    "chunks-negative": lines(POST, HOST, "Transfer-Encoding: chunked", body=b"-1\r\n\r\n"),
    "other-encoding": lines(POST, HOST, "Transfer-Encoding: gzip", body=b"x"),
    "websocket": lines(
        "GET /healthz HTTP/1.1", HOST, "Connection: Upgrade", "Upgrade: websocket"
    ),
}  # fmt: skip
