"""Whether this server can take one more request: what waits is measured, too much is refused.

A refusal comes before anything is stored and before the caller is even authenticated, so that it
costs almost nothing. What is running goes on.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Final, Protocol

from service.eventlog.errors import Overloaded
from service.ops.metrics import LOOP_LAG
from service.postgres.connections import Pool

SAMPLE_SECONDS: Final = 0.05
SAMPLES: Final = 8
"""The lag is the smallest of the last samples: a pause is no lag, a queue that stands is."""

REFUSALS_A_SECOND: Final = 100
"""How many refused requests may come back in each second: `Retry-After` spreads them."""

MOST_RETRY_SECONDS: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """From here on a request is refused: the loop's lag in seconds, the requests that wait for a
    connection, and the seconds for which an append or a frame has waited."""

    lag: float
    waiting: int
    stored: float


REPLIES: Final = Bounds(lag=0.03, waiting=60, stored=0.25)
"""For requests that begin a reply, which costs the most and goes on for the longest."""

OTHERS: Final = Bounds(lag=0.3, waiting=200, stored=0.75)


class Queue(Protocol):
    """Something that stores what waits in it."""

    @property
    def waited_seconds(self) -> float:
        """For how long the oldest item has waited."""
        ...


class Overload:
    """Owned by the service's loop; `run` is its one task."""

    def __init__(self, pool: Pool, *queues: Queue) -> None:
        self._pool = pool
        self._queues = queues
        self._lags: deque[float] = deque([0.0], maxlen=SAMPLES)
        self._refused = 0
        self.retry_seconds = 1

    @property
    def lag(self) -> float:
        """For how many seconds everything on the loop waits at least."""
        return min(self._lags)

    def require_capacity(self, bounds: Bounds) -> None:
        """Raises Overloaded when too much waits."""
        if self.lag > bounds.lag:
            raise self._refusal("the loop is behind")
        if self._pool.get_stats().get("requests_waiting", 0) > bounds.waiting:
            raise self._refusal("too many requests wait for a connection")
        if any(queue.waited_seconds > bounds.stored for queue in self._queues):
            raise self._refusal("the database is behind")

    def _refusal(self, reason: str) -> Overloaded:
        self._refused += 1
        return Overloaded(reason, {"Retry-After": str(self.retry_seconds)})

    async def run(self) -> None:
        """Measure the lag of the loop for ever, and how many requests are refused."""
        loop = asyncio.get_running_loop()
        second = loop.time()
        while True:
            before = loop.time()
            await asyncio.sleep(SAMPLE_SECONDS)
            now = loop.time()
            self._lags.append(max(0.0, now - before - SAMPLE_SECONDS))
            LOOP_LAG.set(self.lag)
            if now - second >= 1:
                spread = 1 + self._refused // REFUSALS_A_SECOND
                # It falls slowly: those who were refused before are still to come back.
                spread = max(spread, self.retry_seconds // 2)
                self.retry_seconds = min(spread, MOST_RETRY_SECONDS)
                self._refused, second = 0, now
