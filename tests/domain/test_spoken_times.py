"""Times as people write them."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from smsq_worker.domain.spoken_times import read_time

NOW = datetime(2025, 7, 6, 11, 30, 15).astimezone()


def at(*when: int) -> datetime:
    return datetime(*when).astimezone()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("10:00", at(2025, 7, 6, 10)),
        ("10：00", at(2025, 7, 6, 10)),
        ("23:59:58", at(2025, 7, 6, 23, 59, 58)),
        ("2025-07-06 09:30", at(2025, 7, 6, 9, 30)),
        ("2025-07-06T09:30:01", at(2025, 7, 6, 9, 30, 1)),
        ("2025-07-05", at(2025, 7, 5)),
        ("2025-07-06T09:30+08:00", datetime.fromisoformat("2025-07-06T09:30+08:00")),
        ("2025-07-06t01:30z", datetime.fromisoformat("2025-07-06T01:30+00:00")),
        ("2h ago", NOW - timedelta(hours=2)),
        ("2h", NOW - timedelta(hours=2)),
        ("90 min ago", NOW - timedelta(minutes=90)),
        ("3 Days  ago", NOW - timedelta(days=3)),
        ("1w", NOW - timedelta(weeks=1)),
        ("now", NOW),
        ("today", at(2025, 7, 6)),
        ("Yesterday 10:00", at(2025, 7, 5, 10)),
        ("昨天 10:00", at(2025, 7, 5, 10)),
        ("前天", at(2025, 7, 4)),
        ("今天 8:05", at(2025, 7, 6, 8, 5)),
        ("2小时前", NOW - timedelta(hours=2)),
        ("10 分钟之前", NOW - timedelta(minutes=10)),
        ("30秒前", NOW - timedelta(seconds=30)),
    ],
)
def test_a_time_is_read_as_people_write_it(text: str, meant: datetime) -> None:
    assert read_time(text, NOW) == meant


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10",
        "25:00",
        "10:60",
        "soon",
        "2x ago",
        "ago",
        "9999999999d",
        "999999w",
        "2025-02-30",
        "1.",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the command says what is allowed
        read_time(text, NOW)
