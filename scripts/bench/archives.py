"""Measures exports, imports and verifications of a log, against PostgreSQL's own programs."""

import asyncio
import re
import subprocess
import tempfile
import time
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import urlsplit

import psycopg

from projections.projection import Connection, head
from scripts.bench.streams import Figure
from service.postgres import connections, migrations
from service.postgres.embedded import program
from service.replay.archive import ArchiveReader, ArchiveWriter
from service.replay.exporting import header_of, write_archive
from service.replay.importing import import_events
from service.replay.reading import EventFilter
from service.replay.verification import log_checks

_COPY: Final = "bench_copy"
_LIMIT: Final = 1.3


def exporting(url: str) -> tuple[float, float]:
    """Write an archive, and a dump of the same table: events a second each."""
    with tempfile.TemporaryDirectory() as folder:
        count, seconds = _timed_export(url, Path(folder, "archive"))
        return count / seconds, count / _dump(url, Path(folder, "dump"))


def importing(url: str) -> tuple[float, float]:
    """Import an archive without read models, and restore a dump into a table with the same indexes:
    events a second each. Both are complete when the events are stored."""
    with tempfile.TemporaryDirectory() as folder:
        archive, dump = Path(folder, "archive"), Path(folder, "dump")
        count, _ = _timed_export(url, archive)
        _dump(url, dump)
        with _empty(url) as copy, archive.open("rb") as file:
            began = time.perf_counter()
            asyncio.run(_import(copy, file))
            ours = time.perf_counter() - began
        with _empty(url) as copy:
            theirs = _run("pg_restore", "--data-only", "--dbname", copy, str(dump))
        return count / ours, count / theirs


def verifying(url: str) -> tuple[float, float]:
    """Verify the log without its read models, and write a dump: events a second each."""
    count, seconds = asyncio.run(_verify(url))
    with tempfile.TemporaryDirectory() as folder:
        return count / seconds, count / _dump(url, Path(folder, "dump"))


def memory(url: str) -> Figure:
    """The most memory of a process that exports the whole log, against a tenth of it."""
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as processes:
        tenth, whole = (processes.submit(_peak, url, part).result() for part in (10, 1))
    return Figure("memory of an export", whole / tenth, _LIMIT, "an export of a tenth of the log")


def _peak(url: str, part: int) -> int:
    """The most memory of this process when it has exported a part of the log, in kilobytes.

    Linux says it in a file. What `getrusage` says includes the process that started this one.
    """
    with tempfile.TemporaryFile() as file:
        asyncio.run(_export(url, file, part))
    (peak,) = re.findall(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.M)
    return int(peak)


def _timed_export(url: str, path: Path) -> tuple[int, float]:
    began = time.perf_counter()
    with path.open("wb") as file:
        count = asyncio.run(_export(url, file, 1))
    return count, time.perf_counter() - began


async def _export(url: str, file: BinaryIO, part: int) -> int:
    async with await connections.connect(url, as_service=False) as owner:
        upto = await head(owner) // part
        writer = ArchiveWriter(file, await header_of(owner, EventFilter(), after=0, upto=upto))
        writer.begin()
        await write_archive(owner, writer)
        return writer.events


async def _import(url: str, file: BinaryIO) -> None:
    archive = ArchiveReader(file)
    archive.check(lambda _at, _end: None)
    async with await connections.connect(url, as_service=False) as owner:
        await import_events(owner, archive)


async def _verify(url: str) -> tuple[int, float]:
    async with await connections.connect(url, as_service=False) as owner:
        began = time.perf_counter()
        count = await _count(owner)
        return count, time.perf_counter() - began


async def _count(owner: Connection) -> int:
    """The events that were checked, all of them without a fault. Some checks count other things."""
    most = 0
    async for check in log_checks(owner, lambda _: lambda _at, _end: None):
        assert not check.faults, check
        most = max(most, check.count)
    return most


def _dump(url: str, path: Path) -> float:
    options = ("--format=custom", "--data-only", "--table=app.event", f"--file={path}")
    return _run("pg_dump", *options, "--dbname", url)


def _run(name: str, *arguments: str) -> float:
    """Run a program of the embedded server; returns the seconds."""
    found = program(name)
    assert found is not None
    began = time.perf_counter()
    subprocess.run([found, *arguments], check=True)
    return time.perf_counter() - began


@contextmanager
def _empty(url: str) -> Generator[str]:
    """A migrated database without events."""
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(f"create database {_COPY}".encode())
    copy = urlsplit(url)._replace(path=f"/{_COPY}").geturl()
    asyncio.run(migrations.migrate(copy))
    try:
        yield copy
    finally:
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute(f"drop database {_COPY} with (force)".encode())
