"""The pytest plugin, as an installed wheel brings it, in a project's own pytest; without Redis."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.documents import blocks, page
from harness.installed import as_a_project, run_pytest

CHEAP = """
import sys

def test_a_project_that_does_not_use_it_imports_nothing():
    assert not [name for name in ("smsq", "celery", "kombu", "redis") if name in sys.modules]
"""
USES = """
import smsq
import pytest

def sent(n):
    return smsq.send_sms.delay("13800138000", "SMS_1001", str(n), lane="otp")

@pytest.mark.parametrize("n", range(6))
def test_each_test_has_a_box_of_its_own(smsq_outbox, n):
    result = sent(n)
    smsq_outbox.deliver(result)
    assert [one.code for one in smsq_outbox] == [str(n)]
    assert smsq.status(result.id).state == "delivered"
"""
UNITTEST = """
import unittest

import smsq
from smsq.testing import outbox


class Signup(unittest.TestCase):
    def setUp(self):
        self.box = self.enterContext(outbox())

    def test_a_code_is_sent(self):
        smsq.send_sms.delay("13800138000", "SMS_1001", "482913")
        assert [one.code for one in self.box] == ["482913"]

    def test_the_next_test_sees_none_of_it(self):
        assert len(self.box) == 0
"""


DOCS = blocks(page("guides/testing.md"), "py")[0]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return as_a_project(tmp_path)


def test_a_project_that_does_not_use_it_pays_nothing(project: Path) -> None:
    done = run_pytest(project, "-p", "no:xdist", cheap=CHEAP)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    assert "warning" not in done.stdout


def test_each_test_has_an_outbox_of_its_own_in_all_processes(project: Path) -> None:
    done = run_pytest(project, "-n", "2", uses=USES, unittest=UNITTEST, docs=DOCS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "9 passed" in done.stdout
    assert "warning" not in done.stdout


def test_turned_off_there_is_no_fixture(project: Path) -> None:
    done = run_pytest(project, "-p", "no:smsq", uses=USES)
    assert "fixture 'smsq_outbox' not found" in done.stdout
