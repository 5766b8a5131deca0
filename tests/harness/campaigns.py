"""Short words for what happens to the campaigns of a scene."""

from __future__ import annotations

from collections import Counter
from typing import Any

from harness.scene import Scene
from smsq import keys
from smsq.connection import Client
from smsq.contract import FINAL
from smsq_worker.ledger.campaigns import Campaign, Campaigns

SPRING = "spring"


def enter(scene: Scene, *names: str, campaign: str = SPRING, **more: Any) -> None:
    for name in names:
        scene.enter(name, lane="bulk", campaign=campaign, **more)


def read(campaigns: Campaigns, name: str = SPRING) -> Campaign:
    found = campaigns.read(name)
    assert found is not None
    return found


def check(scene: Scene, campaigns: Campaigns, *names: str) -> None:
    """Hold the counts to the messages themselves."""
    statuses = [scene.status(name) for name in names]
    found = read(campaigns)
    assert found.states == Counter(status.state for status in statuses)
    failed = [status.reason for status in statuses if status.state == "failed"]
    assert found.reasons == Counter(failed)
    live = {f"{s.lane}:{s.state}" for s in statuses if s.state not in FINAL}
    assert live <= {name for name, n in scene.control.live().items() if n}


def is_swept(client: Client) -> bool:
    """Return whether all messages of cancelled campaigns have been ended."""
    return not client.exists(keys.CAMPAIGN_SWEEP)


def sweep(scene: Scene) -> None:
    for _ in range(100):
        if is_swept(scene.client):
            return
        scene.client.hset(keys.CAMPAIGN_SWEEP, "at", 0)
        scene.claim()
    raise AssertionError("the sweep does not end")


def gap_is_over(scene: Scene, name: str = SPRING) -> None:
    """Let as long pass for a slowed campaign as its next message has to wait."""
    scene.client.hdel(keys.campaign(name), "slot", "pace")


def release(scene: Scene) -> list[str]:
    """Let the scheduler look once more, as it does 20 ms later."""
    scene.client.hdel(keys.CLOCK, "campaigns")
    return scene.woken()
