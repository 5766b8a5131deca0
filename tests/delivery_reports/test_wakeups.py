"""Wake-ups of reports that are written with them, as Celery itself would publish them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
import redis

from harness.api import inbox
from harness.api import published as reports_on_the_queue
from harness.envelopes import Envelope, popped_id, popped_tag, published, taken, with_decoded_body
from harness.scene import Scene
from smsq import envelope, keys
from smsq.app import app
from smsq.errors import LedgerFull
from smsq.publishing import publish_reports
from smsq.wakeup import of_reports
from smsq_worker.delivery_reports.inbox import Inbox
from smsq_worker.infra.spool import Spool
from smsq_worker.ledger import Ledger
from smsq_worker.ledger import reports as report_acts

Reports = Sequence[tuple[str, str]]

ONE = ("1151894566D2EDD9", "DELIVRD")
ODD = ("%s @TAG@ \"' \\ 自定义", "MA:0001 %(ID)s")
OF_AN_ACCOUNT = ("1151894566D2EDD9 backup", "DELIVRD")


class Here:
    """An inbox whose ledger pushes; what is left to Celery is noted."""

    def __init__(self, ledger: Ledger, spool: Spool) -> None:
        self.left: list[Reports] = []
        self.keep = Inbox(ledger, spool, self.left.append, wakeup=partial(of_reports, app)).keep


@pytest.fixture
def here(scene: Scene, tmp_path: Path) -> Iterator[Here]:
    for made in (envelope.of_reports, envelope.as_format):
        made.cache_clear()  # Celery writes down which thread made an envelope.
    spool = Spool(tmp_path, "reports")
    yield Here(scene.ledger, spool)
    spool.close()


def comparable(found: Envelope) -> Envelope:
    assert popped_tag(found)
    assert popped_id(found)
    return with_decoded_body(found)


@pytest.mark.parametrize(
    "reports",
    [[ONE], [ODD], [OF_AN_ACCOUNT], [ONE, ODD], [(f"{n:016X}", "DELIVRD") for n in range(50)]],
    ids=["one", "odd", "of an account", "two", "fifty"],
)
def test_a_wake_up_is_what_celery_publishes_but_in_plain_text(
    here: Here, client: redis.Redis, reports: Reports
) -> None:
    assert not here.keep(reports)
    (ours,) = taken(client, "report")
    publish_reports(app, reports)
    theirs = published(client, "report")
    assert ours["properties"]["body_encoding"] is None
    assert comparable(ours) == comparable(theirs)
    assert inbox(client) == set(reports)
    assert here.left == []


def test_each_has_a_tag_and_an_id_of_its_own(here: Here, client: redis.Redis) -> None:
    for start in range(0, 8, 2):
        here.keep([(f"{start}", "DELIVRD")])
        here.keep([(f"{start + 1}", "DELIVRD"), (f"{start + 2}", "7")])
    found = taken(client, "report")
    assert len({popped_tag(one) for one in found}) == len({popped_id(one) for one in found}) == 8


def test_only_what_is_new_is_woken_up(here: Here, client: redis.Redis) -> None:
    here.keep([ONE])
    client.delete("sms.report")
    here.keep([ONE])
    here.keep([ONE, ONE])
    assert client.llen("sms.report") == 0
    here.keep([ONE, OF_AN_ACCOUNT])
    (ours,) = taken(client, "report")
    publish_reports(app, [OF_AN_ACCOUNT])
    assert comparable(ours) == comparable(published(client, "report"))


def test_a_long_list_is_woken_up_in_parts_as_far_as_there_is_room(
    here: Here, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_acts, "WOKEN_AT_ONCE", 70)
    reports = [(f"{n:016X}", "DELIVRD") for n in range(120)]
    here.keep(reports)
    assert reports_on_the_queue(client) == reports[:70]
    assert client.llen("sms.report") == 2
    assert (len(inbox(client)), here.left) == (120, [])


def test_what_its_queue_does_not_take_is_left_to_celery(here: Here, client: redis.Redis) -> None:
    client.set("sms.report", "not a list")
    here.keep([ONE])
    here.keep([ODD, OF_AN_ACCOUNT])
    assert here.left == [[ONE], [ODD, OF_AN_ACCOUNT]]
    assert len(inbox(client)) == 3


@pytest.fixture
def full(client: redis.Redis) -> Iterator[None]:
    """Redis at its memory limit, but for a report on a message's mid."""
    client.set(keys.mid(ONE[0]), "1 m1")
    client.config_set("maxmemory", 1)
    yield
    client.config_set("maxmemory", 0)


def test_at_the_memory_limit_no_wake_up_is_pushed(
    here: Here, scene: Scene, client: redis.Redis, full: None
) -> None:
    with pytest.raises(LedgerFull):
        scene.ledger.take_in([ONE], wake_after_s=30, wakeup=of_reports(app, [ONE]))
    here.keep([ONE, ODD])
    assert inbox(client) == {ONE}
    assert client.llen("sms.report") == 0
    assert here.left == [[ONE]]
