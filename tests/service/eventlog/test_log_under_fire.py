"""The promises at size: many processes, a killed server. `make prove` runs the large sizes."""

import asyncio
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import psutil
import psycopg
import pytest

from service.eventlog.errors import OutcomeUnknown
from service.eventlog.live import HistoryLost
from service.eventlog.store import Recorded
from service.postgres import connections, migrations
from service.postgres.embedded import Server, embedded
from tests.service.eventlog.logs import Log, event, everything, faults, running_log
from tests.sizes import chance, size

EVENTS_EACH = size(120, 3_200)
KILLS = size(2, 20)


def recorded(position: int, version: int = 1, stream: str = "") -> Recorded:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    stream = stream or f"s-{position}"
    return Recorded(position, "t1", stream, version, "X", 1, None, b"{}", "{}", now, b"")


SOUND = [recorded(1, 1, "a"), recorded(2, 1, "b"), recorded(3, 2, "a"), recorded(4, 2, "b")]


@pytest.mark.parametrize(
    "order",
    [[0, 1, 3], [1, 2, 3], [0, 1, 1, 2, 3], [0, 2, 1, 3]],
    ids=["missing", "missing at the start", "doubled", "disordered"],
)
def test_the_checker_finds_every_kind_of_damage(order: list[int]) -> None:
    """The negative control of every empty list of faults below."""
    assert not faults(SOUND)
    assert faults([SOUND[n] for n in order])
    skipping = [*SOUND[:3], recorded(4, 3, "b")]
    assert faults(skipping) == ["('t1', 'b') steps from 1 to 3"]


