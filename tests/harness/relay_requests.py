"""The vendor's request in all shapes that its clients give it."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from harness.api import CODE, PHONE
from harness.credentials import RELAY

TEMPLATE = "短信验证码"
ROUTE = "module=sms&file=send&action=send"
SENDING = {"mobphone": PHONE, "code": CODE, "smstemplate": TEMPLATE}


def request(line: str, *headers: str, body: bytes = b"", charset: str = "utf-8") -> bytes:
    length = [f"Content-Length: {len(body)}"] if body else []
    head = [f"{line} HTTP/1.1", "Host: sms.example.com", *headers, *length, "", ""]
    return "\r\n".join(head).encode(charset) + body


def bare(**more: str) -> str:
    """The query as the vendor's samples build it: nothing is encoded."""
    return "&".join([ROUTE, *(f"{name}={value}" for name, value in {**SENDING, **more}.items())])


def encoded(charset: str = "utf-8") -> str:
    return f"{ROUTE}&{urlencode(SENDING, encoding=charset)}"


def multipart() -> bytes:
    named = {"module": "sms", "file": "send", "action": "send", **SENDING}
    parts = [
        f'--b0\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in named.items()
    ]
    return "".join([*parts, "--b0--\r\n"]).encode()


AUTHORIZATION = f"Authorization:{RELAY}"
FORM = "Content-Type: application/x-www-form-urlencoded"
SHAPES = {
    "php-curl": request(f"GET /?{bare()}", AUTHORIZATION, "Accept: */*"),
    "php-curl-in-gbk": request(f"GET /?{bare()}", AUTHORIZATION, charset="gbk"),
    "php-encoded-in-gbk": request(f"GET /?{encoded('gbk')}", AUTHORIZATION),
    "php-postfields-text": request("POST /", AUTHORIZATION, FORM, body=bare().encode()),
    "php-postfields-in-gbk": request("POST /", AUTHORIZATION, FORM, body=bare().encode("gbk")),
    "php-postfields-array": request(
        "POST /",
        AUTHORIZATION,
        "Content-Type: multipart/form-data; boundary=b0",
        "Expect: 100-continue",
        body=multipart(),
    ),
    "query-and-form": request(
        f"POST /?{ROUTE}&mobphone={PHONE}", AUTHORIZATION, FORM, body=urlencode(SENDING).encode()
    ),
    "java-httputils": request(
        f"GET /?{encoded()}",
        f"authorization: {RELAY}",
        "Connection: Keep-Alive",
        "User-Agent: Apache-HttpClient/4.2.1 (java 1.5)",
    ),
    "node": request(f"GET /?{quote(bare(), safe='=&')}", f"authorization: {RELAY}"),
    "with-a-plus": request(
        f"GET /?{bare().replace(PHONE, '+86' + PHONE)}", AUTHORIZATION, charset="gb18030"
    ),
}
