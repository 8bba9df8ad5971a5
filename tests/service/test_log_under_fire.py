"""The promises at size: many processes, a killed server. `make prove` runs the large sizes."""

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import psutil
import psycopg
import pytest

from service import database
from service.postgres import Server, embedded
from service.store import Recorded
from tests.service.logs import event, everything, faults, running_log

LARGE = bool(os.environ.get("THROUGHLINE_PROVE"))
EVENTS_EACH = 3_200 if LARGE else 320
KILLS = 50 if LARGE else 3


async def test_four_processes_append_and_a_tail_misses_nothing(url: str) -> None:
    total = 4 * 8 * EVENTS_EACH
    command = (sys.executable, "-m", "tests.service.log_worker", url, "8", str(EVENTS_EACH))
    async with running_log(url) as log:
        workers = [await asyncio.create_subprocess_exec(*command) for _ in range(4)]
        seen: list[Recorded] = []
        pages = log.hub.follow(0)
        async with asyncio.timeout(600):
            while len(seen) < total:
                seen += await anext(pages)
            assert [await worker.wait() for worker in workers] == [0, 0, 0, 0]
        await pages.aclose()
        assert not faults(seen)
        assert len(seen) == await log.store.head() == total


async def test_a_sequence_would_have_lost_events(url: str) -> None:
    """The negative control: the usual way, a sequence and a tail by `where id > last`."""
    connect = psycopg.AsyncConnection.connect
    async with await connect(url) as slow, await connect(url) as quick, await connect(url) as tail:
        await tail.set_autocommit(True)
        await tail.execute("create table naive (id bigserial primary key)")
        await slow.execute("insert into naive default values")
        await quick.execute("insert into naive default values")
        await quick.commit()
        seen = await (await tail.execute("select id from naive where id > 0")).fetchall()
        await slow.commit()
        seen += await (
            await tail.execute("select id from naive where id > %s", seen[-1])
        ).fetchall()
        assert [number for (number,) in seen] == [2], "a tail by sequence has missed 1"


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A PostgreSQL that may be killed."""
    with tempfile.TemporaryDirectory(prefix="throughline-") as folder:
        Path(folder).chmod(0o755)
        with embedded(Path(folder, "postgres")) as server:
            yield server


async def test_a_killed_postgres_loses_nothing_acknowledged(own_server: Server) -> None:
    await database.migrate(own_server.url)
    await _kill_and_count(own_server)


async def _kill_and_count(server: Server) -> None:
    acknowledged: dict[UUID, int] = {}
    going_on = True

    async def write() -> None:
        stream, version = str(uuid4()), 0
        while going_on:
            version, append_id = version + 1, uuid4()
            appended = await log.writer.append(
                [event(stream, version)], append_id=append_id, patience=60
            )
            acknowledged[append_id] = appended.first_position

    async with running_log(server.url) as log:
        writers = [asyncio.create_task(write()) for _ in range(8)]
        pages = log.hub.follow(0)
        seen: list[Recorded] = []
        async with asyncio.timeout(60 + 30 * KILLS):
            for _ in range(KILLS):
                target = len(acknowledged) + 200
                while len(acknowledged) < target:
                    seen += await anext(pages)
                _kill(server)
            target = len(acknowledged) + 200
            while len(acknowledged) < target:
                seen += await anext(pages)
            going_on = False
            await asyncio.gather(*writers)
            head = await log.store.head()
            while len(seen) < head:
                seen += await anext(pages)
        await pages.aclose()
        stored = await everything(log.store)
        assert not faults(stored)
        assert not faults(seen)
        async with await database.connect(server.url) as connection:
            rows = await connection.execute("select append_id, position from app.event")
            assert dict(await rows.fetchall()) == acknowledged


def _kill(server: Server) -> None:
    pid = int(Path(server.data_dir, "postmaster.pid").read_text().splitlines()[0])
    postmaster = psutil.Process(pid)
    for process in (postmaster, *postmaster.children()):
        process.send_signal(signal.SIGKILL)
