"""Watching a reply's time against the seconds that are reserved for it."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final

WARN_AT: Final = 0.8
"""The part of the reservation after which more is reserved, and the reader is warned."""

_GRAIN_SECONDS: Final = 0.05


class TimeBudget:
    """Runs beside a generation, in its turn.

    `clock` gives the seconds that count, as the bill counts them; it may go back, when an attempt
    is discarded, and never runs faster than time. `extend` reserves more and returns how many
    seconds it got, 0 when the balance is used up. `extend` and `warn` are given the seconds
    reserved so far.
    `sleep` waits for a number of seconds.
    """

    def __init__(
        self,
        reserved_seconds: int,
        *,
        extend: Callable[[int], Awaitable[int]],
        warn: Callable[[int], None],
        clock: Callable[[], float] = monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._reserved_seconds = reserved_seconds
        self._extend = extend
        self._warn = warn
        self._clock = clock
        self._sleep = sleep
        self._began = clock()

    async def run(self) -> None:
        """Return when all that could be reserved is used up."""
        while True:
            await self._sleep_until(WARN_AT * self._reserved_seconds)
            self._warn(self._reserved_seconds)
            more = await self._extend(self._reserved_seconds)
            if not more:
                await self._sleep_until(self._reserved_seconds)
                return
            self._reserved_seconds += more

    async def _sleep_until(self, seconds: float) -> None:
        left = self._began + seconds - self._clock()
        while left > 0:
            # The clock may stand still meanwhile, and is not asked all the time.
            await self._sleep(max(left, _GRAIN_SECONDS))
            left = self._began + seconds - self._clock()
