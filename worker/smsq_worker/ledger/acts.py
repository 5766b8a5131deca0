"""What all acts have in common: a script is run, its events are logged, its errors classified."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

from smsq.cipher import PlaintextCipher
from smsq.connection import Client, mapped_errors, perform, running
from smsq.errors import LedgerUnavailable
from smsq_worker.config.rules import Rules
from smsq_worker.ledger.errors import classified
from smsq_worker.ledger.reading import Answer, Given, asked
from smsq_worker.ledger.scripts import Scripts

log = logging.getLogger(__name__)

SET_ASIDE: Final = "set aside"
"""How such an event begins, see lua/shared/set_aside.lua."""


class Acts:
    """The base of what acts on the ledger. Methods raise LedgerUnavailable where Redis fails."""

    def __init__(
        self, client: Client, rules: Rules, cipher: Callable[[], PlaintextCipher] = PlaintextCipher
    ) -> None:
        """`cipher` may raise SettingsError; then an act that needs it does nothing else."""
        self._client = client
        self._rules = rules
        self._cipher = cipher
        self._scripts = Scripts(rules)

    def _ask(
        self, command: Callable[Given, Answer], *args: Given.args, **options: Given.kwargs
    ) -> Answer:
        return asked(self._rules.url, command, *args, **options)

    def _run(self, act: str, *args: str | float) -> list[Any]:
        return self._run_safely(act, *args, replicas=0)[0]

    def _run_safely(self, act: str, *args: str | float, replicas: int) -> tuple[list[Any], bool]:
        """Run an act; return its answer, and whether enough replicas have what it wrote."""
        (events, *answer), is_safe = self._run_plain(act, *args, replicas=replicas)
        # Events go to the caller whose act brought them about, so each is logged once.
        for event in events:
            level = logging.CRITICAL if event.startswith(SET_ASIDE) else logging.WARNING
            log.log(level, "%s", event)
        return answer, is_safe

    def _run_plain(
        self, act: str, *args: str | float, keys: Sequence[str] = (), replicas: int = 0
    ) -> tuple[Any, bool]:
        """Run an act that returns no events."""
        script = self._scripts.act(act)
        try:
            with mapped_errors(self._rules.url):
                return perform(self._client, running(script, args, replicas, keys=keys))
        except LedgerUnavailable as error:
            raise classified(error, self._rules.url) from error.__cause__
