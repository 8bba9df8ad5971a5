"""A real NATS server with JetStream, which a test may kill."""

import asyncio
import os
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import nats
from nats.aio.client import Client
from nats.js.api import RawStreamMsg

PROGRAM: Final = str(Path(nats.__path__[0], *[".."] * 4, "bin", "nats-server").resolve())


class NatsServer:
    """A server on a port of its own, with its streams in a folder."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = _free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._folder = folder
        self._options = options
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it and wait until it answers."""
        where = ("-sd", self._folder, "-a", "127.0.0.1", "-p", str(self.port))
        self._process = await asyncio.create_subprocess_exec(
            PROGRAM, "-js", *where, *self._options, stderr=asyncio.subprocess.DEVNULL
        )
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                assert self._process.returncode is None, "the server has ended"
                await asyncio.sleep(0.01)
            else:
                writer.close()
                await writer.wait_closed()
                return

    async def kill(self) -> None:
        """Kill it with -9, if it runs."""
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
            self._process = None

    @asynccontextmanager
    async def client(self) -> AsyncGenerator[Client]:
        """A client of the test."""
        client = await nats.connect(self.url)
        try:
            yield client
        finally:
            await client.close()

    async def messages(self, stream: str = "THROUGHLINE") -> list[RawStreamMsg]:
        """All messages of a stream, in order."""
        async with self.client() as client:
            context = client.jetstream()
            state = (await context.stream_info(stream)).state
            return [
                await context.get_msg(stream, seq=seq)
                for seq in range(state.first_seq, state.last_seq + 1)
            ]


def _free_port() -> int:
    """A port below those that the system gives to connections. Nobody else takes such a port, also
    while the server is down between a kill and its next start."""
    begin = 10_000 + os.getpid() % 20_000
    for port in range(begin, begin + 1_000):
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port
    raise AssertionError("there is no free port")


@asynccontextmanager
async def nats_server(folder: Path, *options: str) -> AsyncGenerator[NatsServer]:
    """A running server."""
    server = NatsServer(folder, *options)
    await server.start()
    try:
        yield server
    finally:
        await server.kill()
