"""When which fault occurs, and a diary of it."""

from __future__ import annotations

import random
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Event, Lock

from soak.faults import FAULTS, Scene
from soak.plan import Plan
from soak.stage import Stage


@dataclass
class Chaos:
    """Brings faults about, several at a time, but no two to one thing."""

    plan: Plan
    stage: Stage
    counts: Counter[str] = field(default_factory=Counter)
    diary: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.plan.seed)
        self._kinds = self.plan.faults or tuple(FAULTS)
        self._busy: set[str] = set()
        self._lock = Lock()
        self.counts.update(dict.fromkeys(self._kinds, 0))

    def run(self, stop: Event) -> None:
        """Go on until told to stop and each kind has occurred; return when all faults are over."""
        under_way: list[Future[None]] = []
        with ThreadPoolExecutor(max_workers=32) as pool:
            while not (stop.is_set() and all(self.counts.values())):
                time.sleep(self._random.uniform(0.5, 1.5) * self.plan.every_s)
                if chosen := self._choose():
                    under_way.append(pool.submit(self._act, *chosen))
        for one in under_way:
            one.result()

    def _choose(self) -> tuple[str, Scene] | None:
        """Choose at random among the kinds that were rarest so far and can occur now."""
        with self._lock:
            free = {kind: things for kind in self._kinds if (things := self._free(kind))}
            if not free:
                return None
            fewest = min(self.counts[kind] for kind in free)
            kind = self._random.choice([one for one in free if self.counts[one] == fewest])
            victim = self._random.choice(free[kind])
            self.counts[kind] += 1
            self._busy.add(victim)
        own = random.Random(self._random.random())
        return kind, Scene(self.plan, self.stage, own, victim)

    def _free(self, kind: str) -> list[str]:
        needs = FAULTS[kind].needs
        things = self.stage.workers if needs == "worker" else [needs]
        return [thing for thing in things if thing not in self._busy]

    def _act(self, kind: str, scene: Scene) -> None:
        began = datetime.now(UTC)
        try:
            FAULTS[kind].act(scene)
        finally:
            ended = datetime.now(UTC)
            with self._lock:
                self._busy.discard(scene.victim)
                self.diary.append(
                    f"{began:%H:%M:%S.%f} to {ended:%H:%M:%S.%f} {kind} {scene.victim}"
                )
