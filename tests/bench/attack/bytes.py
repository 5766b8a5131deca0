"""What an attacker sends: how each connection begins, and what then comes without end."""

from __future__ import annotations

from typing import Final, NamedTuple

TOKEN: Final = "bench-report-token-0123456789"


class Attack(NamedTuple):
    """One way to keep an API busy."""

    begin: bytes
    more: bytes
    """Repeated; nothing for a connection that is only held."""
    reads: bool = False
    """Whether answers are read."""
    connections: int = 200


def _post(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


_REPORTS: Final = f"/reports/{TOKEN}"
_CHUNKED: Final = "Transfer-Encoding: chunked"
_FORM: Final = "Content-Type: multipart/form-data; boundary=b"
_SEMICOLONS: Final = (
    b'--b\r\nContent-Disposition: form-data; name="mid"' + b";" * 65_000 + b"\r\n\r\nX\r\n--b--\r\n"
)
_GET: Final = b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n"

ATTACKS: Final = {
    "a head": Attack(b"GET / HTTP/1.1\r\nX: ", b"x" * 65_536),
    "headers": Attack(b"GET / HTTP/1.1\r\n", b"X: x\r\n" * 10_000),
    "blank lines": Attack(b"", b"\r\n" * 30_000),
    "trailers": Attack(_post("/x", _CHUNKED) + b"0\r\n", b"T: x\r\n" * 10_000),
    "trailers, right token": Attack(_post(_REPORTS, _CHUNKED) + b"0\r\n", b"T: x\r\n" * 10_000),
    "a chunk's extension, right token": Attack(_post(_REPORTS, _CHUNKED) + b"1;", b"x" * 65_536),
    "tiny chunks, right token": Attack(_post(_REPORTS, _CHUNKED), b"1\r\nx\r\n" * 10_000),
    "a body": Attack(_post("/healthz", "Content-Length: 999999999999"), b"x" * 65_536),
    "a body, right token": Attack(_post(_REPORTS, _CHUNKED), b"10000\r\n" + b"x" * 65_536),
    "pipelined": Attack(b"", (_GET % b"healthz") * 1000),
    "pipelined, answers read": Attack(b"", (_GET % b"healthz") * 1000, reads=True),
    "pipelined scrapes": Attack(b"", (_GET % b"metrics") * 1000),
    "no HTTP": Attack(b"", b"\x16\x03\x01" * 20_000),
    "semicolons in a form, right token": Attack(
        b"",
        _post(_REPORTS, _FORM, f"Content-Length: {len(_SEMICOLONS)}") + _SEMICOLONS,
        reads=True,
    ),
    "1060 idle connections": Attack(b"", b"", connections=1060),
    "1060 half heads": Attack(b"GET / HTTP/1.1\r\nX: ", b"", connections=1060),
}
