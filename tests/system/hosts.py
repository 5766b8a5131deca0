"""Hosts in network namespaces, with a switch between them that can be told to lose everything.

Nothing in them can be reached from outside, nor reaches it. Needs root and Debian's iproute2.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Host:
    """A host on the network."""

    name: str
    address: str
    namespace: str

    def command(self, words: Sequence[str]) -> list[str]:
        """Give a command that runs here, as the process that it is started as."""
        return ["ip", "netns", "exec", self.namespace, *words]


class Network:
    """Hosts with an address each, all ports of one switch."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._switch = f"{name}-switch"
        self._hosts: dict[str, Host] = {}

    def build(self, names: Sequence[str], stack: ExitStack) -> None:
        """Make the hosts; the stack removes them, with what was left of a failure."""
        self._namespace(self._switch, stack)
        _ip("-n", self._switch, "link", "add", "bridge", "up", "type", "bridge")
        for number, name in enumerate(names, start=1):
            host = Host(name, f"10.98.0.{number}", f"{self._name}-{name}")
            self._namespace(host.namespace, stack)
            on = ("-n", host.namespace)
            peer = ("type", "veth", "peer", "name", "eth0", "netns", host.namespace)
            _ip("-n", self._switch, "link", "add", name, *peer)
            _ip("-n", self._switch, "link", "set", name, "master", "bridge", "up")
            _ip(*on, "address", "add", f"{host.address}/24", "dev", "eth0")
            _ip(*on, "link", "set", "eth0", "up")
            self._hosts[name] = host

    def __getitem__(self, name: str) -> Host:
        return self._hosts[name]

    def cut_off(self, name: str) -> None:
        """Pull a host's cable: neither side is told, and nothing is reset."""
        _ip("-n", self._switch, "link", "set", name, "down")

    def back(self, name: str) -> None:
        """Plug it in again."""
        _ip("-n", self._switch, "link", "set", name, "up")

    def part(self, *names: str) -> None:
        """Have hosts lose sight of each other, and of nobody else."""
        self._isolate(names, "on")

    def reunite(self, *names: str) -> None:
        """Undo it."""
        self._isolate(names, "off")

    def _isolate(self, names: Sequence[str], isolated: str) -> None:
        for name in names:
            _run("bridge", "-n", self._switch, "link", "set", "dev", name, "isolated", isolated)

    def _namespace(self, name: str, stack: ExitStack) -> None:
        _ip("netns", "add", name)
        stack.callback(_ip, "netns", "delete", name)
        _ip("-n", name, "link", "set", "lo", "up")


@contextmanager
def network(*names: str) -> Iterator[Network]:
    """Make a network of hosts, and remove it."""
    for tool in ("ip", "bridge"):
        if shutil.which(tool) is None:
            pytest.fail(f"{tool} is missing: install Debian's package iproute2")
    if os.geteuid() != 0:
        pytest.fail("network namespaces need root")
    made = Network(f"smsq{os.getpid()}")
    with ExitStack() as stack:
        made.build(names, stack)
        yield made


@dataclass(frozen=True)
class Running:
    """A process on a host, and what it wrote."""

    process: subprocess.Popen[bytes]
    log: Path

    def says(self, words: str) -> int:
        """Count the lines of its log with these words; fail if it ended."""
        lines = self.log.read_text(errors="replace").splitlines()
        assert self.process.poll() is None, "\n".join(lines[-30:])
        return sum(words in line for line in lines)


@contextmanager
def running(
    host: Host, words: Sequence[str], environ: Mapping[str, str], log: Path
) -> Iterator[Running]:
    """Run a command on a host; it is killed at the end."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            host.command(words),
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:
        yield Running(process, log)
    finally:
        process.kill()
        process.wait()


def _ip(*words: str) -> None:
    _run("ip", *words)


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr.strip()}"
