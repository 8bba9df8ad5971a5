"""Watching a reply's time against the seconds that are reserved for it."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final

WARN_AT: Final = 0.8
"""The part of the reservation after which more is reserved, and the reader is told."""


class TimeBudget:
    """Runs beside a conversation, in its turn.

    `extend` reserves more and returns how many seconds it got, 0 when the balance is gone.
    `clock` and `sleep` count in seconds.
    """

    def __init__(
        self,
        held_seconds: int,
        *,
        extend: Callable[[], Awaitable[int]],
        warn: Callable[[int], None],
        clock: Callable[[], float] = monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._held_seconds = held_seconds
        self._extend = extend
        self._warn = warn
        self._clock = clock
        self._sleep = sleep
        self._began = clock()

    async def run(self) -> None:
        """Return when all that could be reserved is used up."""
        while True:
            await self._sleep_until(WARN_AT * self._held_seconds)
            self._warn(self._held_seconds)
            more = await self._extend()
            if not more:
                await self._sleep_until(self._held_seconds)
                return
            self._held_seconds += more

    async def _sleep_until(self, elapsed_seconds: float) -> None:
        await self._sleep(max(0.0, self._began + elapsed_seconds - self._clock()))
