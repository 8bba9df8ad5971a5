"""An archive into a log: the same positions, ids, times, bytes. An import that was cut is resumed.

Events are stored in steps, each in one transaction. What the log has already is compared with the
archive, event by event, so an import never continues another log. The read models stop before the
first step and are rebuilt after the last one.
"""

from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from psycopg.types.numeric import Int8

from domain.events import ERASURES, ReplyStarted
from projections import PROJECTIONS
from projections.projection import SQL as PROJECTION_SQL
from projections.projection import head, rebuild, status
from service.eventlog.store import END
from service.eventlog.transactions import decode
from service.postgres.connections import Connection
from service.replay.archive import ArchiveReader, ArchiveRefused, Header, Progress
from service.replay.reading import SQL, TYPES, Entry, EventFilter, append_at, whole

STEP: Final = 10_000
STEP_BYTES: Final = 16 * 1024 * 1024
"""The events and bytes of a step, which is what an import holds in memory."""

_ERASURES: Final = frozenset(kind.__name__ for kind in ERASURES)
Rebuilding = Callable[[str], Progress]
"""Called with the name of a read model. Returns what is called with the progress of its rebuild."""


class ImportRefused(RuntimeError):
    """The log of the database is not the beginning of the archive's log."""


class AnotherLog(ImportRefused):
    """The database has another event at a position."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import did: how many events it stored, and how many were in the log before."""

    stored: int
    known: int


async def import_events(
    connection: Connection,
    archive: ArchiveReader,
    progress: Progress = lambda _at, _end: None,
    *,
    step: int = STEP,
) -> Imported:
    """Store the events of an archive that the log lacks. The archive was checked before.

    Raises ArchiveRefused for an archive that is a part of a log, and ImportRefused for an archive
    that does not continue the log of the database.
    """
    header = archive.header
    _require_all_events(header)
    known = await head(connection)
    await _require_predecessor(connection, header, known)
    return await import_entries(
        connection, archive.entries(), progress, after=header.after, upto=header.upto, step=step
    )


async def import_entries(
    connection: Connection,
    entries: Iterator[Entry],
    progress: Progress = lambda _at, _end: None,
    *,
    after: int = 0,
    upto: int = END,
    step: int = STEP,
) -> Imported:
    """Store the events after one position up to another that the log lacks.

    Raises AnotherLog where the log has other events.
    """
    known, end = await head(connection), upto - after
    same = min(known, upto)
    compared, lease_id = await _compare(
        connection, entries, progress, after=after, upto=same, end=end
    )
    stored = 0
    for part in _steps(entries, step):
        if not stored:
            await _prepare(connection)
        at = await _store(connection, part, max(known, after) + stored)
        stored += len(part)
        lease_id = max(lease_id, *map(_lease_id, part))
        progress(at - after, end)
    await connection.execute(SQL["skip_leases"], {"lease_id": Int8(lease_id)})
    return Imported(stored=stored, known=compared)


async def rebuild_read_models(connection: Connection, rebuilding: Rebuilding) -> list[str]:
    """Rebuild the read models that are behind the log; returns their names."""
    behind = {each.name for each in await status(connection) if each.position < each.head}
    for projection in PROJECTIONS:
        if projection.name in behind:
            await rebuild(connection, projection, rebuilding(projection.name))
    return [each.name for each in PROJECTIONS if each.name in behind]


def _require_all_events(header: Header) -> None:
    if not header.chosen.is_whole:
        raise ArchiveRefused(
            "has only some events of a log: positions would be missing. Export without filters"
        )


async def _require_predecessor(connection: Connection, header: Header, known: int) -> None:
    """Raises ImportRefused unless the log has the event before the first event of the archive."""
    if known < header.after:
        raise ImportRefused(
            f"The archive begins after position {header.after}, and the log of the database ends"
            f" at {known}. Import the events before it first."
        )
    if header.after and await append_at(connection, header.after) != header.follows:
        raise _another(header.after)


async def _compare(
    connection: Connection,
    entries: Iterator[Entry],
    progress: Progress,
    *,
    after: int,
    upto: int,
    end: int,
) -> tuple[int, int]:
    """Compare the events that the log has already with the events of an archive.

    Returns how many these are, and the highest lease that they name.
    """
    count = lease_id = 0
    rows = whole(connection, EventFilter(), after=after, upto=upto)
    async with aclosing(rows) as there:
        async for row in there:
            if next(entries, None) != row:
                raise _another(row.event.position)
            count += 1
            lease_id = max(lease_id, _lease_id(row))
            if count % STEP == 0:
                progress(count, end)
    return count, lease_id


def _another(position: int) -> AnotherLog:
    return AnotherLog(
        f"The database has another event at position {position} than the archive. Name an empty"
        " database in THROUGHLINE_DATABASE_URL, or an empty folder in THROUGHLINE_DATA_DIR."
    )


async def _prepare(connection: Connection) -> None:
    """Let the read models wait, and make the table that COPY fills."""
    for each in await status(connection):
        await connection.execute(PROJECTION_SQL["stop"], {"name": each.name})
    await connection.execute(SQL["incoming"])


def _steps(entries: Iterator[Entry], most: int) -> Iterator[list[Entry]]:
    part: list[Entry] = []
    size = 0
    for each in entries:
        part.append(each)
        size += len(each.event.state) + len(each.event.metadata)
        if len(part) == most or size >= STEP_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


async def _store(connection: Connection, part: list[Entry], after: int) -> int:
    """Store a step behind a position; returns the position of its last event."""
    first, last = part[0].event.position, part[-1].event.position
    if [each.event.position for each in part] != list(range(after + 1, after + len(part) + 1)):
        raise ArchiveRefused(f"has a gap after position {after}: it is no archive of a whole log")
    async with connection.transaction(), connection.cursor() as cursor:
        await cursor.execute(SQL["alone"])
        if await head(connection) != after:
            raise ImportRefused(
                "Another process appends to the database. Stop it: an import needs the log alone."
            )
        async with cursor.copy(SQL["copy_in"]) as copy:
            copy.set_types(TYPES[:-1])
            for each in part:
                await copy.write_row((each.append_id, *each.event[:-1]))
        await cursor.execute(SQL["fill"])
        if any(each.event.type in _ERASURES for each in part):
            await cursor.execute(SQL["mask"], {"first": Int8(first), "last": Int8(last)})
    return last


def _lease_id(each: Entry) -> int:
    """The lease under which a reply began; 0 for every other event."""
    if each.event.type != ReplyStarted.__name__:
        return 0
    try:
        started: ReplyStarted = decode(each.event.type, each.event.state)
    except (TypeError, ValueError, KeyError):
        return 0  # another application's event
    return started.lease_id
