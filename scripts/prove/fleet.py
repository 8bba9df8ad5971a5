"""Several processes of the service on one database, which are killed and replaced."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from scripts.prove.tenants import Tenant

START_SECONDS: Final = 180.0
AGAIN_SECONDS: Final = 0.2
MOST_STARTS: Final = 20
"""The most starts of one process. The database may be away, but not for so long."""

RATES: Final = {
    "THROUGHLINE_USER_MESSAGES": "10000",
    "THROUGHLINE_PROJECT_MESSAGES": "10000",
}
"""Rate limits far above this load: other tests check the limits."""


class DoesNotStart(RuntimeError):
    """A process of the service does not start, and the database is not the only reason."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process and its URL."""

    process: asyncio.subprocess.Process
    url: str

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process, unless it has ended."""
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    async def kill(self) -> None:
        """Kill the process with SIGKILL."""
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()


class Fleet:
    """The running processes. A killed process keeps its entry until another one replaces it."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self._environment = environment
        self._log = log
        self._running: list[Process] = []

    async def start(self) -> None:
        """Add a process, again and again until it listens, as the database may be away.

        Raises DoesNotStart.
        """
        for _ in range(MOST_STARTS):
            if process := await self._try():
                self._running.append(process)
                return
            await asyncio.sleep(AGAIN_SECONDS)
        raise DoesNotStart(f"{MOST_STARTS} times; why is in {self._log}")

    async def kill(self, random: Random) -> None:
        """Kill a random process and replace it."""
        victim = random.choice(self._running)
        await victim.kill()
        await self.start()
        self._running.remove(victim)

    async def freeze(self, random: Random, seconds: float) -> None:
        """Let a random process stand still, and go on after the time unless it was killed."""
        frozen = random.choice(self._running)
        frozen.send(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            frozen.send(signal.SIGCONT)

    async def stop(self) -> None:
        """End all processes."""
        for each in self._running:
            await each.kill()
        self._running.clear()

    def any(self, random: Random) -> str:
        """The URL of a random process, which may be dead."""
        return random.choice(self._running).url

    async def _try(self) -> Process | None:
        with self._log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", "from service.cli import main; main()", "serve"),
                env=self._environment,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(START_SECONDS):
                while line := await process.stdout.readline():
                    if b"listens on" in line:
                        return Process(process, line.decode().split("listens on ")[1].strip())
                await process.wait()
                return None
        except BaseException:
            process.kill()
            raise


def environment(database_url: str, model_url: str, tenants: Iterable[Tenant]) -> dict[str, str]:
    """The environment of the processes, without the environment of this process."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("THROUGHLINE_", "ANTHROPIC_"))
    }
    return kept | {
        "THROUGHLINE_DATABASE_URL": database_url,
        "THROUGHLINE_PORT": "0",
        "THROUGHLINE_LOG_LEVEL": "warning",
        "THROUGHLINE_HMAC_KEYS": json.dumps({each.key_id: each.key for each in tenants}),
        "ANTHROPIC_API_KEY": "offline",
        "ANTHROPIC_BASE_URL": model_url,
        **RATES,
    }


@asynccontextmanager
async def fleet(processes: int, variables: Mapping[str, str], log: Path) -> AsyncGenerator[Fleet]:
    """A fleet of `processes`. All of them have ended at the end."""
    running = Fleet(variables, log)
    try:
        await asyncio.gather(*(running.start() for _ in range(processes)))
        yield running
    finally:
        await running.stop()