@pytest.mark.slow
async def test_followers_miss_no_event_of_four_processes(url: str) -> None:
    """The followers: from the start, from the middle, and with a pause until the end."""
    total = 4 * 8 * EVENTS_EACH
    command = (
        sys.executable,
        "-m",
        "tests.service.eventlog.log_worker",
        url,
        "8",
        str(EVENTS_EACH),
    )
    async with running_log(url, most=1_000) as log:
        workers = [await asyncio.create_subprocess_exec(*command) for _ in range(4)]
        async with asyncio.timeout(600):
            keen = asyncio.create_task(_tail(log, 0, total))
            stopping = asyncio.create_task(_tail(log, 0, total, pause_at=100))
            midway = chance("midway").randint(total // 4, total // 2)
            assert await log.live_log.wait(midway, seconds=600)
            joining = asyncio.create_task(_tail(log, midway, total))
            tails = await asyncio.gather(keen, stopping, joining)
            assert [await worker.wait() for worker in workers] == [0, 0, 0, 0]
        stored = await everything(log.store)
    assert not faults(stored)
    assert len(stored) == total
    assert sum(each.stream_id.startswith("shared-") for each in stored) == total // 8
    for tail, whole in zip(tails, (stored, stored, stored[midway:]), strict=True):
        assert tail == whole


async def _tail(log: Log, after: int, upto: int, *, pause_at: int = 0) -> list[Recorded]:
    seen: list[Recorded] = []
    pages = log.live_log.follow(after)
    while not seen or seen[-1].position < upto:
        seen += await anext(pages)
        if pause_at and len(seen) >= pause_at:
            pause_at = 0
            assert await log.live_log.wait(upto, seconds=600)
    await pages.aclose()
    return seen


async def test_a_log_with_a_sequence_loses_events(url: str) -> None:
    """The negative control: the usual design, a sequence and a reader by `where id > last`."""
    connect = psycopg.AsyncConnection.connect
    async with await connect(url) as slow, await connect(url) as quick, await connect(url) as tail:
        await tail.set_autocommit(True)
        await tail.execute("create table naive (id bigserial primary key)")
        await slow.execute("insert into naive default values")
        await quick.execute("insert into naive default values")
        await quick.commit()
        poll = "select id from naive where id > %s order by id"
        seen = await (await tail.execute(poll, (0,))).fetchall()
        await slow.commit()
        seen += await (await tail.execute(poll, seen[-1])).fetchall()
        stored = await (await tail.execute(poll, (0,))).fetchall()
    assert faults([recorded(number) for (number,) in seen]) == ["position 2 in place of 1"]
    assert not faults([recorded(number) for (number,) in stored]), "both were committed"


@contextmanager
def own_server(settings: dict[str, str] | None = None) -> Generator[Server, None, None]:
    """A PostgreSQL that the test can kill."""
    with tempfile.TemporaryDirectory(prefix="throughline-") as folder:
        Path(folder).chmod(0o755)
        with embedded(Path(folder, "postgres"), settings=settings or {}) as server:
            yield server


@pytest.mark.slow
async def test_a_killed_postgres_loses_no_acknowledged_event() -> None:
    with own_server() as server:
        await migrations.migrate(server.url)
        async with running_log(server.url) as log:
            acknowledged = await _append_and_kill(server, log)
            stored = await everything(log.store)
        assert not faults(stored)
        assert await _positions(server) == acknowledged


async def _append_and_kill(server: Server, log: Log) -> dict[UUID, int]:
    """Eight writers and a follower over KILLS kills; the acknowledged position of each append."""
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

    writers = [asyncio.create_task(write()) for _ in range(8)]
    pages = log.live_log.follow(0)
    seen: list[Recorded] = []
    async with asyncio.timeout(60 + 40 * KILLS):
        for _ in range(KILLS):
            await _until(acknowledged, 200, pages, seen)
            kill(server)
        await _until(acknowledged, 200, pages, seen)
        going_on = False
        await asyncio.gather(*writers)
        while len(seen) < len(acknowledged):
            seen += await anext(pages)
    await pages.aclose()
    assert not faults(seen)
    return acknowledged


async def _until(
    acknowledged: dict[UUID, int],
    more: int,
    pages: AsyncGenerator[list[Recorded], None],
    seen: list[Recorded],
) -> None:
    """Follow until `more` further appends are acknowledged."""
    target = len(acknowledged) + more
    while len(acknowledged) < target:
        seen += await anext(pages)


@pytest.mark.slow
async def test_a_server_without_sync_loses_acknowledged_events() -> None:
    """The negative control: the same kill where a commit is acknowledged before it is durable."""
    careless = {"synchronous_commit": "off", "wal_writer_delay": "10s"}
    with own_server(careless) as server:
        await migrations.migrate(server.url)
        async with await psycopg.AsyncConnection.connect(server.url, autocommit=True) as owner:
            await owner.execute("checkpoint")
        assert await migrations.unsafe_settings(server.url) == ["synchronous_commit"]
        acknowledged: dict[UUID, int] = {}
        async with running_log(server.url) as log:
            for version in range(1, 21):
                append_id = uuid4()
                appended = await log.writer.append([event("a", version)], append_id=append_id)
                acknowledged[append_id] = appended.first_position
            assert await _positions(server) == acknowledged
            kill(server)
            with pytest.raises(OutcomeUnknown):  # the server is back without what the writer knows
                await log.writer.append([event("b")], patience=30)
            for task in (log.writing, log.listening):
                with pytest.raises(HistoryLost):
                    await task
        kept = await _positions(server)
        assert not acknowledged.items() <= kept.items()


async def _positions(server: Server) -> dict[UUID, int]:
    async with await connections.connect(server.url) as connection:
        rows = await connection.execute("select append_id, position from app.event")
        return dict(await rows.fetchall())


def kill(server: Server) -> None:
    """End all processes of the server at once."""
    send(server, signal.SIGKILL)


def send(server: Server, number: signal.Signals) -> None:
    """Send a signal to all processes of the server, the postmaster first."""
    pid = int(Path(server.data_dir, "postmaster.pid").read_text().splitlines()[0])
    postmaster = psutil.Process(pid)
    for process in (postmaster, *postmaster.children()):
        process.send_signal(number)
