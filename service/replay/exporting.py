"""Events of the log into a file: an archive, which can be resumed, or a Parquet file."""

from projections.projection import head
from service.postgres.connections import Connection
from service.replay.archive import (
    PROGRESS_EVERY,
    ArchiveRefused,
    ArchiveWriter,
    Header,
    Progress,
)
from service.replay.reading import Entry, EventFilter, append_at, whole


async def header_of(
    connection: Connection, chosen: EventFilter, *, after: int, upto: int
) -> Header:
    """The header of an export that begins now. It ends at the head of the log, or before."""
    return Header(
        after=after,
        upto=min(upto, await head(connection)),
        follows=await append_at(connection, after),
        tenant=chosen.tenant_id,
        project=chosen.project_id,
        streams=chosen.stream_ids,
        types=chosen.types,
    )


async def write_archive(
    connection: Connection, writer: ArchiveWriter, progress: Progress = lambda _at, _end: None
) -> None:
    """Write the events that the archive lacks, and its trailer."""
    header = writer.header
    rows = whole(connection, header.chosen, after=writer.position, upto=header.upto)
    async for each in rows:
        writer.write(each)
        if writer.events % PROGRESS_EVERY == 0:
            progress(writer.position - header.after, header.upto - header.after)
    writer.finish()


async def require_same_log(connection: Connection, header: Header, last: Entry | None) -> None:
    """Raises ArchiveRefused where the log is not the log that the archive comes from."""
    position, append_id = (
        (header.after, header.follows) if last is None else (last.event.position, last.append_id)
    )
    if await append_at(connection, position) != append_id:
        raise ArchiveRefused(
            f"is of another log: its event at position {position} is not the event of this"
            " database. Name the database of the export, or write to another file"
        )
