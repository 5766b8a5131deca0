"""Resolve the gateway's name as a file says, read at each question: "ok", "slow 11", "fail 3".

Python imports this at the start of each process whose PYTHONPATH has this folder. It knows the
one name alone, and blocks its thread as a resolver of the system does.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

_name = os.environ["SOAK_RESOLVED_NAME"]
_how = Path(os.environ["SOAK_RESOLVER"])
_of_the_system = socket.getaddrinfo


def _getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
    if host != _name:
        return _of_the_system(host, *args, **kwargs)
    how, _, seconds = _how.read_text().partition(" ")
    time.sleep(float(seconds or 0))
    if how == "fail":
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    return _of_the_system("127.0.0.1", *args, **kwargs)


socket.getaddrinfo = _getaddrinfo
