"""Flower as a person sees it: in a real browser, with all that its pages load.

SCREENSHOT=docs/assets/flower.png in the environment keeps a picture of the tasks page.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from html import unescape
from pathlib import Path
from urllib.parse import quote

import pytest

import smsq
from harness.flower import AUTH, CODE, SLOW_PHONE, TEMPLATE, Running, leaks, watched
from harness.waiting import eventually, known
from smsq.publishing import publish_reports

PHONES = {
    "13800138000": ("otp", "SUCCESS", "accepted"),
    "13912344400": ("notice", "FAILURE", ""),
    "13512345678": ("bulk", "SUCCESS", "accepted"),
    "13612340815": ("otp", "SUCCESS", "accepted"),
    "13712344500": ("notice", "RETRY", ""),
    "15012340042": ("notice", "SUCCESS", "accepted"),
    "15912340712": ("otp", "SUCCESS", "accepted"),
    "18612345007": ("notice", "SUCCESS", "accepted"),
    "13812340909": ("otp", "SUCCESS", "accepted"),
}
"""Numbers: their lane, and the state and result of their tasks."""
STATS = ("DELIVRD", "DELIVRD", "MA:0005", "DELIVRD")
"""Of the reports on those that were accepted."""
OPTIONS = (
    "--headless",
    "--no-sandbox",  # as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # The page's clock, which stands still while it waits for an answer.
    "--virtual-time-budget=5000",
)
# 1280 pixels wide, with all columns.
PICTURE = ("--window-size=1840,1130", "--force-device-scale-factor=0.6957")


@pytest.fixture(scope="module")
def running(
    base_environ: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    with watched(base_environ, tmp_path_factory.mktemp("logs")) as running:
        yield running


class Browser:
    """Opens pages, each in a process of its own."""

    def __init__(self, url: str, profile: Path) -> None:
        tool = shutil.which("chromium")
        if not tool:
            pytest.fail("chromium is missing: install Debian's package chromium")
        self._url = url
        self._command = [tool, *OPTIONS, f"--user-data-dir={profile}", "--dump-dom"]

    def open(
        self, path: str, *options: str, auth: tuple[str, str] | None = AUTH
    ) -> subprocess.CompletedProcess[str]:
        login = ":".join(map(quote, auth)) + "@" if auth else ""
        url = self._url.replace("//", f"//{login}") + path
        return subprocess.run(
            [*self._command, *options, url], check=True, capture_output=True, text=True, timeout=60
        )

    def page(self, path: str, text: str, *options: str) -> str:
        """Give a page once it has a text; see that it tells nothing."""
        page = eventually(lambda: text in (dom := self.open(path, *options).stdout) and dom)
        assert page
        assert leaks(page) == []
        assert not [phone for phone in PHONES if phone in page]
        return page


def rows(page: str) -> dict[str, list[str]]:
    """Give the tasks of a page, by id: name, args, state, result."""
    found = {}
    for task_id, row in re.findall(r'<tr id="([^"]+)"[^>]*>(.*?)</tr>', page, re.DOTALL):
        cells = [re.sub("<[^>]*>", "", cell) for cell in re.findall("<td.*?</td>", row, re.DOTALL)]
        found[task_id] = [unescape(cells[n]) for n in (0, 2, 3, 4)]
    return found


@pytest.fixture(scope="module")
def browser(running: Running, tmp_path_factory: pytest.TempPathFactory) -> Browser:
    return Browser(running.url, tmp_path_factory.mktemp("chromium"))


def mid_of(message_id: str) -> str:
    mid = known(message_id).attempts[0].mid
    assert mid is not None
    return mid


@pytest.fixture(scope="module")
def sent(running: Running) -> dict[str, str]:
    """Send some more messages: their ids by their numbers."""
    sent = {
        phone: smsq.send_sms.delay(phone, TEMPLATE, CODE, lane=lane).id
        for phone, (lane, _, _) in PHONES.items()
    }
    states = {sent[phone]: state for phone, (_, state, _) in PHONES.items()}
    eventually(
        lambda: states.items() <= {k: t["state"] for k, t in running.tasks().items()}.items()
    )
    smsq.send_many({"phone": phone, "template": TEMPLATE, "code": CODE} for phone in PHONES)
    accepted = [sent[phone] for phone, (_, state, _) in PHONES.items() if state == "SUCCESS"]
    for message_id, stat in zip(accepted, STATS, strict=False):
        publish_reports(smsq.send_sms.app, [(mid_of(message_id), stat)])
    return sent


@pytest.mark.parametrize("auth", [None, (AUTH[0], "wrong")])
def test_nobody_else_gets_in(browser: Browser, auth: tuple[str, str] | None) -> None:
    shown = browser.open("tasks", auth=auth)
    assert shown.stdout.strip() == ""
    assert "ERR_INVALID_AUTH_CREDENTIALS" in shown.stderr


def test_the_worker_is_seen_online(running: Running, browser: Browser) -> None:
    page = browser.page("workers", running.worker)
    assert ">Online<" in page


def test_tasks_are_seen_with_masked_numbers_and_what_came_of_them(
    browser: Browser, sent: dict[str, str]
) -> None:
    slow = smsq.send_sms.delay(SLOW_PHONE, TEMPLATE, CODE).id
    picture = os.environ.get("SCREENSHOT")
    options = (*PICTURE, f"--screenshot={Path(picture).resolve()}") if picture else ()
    seen = rows(browser.page("tasks", slow, *options))
    for phone, (_, state, result) in PHONES.items():
        masked = f"('{phone[:3]}****{phone[7:]}', '{TEMPLATE}')"
        assert seen[sent[phone]] == ["smsq.send_sms", masked, state, result]
    others = {tuple(row[:3]) for row in seen.values()}
    assert others >= {
        ("smsq.send_sms", f"('{SLOW_PHONE[:3]}****{SLOW_PHONE[7:]}', '{TEMPLATE}')", "STARTED"),
        ("smsq.send_batch", f"({len(PHONES)} messages)", "SUCCESS"),
        ("smsq.reconcile_report", f"('{mid_of(sent['13800138000'])}', 'DELIVRD')", "SUCCESS"),
    }


def test_a_failed_task_is_found_by_its_state(running: Running, browser: Browser) -> None:
    (failed,) = [each for each, what in running.sent.items() if what == "a report with too much"]
    seen = rows(browser.page("tasks?state=FAILURE", failed))
    assert {row[2] for row in seen.values()} == {"FAILURE"}
    assert seen[failed][:3] == ["smsq.reconcile_report", "(masked)", "FAILURE"]


def test_a_tasks_own_page_shows_no_more(browser: Browser, sent: dict[str, str]) -> None:
    page = unescape(browser.page(f"task/{sent['13800138000']}", "138****8000"))
    assert f"('138****8000', '{TEMPLATE}')" in page
