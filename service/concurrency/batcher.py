"""Items that are written together: one write at a time, of all that has come in meanwhile."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import islice
from typing import Generic, TypeVar

T = TypeVar("T")


class Batcher(Generic[T]):
    """Owned by one event loop; `run` is the one task that writes.

    Urgent items are written at once: `urgent_alone`, or else with all that wait. Other items wait
    for `gather_seconds` from the first of them on, and are written together. A caller may change
    `gather_seconds` at any time. `write` is given up to `most` items, and returns when they are
    stored; it retries by itself. The items that are being written still count as waiting until
    `write` has returned.
    """

    def __init__(
        self,
        write: Callable[[list[T]], Awaitable[None]],
        *,
        most: int,
        gather_seconds: float,
        urgent_alone: bool = False,
    ) -> None:
        self._write = write
        self._most = most
        self.gather_seconds = gather_seconds
        self._urgent_alone = urgent_alone
        self._urgent: deque[T] = deque()
        self._others: deque[T] = deque()
        self._work = asyncio.Event()
        self._is_closing = False
        self._since = 0.0
        self._due = 0.0

    def __len__(self) -> int:
        """The number of items that are not stored yet."""
        return len(self._urgent) + len(self._others)

    @property
    def waited_seconds(self) -> float:
        """For how long items have waited without one being stored."""
        return _now() - self._since if self else 0.0

    def add(self, item: T, *, is_urgent: bool = False) -> None:
        """Have an item written: an urgent item now, another item together with later ones."""
        if not self:
            self._since = _now()
        if is_urgent:
            self._urgent.append(item)
        else:
            self._others.append(item)
            if len(self._others) == 1:
                self._due = _now() + self.gather_seconds
        if is_urgent or len(self._others) in (1, self._most):
            self._work.set()

    def hasten(self, item: T) -> None:
        """Write a waiting item now. The item must not be in the batch that is being written."""
        at = max(n for n, each in enumerate(self._others) if each is item)
        del self._others[at]
        self.add(item, is_urgent=True)

    def close(self) -> None:
        """State that no more items come: `run` ends when all items are stored."""
        self._is_closing = True
        self._work.set()

    async def run(self) -> None:
        """Write until the batcher is closed and nothing waits. Raises what `write` raises."""
        while self or not self._is_closing:
            if self._urgent or self._are_due:
                await self._write_batch()
            else:
                await self._pause()

    @property
    def _are_due(self) -> bool:
        """Whether the items that are not urgent are written now."""
        if not self._others or len(self._others) >= self._most:
            return bool(self._others)
        with_urgent = bool(self._urgent) and not self._urgent_alone
        return with_urgent or self._is_closing or _now() >= self._due

    async def _write_batch(self) -> None:
        others = list(islice(self._others, self._most if self._are_due else 0))
        urgent = list(islice(self._urgent, self._most - len(others)))
        await self._write([*others, *urgent])
        for _ in urgent:
            self._urgent.popleft()
        for _ in others:
            self._others.popleft()
        self._since = _now()
        if others:
            self._due = self._since + self.gather_seconds

    async def _pause(self) -> None:
        """Wait for an urgent item, or until the other items are due."""
        self._work.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._due if self._others else None):
                await self._work.wait()


def _now() -> float:
    return asyncio.get_running_loop().time()
