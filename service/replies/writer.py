"""A reply as it is written: operations gathered into frames, stored, and only then shown.

A writer belongs to its turn, not to a connection. Readers watch its tail.
"""

import asyncio
from collections.abc import Sequence
from time import monotonic_ns
from typing import Final

from domain.replies.operations import Operation
from service.concurrency.batcher import Batcher
from service.ops.metrics import RESETS
from service.replies.events import Chunk, ReplyEvent, Reset, encoded
from service.replies.frame_store import FrameStore
from service.replies.tail import ReplyTail

FLUSH_BYTES: Final = 2_048
UNSTORED_BYTES: Final = 256 * 1024
"""How much is written ahead of a database that is slow or away, before the model is not read."""

GATHER_SECONDS: Final = 0.05
MOST_GATHER_SECONDS: Final = 0.1
GATHER_SECONDS_A_REPLY: Final = 0.001
"""How long text is gathered before it is stored and shown. The more replies are written at once,
the longer it is gathered: then the same text is in fewer frames, and a process carries more
replies."""

MOST_WRITERS: Final = 10_000
"""Writers whose frames go into one insert."""


class Lost(Exception):
    """Another process has taken the reply over; nothing more can be written of it here."""


class ReplyWriter:
    """The writing end of a reply. Owned by its turn, on the service's loop.

    What a writer has is in three parts, in order: the frames up to `tail.last` are stored;
    `_frames` are to be stored next, so that the first of them has the number `tail.last + 1`;
    `_pending` are operations that become the frame after those. `_frames_bytes` and
    `_pending_bytes` are their sizes. `_is_stored` is set exactly while both lists are empty, until
    the reply is lost. Nothing is added after the None that stands for the final event, and nothing
    of a lost reply is stored or shown here: its frames are read from the table. `first_shown_ns` is
    when the first text was shown, by the clock of this process; a reset does not change it.
    `resets` counts how often the readers had to discard what was shown.
    """

    def __init__(self, tail: ReplyTail, flusher: "Flusher") -> None:
        self.tail = tail
        self.has_shown = False
        self.first_shown_ns: int | None = None
        self.resets = 0
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._flusher = flusher
        self._reply_id = tail.ref.reply_id.encode()
        self._frames: list[bytes | None] = []
        self._frames_bytes = 0
        self._pending: list[Operation] = []
        self._pending_bytes = 0
        self._is_stored = asyncio.Event()
        self._is_stored.set()

    def emit(self, event: ReplyEvent) -> None:
        """Add an event, after what is pending."""
        self._close_chunk()
        self._add(event)
        self._is_stored.clear()
        self._flusher.add(self, is_urgent=True)

    def show(self, ops: Sequence[Operation]) -> None:
        """Add operations: the first at once, the later operations of a moment together."""
        if not ops:
            return
        for op in ops:
            self._gather(op)
        self._is_stored.clear()
        is_urgent = not self.has_shown or self._pending_bytes >= FLUSH_BYTES
        self._flusher.add(self, is_urgent=is_urgent)
        self.has_shown = True
        if self.first_shown_ns is None:
            self.first_shown_ns = monotonic_ns()

    def reset(self, reason: str) -> None:
        """Discard what was shown, if anything was: it is not part of the reply after all."""
        if self.has_shown:
            self.emit(Reset(reason=reason))
            self.resets += 1
            RESETS.labels(reason).inc()
            self.has_shown = False

    async def close(self) -> int:
        """Claim the number of the final event and wait until all frames before it are stored.

        Returns the number of frames before the final one. Raises Lost.
        """
        self._close_chunk()
        self._is_stored.clear()
        self._frames.append(None)
        self._flusher.add(self, is_urgent=True)
        await self.all_stored()
        return self.tail.last

    async def all_stored(self) -> None:
        """Wait until everything up to now is stored. Raises Lost."""
        if not self.lost.done():
            await self._is_stored.wait()
        if self.lost.done():
            raise Lost

    async def wait_for_capacity(self) -> None:
        """Wait while too much is written ahead of the database. Raises Lost."""
        if self._frames_bytes + self._pending_bytes > UNSTORED_BYTES:
            await self.all_stored()

    # For the flusher -----------------------------------------------------------------------------

    def unstored(self) -> list[bytes | None]:
        """The frames to store next, from the number after the tail's last; none of a lost reply."""
        self._close_chunk()
        return [] if self.lost.done() else list(self._frames)

    def stored(self, count: int) -> None:
        """Show the first `count` of these frames to the readers: they are stored."""
        if self.lost.done():
            return
        frames, self._frames = self._frames[:count], self._frames[count:]
        shown = [each for each in frames if each is not None]
        self._frames_bytes -= sum(map(len, shown))
        self.tail.push(self.tail.last + 1, shown)
        if not self._frames and not self._pending:
            self._is_stored.set()

    def lose(self) -> None:
        """Stop for good: another process has taken the reply over."""
        if not self.lost.done():
            self.lost.set_result(None)
        self._is_stored.set()

    # ---------------------------------------------------------------------------------------------

    def _gather(self, op: Operation) -> None:
        """Text that continues the last operation's string becomes part of that operation."""
        last = self._pending[-1] if self._pending else None
        if op["op"] == "append":
            self._pending_bytes += len(op["text"])
            if last is not None and last["op"] == "append" and last["path"] == op["path"]:
                self._pending[-1] = {**last, "text": last["text"] + op["text"]}
                return
        self._pending_bytes += 64
        self._pending.append(op)

    def _close_chunk(self) -> None:
        """Make one chunk of what is pending."""
        if self._pending:
            ops, self._pending, self._pending_bytes = self._pending, [], 0
            chunk: Chunk = {"ops": ops}
            self._add(chunk)

    def _add(self, event: ReplyEvent) -> None:
        frame = encoded(event, self._reply_id, self.tail.last + len(self._frames) + 1)
        self._frames.append(frame)
        self._frames_bytes += len(frame)


