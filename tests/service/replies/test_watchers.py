"""Many readers of one reply, slow readers among them, and a slow database."""

import asyncio
import re
from contextlib import AsyncExitStack

import pytest
from prometheus_client import REGISTRY

from service.http import connection_limits
from service.jobs.expiry import expire_idle
from service.model.offline.app import Fault, OfflineModel
from service.postgres import connections
from tests.running import Event, LiveService, events_of, running
from tests.service import law
from tests.service.timelines.test_feed import Raw
from tests.service.watching import until
from tests.sizes import size

WATCHERS = size(100, 1_000)
TOGETHER = 20


async def begun(
    live: LiveService, message: str, first: str = "chunk"
) -> tuple[str, asyncio.Task[list[Event]]]:
    """A reply after its first event of a kind: its id, and the task that reads its stream."""
    shown: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def read() -> list[Event]:
        events: list[Event] = []
        async for event in law.read_stream(live, message):
            events.append(event)
            if event[0] == first and not shown.done():
                shown.set_result(events[0][1]["messageId"])
        return events

    reading = asyncio.create_task(read())
    return await shown, reading


def path_of(reply_id: str) -> str:
    return f"/v1/chat-plan/replies/{reply_id}/stream?userId=u1"


async def test_watchers_on_the_writing_server_are_served_from_memory(url: str) -> None:
    """During the reply, the service has the right to write the table, but not to read it."""
    model = law.GatedModel(pace=0.01)
    async with running(url, model) as live:
        await live.project()
        await live.credit()
        async with await connections.connect(url, as_service=False) as owner:
            await owner.execute("revoke select on app.reply_chunk from throughline_service")
            reply_id, reading = await begun(live, "Good morning", first="accepted")
            async with AsyncExitStack() as stack:
                raws: list[Raw] = []
                while len(raws) < WATCHERS:
                    raws += await joined(live, reply_id, stack)
                model.go.set()
                answers = await asyncio.gather(*(raw.everything() for raw in raws))
            events = await reading
            await owner.execute("grant select on app.reply_chunk to throughline_service")
        assert all(events_of(dechunked(each)) == events for each in answers)
        await law.ended_as_shown(live, url, law.lawful(events))


async def joined(live: LiveService, reply_id: str, stack: AsyncExitStack) -> list[Raw]:
    """More readers of the reply. A service refuses more at once than it has connections for."""
    there = open_streams() + TOGETHER
    raws = [await stack.enter_async_context(Raw(live, path_of(reply_id))) for _ in range(TOGETHER)]
    await until(lambda: open_streams() == there)
    return raws


def open_streams() -> float:
    return REGISTRY.get_sample_value("throughline_streams_open") or 0.0


async def test_a_reader_that_reads_nothing_is_disconnected_and_can_resume(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reply is larger than the kernel's buffer. Other readers are not slowed down.

    It has fewer pieces than a reader may lie behind without getting a snapshot.
    """
    monkeypatch.setattr(connection_limits, "WRITE_SECONDS", 0.5)
    pieces = ('{"intent":"general","response":{"markdown":"', *["🧵" * 10_000] * 104, '"}}')
    model = OfflineModel(script=[Fault("raw", pieces=pieces)])
    async with running(url, model) as live:
        await live.project()
        await live.credit()
        reply_id, reading = await begun(live, "Good morning")
        async with Raw(live, path_of(reply_id)) as slow:
            events = await reading
            final = law.lawful(events)
            assert await live.join(reply_id) == events
            async with asyncio.timeout(30):
                while open_streams():  # noqa: ASYNC110 - no event says so
                    await asyncio.sleep(0.05)
            sent = await slow.everything()
        assert not sent.endswith(b"0\r\n\r\n"), "the service closed the connection"
        ids = re.findall(rb"id: (\S+)\n", sent)
        n = int(ids[-2].rpartition(b".")[2])
        assert await live.join(reply_id, ids[-2].decode()) == events[n:]
        await law.ended_as_shown(live, url, final)


async def test_readers_get_only_stored_frames(url: str) -> None:
    """While the table is locked, no reader gets a frame. After that, all frames arrive."""
    async with running(url, OfflineModel(pace=0.005)) as live:
        await live.project()
        await live.credit()
        events: list[Event] = []
        async with await connections.connect(url, as_service=False) as owner:
            stream = law.read_stream(live, "Good morning")
            events.append(await anext(stream))
            async with owner.transaction():
                await owner.execute("lock table app.reply_chunk in exclusive mode")
                stored = await frames_of(owner, events[0][1]["messageId"])
                while len(events) < stored:
                    events.append(await anext(stream))
                waiting = asyncio.ensure_future(anext(stream))
                await called(live)
                assert not waiting.done()
                assert await frames_of(owner, events[0][1]["messageId"]) == stored
            events.append(await waiting)
            events += [event async for event in stream]
        await law.ended_as_shown(live, url, law.lawful(events))


async def frames_of(owner: connections.Connection, reply_id: str) -> int:
    found = await owner.execute(
        "select count(*) from app.reply_chunk where message_id = %s", [reply_id]
    )
    row = await found.fetchone()
    assert row is not None
    return int(row[0])


async def called(live: LiveService) -> None:
    """Wait until the whole answer of the model has come."""
    (turn,) = live.service.running_turns._turns.values()
    while not turn.writer._frames or turn.writer._frames[-1] is not None:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def test_an_idle_session_expires_and_is_resumed_by_a_message_that_names_it(url: str) -> None:
    model = law.GatedModel()
    async with running(url, model, idle_seconds=0.5) as live:
        await live.project()
        await live.credit()
        asking = asyncio.create_task(live.stream("Good morning"))
        await model.asked.wait()
        transactions, pool = live.service.transactions, live.service.pool
        assert await expire_idle(transactions, pool, idle_seconds=0) == 0, "a reply runs"
        model.go.set()
        first = law.lawful(await asking)
        assert await live.service.live_log.wait(live.service.live_log.head + 1, seconds=10)
        expired = await law.logged(url, "SessionExpired")
        assert [event["session_id"] for _, event in expired] == [first["sessionId"]]
        answer = await live.client.get(f"/v1/chat-plan/session/{first['sessionId']}")
        assert answer.json()["status"] == "expired"
        second = law.lawful(await live.stream("Good morning"))
        assert second["sessionId"] != first["sessionId"], "an expired session is not the default"
        third = law.lawful(await live.stream("More", sessionId=first["sessionId"]))
        assert third["sessionId"] == first["sessionId"]
        assert len(await law.logged(url, "SessionResumed")) == 1
        await law.ended_as_shown(live, url, first, second, third)


def dechunked(answer: bytes) -> str:
    """The body of a chunked answer."""
    _, _, body = answer.partition(b"\r\n\r\n")
    text = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        text, body = text + body[: int(size, 16)], body[int(size, 16) + 2 :]
    return text.decode()
