"""An archive: a file with events of the log, from which the same log can be made again.

The first line is the header: which events these are. Each further line is an event. The last line
is the trailer: how many events there are, and the SHA-256 of all bytes before the trailer. So a
reader notices a file that was cut or changed. Nothing in the file depends on when or where it was
written: two archives of the same events are the same bytes.

    {"format":"throughline-events/1","after":0,"upto":2}
    {"position":1,"appendId":"...","recordedAt":"...",...,"metadata":{},"state":{...}}
    {"position":2,"appendId":"...","recordedAt":"...",...,"metadata":{},"state":{...}}
    {"events":2,"sha256":"..."}

State and metadata are the stored bytes, unchanged. Other applications may keep states in the log
that do not fit into a line of JSON. Such a state is `stateBase64`, and such metadata are
`metadataText`.
"""

from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from datetime import datetime
from hashlib import sha256
from typing import BinaryIO, Final, Literal
from uuid import UUID

import orjson
from pydantic import ValidationError

from service.eventlog.store import Recorded
from service.replay.reading import Entry, EventFilter
from service.wire import Wire

Progress = Callable[[int, int], None]
"""Called with how far a work has come, and with its end."""

_FORMAT: Final = "throughline-events/1"
_LONGEST_LINE: Final = 256 * 1024 * 1024
_EVENT: Final = b'{"position":'
_TRAILER: Final = b'{"events":'
_METADATA: Final = b',"metadata'
_STATE: Final = b',"state'
PROGRESS_EVERY: Final = 5_000


class ArchiveRefused(RuntimeError):
    """A file is no archive, or not all of an archive. The message says what to do."""


class Header(Wire):
    """Which events are in an archive: those after `after` up to `upto` that match all the rest.

    `follows` is the append that wrote the position `after`, by which an import finds out whether
    the events continue a log.
    """

    format: Literal["throughline-events/1"] = _FORMAT
    after: int = 0
    upto: int
    follows: UUID | None = None
    tenant: str | None = None
    project: str | None = None
    streams: tuple[str, ...] | None = None
    types: tuple[str, ...] | None = None

    @property
    def chosen(self) -> EventFilter:
        """What the events match."""
        return EventFilter(
            tenant_id=self.tenant,
            project_id=self.project,
            stream_ids=self.streams,
            types=self.types,
        )


class Trailer(Wire):
    """The last line: the number of events, and the SHA-256 of all lines before, in hexadecimal."""

    events: int
    sha256: str


class _Head(Wire):
    """What stands in an event's line before its metadata and its state."""

    position: int
    append_id: UUID
    recorded_at: datetime
    tenant: str
    stream: str
    version: int
    type: str
    schema_version: int
    project_id: str | None = None


def dumped(part: Header | Trailer) -> bytes:
    """The header or the trailer as a line."""
    return part.model_dump_json(by_alias=True, exclude_none=True).encode() + b"\n"


# An event's line ---------------------------------------------------------------------------------


def line(event: Recorded, append_id: UUID | None = None) -> bytes:
    """The event as a line of JSON. An unknown id of the append is left out."""
    head = {
        "position": event.position,
        **({} if append_id is None else {"appendId": append_id}),
        "recordedAt": event.recorded_at,
        "tenant": event.tenant_id,
        "stream": event.stream_id,
        "version": event.version,
        "type": event.type,
        "schemaVersion": event.schema_version,
        **({} if event.project_id is None else {"projectId": event.project_id}),
    }
    return b"".join(
        (
            orjson.dumps(head, option=orjson.OPT_UTC_Z)[:-1],
            _METADATA,
            _metadata(event.metadata),
            _STATE,
            _state(event.state),
            b"}\n",
        )
    )


def _metadata(stored: str) -> bytes:
    if "\n" in stored or "\r" in stored:
        return b'Text":' + orjson.dumps(stored)
    return b'":' + stored.encode()


def _state(stored: bytes) -> bytes:
    if b"\n" in stored or b"\r" in stored or not _is_json(stored):
        return b'Base64":"' + b64encode(stored) + b'"'
    return b'":' + stored


def entry(written: bytes) -> Entry:
    """The event of a line. Raises ValueError."""
    at = written.index(_METADATA)
    head = _Head.model_validate_json(written[:at] + b"}")
    metadata, rest = _split(written[at + len(_METADATA) : -2])
    return Entry(
        head.append_id,
        Recorded(
            position=head.position,
            tenant_id=head.tenant,
            stream_id=head.stream,
            version=head.version,
            type=head.type,
            schema_version=head.schema_version,
            project_id=head.project_id,
            state=b64decode(rest[9:-1], validate=True) if rest[:1] == b"B" else rest[2:],
            metadata=metadata,
            recorded_at=head.recorded_at,
            append_tail=head.append_id.bytes[-4:],
        ),
    )


