"""Schedules: lines of cron, and what is none."""

import time
from collections.abc import Iterator
from datetime import datetime

import pytest

from pipelines.schedule import next_time
from teachers.errors import ConfigError


@pytest.fixture(autouse=True)
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where clocks go forward on 2026-03-29 and back on 2026-10-25."""
    with monkeypatch.context() as there:
        there.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
        time.tzset()
        yield
    time.tzset()


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("line", "after", "found"),
    [
        ("0 2 * * *", "2026-11-23T14:33:10+01:00", "2026-11-24T02:00:00+01:00"),
        ("*/15 * * * *", "2026-11-23T14:30:00+01:00", "2026-11-23T14:45:00+01:00"),
        ("30 4 * * 1", "2026-11-23T04:30:01+01:00", "2026-11-30T04:30:00+01:00"),
        ("0 0 29 2 *", "2026-11-23T00:00:00+01:00", "2028-02-29T00:00:00+01:00"),
        ("0 9 * * *", "2026-03-28T12:00:00+01:00", "2026-03-29T09:00:00+02:00"),
        ("0 9 * * *", "2026-10-24T12:00:00+02:00", "2026-10-25T09:00:00+01:00"),
        # An hour that is left out: as long after midnight as ever.
        ("30 2 * * *", "2026-03-28T12:00:00+01:00", "2026-03-29T03:30:00+02:00"),
    ],
)
def test_the_next_time_of_a_schedule(line: str, after: str, found: str) -> None:
    assert next_time(line, seconds(after)) == seconds(found)


@pytest.mark.parametrize("line", ["", "daily", "0 2 * *", "61 * * * *", "0 0 31 2 *", "* " * 6])
def test_what_is_no_schedule_is_told(line: str) -> None:
    with pytest.raises(ConfigError) as refused:
        next_time(line, 0.0)
    assert repr(line) in refused.value.message
    assert "minute, hour" in refused.value.hint
