"""Free ports: nobody else takes one between its being found and its being listened on."""

from __future__ import annotations

import subprocess
import sys

import pytest

from smsq_worker.infra import ports

ONE_PORT = """
import sys
from smsq_worker.infra import ports

port = int(sys.argv[1])
ports.QUIET_PORTS = (port, port + 1)
try:
    ports.free_port()
except OSError as error:
    print(error.strerror)
ports.opened(("127.0.0.1", port)).close()
print("listened")
"""


def test_a_free_port_is_given_to_nobody_else_and_whoever_names_it_may_listen() -> None:
    port = ports.free_port()
    other = [sys.executable, "-c", ONE_PORT, str(port)]
    done = subprocess.run(other, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["Address already in use", "listened"]


def test_a_socket_on_any_port_is_never_on_a_reserved_one(monkeypatch: pytest.MonkeyPatch) -> None:
    port = ports.free_port()
    monkeypatch.setattr(ports, "QUIET_PORTS", (port, port + 1))
    with pytest.raises(OSError, match="Address already in use"):
        ports.opened(("127.0.0.1", 0))


def test_reservations_are_bounded() -> None:
    for _ in range(101):
        ports.free_port()
    assert len(ports._reserved) == 100


def test_ports_that_were_found_stay_reserved_for_what_is_started_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = ports.find_ports([ports.Wish(("127.0.0.1", 0), "SMSQ_API_BIND")])
    host, port = found["SMSQ_API_BIND"]
    monkeypatch.setattr(ports, "QUIET_PORTS", (port, port + 1))
    with pytest.raises(OSError, match="Address already in use"):
        ports.free_port()
    ports.opened((host, port)).close()
