"""Run the scenarios from the command line."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path

import celery
import kombu

from bench import accounts, acts, balance, beside, otp, outage, rate, release, secret
from bench.against import fleet, life, lone, watched
from bench.attack import run as attack
from bench.peers import compare
from bench.place import Place, own_throughput
from bench.plan import Plan
from bench.scale import run as scale
from bench.shapes import SHAPES

SCENARIOS = {
    "rate": rate.run,
    "otp": otp.run,
    "outage": outage.run,
    "accounts": accounts.run,
    "secret": secret.run,
    "balance": balance.run,
    "peers": compare.run,
    "scale": scale.run,
    "beside": beside.run,
    "acts": acts.run,
    "campaign": beside.in_a_campaign,
    "life": life.run,
    "lone": lone.run,
    "fleet": fleet.run,
    "watched": watched.run,
    "attack": attack.run,
}


def machine(place: Place) -> str:
    """Say on what it runs."""
    load = " ".join(f"{one:.2f}" for one in os.getloadavg())
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), load {load}\n"
        f"smsq {version('smsq')}, Python {platform.python_version()}, celery {celery.__version__}, "
        f"kombu {kombu.__version__}, {place.versions()}"
    )


def numbers(text: str) -> tuple[int, ...]:
    """Read numbers with commas between."""
    return tuple(int(one) for one in text.split(","))


def words(text: str) -> tuple[str, ...]:
    """Read words with commas between; none where there is nothing."""
    return tuple(filter(None, text.split(",")))


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="bench", description=f"Figures of smsq {version('smsq')}."
    )
    parser.add_argument("--only", default="", help=f"some of {','.join(SCENARIOS)}")
    parser.add_argument("--seconds", type=float, default=Plan.seconds)
    parser.add_argument("--workers", type=numbers, default=Plan.workers)
    parser.add_argument("--rates", type=numbers, default=Plan.rates)
    parser.add_argument("--backlog", type=int, default=Plan.backlog)
    parser.add_argument("--scale", type=float, default=Plan.scale)
    parser.add_argument("--modes", type=words, default=Plan.modes)
    parser.add_argument("--messages", type=int, default=Plan.messages)
    parser.add_argument("--rounds", type=int, default=Plan.rounds)
    parser.add_argument("--against", default=Plan.against, choices=sorted(release.WHEELS))
    parser.add_argument("--chart", action="store_true", help="write the peers' figures to the docs")
    parser.add_argument("--shapes", type=words, default=Plan.shapes, help=f"of {','.join(SHAPES)}")
    parser.add_argument("--size", type=float, default=Plan.size, help="of scale's counts")
    parser.add_argument("--crowd", type=int, default=Plan.crowd, help="scale's many workers")
    parser.add_argument("--scale-only", type=words, default=Plan.scale_only)
    parser.add_argument("--base", default=Plan.base, help="the commit beside which it is measured")
    parser.add_argument("--release", default="", help=f"one of {', '.join(release.WHEELS)}")
    given = parser.parse_args()
    given.only = given.only.split(",") if given.only else list(SCENARIOS)
    if unknown := set(given.only) - set(SCENARIOS):
        parser.error(f"no scenario {', '.join(sorted(unknown))}")
    if unknown := set(given.scale_only) - set(scale.SCENARIOS):
        parser.error(f"scale has no scenario {', '.join(sorted(unknown))}")
    if unknown := set(given.shapes) - set(SHAPES):
        parser.error(f"no shape {', '.join(sorted(unknown))}")
    if given.release and given.release not in release.WHEELS:
        parser.error(f"no release {given.release}; there are {', '.join(release.WHEELS)}")
    return given


def main() -> None:
    """Run what was asked for; 1 where a promise was not kept."""
    given = arguments()
    if given.release:
        release.become(given.release)
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
    if not broken:
        shutil.rmtree(folder)
    sys.exit(1 if broken else 0)


def say(text: str) -> None:
    """Write at once, because the next takes minutes."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
