"""The newest items of an ordered stream, shared by all of its readers.

Each reader holds a cursor and nothing else, so a slow reader costs no memory. A reader whose cursor
lies below `floor` has fallen out of the ring, and reads elsewhere until it is back in it.
"""

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Sequence
from math import inf
from typing import Final, Generic, TypeVar
from weakref import WeakMethod

GRAIN_SECONDS: Final = 0.05
"""A wait may end this much after its deadline, so that one timer ends many waits."""

T = TypeVar("T")


class Ring(Generic[T]):
    """Bounded by items and by bytes. Owned by one event loop.

    The ring has every item whose position is above `floor` and at most `upto`. Positions grow, and
    may have gaps. The three lists always have the same length; entries before `_start` are gone,
    and are removed together from time to time. The readers that wait have one timer, which rings
    at `_rings_at`: a timer for each wait would be set and cancelled with every item.
    """

    def __init__(self, most: int, most_bytes: int, *, floor: int = 0) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._positions: list[int] = []
        self._sizes: list[int] = []
        self._items: list[T] = []
        self._start = 0
        self._waiters: dict[asyncio.Future[bool], float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = inf
        self.total_bytes = 0
        self.floor = floor
        self.upto = floor

    def __len__(self) -> int:
        """The number of items."""
        return len(self._items) - self._start

    def after(self, position: int, limit: int | None = None) -> list[T] | None:
        """The next items after a position, at most `limit`; None when that lies below the floor."""
        if position < self.floor:
            return None
        first = bisect_right(self._positions, position, lo=self._start)
        return self._items[first : None if limit is None else first + limit]

    def extend(self, positions: Sequence[int], items: Sequence[T], sizes: Sequence[int]) -> None:
        """Add items that follow; the oldest make room for them. Wakes the waiting readers."""
        self._positions += positions
        self._items += items
        self._sizes += sizes
        self.total_bytes += sum(sizes)
        while len(self) > self._most or self.total_bytes > self._most_bytes:
            self.floor = self._positions[self._start]
            self.total_bytes -= self._sizes[self._start]
            self._start += 1
        if self._start > len(self):
            self._compact()
        if positions:
            self.upto = positions[-1]
        self.wake()

    def restart(self, position: int) -> None:
        """Forget all items: the ring begins anew after this position. Wakes the readers."""
        self._start = len(self._items)
        self._compact()
        self.total_bytes = 0
        self.floor = self.upto = position
        self.wake()

    def _compact(self) -> None:
        # The removed items are kept as long as fewer items are removed than stay, so a
        # removal costs a constant time for each item.
        for each in (self._positions, self._sizes, self._items):
            del each[: self._start]
        self._start = 0

    def wake(self) -> None:
        """Wake the readers that wait: there is news, or the end of the stream."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(True)
        self._waiters.clear()

    async def wait(self, seconds: float) -> bool:
        """Wait for the next wake-up. False when there was none in that time."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        deadline = self._waiters[waiter] = loop.time() + seconds
        if deadline < self._rings_at:
            self._set_timer(loop, deadline)
        try:
            return await waiter
        finally:
            self._waiters.pop(waiter, None)

    def _set_timer(self, loop: asyncio.AbstractEventLoop, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(at, _on_timer, WeakMethod(self._end_waits))
        self._rings_at = at

    def _end_waits(self) -> None:
        """Wake the readers whose deadlines have passed. Set the timer for the next deadline."""
        at, self._rings_at = self._rings_at, inf
        for waiter, deadline in self._waiters.items():
            if deadline <= at and not waiter.done():
                waiter.set_result(False)
        later = [deadline for deadline in self._waiters.values() if deadline > at]
        if later:
            self._set_timer(asyncio.get_running_loop(), max(min(later), at + GRAIN_SECONDS))


def _on_timer(end_waits: "WeakMethod[Callable[[], None]]") -> None:
    """Call `_end_waits` of a ring that still exists. The weak reference lets an unused ring go."""
    known = end_waits()
    if known is not None:
        known()
