"""A plain model beside the ledger on a real server, in any order of events.

SMSQ_MODEL_EXAMPLES says how many orders are tried; otherwise they are few, and always the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Final, cast

import redis
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from smsq.connection import connect
from smsq_worker.config.settings import Settings

LONG_RUN: Final = os.environ.get("SMSQ_MODEL_EXAMPLES")
STEPS: Final = 40


def examples(usual: int) -> int:
    return int(LONG_RUN or usual)


def compare(
    machine: Callable[[redis.Redis, Settings], RuleBasedStateMachine],
    environ: Mapping[str, str],
    max_examples: int,
) -> None:
    """Do everything to both, and compare them after each rule."""
    with connect(environ["SMSQ_REDIS_URL"]) as client:
        settings = Settings.load(environ)
        run_state_machine_as_test(
            cast("type[RuleBasedStateMachine]", lambda: machine(client, settings)),
            settings=hypothesis_settings(
                derandomize=not LONG_RUN,
                max_examples=max_examples,
                stateful_step_count=STEPS,
                suppress_health_check=list(HealthCheck),
            ),
        )
