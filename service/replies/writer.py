"""A reply as it is written: operations gathered into frames, stored, and only then shown.

It belongs to its turn, not to a connection. Readers watch its tail.
"""

import asyncio
from typing import Any, Final

from domain.operations import Operation
from service.replies.frame_store import FrameStore
from service.replies.sse import frame
from service.replies.tail import ReplyTail

FLUSH_BYTES: Final = 2_048
UNSTORED_BYTES: Final = 256 * 1024
"""How much is written ahead of a database that is slow or away, before the model is not read."""


class Lost(Exception):
    """Somebody else has taken the reply over; nothing more can be written of it here."""


class ReplyWriter:
    """The writing end of a reply. Owned by its turn, on the service's loop."""

    def __init__(self, tail: ReplyTail, frame_store: FrameStore) -> None:
        self.tail = tail
        self.has_shown = False
        self.lost = asyncio.Event()
        self._frame_store = frame_store
        self._frames: list[bytes | None] = []
        self._frames_bytes = 0
        self._pending: list[Operation] = []
        self._pending_bytes = 0
        self._is_stored = asyncio.Event()
        self._is_stored.set()

    def tell(self, event: str, data: Any) -> None:
        """Add an event, after what is pending."""
        self._flush()
        self._add(event, data)
        self._frame_store.now(self)

    def show(self, ops: list[Operation]) -> None:
        """Add operations: the first at once, then together with those of the next moment."""
        if not ops:
            return
        for op in ops:
            self._collect(op)
        self._is_stored.clear()
        if not self.has_shown or self._pending_bytes >= FLUSH_BYTES:
            self._frame_store.now(self)
        else:
            self._frame_store.soon(self)
        self.has_shown = True

    def reset(self, reason: str) -> None:
        """Discard what was shown, if anything was: it is not the reply after all."""
        if not self.has_shown:
            return
        self.tell("reset", {"reason": reason})
        self.has_shown = False

    async def close(self) -> int:
        """Take the place of the final event and wait until all before it is stored.

        Returns the number of frames before the final one. Raises Lost.
        """
        self._flush()
        self._is_stored.clear()
        self._frames.append(None)
        self._frame_store.now(self)
        await self.all_stored()
        return self.tail.last

    async def all_stored(self) -> None:
        """Wait until everything up to now is stored. Raises Lost."""
        await self._is_stored.wait()
        if self.lost.is_set():
            raise Lost

    async def room(self) -> None:
        """Wait while too much is written ahead of the database. Raises Lost."""
        if self._frames_bytes + self._pending_bytes > UNSTORED_BYTES:
            await self.all_stored()

    # For the one who stores it -------------------------------------------------------------------

    def unstored(self) -> list[bytes | None]:
        """The frames that are to be stored next, from the place after the tail's last."""
        self._flush()
        return [] if self.lost.is_set() else list(self._frames)

    def stored(self, count: int) -> None:
        """The first `count` of them are stored: readers may have them."""
        frames, self._frames = self._frames[:count], self._frames[count:]
        shown = [each for each in frames if each is not None]
        self._frames_bytes -= sum(map(len, shown))
        self.tail.push(self.tail.last + 1, shown)
        if not self._frames and not self._pending:
            self._is_stored.set()

    def lose(self) -> None:
        """Its next place was taken by somebody else."""
        self.lost.set()
        self._is_stored.set()

    # ---------------------------------------------------------------------------------------------

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

    def _flush(self) -> None:
        """Make one chunk of what is pending."""
        if self._pending:
            ops, self._pending, self._pending_bytes = self._pending, [], 0
            self._add("chunk", {"ops": ops})

    def _add(self, event: str, data: Any) -> None:
        n = self.tail.last + len(self._frames) + 1
        encoded = frame(event, data, f"{self.tail.place.reply_id}.{n}")
        self._frames.append(encoded)
        self._frames_bytes += len(encoded)
        self._is_stored.clear()
