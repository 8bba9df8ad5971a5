"""What is stored of one reply, for any number of readers. A reader holds only a cursor.

A reader takes the newest frames from a ring that all readers share, and older frames from the
table. So a slow reader costs no memory, and all readers are sent the same bytes.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from domain.errors import ReplyUnknown
from domain.events import ReplyMode
from domain.replies.operations import Operation, fold
from projections.replies import ReplyRef
from service.concurrency.ring import Ring
from service.replies.envelope import End
from service.replies.events import Snapshot, encoded
from service.replies.frame_store import FrameStore
from service.replies.sse import (
    GREETING,
    HEARTBEAT,
    HEARTBEAT_SECONDS,
    RETRY,
    decode,
    encode,
    goaway,
)
from service.replies.text_view import View, seen_as

KEPT_BYTES: Final = 256 * 1024
KEPT_FRAMES: Final = 10_000
LONG_WAY: Final = 200
"""Frames that a reader may be behind before it is sent a snapshot in place of them."""

ERASED: Final = "erased"
"""Why readers are sent away from a reply whose session was erased: they find it nowhere."""


@dataclass(slots=True)
class Shown:
    """What frames add up to. `mode` is None until the model has decided. `resets` counts how often
    everything was discarded."""

    mode: ReplyMode | None = None
    ops: list[Operation] = field(default_factory=list[Operation])
    resets: int = 0

    def add(self, frames: Sequence[bytes]) -> None:
        """Take the next frames."""
        for each in frames:
            event, data = decode(each)
            if event == "intent":
                self.mode = data["mode"]
            elif event == "chunk":
                self.ops += data["ops"]
            elif event == "reset":
                self.mode, self.ops = None, []
                self.resets += 1

    @property
    def data(self) -> Any:
        """The reply so far; None when nothing was shown."""
        return fold(self.ops) if self.ops else None


class ReplyTail:
    """Owned by the service's loop. Whatever stores or polls a reply's frames pushes them here.

    Frames are numbered from 1, and `last` is the last frame that came here. Every ring ends at
    `last`. The ring of a view other than `ops` is made when its first reader comes, and from then
    on each frame is turned into that view once for all readers. Readers wait on the ring `ops`.
    """

    def __init__(self, ref: ReplyRef, frame_store: FrameStore) -> None:
        self.ref = ref
        self.last = 0
        self.end: End | None = None
        self._frame_store = frame_store
        self._reason_to_leave: str | None = None
        self._frames: Ring[bytes] = Ring(KEPT_FRAMES, KEPT_BYTES)
        self._rings: dict[View, Ring[bytes]] = {"ops": self._frames}

    def push(self, first: int, frames: Sequence[bytes]) -> None:
        """Add stored frames. The first has the number `first`; known frames are skipped."""
        fresh = frames[max(0, self.last + 1 - first) :]
        if not fresh:
            return
        numbers = range(self.last + 1, self.last + 1 + len(fresh))
        for view, ring in self._rings.items():
            shown = seen_as(view, fresh)
            ring.extend(numbers, shown, [len(each) for each in shown])
        self.last = numbers[-1]

    def finish(self, end: End) -> None:
        """State that the reply has ended, and that its end is stored."""
        self.end = end
        self._frames.wake()

    def leave(self, reason: str) -> None:
        """Send the readers away without an end: they find it at another server, or later."""
        self._reason_to_leave = reason
        self._frames.wake()

    @property
    def upto(self) -> int:
        """The last frame before the final one, as far as is known."""
        return self.last if self.end is None else self.end.frames

    @property
    def has_left(self) -> bool:
        """Whether the readers were sent away."""
        return self._reason_to_leave is not None

    async def wait(self) -> End | None:
        """Wait for the end; None when the readers were sent away. Raises ReplyUnknown when the
        reply was erased."""
        while self.end is None and not self.has_left:
            await self._frames.wait(HEARTBEAT_SECONDS)
        if self._reason_to_leave == ERASED:
            raise ReplyUnknown
        return self.end

    async def watch(self, after: int, view: View) -> AsyncGenerator[bytes]:
        """All events after the frame `after`, to the last; comments where it is silent."""
        yield GREETING
        retry = RETRY
        is_far_behind = self.upto - after > LONG_WAY
        while True:
            if is_far_behind:
                snapshot, after = await self._snapshot()
                yield retry + snapshot
                retry = b""
            frames = await self._newer(after, view)
            # Frames are deleted after a day; the end stays.
            is_far_behind = not frames and self.end is not None and after < self.upto
            if frames:
                after += len(frames)
                if shown := b"".join(frames):
                    yield retry + shown
                    retry = b""
            elif is_far_behind:
                continue
            elif self.end is not None:
                yield retry + encode("final", self.end.envelope, self._id(self.end.frames + 1))
                return
            elif self._reason_to_leave is not None:
                yield goaway(self._reason_to_leave)
                return
            elif not await self._frames.wait(HEARTBEAT_SECONDS):
                yield HEARTBEAT

    async def shown(self) -> tuple[Shown, int]:
        """What was shown up to now, and up to which frame."""
        shown, through = Shown(), 0
        while through < self.last:
            frames = await self._frame_store.after(self.ref, through)
            if not frames:
                break
            shown.add(frames)
            through += len(frames)
        return shown, through

    async def _snapshot(self) -> tuple[bytes, int]:
        """One event in place of many, made from the end if the reply has ended; and the number of
        the last frame that it stands for."""
        if self.end is not None:
            through, said = self.end.frames, self.end.envelope
            event = Snapshot(mode=said["mode"], data=said["data"], through=through)
        else:
            shown, through = await self.shown()
            event = Snapshot(mode=shown.mode, data=shown.data, through=through)
        return encoded(event, self.ref.reply_id.encode(), through), through

    async def _newer(self, after: int, view: View) -> Sequence[bytes]:
        """The next frames, from memory if they are there, else from the table."""
        if after >= self.upto:
            return ()
        kept = self._ring(view).after(after) if after < self.last else None
        if kept is not None:
            return kept
        return seen_as(view, await self._frame_store.after(self.ref, after))

    def _ring(self, view: View) -> Ring[bytes]:
        if view not in self._rings:
            first, kept = self._frames.floor + 1, self._frames.after(self._frames.floor) or []
            ring: Ring[bytes] = Ring(KEPT_FRAMES, KEPT_BYTES, floor=self._frames.floor)
            shown = seen_as(view, kept)
            ring.extend(range(first, first + len(kept)), shown, [len(each) for each in shown])
            self._rings[view] = ring
        return self._rings[view]

    def _id(self, number: int) -> str:
        return f"{self.ref.reply_id}.{number}"
