"""The writing end of a reply alone, after another process has taken the reply over."""

import asyncio
from typing import cast

import pytest

from projections.replies import ReplyRef
from service.replies.events import notice
from service.replies.frame_store import FrameStore
from service.replies.tail import ReplyTail
from service.replies.writer import Flusher, Lost, ReplyWriter, gather_seconds

REF = ReplyRef(tenant_id="t1", project_id="p1", session_id="s1", reply_id="r1")


@pytest.fixture
async def lost() -> ReplyWriter:
    """The writer of a lost reply, with one frame. No flusher stores it, so it needs no table."""
    no_table = cast(FrameStore, None)
    writer = ReplyWriter(ReplyTail(REF, no_table), Flusher(no_table))
    writer.emit(notice("queued"))
    writer.lose()
    return writer


async def test_a_writer_that_goes_on_after_its_reply_was_lost_is_stopped_at_once(
    lost: ReplyWriter,
) -> None:
    """The flusher stores nothing of a lost reply, so nothing would wake a writer that waits."""
    lost.show([{"op": "append", "path": "/markdown", "text": "two"}])
    async with asyncio.timeout(5):
        with pytest.raises(Lost):
            await lost.all_stored()
        with pytest.raises(Lost):
            await lost.close()


async def test_the_late_answer_of_an_insert_shows_nothing_of_a_lost_reply(
    lost: ReplyWriter,
) -> None:
    """The frames are shown from the table, where the other process has added its own."""
    lost.stored(1)
    assert lost.tail.last == 0


def test_more_text_is_gathered_while_many_replies_are_written_up_to_a_limit() -> None:
    assert [gather_seconds(each) for each in (0, 1, 50, 80, 100, 1_000)] == [
        *(0.05, 0.05, 0.05, 0.08, 0.1, 0.1),
    ]
