"""The tail of a reply alone: the events that it keeps for readers that wait, leave or read text."""

import asyncio
from contextlib import aclosing
from typing import Any, cast

import pytest

from projections.replies import ReplyRef
from service.replies import sse, text_view
from service.replies import tail as tails
from service.replies.envelope import End
from service.replies.events import Chunk, encoded
from service.replies.frame_store import FrameStore
from service.replies.sse import GREETING, HEARTBEAT, RETRY
from service.replies.tail import ReplyTail

REF = ReplyRef(tenant_id="t1", project_id="p1", session_id="s1", reply_id="r1")
END = End(frames=2, envelope={"mode": "general", "data": None})


def made() -> ReplyTail:
    """A tail that finds all frames in memory: it has no table, and no use for one."""
    return ReplyTail(REF, cast(FrameStore, None))


def chunk(number: int, text: str) -> bytes:
    return encoded(Chunk(ops=[{"op": "append", "path": "/markdown", "text": text}]), b"r1", number)


async def test_silent_heartbeats_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tails, "HEARTBEAT_SECONDS", 0.001)
    tail = made()
    async with aclosing(tail.watch(0, "ops")) as events:
        assert await anext(events) == GREETING
        assert [await anext(events) for _ in range(20)] == [HEARTBEAT] * 20
        assert waiters(tail) == 0


async def test_a_reader_that_leaves_while_it_waits_leaves_nothing_behind() -> None:
    tail = made()
    readers = [asyncio.create_task(tail.wait()) for _ in range(10)]
    await asyncio.sleep(0)
    assert waiters(tail) == 10
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    assert waiters(tail) == 0


def waiters(tail: ReplyTail) -> int:
    return len(tail._frames._waiters)


async def test_a_chunk_is_turned_into_text_once_for_all_readers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoded: list[bytes] = []
    decode = sse.decode

    def counted(frame: bytes) -> tuple[str, Any]:
        decoded.append(frame)
        return decode(frame)

    monkeypatch.setattr(text_view, "decode", counted)
    tail = made()
    tail.push(1, [chunk(1, "one")])
    assert decoded == [], "no reader reads the text yet"
    reading = [asyncio.create_task(everything(tail)) for _ in range(10)]
    await asyncio.sleep(0)
    tail.push(2, [chunk(2, "two")])
    tail.finish(END)
    expected = b'id: r1.1\nevent: chunk\ndata: {"text":"one"}\n\n'
    expected += b'id: r1.2\nevent: chunk\ndata: {"text":"two"}\n\n'
    expected += b'id: r1.3\nevent: final\ndata: {"mode":"general","data":null}\n\n'
    assert await asyncio.gather(*reading) == [GREETING + RETRY + expected] * 10
    assert decoded == [chunk(1, "one"), chunk(2, "two")]


async def everything(tail: ReplyTail) -> bytes:
    return b"".join([each async for each in tail.watch(0, "text")])
