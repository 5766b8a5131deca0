"""Enqueue messages by a contender, or become its worker.

    python -m bench.peers.act MODULE worker
    python -m bench.peers.act MODULE enqueue FIRST UNTIMED TIMED

Run by the contender's own Python. Enqueueing prints the seconds that the timed ones took; what
connecting costs has gone with the untimed. Their numbers begin at the FIRST.
"""

from __future__ import annotations

import importlib
import os
import sys
import time

from bench.peers.vendor import phones


def main() -> None:
    """Do what the command line says."""
    module = importlib.import_module(f"bench.peers.{sys.argv[1]}")
    if sys.argv[2] == "worker":
        # In place of this process, so that its children and its signals are the worker's alone.
        os.execv(sys.executable, [sys.executable, "-m", *module.WORKER])
    first, untimed, timed = map(int, sys.argv[3:])
    module.enqueue(phones(first, untimed))
    numbers = phones(first + untimed, timed)
    began = time.perf_counter()
    module.enqueue(numbers)
    sys.stdout.write(str(time.perf_counter() - began))


if __name__ == "__main__":
    main()
