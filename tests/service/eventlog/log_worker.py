"""A process that appends: `python -m tests.service.log_worker URL WRITERS EVENTS_EACH`."""

import asyncio
import sys
from uuid import uuid4

from service.eventlog.store import WrongVersion
from tests.service.eventlog.logs import Log, event, running_log

SHARED_STREAMS = 4
"""Streams that every writer of every process appends to, in its eighth append each."""


async def main(url: str, writers: int, events: int) -> None:
    """Append from several tasks, each to a stream of its own and, at times, to a shared one."""
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
    """Append to the stream whatever its version is by now."""
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