class Flusher:
    """Stores what the writers of this process have, in one insert at a time: text together with the
    text of all replies of a moment, and what is urgent at once.

    What a writer gets while an insert runs goes into a later insert, in larger chunks. Owned by the
    service's loop; `run` is its one task. `_is_urgent` has the writers that wait.
    """

    def __init__(self, frame_store: FrameStore) -> None:
        self._frame_store = frame_store
        self._is_urgent: dict[ReplyWriter, bool] = {}
        self._batcher = Batcher(
            self._flush, most=MOST_WRITERS, gather_seconds=GATHER_SECONDS, urgent_alone=True
        )

    def add(self, writer: ReplyWriter, *, is_urgent: bool) -> None:
        """Have the writer's frames stored: at once, or with the other frames of the next moment."""
        was_urgent = self._is_urgent.get(writer)
        if was_urgent is None:
            self._is_urgent[writer] = is_urgent
            self._batcher.add(writer, is_urgent=is_urgent)
        elif is_urgent and not was_urgent:
            self._is_urgent[writer] = True
            self._batcher.hasten(writer)

    @property
    def waited_seconds(self) -> float:
        """For how long frames have waited without one being stored."""
        return self._batcher.waited_seconds

    def close(self) -> None:
        """State that no writer has more: `run` ends when everything is stored."""
        self._batcher.close()

    async def run(self) -> None:
        """Store until the flusher is closed and no writer waits."""
        try:
            await self._batcher.run()
        finally:
            await self._frame_store.disconnect()

    async def _flush(self, waiting: list[ReplyWriter]) -> None:
        # What a writer gets from here on makes it wait anew.
        gathered = sum(not self._is_urgent.pop(writer) for writer in waiting)
        if gathered:
            self._batcher.gather_seconds = gather_seconds(gathered)
        unstored = {writer: frames for writer in waiting if (frames := writer.unstored())}
        if not unstored:
            return
        are_stored = await self._frame_store.store(
            [(writer.tail.ref, writer.tail.last + 1, frames) for writer, frames in unstored.items()]
        )
        for (writer, frames), is_stored in zip(unstored.items(), are_stored, strict=True):
            if is_stored:
                writer.stored(len(frames))
            else:
                writer.lose()


def gather_seconds(replies: int) -> float:
    """How long text is gathered while this number of replies is written at once."""
    return min(max(GATHER_SECONDS, replies * GATHER_SECONDS_A_REPLY), MOST_GATHER_SECONDS)
