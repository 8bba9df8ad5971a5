"""Endless streams as a client reads them, and their law: no event is missing or comes twice.

Every event names the cursor of the event before it. A client that has read up to a cursor, and gets
an event whose `prev` is that cursor, has missed nothing. A chain from null to the last event is the
whole feed.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
import orjson

from service.eventlog.store import NewEvent
from service.wire import BEGINNING
from tests.running import LiveService, Signed, events_of
from tests.service.law import Event

SILENCE_SECONDS = 20
"""The longest wait for an event. Without it, heartbeats would keep a failed test waiting."""

SSE = {"Accept": "text/event-stream"}


class Stream:
    """One open stream; `last` is the id of the last event that was read."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self.last = ""
        self._blocks = self._read()

    async def _read(self) -> AsyncGenerator[str]:
        text = ""
        async for piece in self.answer.aiter_text():
            *blocks, text = (text + piece).split("\n\n")
            for block in blocks:
                yield block
        assert text == "", "the stream ended in the middle of an event"

    async def comment(self) -> str:
        """The next block, which must be a comment."""
        async with asyncio.timeout(SILENCE_SECONDS):
            block = await anext(self._blocks)
        assert block.startswith(": "), block
        return block

    async def next(self) -> Event:
        """The next event."""
        async with asyncio.timeout(SILENCE_SECONDS):
            async for block in self._blocks:
                if not block.startswith(":"):
                    (event,) = events_of(block)
                    self.last = event[2] or self.last
                    return event
        raise AssertionError("it ended")

    async def read(self, count: int) -> list[Event]:
        """The next events."""
        return [await self.next() for _ in range(count)]

    async def upto(self, cursor: str) -> list[Event]:
        """The next events up to the event with this cursor."""
        events = [await self.next()]
        while events[-1][2] != cursor:
            events.append(await self.next())
        return events

    async def rest(self) -> list[Event]:
        """All events to the proper end of the stream."""
        async with asyncio.timeout(SILENCE_SECONDS):
            return [event async for block in self._blocks for event in events_of(block)]


@asynccontextmanager
async def opened(
    live: LiveService,
    path: str = "/v1/project/p1/timeline/stream",
    *,
    since: str = "",
    client: httpx.AsyncClient | None = None,
    **query: Any,
) -> AsyncGenerator[Stream]:
    """Open a stream after the event id `since`. The exit closes the connection."""
    headers = SSE | ({"Last-Event-ID": since} if since else {})
    asking, query = client or live.client, {name: query[name] for name in query if query[name]}
    async with asking.stream("GET", path, headers=headers, params=query) as answer:
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        yield Stream(answer)


async def refused(live: LiveService, path: str, **asked: Any) -> tuple[int, str]:
    """The status and the code of a refusal. A stream that begins is a failure."""
    async with asyncio.timeout(SILENCE_SECONDS):
        answer = await live.client.get(path, **asked)
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, str(answer.json()["code"])


def many(live: LiveService, key_id: str = "") -> httpx.AsyncClient:
    """A client that can keep many streams open, and signs with this key or else as `live` does."""
    limits = httpx.Limits(max_connections=None)
    base = str(live.client.base_url)
    return httpx.AsyncClient(
        base_url=base, auth=Signed(key_id or live.key_id), limits=limits, timeout=60
    )


def chained(events: Iterable[Event], before: str | None, kind: str) -> list[Any]:
    """Check that the events form a chain; returns their data without the members of streams."""
    found: list[Any] = []
    for name, data, cursor in events:
        assert (name, data["cursor"]) == (kind, cursor)
        assert data["prev"] == before, "an event was missed, or came twice"
        before = cursor
        found.append({key: value for key, value in data.items() if key != "prev"})
    return found


async def cursor_at(live: LiveService, position: int) -> str:
    """The cursor of the event at a position; the position 0 is before the first event."""
    (event,) = await live.service.store.range(after=position - 1, limit=1) if position else (None,)
    return BEGINNING if event is None else event.cursor


async def head_cursor(live: LiveService) -> str:
    """The cursor of the last event of the log."""
    return await cursor_at(live, await live.service.store.head())


async def shown(live: LiveService, project_id: str = "p1", **query: Any) -> list[Any]:
    """All items of a project's timeline from its pages, oldest first."""
    items: list[Any] = []
    params = {"limit": 200} | query
    while True:
        answer = await live.client.get(f"/v1/project/{project_id}/timeline", params=params)
        page = answer.json()
        items += page["items"]
        if not page["hasMore"]:
            return items[::-1]
        params["before"] = page["before"]


def said(
    text: str = "Hello", *, visible: bool = True, project_id: str = "p1", tenant: str = "t1"
) -> NewEvent:
    """An item of the timeline, in a session of its own."""
    session_id = f"s-{uuid4()}"
    state = {
        "session_id": session_id,
        "message_id": f"m-{uuid4()}",
        "template": text,
        "variables": {},
        "visible": visible,
    }
    encoded = orjson.dumps(state)
    stream_id = f"session-{session_id}"
    return NewEvent(tenant, stream_id, 1, "SystemMessagePosted", encoded, project_id)


async def append(live: LiveService, events: Sequence[NewEvent]) -> int:
    """Append events together; returns the position of the last one.

    The events of t1 become those of the tenant that `live` acts as.
    """
    own = [
        each._replace(tenant_id=live.tenant_id) if each.tenant_id == "t1" else each
        for each in events
    ]
    appended = await live.service.transactions._writer.append(own)
    return appended.first_position + len(events) - 1


async def until(holds: Callable[[], object]) -> None:
    """Poll a condition that no event reports, with a time limit."""
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - no event says so
            await asyncio.sleep(0.01)


async def append_each(live: LiveService, events: Iterable[NewEvent]) -> None:
    """Append events one by one."""
    for event in events:
        await append(live, [event])
