"""Limits: no window of an hour, wherever it begins, has more messages than the quota."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.deciders.rate_limits import (
    MOST_COUNTED,
    WINDOW,
    RateLimit,
    Times,
    not_before,
    require_capacity,
    status,
    with_time,
)
from domain.errors import LimitReached, UserLimitReached

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
THREE = RateLimit(quota=3, refusal=UserLimitReached)


def minutes(*after: float) -> Times:
    times: Times = ()
    for each in after:
        times = with_time(times, NOON + timedelta(minutes=each))
    return times


def at(minute: float) -> datetime:
    return NOON + timedelta(minutes=minute)


def test_a_message_as_old_as_the_window_is_not_counted() -> None:
    times = minutes(0, 10, 20)
    with pytest.raises(UserLimitReached) as refused:
        require_capacity(THREE, times, at(59.99))
    assert refused.value.variables == {
        "quota": 3,
        "window_seconds": 3_600,
        "retry_after_seconds": 1,
    }
    require_capacity(THREE, times, at(60))
    assert with_time(times, at(60)) == minutes(10, 20, 60)


def test_a_refusal_names_the_seconds_until_the_next_free_slot() -> None:
    with pytest.raises(UserLimitReached) as refused:
        require_capacity(THREE, minutes(0, 10, 20), at(30))
    assert refused.value.retry_after_seconds == 30 * 60
    # After the quota was lowered more are counted than may be: the wait is for the right one.
    with pytest.raises(UserLimitReached) as refused:
        require_capacity(RateLimit(quota=1, refusal=UserLimitReached), minutes(0, 10, 20), at(30))
    assert refused.value.retry_after_seconds == 50 * 60


def test_a_status_has_the_messages_that_remain_and_the_seconds_to_the_next() -> None:
    for times, remaining, seconds in (
        (minutes(), 3, 0),
        (minutes(0), 2, 30 * 60),
        (minutes(0, 10, 20), 0, 30 * 60),
        (minutes(-31), 3, 0),
    ):
        told = status(THREE, times, at(30))
        assert (told.remaining, told.seconds) == (remaining, seconds)


def test_a_clock_that_is_behind_does_not_undo_a_count() -> None:
    assert not_before(at(5), minutes(0, 10), minutes(7)) == at(10)
    assert not_before(at(15), minutes(0, 10), ()) == at(15)


def test_not_more_is_counted_than_any_quota_needs() -> None:
    times = tuple(NOON for _ in range(MOST_COUNTED))
    assert len(with_time(times, NOON)) == MOST_COUNTED


@given(
    st.integers(1, 5),
    st.lists(st.integers(-600, 1_800), min_size=1, max_size=60),
)
def test_no_window_ever_has_more_than_the_quota(quota: int, steps: list[int]) -> None:
    """Whatever the clocks say: each message comes so many seconds after the last, or before it."""
    limit = RateLimit(quota=quota, refusal=UserLimitReached)
    counted: Times = ()
    taken: list[datetime] = []
    clock = NOON
    for step in steps:
        clock += timedelta(seconds=step)
        moment = not_before(clock, counted)
        try:
            require_capacity(limit, counted, moment)
        except LimitReached as refused:
            later = moment + timedelta(seconds=refused.retry_after_seconds)
            require_capacity(limit, counted, later)
        else:
            counted = with_time(counted, moment)
            taken.append(moment)
    for first in taken:
        assert len([each for each in taken if first <= each < first + WINDOW]) <= quota
