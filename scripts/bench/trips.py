"""The number of times that a message waits for the database before its reply is accepted.

A proxy between the service and PostgreSQL counts round trips: a round trip begins when the service
sends data on a new connection, or after data from the server. The proxy also counts round trips of
other work at the same time, so the figures are medians.
"""

import asyncio
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import median
from threading import Thread
from typing import Final
from urllib.parse import quote, unquote, urlsplit

import uvloop

from scripts.bench import streams
from scripts.bench.streams import Figure, Target
from scripts.bench.wire_model import StampingModel
from service.access import signatures
from service.postgres.embedded import embedded

PROJECTS: Final = 15
LIMIT: Final = 10
_SOCKET: Final = ".s.PGSQL.5432"


@dataclass(slots=True)
class Trips:
    """The round trips so far, over all connections."""

    count: int = 0


@contextmanager
def counted(url: str, folder: Path) -> Iterator[tuple[str, Trips]]:
    """The database's address through a proxy, and the round trips that pass it.

    The proxy has a thread of its own, because the start of a service blocks the caller's thread.
    """
    trips, host = Trips(), re.search(r"host=([^&]+)", url)
    assert host is not None
    loop = asyncio.new_event_loop()
    serving = _serve(trips, Path(unquote(host[1]), _SOCKET), folder / _SOCKET)
    thread = Thread(target=loop.run_until_complete, args=(serving,), daemon=True)
    thread.start()
    while not (folder / _SOCKET).exists():
        time.sleep(0.01)
    yield url.replace(host[0], f"host={quote(os.fsencode(folder), safe='')}"), trips


async def _serve(trips: Trips, behind: Path, path: Path) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_unix_connection(behind)
        answered = True

        async def asks() -> None:
            nonlocal answered
            while data := await reader.read(1 << 16):
                trips.count += answered
                answered = False
                ours.write(data)
            ours.close()

        async def answers() -> None:
            nonlocal answered
            while data := await theirs.read(1 << 16):
                answered = True
                writer.write(data)
            writer.close()

        await asyncio.gather(asks(), answers(), return_exceptions=True)

    async with await asyncio.start_unix_server(connected, path) as server:
        await server.serve_forever()


async def post(target: Target, project: int, key: str, trips: Trips) -> int:
    """Post a message and read its reply; returns the round trips until it was accepted."""
    parts, body = urlsplit(target.url), streams.message(project)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    head = (
        "POST /v1/chat-plan HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
        f"Idempotency-Key: {key}\r\n"
        f"{signatures.HEADER}: {streams.signed('POST', '/v1/chat-plan', body)}\r\n\r\n"
    )
    before = trips.count
    writer.write(head.encode() + body)
    await reader.readuntil(b"event: accepted")
    needed = trips.count - before
    await reader.read()
    writer.close()
    return needed


async def measure(url: str, folder: Path) -> list[Figure]:
    """Post messages to sessions outside the memory of the process, then to remembered sessions."""
    model, keys = StampingModel(deltas=1, pace=0.001), count()
    async with model.serving() as model_url:
        with counted(url, folder) as (proxied, trips):
            async with streams.service(proxied, model_url) as target:
                await streams.prepare(target, PROJECTS)
                for project in range(PROJECTS):
                    await post(target, project, f"k{next(keys)}", trips)
            async with streams.service(proxied, model_url) as target:
                rounds = [
                    [await post(target, each, f"k{next(keys)}", trips) for each in range(PROJECTS)]
                    for _ in range(3)
                ]
    cold, _, warm = (float(median(each)) for each in rounds)
    return [
        Figure("database round trips before accepted, cold, with a key", cold, LIMIT),
        Figure("database round trips before accepted, warm, with a key", warm, LIMIT),
    ]


def run() -> list[Figure]:
    """Measure on a PostgreSQL of its own."""
    with tempfile.TemporaryDirectory(prefix="throughline-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "proxy").mkdir()
        with embedded(folder / "postgres") as server:
            return uvloop.run(measure(server.url, folder / "proxy"))
