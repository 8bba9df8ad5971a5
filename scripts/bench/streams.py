"""The cost of streamed replies: many at once, the CPU of a chunk, the first chunk, many watchers.

The service and its peer each run in a process of their own; the model and the clients share this
process. A delta's delay is the time from the model's write to the client's read of its stamp.
"""

import asyncio
import json
import os
import random
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median, quantiles
from time import monotonic_ns
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import psutil
import psycopg
import uvloop

from scripts.bench.wire_model import StampingModel
from service.access import signatures
from service.postgres.embedded import embedded

KEY: Final = "bench"
SECRET: Final = "a-secret-for-measuring-only"  # noqa: S105 - of a server that measures
PACE: Final = 0.05
FEW: Final = 100
WATCHERS: Final = 1_000
_STAMP: Final = re.compile(rb"<(\d+)>")
_ID: Final = re.compile(rb"id: ([0-9a-f-]{36})\.(\d+)\n")


@dataclass(slots=True)
class Read:
    """The stamps that one client read: their delays in ns, and their times."""

    delays: list[int] = field(default_factory=list[int])
    times: list[int] = field(default_factory=list[int])
    ids: list[int] = field(default_factory=list[int])
    reply_id: str = ""
    is_whole: bool = False
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    def receive(self, data: bytes) -> None:
        """Note the stamps of complete events."""
        now = monotonic_ns()
        before_final, final, _ = data.partition(b"event: final")
        for stamp in _STAMP.findall(before_final):
            self.delays.append(now - int(stamp))
            self.times.append(now)
        for reply_id, n in _ID.findall(data):
            self.reply_id = reply_id.decode()
            self.ids.append(int(n))
            self.begun.set()
        self.is_whole = self.is_whole or bool(final)

    async def receive_all(self, reader: asyncio.StreamReader) -> None:
        """Read a stream to its end."""
        rest = b""
        while data := await reader.read(1 << 16):
            # A piece may end inside a stamp, so the text after the last complete event waits.
            whole, sep, rest = (rest + data).rpartition(b"\n\n")
            self.receive(whole + sep)
        self.receive(rest)


@dataclass(frozen=True, slots=True)
class Target:
    """A server under measurement: its URL and process."""

    url: str
    process: psutil.Process

    def cpu_seconds(self) -> float:
        """The CPU time that the process and its workers have used, of user and system together."""
        processes = (self.process, *self.process.children())
        times = [each.cpu_times() for each in processes]
        return float(sum(each.user + each.system for each in times))


def signed(method: str, path: str, body: bytes, query: bytes = b"") -> str:
    """The signature of a request."""
    moment, nonce = int(time.time()), secrets.token_hex(8)
    v1 = signatures.sign(
        SECRET,
        method=method,
        path=path.encode(),
        query=query,
        time=moment,
        nonce=nonce,
        key_id=KEY,
        body=body,
    )
    return f"t={moment},kid={KEY},n={nonce},v1={v1}"


async def read(target: Target, method: str, path: str, body: bytes, into: Read) -> None:
    """One request on a raw socket, read to its end; again where the server has too much to do."""
    while True:
        async with connected(target) as (reader, writer):
            writer.write(requested(method, path, body))
            answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            if " 200 " in answer.split("\r\n")[0]:
                await into.receive_all(reader)
                return
            if " 503 " not in answer.split("\r\n")[0]:
                raise RuntimeError(answer + (await reader.read()).decode())
        await asyncio.sleep(retry_after(answer))


def retry_after(head: str) -> float:
    """For how many seconds a refused client waits: what the answer says, and a little more."""
    said = head.partition("retry-after: ")[2].partition("\r\n")[0]
    return float(said or 1) + random.random()


