"""The task of the host's app that `notify` names, called in this process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from smsq.app import app as smsq_app
from smsq.outcomes import callback_id, outcome_of


def call(ended: Mapping[str, str]) -> None:
    """Call the task that a message's `notify` names, with the dict that it gets from a worker.

    Raises LookupError where no app of this process has it, and what the task raises.
    """
    outcome = outcome_of(ended, ended.get("raw") or ended.get("stat"))
    _task(ended["notify"]).apply(
        (json.loads(json.dumps(outcome)),), task_id=callback_id(outcome), throw=True
    )


def _task(name: str) -> Any:
    from celery import _state

    state: Any = _state
    host = state.get_current_app()
    for app in (host, *state._get_active_apps()):  # noqa: SLF001 - Celery's own list of them
        # Ours is none of the host's, and to look at its tasks would read the settings.
        if app is not smsq_app and name in app.tasks:
            return app.tasks[name]
    host.loader.import_default_modules()  # As its worker does when it starts.
    if name in host.tasks:
        return host.tasks[name]
    raise LookupError(
        f"notify={name!r} names no task of a Celery app in this process; import its module, or "
        "give the name that its worker lists"
    )
