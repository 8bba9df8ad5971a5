"""The provider's server-sent events, split from the bytes as they come.

The SDK's own decoder looks at each line several times, as text, and its HTTP client hands the bytes
through a chain of generators. Both cost more than all that the service does with a delta.
"""

import json
from typing import Any, Final, NamedTuple

import orjson

MOST_BYTES: Final = 1024 * 1024
"""The largest event that is read."""


class ServerSentEvent(NamedTuple):
    """An event as the provider sent it: its name, empty where it has none, and its data."""

    name: bytes
    data: bytes

    def json(self) -> Any:
        """The data. Raises ValueError where it is no JSON.

        Half of a character may stand at the end of a delta, which only the slower parser reads.
        """
        try:
            return orjson.loads(self.data)
        except orjson.JSONDecodeError:
            return json.loads(self.data)


class Splitter:
    """Splits bytes into events by the rules of the WHATWG. `_rest` is the event in the making."""

    def __init__(self) -> None:
        self._rest = b""
        self._ends_with_cr = False

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Take the next bytes; returns the events that they complete, in order. Raises ValueError
        for an event that is too large.

        A line ends with LF, CR or both.
        """
        if not data:
            return []
        if self._ends_with_cr or b"\r" in data:
            data = self._with_plain_ends(data)
        *whole, self._rest = (self._rest + data).split(b"\n\n")
        if len(self._rest) > MOST_BYTES:
            raise ValueError("an event of the provider is too large")
        return [_event(each) for each in whole]

    def _with_plain_ends(self, data: bytes) -> bytes:
        """The same lines, each ended by LF. CR and LF may come in two pieces."""
        if self._ends_with_cr:
            data = data.removeprefix(b"\n")
        self._ends_with_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _event(lines: bytes) -> ServerSentEvent:
    name, data = b"", list[bytes]()
    for line in lines.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
    return ServerSentEvent(name, b"\n".join(data))
