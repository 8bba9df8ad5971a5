"""Read models that are rebuilt: under load, killed half way, one at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Final

import psycopg
import pytest

from projections import PROJECTIONS
from projections import projection as machinery
from projections.accounts import ACCOUNTS, account
from projections.projection import (
    Busy,
    Connection,
    Projection,
    catch_up,
    install,
    reached,
    rebuild,
    verify,
)
from projections.timeline import TIMELINE, Shown, page
from service.eventlog.store import NewEvent
from service.postgres import connections, migrations
from service.postgres.embedded import Server, embedded
from tests.projections.generated import World, live, owning, writing
from tests.projections.trouble import (
    CREDITED,
    OPENED,
    assert_all_is_well,
    odd,
    schemas,
    until_waiting,
)
from tests.running import UNSAFE
from tests.sizes import size


async def until(done: asyncio.Event, work: Callable[[], Awaitable[None]]) -> int:
    """Do it again and again; how often."""
    for n in count():
        if done.is_set():
            return n
        await work()
    raise AssertionError


async def test_readers_and_writers_notice_nothing_of_rebuilds(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read once is there at every later read; no read and no append ever fails."""
    monkeypatch.setattr(machinery, "CHUNK", 100)
    done, numbers = asyncio.Event(), count(1)
    seen: set[int] = set()
    credited = 0

    async def write() -> None:
        n = next(numbers)
        opened = OPENED.replace(b"odd", b"s%d" % n)
        await log.append(
            [
                [NewEvent("t9", "account-t9-u", n, "TimeCredited", CREDITED)],
                [NewEvent("t9", f"session-s{n}", 1, "SessionOpened", opened, "p")],
            ]
        )

    async def read() -> None:
        nonlocal seen, credited
        found = await page(
            readers[0],
            tenant_id="t9",
            project_id="p",
            shown=Shown(with_hidden=True),
            limit=100_000,
        )
        positions = {row.position for row in found.rows}
        assert seen <= positions
        seen = positions
        row = await account(readers[1], tenant_id="t9", user_id="u")
        assert credited <= row.credited_seconds
        credited = row.credited_seconds
        view = await readers[2].execute("select count(*) from analytics.project_timeline")
        assert await view.fetchone()

    async def rebuild_all() -> None:
        try:
            for projection in PROJECTIONS * size(1, 2):
                await rebuild(owner, projection)
        finally:
            done.set()

    async with writing(url) as log, owning(url) as owner:
        await log.append(World(18).appends(size(300, 1_000)))
        async with owning(url) as analyst:
            await analyst.execute("set role throughline_analyst")
            readers = [await connections.connect(url), await connections.connect(url), analyst]
            async with readers[0], readers[1], asyncio.TaskGroup() as tasks:
                writes = tasks.create_task(until(done, write))
                reads = tasks.create_task(until(done, read))
                tasks.create_task(rebuild_all())
        assert writes.result() > 20
        assert reads.result() > 20
        while not await catch_up(owner):
            pass
        await assert_all_is_well(owner, log)
        for projection in PROJECTIONS:
            assert await verify(owner, projection) == 0


async def test_a_swap_waits_for_a_long_read_and_then_goes_on(url: str) -> None:
    """The swap gives way and tries again; meanwhile neither new reads nor appends wait for it."""
    async with (
        writing(url) as log,
        owning(url) as owner,
        owning(url) as reader,
        owning(url) as watcher,
    ):
        await log.append(World(19).appends(100))
        async with reader.transaction():
            await reader.execute("select count(*) from app.timeline")
            rebuilding = asyncio.create_task(rebuild(owner, TIMELINE))
            for n in count():
                await until_waiting(watcher, 1)
                opened = NewEvent("t1", f"session-odd-{n}", 1, "SessionOpened", OPENED, "p")
                await log.append([[opened]])
                if await reached(reader, "timeline") < await log.store.head():
                    break  # passed by; otherwise the swap had just given way
            await until_waiting_anew(watcher)
            assert not rebuilding.done()
        await rebuilding
        await catch_up(owner)
        await assert_all_is_well(owner, log)


async def until_waiting_anew(connection: Connection) -> None:
    """Wait until a backend waits for a lock since a later moment than before."""
    query = """
        select coalesce(max(waitstart), '-infinity') > %(since)s, max(waitstart) from pg_locks
        where not granted and pid in (
            select pid from pg_stat_activity where datname = current_database()
        )
    """
    since: datetime | None = None
    async with asyncio.timeout(60):
        while True:
            found = await connection.execute(query, {"since": since or "infinity"})
            row = await found.fetchone()
            assert row is not None
            if row[0]:
                return
            since = since or row[1]
            await asyncio.sleep(0.01)


async def test_a_swap_does_not_deadlock_with_readers_of_the_view(url: str) -> None:
    """A reader of the view takes the view, then the table. A swap must take them in that order."""
    async with (
        writing(url) as log,
        owning(url) as owner,
        owning(url) as long_reader,
        owning(url) as reader,
        owning(url) as watcher,
    ):
        await log.append(World(19).appends(100))
        async with asyncio.TaskGroup() as tasks, long_reader.transaction():
            await long_reader.execute("select count(*) from app.timeline")
            tasks.create_task(rebuild(owner, TIMELINE))
            while True:
                await until_waiting(watcher, 1)
                read = reader.execute("table analytics.project_timeline")
                reading = tasks.create_task(read)
                if await until_waiting(watcher, 2, unless=reading.done):
                    break  # otherwise the swap had just given way
        await catch_up(owner)
        await assert_all_is_well(owner, log)


