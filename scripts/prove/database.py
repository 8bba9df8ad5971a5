"""An embedded PostgreSQL that can be killed and restarted, as after a power failure."""

import asyncio
import signal
from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import psutil

from projections import PROJECTIONS
from projections.projection import install
from service.postgres import connections, migrations
from service.postgres.connections import Connection
from service.postgres.embedded import embedded

COPY: Final = "damaged"


class Postgres:
    """The server of one folder. Each start has a new owner, because one owner would make longer and
    longer pauses between restarts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._owner = ExitStack()
        self.url = ""

    def start(self) -> None:
        """Start; returns when the server accepts connections, after its recovery."""
        self._server = self._owner.enter_context(embedded(self._folder))
        self.url = self._server.url

    def stop(self) -> None:
        """Shut down in order."""
        self._owner.close()

    def kill(self) -> None:
        """Kill all its processes with SIGKILL, the postmaster first."""
        pid = int(Path(self._server.data_dir, "postmaster.pid").read_text().splitlines()[0])
        postmaster = psutil.Process(pid)
        for process in (postmaster, *postmaster.children()):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)

    def restart(self) -> None:
        """Start the server again after `kill`."""
        self._owner.close()
        self.start()

    async def stop_syncing(self) -> None:
        """Be quick from now on: no kill comes any more."""
        async with self._admin() as admin:
            await admin.execute("alter system set fsync = off")
            await admin.execute("select pg_reload_conf()")

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Connection]:
        """A connection of the owner."""
        async with await connections.connect(self.url, as_service=False) as owner:
            yield owner

    @asynccontextmanager
    async def copy(self) -> AsyncGenerator[Connection]:
        """A connection to a copy of the database, without triggers, that may be damaged."""
        async with self._admin() as admin:
            await admin.execute(f"drop database if exists {COPY} with (force)".encode())
            await admin.execute(
                "select pg_terminate_backend(pid, 5000) from pg_stat_activity "
                "where datname = 'throughline'"
            )
            made = f"create database {COPY} template throughline strategy file_copy"
            await admin.execute(made.encode())
        url = urlsplit(self.url)._replace(path=f"/{COPY}").geturl()
        async with await connections.connect(url, as_service=False) as damaging:
            await damaging.execute("set session_replication_role = replica")
            yield damaging

    @asynccontextmanager
    async def _admin(self) -> AsyncGenerator[Connection]:
        url = urlsplit(self.url)._replace(path="/postgres").geturl()
        async with await connections.connect(url, as_service=False) as admin:
            yield admin


@asynccontextmanager
async def postgres(folder: Path) -> AsyncGenerator[Postgres]:
    """A migrated database in a PostgreSQL of its own, which is removed at the end."""
    server = Postgres(folder)
    try:
        await asyncio.to_thread(server.start)
        await migrations.migrate(server.url)
        async with server.connection() as owner:
            await install(owner, PROJECTIONS)
        yield server
    finally:
        await asyncio.to_thread(server.stop)
