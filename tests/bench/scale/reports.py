"""The gateway posts 200,000 reports as fast as the API takes them."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from threading import Thread

import requests

from bench.figures import ms, parts
from bench.place import Place, until
from bench.plan import Plan
from bench.product import API_BIND, api_service, free_port
from bench.scale import fill
from bench.scale.measure import measuring
from bench.scale.result import SETTLE_S, WORKERS, Result, background, fresh, result, scaled

REPORTS = 200_000
A_POST = 100
POSTERS = 8
SETTLED_S = 300.0
LOOK_S = 0.5


def run(place: Place, plan: Plan, shape: str) -> Result:
    """Post them in lists of 100, over 8 connections; measure until all are reconciled."""
    token, port = secrets.token_hex(24), free_port()
    bind = f"127.0.0.1:{port}"
    fresh(
        place,
        "reports",
        **{"SMSQ_REPORT_TOKEN": token, API_BIND: bind, "SMSQ_REPORT_WAIT_S": 3600},
    )
    place.start(api_service(f"http://{bind}/", place.environ))
    place.start_workers(WORKERS)
    place.control.resume("account", "one message is sent, and copied")
    count = scaled(REPORTS, plan)
    mids = fill.accepted(place, count, round((time.time() + 3600) * 1000))
    filled = background(plan, shape).plus(fill.ORIGINAL)
    with measuring(place) as measure:
        until(time.monotonic() + SETTLE_S)
        measure.begin()
        posters = _Posters(f"http://{bind}/reports/{token}", mids)
        posters.start()
        reconciled = 0.0
        while (at := time.monotonic()) < measure.began + max(2 * plan.seconds, SETTLED_S):
            if not reconciled and place.count("delivered") >= count:
                reconciled = at - measure.began
            if at > measure.began + 2 * plan.seconds and reconciled:
                break
            until(at + LOOK_S)
        posters.join()
        done = place.count("delivered")
        measure.end()
    told = f"within {ms(reconciled)}" if reconciled else f"{done} at the end"
    return result(
        measure,
        filled,
        f"{count} reports: taken within {ms(posters.took)}, {A_POST} at once in "
        f"{parts(posters.answered)}, {posters.failed} posts repeated; reconciled {told}",
    )


class _Posters:
    """Clients of the API, which share the reports."""

    def __init__(self, url: str, mids: Sequence[str]) -> None:
        self._url = url
        self._lists = [mids[n : n + A_POST] for n in range(0, len(mids), A_POST)]
        self._threads = [Thread(target=self._post, args=(n,)) for n in range(POSTERS)]
        self._began = 0.0
        self.answered: list[float] = []
        self.failed = 0
        self.took = 0.0

    def start(self) -> None:
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _post(self, first: int) -> None:
        with requests.Session() as session:
            session.trust_env = False
            for mids in self._lists[first::POSTERS]:
                body = json.dumps([{"mid": mid, "stat": "DELIVRD"} for mid in mids])
                self._until_taken(session, body)
        self.took = max(self.took, time.monotonic() - self._began)

    def _until_taken(self, session: requests.Session, body: str) -> None:
        """Post as the gateway does, which repeats what is not answered with 200."""
        for _ in range(10):
            before = time.monotonic()
            answer = session.post(
                self._url, body, headers={"Content-Type": "application/json"}, timeout=30
            )
            if answer.ok:
                self.answered.append(time.monotonic() - before)
                return
            self.failed += 1
            time.sleep(1)
