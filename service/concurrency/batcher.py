"""Items that are written together: one write at a time, of all that has come in meanwhile."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Batcher(Generic[T]):
    """Owned by one event loop; `run` is the one task that writes.

    `write` is given up to `most` items in their order, and returns when they are stored; it retries
    by itself. The items that are being written still count as waiting until `write` has returned.
    `gather_seconds` is how long an item that is not urgent waits for other items. A caller may
    change it at any time.
    """

    def __init__(
        self, write: Callable[[list[T]], Awaitable[None]], *, most: int, gather_seconds: float
    ) -> None:
        self._write = write
        self._most = most
        self.gather_seconds = gather_seconds
        self._waiting: deque[T] = deque()
        self._work = asyncio.Event()
        self._urgent = asyncio.Event()
        self._is_closing = False
        self._since = 0.0

    def __len__(self) -> int:
        """The number of items that are not stored yet."""
        return len(self._waiting)

    @property
    def waited_seconds(self) -> float:
        """For how long items have waited without one being stored."""
        return asyncio.get_running_loop().time() - self._since if self._waiting else 0.0

    def add(self, item: T, *, is_urgent: bool = False) -> None:
        """Have an item written: an urgent item now, another item together with later ones."""
        if not self._waiting:
            self._since = asyncio.get_running_loop().time()
        self._waiting.append(item)
        self._work.set()
        if is_urgent:
            self._urgent.set()

    def close(self) -> None:
        """State that no more items come: `run` ends when all items are stored."""
        self._is_closing = True
        self._work.set()
        self._urgent.set()

    async def run(self) -> None:
        """Write until the batcher is closed and nothing waits. Raises what `write` raises."""
        while self._waiting or not self._is_closing:
            if not self._waiting:
                self._work.clear()
                await self._work.wait()
                continue
            await self._gather()
            await self._write_batch()

    async def _write_batch(self) -> None:
        batch = [self._waiting[n] for n in range(min(self._most, len(self._waiting)))]
        await self._write(batch)
        for _ in batch:
            self._waiting.popleft()
        self._since = asyncio.get_running_loop().time()

    async def _gather(self) -> None:
        """Wait a moment for more items, unless one of them is urgent or the batch is full."""
        if len(self._waiting) < self._most:
            try:
                async with asyncio.timeout(self.gather_seconds):
                    await self._urgent.wait()
            except TimeoutError:
                pass
        if not self._is_closing and len(self._waiting) <= self._most:
            self._urgent.clear()
