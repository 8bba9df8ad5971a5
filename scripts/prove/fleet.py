"""The service in processes of its own on one database, to be killed and replaced."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from scripts.prove.tenants import Tenant

START_SECONDS: Final = 60.0
AGAIN_SECONDS: Final = 0.2
MOST_STARTS: Final = 20
"""The most starts of one process. A start fails while the database is away, which is short."""

RATES: Final = {
    "THROUGHLINE_USER_MESSAGES": "10000",
    "THROUGHLINE_PROJECT_MESSAGES": "10000",
}
"""Limits far above the load of this proof; the tests of the limits prove refusals."""


class DoesNotStart(RuntimeError):
    """The service does not start, for another reason than an unreachable database."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process of the service, and its URL."""

    process: asyncio.subprocess.Process
    url: str

    async def kill(self) -> None:
        """End the process with -9."""
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()


class Fleet:
    """All processes of the service. Clients call a killed process until another one replaces it."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self._environment = environment
        self._log = log
        self._running: list[Process] = []

    async def start(self) -> None:
        """Start one more process, and start it again until it listens: the database may be away.

        Raises DoesNotStart.
        """
        for _ in range(MOST_STARTS):
            if process := await self._try():
                self._running.append(process)
                return
            await asyncio.sleep(AGAIN_SECONDS)
        raise DoesNotStart(f"{MOST_STARTS} times; why is in {self._log}")

    async def kill(self, random: Random) -> None:
        """Kill a random process, and replace it."""
        victim = random.choice(self._running)
        await victim.kill()
        await self.start()
        self._running.remove(victim)

    async def stop(self) -> None:
        """End all processes."""
        for each in self._running:
            await each.kill()
        self._running.clear()

    def any(self, random: Random) -> str:
        """The address of a random process, dead or alive."""
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
    """The settings of the processes; settings of this process are left out."""
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
async def fleet(processes: int, observed: Mapping[str, str], log: Path) -> AsyncGenerator[Fleet]:
    """A fleet of this number of processes, all of which end with the context."""
    running = Fleet(observed, log)
    try:
        await asyncio.gather(*(running.start() for _ in range(processes)))
        yield running
    finally:
        await running.stop()
