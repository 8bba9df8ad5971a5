"""Reads that may take long have a few turns, so that quick reads always find a connection."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from service.eventlog.errors import Overloaded

TURNS: Final = 3
"""Heavy reads at a time, of the connections for all reads."""

WAIT_SECONDS: Final = 2.0
"""How long a heavy read waits for its turn."""


class HeavyReads:
    """The turns of one process. Owned by the service's loop."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(TURNS)

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[None]:
        """A turn for one read. Raises Overloaded when it does not come in time."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._turns.acquire()
        except TimeoutError:
            raise Overloaded("too many heavy reads are waiting") from None
        try:
            yield
        finally:
            self._turns.release()
