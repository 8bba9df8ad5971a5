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
"""How often one is started: the database may be away, but not for so long."""

RATES: Final = {
    "THROUGHLINE_USER_MESSAGES": "10000",
    "THROUGHLINE_PROJECT_MESSAGES": "10000",
}
"""Far above what is posted here: what is too much per hour is refused elsewhere."""


class DoesNotStart(RuntimeError):
    """The service does not come up, and not for want of a database alone."""


@dataclass(frozen=True, slots=True)
class Process:
    """One of them, and where it listens."""

    process: asyncio.subprocess.Process
    url: str

    async def kill(self) -> None:
        """End it with -9."""
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()


class Fleet:
    """All that run now. A killed one is still asked until another one has taken its place."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self._environment = environment
        self._log = log
        self._running: list[Process] = []

    async def start(self) -> None:
        """One more, also while the database is away: it is started until it listens.

        Raises DoesNotStart.
        """
        for _ in range(MOST_STARTS):
            if process := await self._try():
                self._running.append(process)
                return
            await asyncio.sleep(AGAIN_SECONDS)
        raise DoesNotStart(f"{MOST_STARTS} times; why is in {self._log}")

    async def kill(self, random: Random) -> None:
        """End any one of them, and replace it."""
        victim = random.choice(self._running)
        await victim.kill()
        await self.start()
        self._running.remove(victim)

    async def stop(self) -> None:
        """End all."""
        for each in self._running:
            await each.kill()
        self._running.clear()

    def any(self, random: Random) -> str:
        """The address of one of them, dead or alive."""
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
    """What the processes are told; nothing of what this one was told."""
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
    """So many processes, none left in the end."""
    running = Fleet(observed, log)
    try:
        await asyncio.gather(*(running.start() for _ in range(processes)))
        yield running
    finally:
        await running.stop()
