"""Run the scenarios from the command line."""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import tempfile
import time
from dataclasses import fields
from pathlib import Path

import celery
import kombu

from bench import balance, otp, outage, rate, secret
from bench.peers import compare
from bench.place import Place, own_throughput
from bench.plan import Plan

SCENARIOS = {
    "rate": rate.run,
    "otp": otp.run,
    "outage": outage.run,
    "secret": secret.run,
    "balance": balance.run,
    "peers": compare.run,
}


def machine(place: Place) -> str:
    """Say on what it runs."""
    load = " ".join(f"{one:.2f}" for one in os.getloadavg())
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), load {load}\n"
        f"Python {platform.python_version()}, celery {celery.__version__}, "
        f"kombu {kombu.__version__}, {place.versions()}"
    )


def numbers(text: str) -> tuple[int, ...]:
    """Read numbers with commas between."""
    return tuple(int(one) for one in text.split(","))


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="bench", description="Figures as the gateway sees them.")
    parser.add_argument("--only", default="", help=f"some of {','.join(SCENARIOS)}")
    parser.add_argument("--seconds", type=float, default=Plan.seconds)
    parser.add_argument("--workers", type=numbers, default=Plan.workers)
    parser.add_argument("--rates", type=numbers, default=Plan.rates)
    parser.add_argument("--backlog", type=int, default=Plan.backlog)
    parser.add_argument("--scale", type=float, default=Plan.scale)
    parser.add_argument("--modes", type=lambda text: tuple(text.split(",")), default=Plan.modes)
    parser.add_argument("--messages", type=int, default=Plan.messages)
    given = parser.parse_args()
    given.only = given.only.split(",") if given.only else list(SCENARIOS)
    if unknown := set(given.only) - set(SCENARIOS):
        parser.error(f"no scenario {', '.join(sorted(unknown))}")
    return given


def main() -> None:
    """Run what was asked for; 1 where a promise was not kept."""
    given = arguments()
    plan = Plan(**{one.name: getattr(given, one.name) for one in fields(Plan)})
    folder = Path(tempfile.mkdtemp(prefix="smsq-bench-"))
    # Ended from outside, its processes end too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    broken = 0
    with Place(folder).running() as place:
        place.fresh("none")
        calls = own_throughput(place.gateway)
        say(f"{machine(place)}\n{plan}\nlogs in {folder}")
        say(f"the gateway itself takes {calls:.0f} calls/s\n")
        for name in given.only:
            began = time.monotonic()
            report = SCENARIOS[name](place, plan)
            broken += len(report.broken)
            say(f"{report.text()}({time.monotonic() - began:.0f} s)\n")
    sys.exit(1 if broken else 0)


def say(text: str) -> None:
    """Write at once, because the next takes minutes."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
