"""An export and its import: the same log and the same read models, wherever either was cut."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from io import BytesIO
from typing import Any

import psycopg
import pytest

from domain.events import ReplyStarted
from projections import PROJECTIONS
from projections.projection import Connection, status
from service.chat.leases import SQL as LEASES
from service.replay.archive import ArchiveReader, ArchiveRefused, ArchiveWriter
from service.replay.exporting import header_of, require_same_log, write_archive
from service.replay.importing import (
    Imported,
    ImportRefused,
    import_events,
    rebuild_read_models,
)
from service.replay.reading import EventFilter
from tests.projections.actions.append import new_events
from tests.projections.generated import World, live, owning, writing
from tests.service.eventlog.logs import event
from tests.sizes import chance, size

EVENTS = size(250, 2_000)
END = 2**63 - 1


class Cut(Exception):
    """The end of a process, as a test makes it."""


async def exported(connection: Connection, after: int = 0, upto: int = END) -> bytes:
    """An archive of the log."""
    file = BytesIO()
    header = await header_of(connection, EventFilter(), after=after, upto=upto)
    writer = ArchiveWriter(file, header)
    writer.begin()
    await write_archive(connection, writer)
    return file.getvalue()


async def imported(connection: Connection, archive: bytes, **more: Any) -> Imported:
    """Import an archive, and rebuild what is behind."""
    reader = ArchiveReader(BytesIO(archive))
    reader.check(lambda _at, _end: None)
    done = await import_events(connection, reader, **more)
    await rebuild_read_models(connection, lambda _: lambda _at, _end: None)
    return done


async def log_of(connection: Connection) -> list[Any]:
    """Every column of every event."""
    found = await connection.execute(
        "select event.*, metadata::text from app.event order by position"
    )
    return await found.fetchall()


async def models_of(connection: Connection) -> dict[str, Any]:
    return {each.name: await live(connection, each.name) for each in PROJECTIONS}


async def fill(url: str, events: int = EVENTS, seed: int = 7) -> None:
    async with writing(url) as log:
        await log.append(World(seed).appends(events))


async def test_an_import_makes_the_same_log_the_same_read_models_and_the_same_export(
    new_database: Callable[[], str],
) -> None:
    first, second = new_database(), new_database()
    await fill(first)
    odd = [
        event("odd", 0, state=b"\xff\x00 not JSON"),
        event("odd", 1, state=b'{\n "a": 1.00 }'),
        event("odd", 2)._replace(metadata='{"state": {"metadata":\n 1}}'),
    ]
    async with writing(first) as log:
        await log.append([odd])
    async with owning(first) as source, owning(second) as target:
        archive = await exported(source)
        there = await log_of(source)
        assert await imported(target, archive) == Imported(stored=len(there), known=0)
        assert await log_of(target) == there
        assert await exported(target) == archive
        assert await models_of(target) == await models_of(source)
        assert {each.state for each in await status(target)} == {"live"}
    types = {row[7] for row in there}
    assert {"SessionDeleted", "ReplyStarted", "TimeConsumed"} <= types
    assert b'"text":""' in archive.replace(b": ", b":"), "the log has erased texts"
    # The database goes on: appends and read models follow.
    async with writing(second) as log, owning(second) as target:
        await log.append([[event("later")]])
        assert {each.state for each in await status(target)} <= {"live", "behind"}
        assert (await log_of(target))[-1][0] == len(there) + 1


async def test_an_export_that_was_cut_anywhere_is_finished_to_the_same_file(url: str) -> None:
    await fill(url)
    choice = chance("cut exports")
    async with owning(url) as connection:
        whole = await exported(connection)
        shortest = whole.index(b"\n") + 1
        cuts = {shortest, len(whole), len(whole) - 1}
        cuts |= {choice.randrange(shortest, len(whole)) for _ in range(size(15, 500))}
        async with writing(url) as log:
            await log.append([[event("after the export began")]])
        for cut in sorted(cuts):
            file = BytesIO(whole[:cut])
            writer, last, is_complete = ArchiveWriter.resumed(file)
            await require_same_log(connection, writer.header, last)
            assert is_complete == (cut == len(whole))
            if not is_complete:
                await write_archive(connection, writer)
            assert file.getvalue() == whole, f"cut after {cut} bytes"


async def test_an_export_is_not_finished_from_another_log(new_database: Callable[[], str]) -> None:
    first, second = new_database(), new_database()
    await fill(first, 30, seed=1)
    await fill(second, 30, seed=2)
    async with owning(first) as source, owning(second) as other:
        file = BytesIO((await exported(source))[:-100])
        writer, last, _ = ArchiveWriter.resumed(file)
        with pytest.raises(ArchiveRefused, match="is of another log"):
            await require_same_log(other, writer.header, last)


async def test_an_import_that_was_cut_anywhere_goes_on_to_the_same_log(
    new_database: Callable[[], str],
) -> None:
    first = new_database()
    await fill(first)
    choice = chance("cut imports")
    async with owning(first) as source:
        archive, there = await exported(source), await log_of(source)
        models = await models_of(source)
    for _ in range(size(2, 40)):
        second = new_database()
        cuts = 0
        while cuts < choice.randint(1, 3):
            async with owning(second) as target:
                work = partial(_cut, target, choice.randrange(1, 8), hard=choice.random() < 0.5)
                with suppress(Cut, psycopg.OperationalError):
                    await imported(target, archive, progress=work(), step=choice.randint(1, 90))
            cuts += 1
        async with owning(second) as target:
            done = await imported(target, archive)
            assert done.known + done.stored == len(there)
            assert await log_of(target) == there
            assert await models_of(target) == models


def _cut(target: Connection, after: int, *, hard: bool) -> Callable[[int, int], None]:
    """What ends an import after some steps: an error, or the loss of its connection."""
    steps = 0

    def progress(_at: int, _end: int) -> None:
        nonlocal steps
        steps += 1
        if steps < after:
            return
        if not hard:
            raise Cut
        with psycopg.connect(target.info.dsn, password=target.info.password) as other:
            other.execute("select pg_terminate_backend(%s)", (target.info.backend_pid,))

    return progress


async def test_a_later_export_continues_an_imported_log_and_erases_in_it(
    new_database: Callable[[], str],
) -> None:
    first, second = new_database(), new_database()
    world = World(3)
    async with writing(first) as log, owning(first) as source:
        await log.append(world.appends(200))
        before = await exported(source)
        await log.append(world.appends(200))
        there = await log_of(source)
        head = ArchiveReader(BytesIO(before)).header.upto
        after = await exported(source, after=head)
        models = await models_of(source)
    async with owning(second) as target:
        with pytest.raises(ImportRefused, match="Import the events before it first"):
            await imported(target, after)
        await imported(target, before)
        await target.execute("update app.projection set follows = is_inline, position = 0")
        assert await imported(target, after) == Imported(stored=len(there) - head, known=0)
        assert await log_of(target) == there
        assert await models_of(target) == models
        assert await imported(target, after) == Imported(stored=0, known=len(there) - head)
    states = [each.event.state for each in ArchiveReader(BytesIO(before)).entries()]
    assert states != [row[9] for row in there[:head]], "the second half erases in the first half"


async def test_another_log_is_refused_and_stays_as_it_is(new_database: Callable[[], str]) -> None:
    first, second = new_database(), new_database()
    await fill(first, 40, seed=1)
    await fill(second, 20, seed=2)
    async with owning(first) as source, owning(second) as target:
        archive, mine = await exported(source), await log_of(target)
        with pytest.raises(ImportRefused, match=r"another event at position 1 .*an empty database"):
            await imported(target, archive)
        part = await exported(source, after=5)
        with pytest.raises(ImportRefused, match="another event at position 5 "):
            await imported(target, part)
        assert await log_of(target) == mine


async def test_an_archive_with_only_some_events_is_refused(url: str) -> None:
    await fill(url, 40)
    async with owning(url) as connection:
        file = BytesIO()
        chosen = EventFilter(tenant_id="t1")
        writer = ArchiveWriter(file, await header_of(connection, chosen, after=0, upto=END))
        writer.begin()
        await write_archive(connection, writer)
        assert {each.event.tenant_id for each in ArchiveReader(file).entries()} == {"t1"}
        with pytest.raises(ArchiveRefused, match="Export without filters"):
            await imported(connection, file.getvalue())


async def test_no_process_gets_a_lease_that_an_imported_reply_names(
    new_database: Callable[[], str],
) -> None:
    first, second = new_database(), new_database()
    started = ReplyStarted(
        session_id="s", reply_id="r", in_reply_to="m", model="x", reservation_id="h", lease_id=41
    )
    async with writing(first) as log:
        await log.append([new_events("t1", "session-s", 0, [started], "p")])
    async with owning(first) as source, owning(second) as target:
        await imported(target, await exported(source))
        found = await target.execute(LEASES["acquire"], {"seconds": 1})
        assert (await found.fetchone() or (0,))[0] > 41
