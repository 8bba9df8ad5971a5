"""The messages of all cells, and the callers that append them."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import orjson

from service.eventlog.live import LiveLog
from service.eventlog.store import EventStore
from service.eventlog.writer import Writer
from service.postgres import connections

TEXT: Final = "x" * 400
"""About 600 bytes of JSON an event, like a short message."""


def message(session_id: str, number: int) -> bytes:
    """A message of a user, as it is stored."""
    return orjson.dumps(
        {
            "session_id": session_id,
            "message_id": str(number),
            "user_id": "u",
            "text": TEXT,
            "locale": "en",
        }
    )


@asynccontextmanager
async def running_log(url: str) -> AsyncIterator[tuple[EventStore, LiveLog, Writer]]:
    """One process's log."""
    async with connections.pool(url) as pool:
        store = EventStore(pool)
        live_log = LiveLog(store)
        writer = Writer(partial(connections.connect, url), live_log)
        running = asyncio.create_task(writer.run())
        try:
            yield store, live_log, writer
        finally:
            writer.close()
            await running


async def timed(callers: int, seconds: float, call: Callable[[int, int], Awaitable[Any]]) -> float:
    """Run callers in closed loops. `call` gets the caller's number and the number of its calls."""
    end = time.perf_counter() + seconds

    async def loop(caller: int) -> int:
        count = 0
        while time.perf_counter() < end:
            await call(caller, count)
            count += 1
        return count

    began = time.perf_counter()
    counts = await asyncio.gather(*(loop(caller) for caller in range(callers)))
    return sum(counts) / (time.perf_counter() - began)
