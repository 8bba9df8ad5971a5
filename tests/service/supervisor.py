"""A supervisor of the service's processes, for tests in which the processes fail."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from multiprocessing.process import BaseProcess

from tests.service.replicas import Replica, Replicas


class Supervisor:
    """Starts a process again when it has stopped by itself, as a supervisor does in production."""

    def __init__(self, services: Replicas) -> None:
        self._services = services
        self.restarts = 0

    @asynccontextmanager
    async def watching(self, watched: Sequence[Replica]) -> AsyncGenerator["Supervisor"]:
        """Watch these processes until the end of the block."""
        tasks = [asyncio.create_task(self._watch(each)) for each in watched]
        try:
            yield self
            assert not any(task.done() for task in tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, watched: Replica) -> None:
        while True:
            await _ended(watched.process)
            assert await watched.wait() == 1, "a process stops by itself only with a failure"
            self.restarts += 1
            fresh = await self._start()
            former, watched.client = watched.client, fresh.client
            watched.process = fresh.process
            await former.aclose()

    async def _start(self) -> Replica:
        """Start processes until one of them listens: no process can while there is no primary."""
        while True:
            with suppress(EOFError):
                return await self._services.start()
            await asyncio.sleep(1)


async def _ended(process: BaseProcess) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(process.sentinel, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(process.sentinel)
