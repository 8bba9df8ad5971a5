"""`throughline events export` and `import`: the log as a file, and a file as the log."""

import os
import shutil
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from service.cli.console import err, out
from service.cli.database import as_owner, as_owner_of, bring_up_to_date, database
from service.cli.events import options
from service.cli.events.progress import bars
from service.settings import Settings

if TYPE_CHECKING:
    from service.postgres.connections import Connection
    from service.replay.archive import ArchiveReader, ArchiveWriter, Header
    from service.replay.reading import EventFilter


class FileForm(StrEnum):
    """The format of an exported file."""

    NDJSON = "ndjson"
    PARQUET = "parquet"


def export_events(
    file: Annotated[Path, typer.Argument(help="The new file; - is stdout.")],
    form: Annotated[
        FileForm, typer.Option("--format", help="Lines of JSON, which can be imported, or Parquet.")
    ] = FileForm.NDJSON,
    begin: options.From = "1",
    end: options.To = "",
    tenant: options.Tenant = None,
    project: options.Project = None,
    session: options.Session = None,
    stream: options.Stream = None,
    types: options.Types = None,
    resume: Annotated[bool, typer.Option(help="Finish a file that an export began.")] = False,
) -> None:
    """Write events to a file, as of one moment, while the service runs."""
    wanted = options.chosen(tenant, project, session, stream, types)
    is_stdout = str(file) == "-"
    if is_stdout and (resume or form is FileForm.PARQUET):
        raise typer.BadParameter("stdout takes new exports as ndjson only: name a file")
    if resume and form is FileForm.PARQUET:
        raise typer.BadParameter("a Parquet file cannot be resumed: remove it, and export again")
    if resume and not file.is_file():
        raise typer.BadParameter(f"there is no file {file} to resume")
    if not resume and file.exists():
        raise typer.BadParameter(f"{file} exists. Name another file, or finish it with --resume")
    if resume:
        with _opened(file, "r+b") as opened:
            said = _resume(opened, file, wanted, begin, end)
    elif form is FileForm.PARQUET:
        said = _export_parquet(file, wanted, begin, end)
    else:
        with _stdout() if is_stdout else _opened(file, "xb") as opened:
            said = _export(opened, wanted, begin, end)
    err.print(f"{'stdout' if is_stdout else file}: {said}")


def _export(opened: BinaryIO, wanted: "EventFilter", begin: str, end: str) -> str:
    from service.replay.archive import ArchiveWriter
    from service.replay.exporting import write_archive

    async def work(owner: "Connection") -> "ArchiveWriter":
        writer = ArchiveWriter(opened, await _header(owner, wanted, begin, end))
        writer.begin()
        with bars() as bar:
            await write_archive(owner, writer, bar("export"))
        return writer

    return _described(as_owner(work))


def _resume(opened: BinaryIO, file: Path, wanted: "EventFilter", begin: str, end: str) -> str:
    """Go on with a file. Without a whole header it has nothing yet, and the export begins anew."""
    from service.replay.archive import ArchiveRefused, ArchiveWriter
    from service.replay.exporting import require_same_log, write_archive

    async def work(owner: "Connection") -> "ArchiveWriter":
        writer, last, is_complete = ArchiveWriter.resumed(opened)
        header = writer.header
        if header.chosen != wanted:
            raise ArchiveRefused("has other events. Give the options with which it was begun")
        if header.after != await options.after_of(owner, begin):
            # A span such as 2h ends at another event each time, so the position is named.
            first = header.after + 1
            raise ArchiveRefused(f"begins with another event. Give it as --from {first}")
        await require_same_log(owner, header, last)
        if not is_complete:
            with bars() as bar:
                await write_archive(owner, writer, bar("export"))
        return writer

    if not opened.readline().endswith(b"\n"):
        opened.seek(0)
        opened.truncate()
        return _export(opened, wanted, begin, end)
    try:
        return _described(as_owner(work))
    except ArchiveRefused as error:
        raise ArchiveRefused(f"{file} {error}.") from None


async def _header(owner: "Connection", wanted: "EventFilter", begin: str, end: str) -> "Header":
    from service.replay.exporting import header_of

    after = await options.after_of(owner, begin)
    upto = await options.upto_of(owner, end)
    return await header_of(owner, wanted, after=after, upto=upto)


def _described(writer: "ArchiveWriter") -> str:
    header = writer.header
    return f"{writer.events} events after position {header.after} up to {header.upto}"


def _export_parquet(file: Path, wanted: "EventFilter", begin: str, end: str) -> str:
    from service.replay.parquet import write_parquet
    from service.replay.reading import whole

    beside = file.with_name(f"{file.name}.part")

    async def work(owner: "Connection") -> int:
        header = await _header(owner, wanted, begin, end)
        rows = whole(owner, wanted, after=header.after, upto=header.upto)
        with bars() as bar:
            return await write_parquet(beside, rows, header, bar("export"))

    try:
        with _opened(beside, "wb"):
            count = as_owner(work)
        beside.rename(file)
    finally:
        beside.unlink(missing_ok=True)
    return f"{count} events"


@contextmanager
def _stdout() -> Generator[BinaryIO]:
    yield sys.stdout.buffer


@contextmanager
def _opened(path: Path, mode: str) -> Generator[BinaryIO]:
    """A file that its owner alone may read, because it has what people wrote. It is on the disk at
    the end."""

    def private(name: str, flags: int) -> int:
        return os.open(name, flags, 0o600)

    with open(path, mode, opener=private) as file:
        yield file  # type: ignore[misc]
        file.flush()
        os.fsync(file.fileno())


# Import ------------------------------------------------------------------------------------------


def import_archive(
    file: Annotated[
        Path, typer.Argument(help="A file that `throughline events export` wrote; - is stdin.")
    ],
) -> None:
    """Fill an empty log from an exported one: the same positions, ids, times and bytes.

    A cut import goes on with the same command. Then the read models are rebuilt.
    """
    from service.replay.archive import ArchiveReader, ArchiveRefused

    is_stdin = str(file) == "-"
    if not is_stdin and not file.is_file():
        raise typer.BadParameter(f"there is no file {file}")
    name = "stdin" if is_stdin else str(file)
    with _copied_stdin() if is_stdin else file.open("rb") as opened:
        try:
            _import(name, ArchiveReader(opened))
        except ArchiveRefused as error:
            raise ArchiveRefused(f"{name} {error}.") from None


@contextmanager
def _copied_stdin() -> Generator[BinaryIO]:
    """All of stdin in a file without a name: an archive is read twice, to check it and to store
    it."""
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(sys.stdin.buffer, copy)
        yield copy


def _import(name: str, archive: "ArchiveReader") -> None:
    import asyncio

    from service.replay.importing import import_events, rebuild_read_models

    async def work(owner: "Connection") -> None:
        done = await import_events(owner, archive, bar("import"))
        bar.clear()
        out.print(f"{name}: {done.stored} events imported, {done.known} were in the log already")
        rebuilt = await rebuild_read_models(owner, bar)
        bar.clear()
        out.print(f"{len(rebuilt)} read models rebuilt from the log")

    with bars() as bar:
        archive.check(bar("check"))
        with database(Settings()) as found:
            asyncio.run(bring_up_to_date(found.direct_url))
            asyncio.run(as_owner_of(found.direct_url, work))
