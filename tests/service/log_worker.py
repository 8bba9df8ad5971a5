"""A process that appends: `python -m tests.service.log_worker URL WRITERS EVENTS_EACH`."""

import asyncio
import sys
from uuid import uuid4

from tests.service.logs import event, running_log


async def main(url: str, writers: int, events: int) -> None:
    """Append from several tasks, each to a stream of its own."""

    async def write() -> None:
        stream = str(uuid4())
        for version in range(1, events + 1):
            await log.writer.append([event(stream, version)], patience=60)

    async with running_log(url) as log:
        await asyncio.gather(*(write() for _ in range(writers)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