# killed half way ---------------------------------------------------------------------------------


@pytest.mark.parametrize("work", [rebuild, verify])
async def test_a_backend_that_is_killed_in_the_middle_leaves_all_as_it_was(
    url: str, work: Callable[..., Awaitable[object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machinery, "CHUNK", 50)
    async with writing(url) as log, owning(url) as owner:
        await log.append(World(20).appends(300))
        before = await live(owner, "timeline")
        doomed = await connections.connect(url, as_service=False)

        def kill(at: int, head: int) -> None:
            if at == 150:
                assert head >= 300
                with psycopg.connect(url, autocommit=True) as other:
                    other.execute("select pg_terminate_backend(%s)", [doomed.info.backend_pid])

        with pytest.raises(psycopg.OperationalError):
            await work(doomed, TIMELINE, kill)
        await doomed.close()
        assert await live(owner, "timeline") == before
        await log.append([odd(1)])
        await assert_all_is_well(owner, log)
        await work(owner, TIMELINE)
        assert await schemas(owner) == set()
        await assert_all_is_well(owner, log)


@pytest.mark.parametrize("work", [rebuild, verify])
async def test_a_task_that_is_cancelled_in_the_middle_cleans_up(
    url: str, work: Callable[..., Awaitable[object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machinery, "CHUNK", 50)
    async with writing(url) as log, owning(url) as owner:
        await log.append(World(21).appends(300))

        def stop(at: int, _head: int) -> None:
            if at == 150:
                task.cancel()

        async def cancelled() -> None:
            await work(owner, TIMELINE, stop)

        task = asyncio.create_task(cancelled())
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await schemas(owner) == set()
        await assert_all_is_well(owner, log)
        await work(owner, TIMELINE)
        await assert_all_is_well(owner, log)


# one at a time -----------------------------------------------------------------------------------


@pytest.mark.parametrize("works", [(rebuild, rebuild), (verify, verify)], ids=["rebuild", "verify"])
async def test_of_two_rebuilds_at_once_the_second_is_refused(
    url: str, works: Sequence[Callable[..., Awaitable[object]]]
) -> None:
    async with writing(url) as log, owning(url) as a, owning(url) as b:
        await log.append(World(23).appends(200))
        done = await asyncio.gather(
            *(work(each, TIMELINE) for work, each in zip(works, (a, b), strict=True)),
            return_exceptions=True,
        )
        assert sorted(type(each).__name__ for each in done) in (
            ["Busy", "NoneType"],
            ["Busy", "int"],
        )
        assert await schemas(a) == set()
        await works[0](b, TIMELINE)
        await assert_all_is_well(a, log)


async def test_two_read_models_are_rebuilt_at_once(url: str) -> None:
    async with writing(url) as log, owning(url) as a, owning(url) as b:
        await log.append(World(24).appends(200))
        await asyncio.gather(rebuild(a, TIMELINE), rebuild(b, ACCOUNTS))
        await assert_all_is_well(a, log)


async def test_a_verification_is_not_misled_by_a_rebuild(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A swap between the verification's snapshot and its comparison is refused or not counted."""
    async with writing(url) as log, owning(url) as owner, owning(url) as other:
        await log.append(World(25).appends(300))
        original = machinery._apply

        async def apply(
            connection: Connection, projection: Projection, schema: str, after: int, upto: int
        ) -> None:
            await original(connection, projection, schema, after, upto)
            if schema.startswith("verify_"):
                with suppress(Busy):
                    await rebuild(other, TIMELINE)

        monkeypatch.setattr(machinery, "_apply", apply)
        assert await verify(owner, TIMELINE) == 0


VACUUM: Final = """
alter table app.timeline set (
    autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1
);
insert into app.timeline (
    position, tenant_id, project_id, mode, item_id, kind, is_visible, is_live, recorded_at
)
select -n, 't', 'p', 'plan', n::text, 'reply', true, false, now()
from generate_series(1, 20000) as n;
delete from app.timeline where position % 2 = 0;
"""
"""The timeline has much to vacuum, and the vacuum takes its time."""


VACUUMING: Final = b"""
select from pg_stat_progress_vacuum where relid = 'app.timeline'::regclass
"""


@pytest.fixture
def vacuuming_server(tmp_path: Path) -> Iterator[Server]:
    """A PostgreSQL that looks each second whether there is something to vacuum."""
    tmp_path.chmod(0o755)
    settings = {**UNSAFE, "autovacuum_naptime": "1s"}
    with embedded(tmp_path / "postgres", settings=settings) as server:
        yield server


@pytest.mark.slow
async def test_a_vacuum_that_began_by_itself_makes_way_for_a_rebuild(
    vacuuming_server: Server,
) -> None:
    url = vacuuming_server.url
    await migrations.migrate(url)
    async with owning(url) as owner:
        await install(owner, PROJECTIONS)
        await owner.execute(VACUUM.encode())
        async with asyncio.timeout(30):
            while not (await owner.execute(VACUUMING)).rowcount:  # noqa: ASYNC110 - no event says so
                await asyncio.sleep(0.01)
        await rebuild(owner, TIMELINE)
        assert not await live(owner, "timeline")
