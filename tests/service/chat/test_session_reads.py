"""The reads of a turn: its session once, backwards, no further than the model's history."""

from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest

from service.eventlog.store import Entry
from tests.running import running
from tests.service import law

MESSAGES = 17


async def test_a_turn_reads_its_session_once_and_only_as_far_as_its_history(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(url, history_tokens=500, user_messages=100) as live:
        await live.project()
        await live.credit()
        for _ in range(MESSAGES):
            final = law.lawful(await live.stream("Good morning"))
        stream_id = f"session-{final['sessionId']}"
        read = reads_of(stream_id, monkeypatch)
        law.lawful(await live.stream("Good morning"))
        told = live.model.requests[-1]["messages"]
        assert 1 < len(told) < 2 * MESSAGES, "not the whole session"
        assert len(read) == 1, "one read"
        assert len(told) <= read[0] < 2 * MESSAGES


def reads_of(stream_id: str, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of rows of each statement that reads the stream, from now on."""
    read: list[int] = []
    fetchmany: Callable[[Any, int], Awaitable[list[Any]]] = psycopg.AsyncCursor.fetchmany

    def is_of_stream(row: Any) -> bool:
        return getattr(row, "stream_id", None) == stream_id

    async def counted(cursor: Any, size: int = 0) -> list[Any]:
        rows = await fetchmany(cursor, size)
        if any(isinstance(each, Entry) or is_of_stream(each) for each in rows):
            read.append(len(rows))
        return rows

    monkeypatch.setattr(psycopg.AsyncCursor, "fetchmany", counted)
    return read
