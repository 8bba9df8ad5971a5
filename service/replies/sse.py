"""Server-sent events as bytes, by the WHATWG's rules: a line a field, ended by an empty line."""

from typing import Any, Final

import orjson

GREETING: Final = b": throughline\n\n"
"""A comment at once, so that every proxy on the way passes the headers on."""

RETRY: Final = b"retry: 1000\n"
"""A field of the first event of a reply's stream: its reader comes back a second after a cut. It is
no event of its own, because some clients would show an empty one."""

HEARTBEAT: Final = b": still here\n\n"
HEARTBEAT_SECONDS: Final = 10.0


def encode(event: str, data: Any, event_id: str = "") -> bytes:
    """One event as bytes, with its id if it has one."""
    head = f"id: {event_id}\nevent: {event}\ndata: " if event_id else f"event: {event}\ndata: "
    return head.encode() + orjson.dumps(data) + b"\n\n"


def decode(encoded: bytes) -> tuple[str, Any]:
    """The name and the data of an event that `encode` wrote."""
    head, _, data = encoded.partition(b"\ndata: ")
    return head.rpartition(b"event: ")[2].decode(), orjson.loads(data)


def goaway(reason: str) -> bytes:
    """Sends a reader away, to come back in a moment: the stream that it reads goes on."""
    return b"retry: 2000\n" + encode("goaway", {"reason": reason})
