"""Rate limits: the most messages of a user, and of a project, in any window of time.

The log is the counter. Each admitted message is an event with its time, and the version of the
event's stream decides races. A refused message is not counted.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Final, TypeAlias

from domain.errors import LimitReached

WINDOW: Final = timedelta(hours=1)
MOST_COUNTED: Final = 10_000

Times: TypeAlias = tuple[datetime, ...]
"""The times of admitted messages, oldest first, in the window that ends with the last time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """At most `quota` messages in any WINDOW. `refusal` is raised for the next message."""

    quota: int
    refusal: type[LimitReached]

    @property
    def name(self) -> str:
        """The name of what the limit counts: `user` or `project`."""
        return self.refusal.name


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitStatus:
    """How many messages remain, and in how many seconds the next slot is free."""

    limit: RateLimit
    remaining: int
    seconds: int


def with_time(times: Times, at: datetime) -> Times:
    """The times after one more message."""
    return (*_since(times, at), at)[-MOST_COUNTED:]


def not_before(at: datetime, *counted: Times) -> datetime:
    """The time of the next message: `at`, or the last counted time where that is later.

    The clocks of servers differ, but counted times never go back.
    """
    return max([at, *(times[-1] for times in counted if times)])


def status(limit: RateLimit, times: Times, at: datetime) -> LimitStatus:
    """The status of the limit at a time."""
    counted = _since(times, at)
    until = counted[0] + WINDOW - at if counted else timedelta(0)
    return LimitStatus(
        limit=limit,
        remaining=max(0, limit.quota - len(counted)),
        seconds=ceil(until.total_seconds()),
    )


def require_capacity(limit: RateLimit, times: Times, at: datetime) -> None:
    """Raises the limit's refusal unless one more message may be admitted at that time."""
    counted = _since(times, at)
    if len(counted) < limit.quota:
        return
    free = counted[-limit.quota] + WINDOW - at
    raise limit.refusal(
        quota=limit.quota,
        window_seconds=int(WINDOW.total_seconds()),
        retry_after_seconds=ceil(free.total_seconds()),
    )


def _since(times: Times, at: datetime) -> Times:
    """The times that are still in the window."""
    first = next((n for n, each in enumerate(times) if each > at - WINDOW), len(times))
    return times[first:]
