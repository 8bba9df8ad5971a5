"""Whether this server can take one more request: what waits is measured, too much is refused.

A refusal comes before anything is stored and before the caller is even authenticated, so that it
costs almost nothing. What is running goes on.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from math import inf
from typing import Final, Protocol

import structlog

from service.eventlog.errors import Overloaded
from service.ops.metrics import LOOP_LAG
from service.postgres.connections import Pool

_log = structlog.stdlib.get_logger(__name__)

SAMPLE_SECONDS: Final = 0.05
WINDOW_SECONDS: Final = 0.4
"""The lag is the smallest sample of this time: a pause is no lag, a queue that stands is."""

PAUSE: Final = 10.0
"""How many times longer than a lag a single pause may be, before it counts as well."""

ADMITTED_AT_ONCE: Final = 8
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What a server can take: of messages, whose replies cost the most and go on for the longest,
    and of other requests. A message waits at most `seconds` before it begins to be admitted."""

    replies: Bounds
    others: Bounds
    seconds: float


CAPACITY: Final = Capacity(
    replies=Bounds(lag=0.1, waiting=40, stored=0.25),
    others=Bounds(lag=0.3, waiting=200, stored=0.75),
    seconds=0.75,
)


class Queue(Protocol):
    """Something that stores what waits in it."""

    @property
    def waited_seconds(self) -> float:
        """For how long the oldest item has waited."""
        ...


class Overload:
    """Owned by the service's loop; `run` is its one task."""

    def __init__(self, capacity: Capacity, pool: Pool, *queues: Queue) -> None:
        self._capacity = capacity
        self._pool = pool
        self._queues = queues
        self._samples: deque[tuple[float, float]] = deque()
        """The samples of the last moments: when each was taken, and its lag."""
        self._due = inf
        """When the next sample is to be taken: while that is past, the loop is busy."""
        self._places = asyncio.Semaphore(ADMITTED_AT_ONCE)
        self._admitting: set[str] = set()
        self._refused = 0
        self.retry_seconds = 1

    @property
    def lag(self) -> float:
        """For how many seconds everything on the loop waits at least."""
        return min((lag for _, lag in self._samples), default=0.0)

    def require_capacity(self, *, begins_reply: bool = False) -> None:
        """Raises Overloaded when too much waits for a message, or for another request."""
        self._require(self._capacity.replies if begins_reply else self._capacity.others)

    def _require(self, bounds: Bounds) -> None:
        pause = asyncio.get_running_loop().time() - self._due
        if max(self.lag, pause / PAUSE) > bounds.lag:
            raise self._refusal("the loop is behind")
        if self._pool.get_stats().get("requests_waiting", 0) > bounds.waiting:
            raise self._refusal("too many requests wait for a connection")
        if any(queue.waited_seconds > bounds.stored for queue in self._queues):
            raise self._refusal("the database is behind")

    async def admit(self, request_id: str) -> None:
        """Wait until a message may be admitted, which costs the most: a few at a time, so that what
        runs has its turns between them. Raises Overloaded. The message holds its place until
        `admitted`.
        """
        try:
            async with asyncio.timeout(self._capacity.seconds):
                await self._places.acquire()
        except TimeoutError:
            raise self._refusal("too many messages are being admitted") from None
        self._admitting.add(request_id)
        self._require(self._capacity.replies)

    def admitted(self, request_id: str) -> None:
        """The message is admitted or refused: another message may take its place."""
        if request_id in self._admitting:
            self._admitting.remove(request_id)
            self._places.release()

    def _refusal(self, reason: str) -> Overloaded:
        self._refused += 1
        return Overloaded(reason, {"Retry-After": str(self.retry_seconds)})

    async def run(self) -> None:
        """Measure the lag of the loop for ever, and how many requests are refused."""
        loop = asyncio.get_running_loop()
        second = loop.time()
        while True:
            self._due = loop.time() + SAMPLE_SECONDS
            await asyncio.sleep(SAMPLE_SECONDS)
            now = loop.time()
            self._samples.append((now, max(0.0, now - self._due)))
            while self._samples[0][0] < now - WINDOW_SECONDS:
                self._samples.popleft()
            LOOP_LAG.set(self.lag)
            if now - second >= 1:
                if self._refused:
                    _log.warning("overloaded", refused=self._refused, lag=round(self.lag, 3))
                spread = 1 + self._refused // REFUSALS_A_SECOND
                # It falls slowly: those who were refused before are still to come back.
                spread = max(spread, self.retry_seconds // 2)
                self.retry_seconds = min(spread, MOST_RETRY_SECONDS)
                self._refused, second = 0, now
