"""`smsq explain`, and what it must not tell."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.cli import CODE, here
from harness.scene import OTHER_PHONE, PHONE

LOOKALIKE = "13811118000"
"""Its mask is that of PHONE."""
Told = tuple[int | str | None, str, str]
Explain = Callable[..., Told]


def explaining(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Explain:
    """Return what runs `smsq explain` in this process: exit code, stdout, stderr."""
    monkeypatch.setenv("LC_ALL", "C.UTF-8")

    def run(*words: str) -> Told:
        told = here(monkeypatch, capsys, "explain", *words)
        for secret in (PHONE, LOOKALIKE, OTHER_PHONE, CODE):
            assert secret not in told[1] + told[2]
        return told

    return run


def lines_of(told: Told) -> list[str]:
    code, out, errors = told
    assert (code, errors) == (0, "")
    return out.splitlines()
