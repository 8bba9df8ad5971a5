"""A worker process as its parent sees it."""

import asyncio
import os
import sys
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from signal import SIGKILL
from subprocess import DEVNULL
from typing import Final, Self

from service.cli.workers import worker
from service.cli.workers.job import Job, Prepared, Word

START_SECONDS: Final = 60.0
"""How long a worker process may take until it is prepared."""


class WorkerProcess:
    """Made by `start`. `prepared` is None until the process says that it can listen."""

    def __init__(
        self,
        number: int,
        process: asyncio.subprocess.Process,
        channel: "Connection[Job | Word, Prepared]",
    ) -> None:
        self.number = number
        self.prepared: Prepared | None = None
        self._process = process
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._said = asyncio.Event()
        self._began = self._loop.time()
        self._loop.add_reader(channel.fileno(), self._on_message)
        self._ended = asyncio.create_task(self._end())

    @classmethod
    async def start(cls, job: Job) -> Self:
        """Start a process. It is in a session of its own: Ctrl-C is for the parent alone."""
        here, there = Pipe()
        with there:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", worker.__name__, str(there.fileno())),
                stdin=DEVNULL,
                pass_fds=(there.fileno(), *job.sockets),
                start_new_session=True,
            )
        here.send(job)
        return cls(job.number, process, here)

    @property
    def ran_seconds(self) -> float:
        """How long ago the process was started."""
        return self._loop.time() - self._began

    @property
    def has_ended(self) -> bool:
        return self._ended.done()

    async def ended(self) -> int:
        """Wait for the end; returns the exit code, or the number of a signal below zero."""
        await asyncio.wait([self._ended])
        return self._ended.result()

    async def is_prepared(self) -> bool:
        """Wait until it is prepared. A process that takes too long is killed."""
        saying = asyncio.create_task(self._said.wait())
        await asyncio.wait(
            {saying, self._ended},
            timeout=START_SECONDS,
            return_when=asyncio.FIRST_COMPLETED,
        )
        saying.cancel()
        if self.prepared is None:
            self.kill()
            await self.ended()
        return self.prepared is not None

    def order(self, word: Word) -> None:
        """Say what to do next. A process that has ended needs no order."""
        with suppress(OSError):
            self._channel.send(word)

    def kill(self) -> None:
        """End it at once."""
        with suppress(ProcessLookupError):
            os.kill(self._process.pid, SIGKILL)

    async def _end(self) -> int:
        code = await self._process.wait()
        self._loop.remove_reader(self._channel.fileno())
        self._channel.close()
        return code

    def _on_message(self) -> None:
        try:
            self.prepared = self._channel.recv()
        except (EOFError, OSError):
            self._loop.remove_reader(self._channel.fileno())
        else:
            self._said.set()
