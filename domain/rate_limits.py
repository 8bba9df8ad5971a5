"""Limits: how many messages are taken from a user and in a project, in any window of time.

The log is the count: each message that is taken is an event with its time, and the stream that
it is appended to decides races. What is refused is not counted.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Final, TypeAlias

from domain.errors import LimitReached

WINDOW: Final = timedelta(hours=1)
MOST_COUNTED: Final = 10_000

Times: TypeAlias = tuple[datetime, ...]
"""When messages were taken, oldest first: those of the window that ends with the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """At most `quota` messages in any WINDOW; `refusal` is what the next one is told."""

    quota: int
    refusal: type[LimitReached]

    @property
    def name(self) -> str:
        """What it is a limit of."""
        return self.refusal.name


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitStatus:
    """How many more messages are taken now, and in how many seconds it is one more again."""

    limit: RateLimit
    remaining: int
    seconds: int


def with_time(times: Times, at: datetime) -> Times:
    """The times after one more message."""
    return (*_since(times, at), at)[-MOST_COUNTED:]


def not_before(at: datetime, *counted: Times) -> datetime:
    """The time of the next message: clocks differ, but no count of them ever goes back."""
    return max([at, *(times[-1] for times in counted if times)])


def status(limit: RateLimit, times: Times, at: datetime) -> LimitStatus:
    """How the limit stands at a time."""
    counted = _since(times, at)
    until = counted[0] + WINDOW - at if counted else timedelta(0)
    return LimitStatus(
        limit=limit,
        remaining=max(0, limit.quota - len(counted)),
        seconds=ceil(until.total_seconds()),
    )


def require_room(limit: RateLimit, times: Times, at: datetime) -> None:
    """Raises the limit's refusal unless one more message may be taken at that time."""
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
    """Those that are still counted. Most often only the oldest are not."""
    first = next((n for n, each in enumerate(times) if each > at - WINDOW), len(times))
    return times[first:]
