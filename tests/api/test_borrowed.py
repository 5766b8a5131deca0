"""What the API uses of uvicorn and httptools that they do not promise: each part by its name.

A release that changes one fails here, before it fails under way.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import httptools
import pytest
import uvicorn
from uvicorn.protocols.http import flow_control, httptools_impl
from uvicorn.protocols.utils import get_local_addr, get_remote_addr
from uvicorn.server import Server, ServerState


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """An application."""


def test_the_cycle_of_a_request() -> None:
    signature = inspect.signature(httptools_impl.RequestResponseCycle)
    assert list(signature.parameters) == [
        *("scope", "transport", "flow", "logger", "access_logger", "access_log"),
        *("default_headers", "message_event", "expect_100_continue", "keep_alive", "on_response"),
    ]
    cycle: Any = httptools_impl.RequestResponseCycle(
        **dict.fromkeys(signature.parameters) | {"keep_alive": True}
    )
    assert (cycle.body, cycle.more_body, cycle.keep_alive) == (bytearray(), True, True)
    assert (cycle.disconnected, cycle.response_started, cycle.response_complete) == (False,) * 3
    for name in ("run_asgi", "receive", "send"):
        assert inspect.iscoroutinefunction(getattr(cycle, name)), name


def test_the_flow_control() -> None:
    for name in ("pause_reading", "resume_reading", "pause_writing", "resume_writing"):
        assert callable(getattr(flow_control.FlowControl, name))
    assert flow_control.HIGH_WATER_LIMIT == 65_536
    assert httptools_impl.STATUS_LINE[431].startswith(b"HTTP/1.1 431 ")


def test_the_state_of_a_server() -> None:
    state = ServerState()
    assert (state.connections, state.tasks, state.default_headers) == (set(), set(), [])
    assert state.total_requests == 0


def test_the_configuration_takes_any_protocol() -> None:
    made: list[dict[str, Any]] = []
    http: Any = made.append
    config = uvicorn.Config(nothing, http=http, lifespan="off", timeout_keep_alive=7)
    config.load()
    assert config.http_protocol_class is http
    assert (config.asgi_version, config.timeout_keep_alive) == ("3.0", 7)
    assert callable(config.loaded_app)


def test_the_server_makes_a_protocol_by_these_names_and_shuts_it_down() -> None:
    made = inspect.getsource(Server.startup)
    for name in ("config=", "server_state=", "app_state=", "_loop="):
        assert name in made
    assert "connection.shutdown()" in inspect.getsource(Server.shutdown)


def test_the_addresses_of_a_transport() -> None:
    async def addresses() -> None:
        class Seen(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                found.set_result((get_local_addr(transport), get_remote_addr(transport)))  # type: ignore[arg-type]

        loop = asyncio.get_running_loop()
        found: asyncio.Future[Any] = loop.create_future()
        server = await loop.create_server(Seen, "127.0.0.1", 0)
        here = server.sockets[0].getsockname()
        client, _ = await loop.create_connection(asyncio.Protocol, *here)
        assert await found == (here, client.get_extra_info("sockname"))
        client.close()
        server.close()

    asyncio.run(addresses())


def test_a_parser_needs_no_more_than_the_callbacks_it_finds() -> None:
    parser = httptools.HttpRequestParser(object())
    parser.feed_data(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n")
    assert (parser.get_method(), parser.get_http_version()) == (b"POST", "1.1")
    with pytest.raises(httptools.HttpParserError):
        parser.feed_data(b"\x00")
    assert issubclass(httptools.HttpParserUpgrade, Exception)
    assert issubclass(httptools.HttpParserInvalidURLError, httptools.HttpParserError)