def _split(written: bytes) -> tuple[str, bytes]:
    """The metadata, and what follows the key of the state.

    The metadata may have a key `state` of their own. Only where the metadata end is everything
    before a JSON value.
    """
    begin = written.index(b":") + 1
    end = written.index(_STATE, begin)
    while not _is_json(written[begin:end]):
        end = written.index(_STATE, end + 1)
    metadata = written[begin:end]
    text = orjson.loads(metadata) if written[:1] == b"T" else metadata.decode()
    return text, written[end + len(_STATE) :]


def _is_json(text: bytes) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


# Writing -----------------------------------------------------------------------------------------


class ArchiveWriter:
    """Writes an archive to a file; counts and digests what it writes."""

    def __init__(self, file: BinaryIO, header: Header) -> None:
        self._file = file
        self._digest = sha256()
        self.header = header
        self.events = 0
        self.position = header.after
        """The position of the last event in the file."""

    def begin(self) -> None:
        """Write the header."""
        self._write(dumped(self.header))

    def write(self, each: Entry) -> None:
        """Write an event."""
        self._write(line(each.event, each.append_id))
        self.events += 1
        self.position = each.event.position

    def finish(self) -> None:
        """Write the trailer."""
        self._file.write(dumped(Trailer(events=self.events, sha256=self._digest.hexdigest())))
        self._file.flush()

    def _write(self, written: bytes) -> None:
        self._digest.update(written)
        self._file.write(written)

    @classmethod
    def resumed(cls, file: BinaryIO) -> tuple["ArchiveWriter", Entry | None, bool]:
        """Go on with a file that was cut, after its last whole line. The header is whole.

        Returns the writer, the last event of the file, and whether the file has its trailer: then
        nothing is missing. Raises ArchiveRefused.
        """
        reader = ArchiveReader(file)
        writer = cls(file, reader.header)
        writer._digest.update(reader.header_line)
        last: Entry | None = None
        end = len(reader.header_line)
        for written in reader.lines():
            if written.startswith(_TRAILER):
                reader.require_end(written, writer.events, writer._digest.hexdigest())
                return writer, last, True
            last = reader.entry(written)
            writer._digest.update(written)
            writer.events += 1
            writer.position = last.event.position
            end += len(written)
        file.seek(end)
        file.truncate()
        return writer, last, False


# Reading -----------------------------------------------------------------------------------------


class ArchiveReader:
    """Reads an archive. Raises ArchiveRefused where the file is none."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._file.seek(0)
        self.header_line = file.readline(_LONGEST_LINE)
        self._number = 1
        try:
            self.header = Header.model_validate_json(self.header_line)
        except ValidationError:
            raise ArchiveRefused(
                f"is no archive of events: its first line must be a header of {_FORMAT}"
            ) from None

    def lines(self) -> Iterator[bytes]:
        """The whole lines after the header. A last line without its end is left out."""
        self._file.seek(len(self.header_line))
        self._number = 1
        while (written := self._file.readline(_LONGEST_LINE)).endswith(b"\n"):
            self._number += 1
            yield written

    def entry(self, written: bytes) -> Entry:
        """The event of a line."""
        try:
            if not written.startswith(_EVENT):
                raise ValueError
            return entry(written)
        except ValueError:
            raise ArchiveRefused(
                f"was changed: line {self._number} is no event. Use an unchanged copy"
            ) from None

    def entries(self) -> Iterator[Entry]:
        """The events, of a file that was checked."""
        for written in self.lines():
            if not written.startswith(_TRAILER):
                yield self.entry(written)

    def check(self, progress: Progress) -> Trailer:
        """Read the whole file, and compare it with its trailer. Returns the trailer."""
        digest = sha256(self.header_line)
        for events, written in enumerate(self.lines()):
            if written.startswith(_TRAILER):
                return self.require_end(written, events, digest.hexdigest())
            digest.update(written)
            if events % PROGRESS_EVERY == 0:
                progress(events, 0)
        raise ArchiveRefused(
            "was cut: its last line is missing. Finish it with `throughline events export --resume`"
        )

    def require_end(self, written: bytes, events: int, digest: str) -> Trailer:
        """Raises ArchiveRefused unless this line is the last line and counts what was read. Returns
        the trailer."""
        try:
            trailer = Trailer.model_validate_json(written)
        except ValidationError:
            raise ArchiveRefused("was changed: its last line cannot be read") from None
        if (trailer.events, trailer.sha256) != (events, digest) or self._file.read(1):
            raise ArchiveRefused(
                "was changed: its last line counts other events than it has. Use an unchanged copy"
            )
        return trailer
