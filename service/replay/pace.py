"""The pace of a replay: without pauses, or with the original's pauses, shortened or not."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final

_SPEED: Final = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)x")


class Pace:
    """Waits until an event is due. Without a factor every event is due at once.

    The first event begins the replay. With a factor of 10 an event that was recorded a minute
    later is due six seconds later.
    """

    def __init__(
        self,
        factor: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._factor = factor
        self._clock = clock
        self._sleep = sleep
        self._begin: tuple[datetime, float] | None = None

    def seconds_until(self, recorded_at: datetime) -> float:
        """The seconds until an event is due; 0 where it is due now."""
        if self._factor is None:
            return 0
        now = self._clock()
        first, began = self._begin = self._begin or (recorded_at, now)
        return max(0, began + (recorded_at - first).total_seconds() / self._factor - now)

    def is_due(self, recorded_at: datetime) -> bool:
        """Whether an event is due now."""
        return not self.seconds_until(recorded_at)

    async def wait(self, recorded_at: datetime) -> None:
        """Return when an event is due."""
        if seconds := self.seconds_until(recorded_at):
            await self._sleep(seconds)


def factor_of(speed: str) -> float | None:
    """The factor of a speed: `original` is 1, `10x` is 10, and `max` is None. Raises ValueError."""
    if speed in ("max", "original"):
        return None if speed == "max" else 1
    match = _SPEED.fullmatch(speed)
    if match is None or float(match[1]) == 0:
        raise ValueError(f"{speed} is no speed. Use original, max, or a factor such as 10x")
    return float(match[1])
