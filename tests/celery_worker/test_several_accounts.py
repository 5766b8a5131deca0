"""Celery's revoke, purge and cold shutdown, while two accounts each have an attempt under way."""

from __future__ import annotations

import signal
from pathlib import Path

import smsq
from harness.accounts import MAIN, ROUTES, accounts_file, backup
from harness.machine import Machine, ends
from harness.remote import remote
from harness.vendor_server import VendorServer
from harness.waiting import becomes, eventually, known
from smsq_worker.ledger.admin import Control


def send(number: int, lane: str = "notice") -> str:
    return smsq.send_sms.delay(f"1380013800{number}", "SMS_1001", "1", lane=lane).id


def test_celerys_own_commands_know_no_account_and_double_nothing(
    host: Machine, tmp_path: Path
) -> None:
    with VendorServer() as other:
        file = accounts_file(tmp_path, MAIN, backup(url=other.url), ROUTES)
        host.environ |= {"SMSQ_ACCOUNTS_FILE": file}
        worker = host.start_worker("--concurrency", "2")
        host.vendor.withhold()
        other.withhold()
        at_main = send(1)
        eventually(lambda: len(host.vendor.calls) == 1)
        control = Control(host.client, host.rules)
        control.pause("account", "test")
        at_backup = send(2)
        eventually(lambda: len(other.calls) == 1)
        control.resume("account", "test")
        with remote(host, worker) as asked:
            asked.control("cancel_consumer", queue="sms.bulk")
            waits = send(3, "bulk")
            # Whoever had asked for it before that puts it back.
            eventually(lambda: host.client.llen("sms.bulk") == 1)
            with asked.app.connection() as broker:  # As `purge` does with each queue.
                assert broker.default_channel.queue_purge("sms.bulk") == 1
            told = asked.control("revoke", task_id=[at_backup])["ok"][at_backup]
        assert told.startswith("under way")
        worker.send_signal(signal.SIGQUIT)
        ends(worker, 1)
        for one, account in ((at_main, None), (at_backup, "backup")):
            (attempt,) = known(one).attempts
            assert (attempt.outcome, attempt.account) == ("maybe_sent", account)
        assert (known(at_backup).state, known(at_backup).reason) == ("failed", "local:cancelled")
        host.vendor.release()
        other.release()
        host.start_worker()
        host.run_out(waits)
        assert [one.account for one in becomes(waits, "accepted").attempts] == [None]
        # The one that left no doubt comes first.
        assert [one.account for one in becomes(at_main, "accepted").attempts] == [None, "backup"]
        assert (len(host.vendor.calls), len(other.calls)) == (2, 2)
        assert host.possible_duplicates() == 1
