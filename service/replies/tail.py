"""What is stored of one reply, for any number of readers, who hold nothing but a cursor.

A reader takes from the newest frames, which all readers share, and from the table what is older. So
a slow reader costs no memory, and all are sent the same bytes.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from domain.operations import Operation, fold
from projections.replies import ReplyRef
from service.replies.sse import GREETING, HEARTBEAT, HEARTBEAT_SECONDS, frame, goaway, told

KEPT_BYTES: Final = 256 * 1024
LONG_WAY: Final = 200
"""Frames that a reader may be behind before it is sent a snapshot in place of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a reply ended: its final envelope, and the number of frames before that one."""

    frames: int
    envelope: dict[str, Any]


@dataclass(slots=True)
class Shown:
    """What frames add up to. `mode` is None until the model has decided."""

    mode: str | None = None
    ops: list[Operation] = field(default_factory=list[Operation])

    def take(self, frames: Sequence[bytes]) -> None:
        """Add more of them."""
        for each in frames:
            event, data = told(each)
            if event == "intent":
                self.mode = data["mode"]
            elif event == "chunk":
                self.ops += data["ops"]
            elif event == "reset":
                self.mode, self.ops = None, []

    @property
    def data(self) -> Any:
        """The reply so far; None when nothing was shown."""
        return fold(self.ops) if self.ops else None


Earlier = Callable[[ReplyRef, int], Awaitable[list[bytes]]]
"""Reads the frames of a reply after one of them from the table; a page of them."""


class ReplyTail:
    """Owned by the service's loop. Whoever stores a reply's frames pushes them here."""

    def __init__(self, place: ReplyRef, *, last: int = 0) -> None:
        self.place = place
        self.last = last
        self.end: End | None = None
        self._left: str | None = None
        self._kept: deque[bytes] = deque()
        self._kept_bytes = 0
        self._waiting: list[asyncio.Future[bool]] = []

    def push(self, first: int, frames: Sequence[bytes]) -> None:
        """Add stored frames, `first` being the place of the first; those known are passed over."""
        fresh = frames[max(0, self.last + 1 - first) :]
        if not fresh:
            return
        self._kept += fresh
        self._kept_bytes += sum(map(len, fresh))
        while self._kept_bytes > KEPT_BYTES and len(self._kept) > 1:
            self._kept_bytes -= len(self._kept.popleft())
        self.last += len(fresh)
        self._tell()

    def finish(self, end: End) -> None:
        """The reply has ended, and its end is stored."""
        self.end = end
        self._tell()

    def leave(self, reason: str) -> None:
        """Send the readers away without an end: they will find it elsewhere."""
        self._left = reason
        self._tell()

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            _answer(each, news=True)

    @property
    def has_left(self) -> bool:
        """Its readers were sent away."""
        return self._left is not None

    @property
    def is_over(self) -> bool:
        """Nothing more will come."""
        return self.end is not None or self._left is not None

    async def wait(self) -> End | None:
        """The end when it is there; None when the readers were sent away."""
        while not self.is_over:
            await self._wake()
        return self.end

    async def watch(self, earlier: Earlier, after: int = 0) -> AsyncGenerator[bytes]:
        """All events after the frame `after`, to the last; comments where it is silent."""
        yield GREETING
        is_far_behind = self.upto - after > LONG_WAY
        while True:
            if is_far_behind:
                snapshot, after = await self._snapshot(earlier)
                yield snapshot
            frames = self._newer(after)
            if frames is None:
                frames = await earlier(self.place, after)
            # Frames are not kept for ever; the end is.
            is_far_behind = not frames and self.end is not None and after < self.upto
            if frames:
                after += len(frames)
                yield b"".join(frames)
            elif is_far_behind:
                continue
            elif self.end is not None:
                yield self.final
                return
            elif self._left is not None:
                yield goaway(self._left)
                return
            elif not await self._wake():
                yield HEARTBEAT

    @property
    def upto(self) -> int:
        """The last frame before the final one, as far as is known."""
        return self.last if self.end is None else self.end.frames

    @property
    def final(self) -> bytes:
        """The last event."""
        assert self.end is not None
        return frame("final", self.end.envelope, self._id(self.end.frames + 1))

    async def shown(self, earlier: Earlier) -> tuple[Shown, int]:
        """What was shown up to now, and up to which frame."""
        shown, through = Shown(), 0
        while through < self.last and (frames := await earlier(self.place, through)):
            shown.take(frames)
            through += len(frames)
        return shown, through

    async def _snapshot(self, earlier: Earlier) -> tuple[bytes, int]:
        """One event in place of many; of a reply that has ended, out of its end."""
        if self.end is not None:
            through, said = self.end.frames, self.end.envelope
            mode, data = said["mode"], said["data"]
        else:
            shown, through = await self.shown(earlier)
            mode, data = shown.mode, shown.data
        told_at_once = {"mode": mode, "data": data, "through": through}
        return frame("snapshot", told_at_once, self._id(through)), through

    def _newer(self, after: int) -> list[bytes] | None:
        """The kept frames after one of them; None when only the table can tell."""
        if after >= self.upto:
            return []
        first = self.last - len(self._kept)
        if after < first or after >= self.last:
            return None
        return list(islice(self._kept, after - first, None))

    def _id(self, n: int) -> str:
        return f"{self.place.reply_id}.{n}"

    async def _wake(self) -> bool:
        """Wait for news. False when there were none for a while."""
        loop = asyncio.get_running_loop()
        news: asyncio.Future[bool] = loop.create_future()
        self._waiting.append(news)
        # A timer costs a third of `asyncio.timeout`, and this is what every chunk costs a reader.
        silence = loop.call_later(HEARTBEAT_SECONDS, _answer, news)
        try:
            return await news
        finally:
            silence.cancel()


def _answer(waiting: asyncio.Future[bool], *, news: bool = False) -> None:
    if not waiting.done():
        waiting.set_result(news)
