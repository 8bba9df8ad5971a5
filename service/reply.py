"""A running reply as it is watched: its events in order, for any number of readers.

The reply belongs to its turn, not to a connection: readers come and go with a cursor each, and what
they are sent are the same bytes.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import orjson

from domain.operations import Operation

HEARTBEAT_SECONDS: Final = 10.0
FLUSH_SECONDS: Final = 0.05
FLUSH_BYTES: Final = 2_048


def frame(event: str, data: Any, event_id: str | None = None) -> bytes:
    """One server-sent event, by the WHATWG's rules: a line a field, ended by an empty line."""
    head = f"id: {event_id}\nevent: {event}\ndata: " if event_id else f"event: {event}\ndata: "
    return head.encode() + orjson.dumps(data) + b"\n\n"


class Reply:
    """The events of one reply, kept in memory while it is watched. Owned by the service's loop.

    Its size is bounded by the longest reply that the parser takes.
    """

    def __init__(self, message_id: str) -> None:
        self.message_id = message_id
        self.final: dict[str, Any] | None = None
        self._frames: list[bytes] = []
        self._is_over = False
        self._news = asyncio.Event()
        self._pending: list[Operation] = []
        self._pending_bytes = 0
        self._has_shown = False
        self._flush_timer: asyncio.TimerHandle | None = None

    def tell(self, event: str, data: Any) -> None:
        """Add an event, after what is pending."""
        self.flush()
        self._add(event, data)

    def show(self, ops: list[Operation]) -> None:
        """Add operations: the first at once, then together with those of the next moment."""
        if not ops:
            return
        for op in ops:
            self._collect(op)
        if not self._has_shown or self._pending_bytes >= FLUSH_BYTES:
            self.flush()
        elif self._flush_timer is None:
            self._flush_timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)
        self._has_shown = True

    def _collect(self, op: Operation) -> None:
        """Text that continues the last operation's string becomes part of it."""
        last = self._pending[-1] if self._pending else None
        if op["op"] == "append":
            self._pending_bytes += len(op["text"])
            if last is not None and last["op"] == "append" and last["path"] == op["path"]:
                self._pending[-1] = {**last, "text": last["text"] + op["text"]}
                return
        self._pending_bytes += 64
        self._pending.append(op)

    def flush(self) -> None:
        """Send what is pending as one chunk."""
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None
        if self._pending:
            ops, self._pending, self._pending_bytes = self._pending, [], 0
            self._add("chunk", {"ops": ops})

    def reset(self, reason: str) -> None:
        """Discard what was shown, if anything was: it is not the reply after all."""
        if not self._has_shown:
            return
        self.tell("reset", {"reason": reason})
        self._has_shown = False

    def end(self, final: dict[str, Any]) -> None:
        """Add the final envelope; nothing comes after it."""
        self.tell("final", final)
        self.final = final
        self._close()

    def abandon(self, reason: str) -> None:
        """Send readers away without an end: it will be found in the log later."""
        self.flush()
        self._frames.append(b"retry: 2000\n" + frame("goaway", {"reason": reason}))
        self._close()

    def _close(self) -> None:
        self._is_over = True
        self._news.set()

    def _add(self, event: str, data: Any) -> None:
        event_id = f"{self.message_id}.{len(self._frames) + 1}"
        self._frames.append(frame(event, data, event_id))
        self._news.set()
        self._news = asyncio.Event()

    async def watch(self) -> AsyncIterator[bytes]:
        """All events from the first to the last, as they come; a comment where it is silent."""
        sent = 0
        yield b": throughline\n\n"
        while True:
            if sent < len(self._frames):
                batch = self._frames[sent:]
                sent += len(batch)
                yield b"".join(batch)
            elif self._is_over:
                return
            else:
                try:
                    async with asyncio.timeout(HEARTBEAT_SECONDS):
                        await self._news.wait()
                except TimeoutError:
                    yield b": still here\n\n"

    async def wait(self) -> dict[str, Any] | None:
        """The final envelope when it is there; None when the reply was abandoned."""
        while not self._is_over:
            await self._news.wait()
        return self.final
