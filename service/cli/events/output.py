"""Events on stdout: lines of JSON for programs, a table for people, or CloudEvents."""

import sys
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, BinaryIO, Final

import typer

from service.cli.console import out

if TYPE_CHECKING:
    from uuid import UUID

    from service.eventlog.store import Recorded
    from service.replay.reading import Entry


class Form(StrEnum):
    """How events are printed."""

    TABLE = "table"
    JSON = "json"
    NDJSON = "ndjson"
    CLOUDEVENTS = "cloudevents"


Format = Annotated[
    Form | None,
    typer.Option(
        "--format",
        help="A table, JSON on several lines, a line of JSON an event, or CloudEvents."
        " A table on a terminal, and ndjson elsewhere.",
    ),
]
_CONTROL: Final = {n: f"\\u{n:04x}" for n in (*range(0x20), *range(0x7F, 0xA0))}
"""Control characters, which a terminal would obey, and their escapes in JSON. With the escapes JSON
has the same meaning, except for its line ends."""


class Printer:
    """Prints events in one form, to stdout unless another file is given.

    `prev` is the cursor of the event before the first one.
    """

    def __init__(
        self,
        form: Form | None,
        prev: str | None = None,
        file: BinaryIO | None = None,
    ) -> None:
        self.form = form or (Form.TABLE if out.is_terminal else Form.NDJSON)
        self._file = file or sys.stdout.buffer
        self._prev = prev
        self._encode: Callable[[Recorded, UUID | None], bytes] = {
            Form.TABLE: self._row,
            Form.JSON: self._indented,
            Form.NDJSON: self._line,
            Form.CLOUDEVENTS: self._cloud_event,
        }[self.form]

    def print_entries(self, entries: Iterable["Entry"]) -> None:
        """Print events that come with their appends."""
        self._write(self._encode(each.event, each.append_id) for each in entries)

    def print_events(self, events: Iterable["Recorded"]) -> None:
        """Print events of the live log."""
        self._write(self._encode(each, None) for each in events)

    def _write(self, texts: Iterable[bytes]) -> None:
        for text in texts:
            self._file.write(text)
        self._file.flush()

    def _line(self, event: "Recorded", append_id: "UUID | None") -> bytes:
        from service.replay.archive import line

        return line(event, append_id)

    def _indented(self, event: "Recorded", append_id: "UUID | None") -> bytes:
        import orjson

        members = orjson.loads(self._line(event, append_id))
        text = orjson.dumps(members, option=orjson.OPT_INDENT_2).decode()
        return text.translate({**_CONTROL, 10: "\n"}).encode() + b"\n"

    def _row(self, event: "Recorded", _: "UUID | None") -> bytes:
        place = f"{event.position:>8}  {event.recorded_at:%Y-%m-%d %H:%M:%S}  {event.tenant_id}"
        row = f"{place}  {event.stream_id}/{event.version}  {event.type}  "
        text = f"{row}{event.state.decode(errors='replace')}".translate(_CONTROL)
        return f"{text[: out.width]}\n".encode()

    def _cloud_event(self, event: "Recorded", _: "UUID | None") -> bytes:
        from service.eventlog.cloudevents import cloud_event

        prev, self._prev = self._prev, event.cursor
        return cloud_event(event, prev) + b"\n"
