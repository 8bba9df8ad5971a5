"""A process that appends: `python -m tests.service.eventlog.log_worker URL WRITERS EVENTS_EACH`."""

import asyncio
import sys
from uuid import uuid4

from service.eventlog.store import WrongVersion
from tests.service.eventlog.logs import Log, event, running_log

SHARED_STREAMS = 4
"""The number of streams that all writers of all processes share, in every eighth append."""


async def main(url: str, writers: int, events: int) -> None:
    """Append from several tasks, each to its own stream and, at times, to a shared stream."""
    async with running_log(url) as log:
        await asyncio.gather(*(_write(log, events) for _ in range(writers)))


async def _write(log: Log, events: int) -> None:
    own, version = str(uuid4()), 0
    for n in range(events):
        if n % 8 == 7:
            await _contend(log, f"shared-{n // 8 % SHARED_STREAMS}")
        else:
            version += 1
            await log.writer.append([event(own, version)], patience=60)


async def _contend(log: Log, stream: str) -> None:
    """Append to the stream after its present version."""
    version = 1
    while True:
        try:
            await log.writer.append([event(stream, version)], patience=60)
        except WrongVersion as refused:
            version = (refused.actual or 0) + 1
        else:
            return


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