@asynccontextmanager
async def connected(
    target: Target,
) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to the server."""
    parts = urlsplit(target.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        yield reader, writer
    finally:
        writer.close()


def requested(method: str, path: str, body: bytes, accept: str = "text/event-stream") -> bytes:
    """A signed request, for a stream unless it accepts something else, as bytes to send."""
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: bench\r\nAccept: {accept}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
        f"{signatures.HEADER}: {signed(method, path, body)}\r\n\r\n"
    )
    return head.encode() + body


@asynccontextmanager
async def process(arguments: list[str], **environment: str) -> AsyncGenerator[Target]:
    """Start a server in a process of its own, and wait until the server prints its address. A
    server that starts asks the model, which answers on this loop meanwhile."""
    started = subprocess.Popen(  # noqa: ASYNC220 - starting it takes no time
        [sys.executable, *arguments],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        url = await asyncio.to_thread(_address, started)
        yield Target(url, psutil.Process(started.pid))
    finally:
        started.terminate()
        await asyncio.to_thread(started.wait, 60)


def _address(started: subprocess.Popen[str]) -> str:
    assert started.stdout is not None
    line = next(line for line in started.stdout if "listens on" in line)
    return line.split("listens on ")[1].strip()


def service(
    database_url: str, model_url: str, workers: int = 1
) -> AbstractAsyncContextManager[Target]:
    """The service, without accounts and projects: see `prepare`."""
    key = {"secret": SECRET, "tenant": "bench", "scopes": ["chat", "build", "admin", "read"]}
    return process(
        ["-c", "from service.cli import main; main()", "serve"],
        THROUGHLINE_DATABASE_URL=database_url,
        THROUGHLINE_PORT="0",
        THROUGHLINE_WORKERS=str(workers),
        THROUGHLINE_LOG_LEVEL="error",
        THROUGHLINE_USER_MESSAGES="10000",
        THROUGHLINE_PROJECT_MESSAGES="10000",
        THROUGHLINE_HMAC_KEYS=json.dumps({KEY: key}),
        ANTHROPIC_API_KEY="bench",
        ANTHROPIC_BASE_URL=model_url,
    )


async def prepare(target: Target, projects: int) -> None:
    """Register projects with one member each, and give each member credit."""
    async with httpx.AsyncClient(base_url=target.url) as client:

        async def post(path: str, **members: Any) -> None:
            body = json.dumps(members).encode()
            headers = {
                signatures.HEADER: signed("POST", path, body),
                "Content-Type": "application/json",
            }
            (await client.post(path, content=body, headers=headers)).raise_for_status()

        async def prepared(some: range) -> None:
            for n in some:
                user = {"userId": f"u{n}"}
                await post("/v1/billing/credits", **user, seconds=10**9, kind="paid")
                await post("/v1/projects", projectId=f"p{n}", name="Bench", members=[user])

        await asyncio.gather(*(prepared(range(n, projects, 8)) for n in range(8)))


def message(project: int) -> bytes:
    """The body of a request for a reply."""
    asked = {"userId": f"u{project}", "projectId": f"p{project}", "message": "How?"}
    return json.dumps(asked).encode()


@dataclass(frozen=True, slots=True)
class Load:
    """A number of replies at once: their stamps, and the CPU time of one delta while all stream."""

    reads: list[Read]
    cpu_us: float
    cores: float
    chunks_per_second: float

    @property
    def p99_ms(self) -> float:
        """The 99th percentile of the delay, in milliseconds."""
        delays = [delay for each in self.reads for delay in each.delays]
        return quantiles(delays, n=100)[98] / 1e6


class NotCarried(Exception):
    """The first replies ended before the last had begun: so many at once are not carried."""


async def load(target: Target, streams: int, model: StampingModel) -> Load:
    """Run this number of replies at once, each to its end."""
    reads = [Read() for _ in range(streams)]
    clients = [
        asyncio.create_task(read(target, "POST", "/v1/chat-plan", message(n), each))
        for n, each in enumerate(reads)
    ]
    while not all(each.delays for each in reads):
        await asyncio.sleep(0.1)
        if any(client.done() for client in clients):
            await asyncio.gather(*clients)
            raise NotCarried
    cpu, began = target.cpu_seconds(), monotonic_ns()
    await asyncio.sleep(model.deltas * model.pace * 0.5)
    cpu, ended = target.cpu_seconds() - cpu, monotonic_ns()
    await asyncio.gather(*clients)
    deltas = sum(began <= at < ended for each in reads for at in each.times)
    seconds = (ended - began) / 1e9
    return Load(reads, cpu / deltas * 1e6, cpu / seconds, deltas / seconds)


def lost(reads: list[Read], model: StampingModel) -> int:
    """The number of missing deltas, repeated or unordered events, and missing ends."""
    missing = sum(model.deltas - len(each.delays) for each in reads)
    gaps = sum(each.ids != list(range(1, len(each.ids) + 1)) for each in reads)
    return missing + gaps + sum(not each.is_whole for each in reads)


async def first_chunks(target: Target, count: int) -> float:
    """The delay of the first delta at p50, in ms, of replies one after the other."""
    delays: list[int] = []
    for _ in range(count):
        each = Read()
        await read(target, "POST", "/v1/chat-plan", message(0), each)
        delays.append(each.delays[0])
    return median(delays) / 1e6


async def watched(target: Target, watchers: int) -> list[Read]:
    """One reply that this number of watchers join while the service writes the reply."""
    first = Read()
    posting = asyncio.create_task(read(target, "POST", "/v1/chat-plan", message(0), first))
    await first.begun.wait()
    path = f"/v1/chat-plan/replies/{first.reply_id}/stream"
    reads = [Read() for _ in range(watchers)]
    await asyncio.gather(posting, *(read(target, "GET", path, b"", each) for each in reads))
    return reads


@asynccontextmanager
async def serving(
    database_url: str, model: StampingModel, projects: int, workers: int = 1
) -> AsyncGenerator[Target]:
    async with (
        model.serving() as model_url,
        service(database_url, model_url, workers) as target,
    ):
        await prepare(target, projects)
        yield target


@dataclass(frozen=True, slots=True)
class Figure:
    """A line of the report. `limit` is the highest value that is acceptable."""

    what: str
    value: float
    limit: float
    against: str = ""

    @property
    def met(self) -> bool:
        """Whether the value is within its limit."""
        return self.value <= self.limit


async def measure(new_database: Callable[[], str], seconds: float) -> list[Figure]:
    """Every figure of streamed replies that are carried, each for `seconds` seconds."""
    quick = StampingModel(deltas=3, pace=0.001)
    async with serving(new_database(), quick, 1) as target:
        first_ms = await first_chunks(target, 100)
    steady = StampingModel(deltas=round(seconds / PACE), pace=PACE)
    async with serving(new_database(), steady, FEW) as target:
        few = await load(target, FEW, steady)
        readers = await watched(target, WATCHERS)
    async with (
        steady.serving() as model_url,
        process(["-m", "scripts.bench.bare", model_url]) as target,
    ):
        bare = await load(target, FEW, steady)
    delays = sorted(delay for each in readers for delay in each.delays[-10:])
    return [
        Figure("first chunk after the model's first byte, ms at p50", first_ms, 10),
        Figure(
            f"CPU of a chunk, {FEW} replies, ratio",
            few.cpu_us / bare.cpu_us,
            1.0,
            f"bare SDK and sse-starlette: {few.cpu_us:.0f} us against {bare.cpu_us:.0f} us",
        ),
        Figure(f"{FEW} replies at 20 chunks/s: chunks lost", lost(few.reads, steady), 0),
        Figure(f"{FEW} replies at 20 chunks/s: delay, ms at p99", few.p99_ms, 250),
        Figure(f"{FEW} replies at 20 chunks/s: cores", few.cores, 1),
        Figure(f"{WATCHERS} watchers of one reply: chunks lost", lost(readers, steady), 0),
        Figure(f"{WATCHERS} watchers of one reply: delay, ms at p50", median(delays) / 1e6, 250),
    ]


def run(seconds: float) -> list[Figure]:
    """Measure on a PostgreSQL of its own."""
    with new_databases() as new_database:
        return uvloop.run(measure(new_database, seconds))


@contextmanager
def new_databases() -> Iterator[Callable[[], str]]:
    """A PostgreSQL; each call gives the URL of a new database."""
    with tempfile.TemporaryDirectory(prefix="throughline-") as folder:
        Path(folder).chmod(0o755)
        with embedded(Path(folder, "postgres")) as server:
            yield partial(_database, server.url, count())


def _database(url: str, numbers: Iterator[int]) -> str:
    name = f"streams_{next(numbers)}"
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(f"create database {name}".encode())
    return urlsplit(url)._replace(path=f"/{name}").geturl()
