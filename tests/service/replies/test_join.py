"""A reader joins a reply by its id: at any event, during and after the reply, on any server."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import httpx
import orjson
import pytest

from domain.replies.operations import fold
from service.concurrency.tasks import cancelled
from service.model.offline.app import Fault, OfflineModel
from service.postgres import connections
from service.postgres.connections import service_transaction
from service.replies.frame_store import FrameStore
from service.replies.sse import RETRY
from tests import sizes
from tests.running import Event, LiveService, SharedService, Signed, events_of, running, sharing
from tests.service import law

LONG = "Good morning [[offline: odd]]"
"""A reply in pieces of a few characters."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two services on one database."""

    one: SharedService
    other: SharedService

    @asynccontextmanager
    async def tenant(self, model: OfflineModel) -> AsyncGenerator[tuple[LiveService, LiveService]]:
        """Both services for a tenant that nobody has used; the first of them asks `model`."""
        async with (
            self.one.tenant(model) as one,
            self.other.tenant(key_id=one.key_id) as other,
        ):
            await one.project()
            await one.credit()
            yield one, other


@pytest.fixture(scope="module")
async def pair(shared_url: str) -> AsyncGenerator[Pair]:
    async with sharing(shared_url) as one, sharing(shared_url) as other:
        yield Pair(one, other)


@pytest.fixture
async def two(pair: Pair) -> AsyncGenerator[tuple[LiveService, LiveService]]:
    """Two services on one database, for a tenant of its own."""
    async with pair.tenant(OfflineModel(pace=0.005)) as both:
        yield both


def path_of(reply_id: str) -> str:
    return f"/v1/chat-plan/replies/{reply_id}"


async def stream_of(live: LiveService, reply_id: str, after: str | None) -> bytes:
    """The bytes of a joined stream, without comments."""
    headers = {} if after is None else {"Last-Event-ID": after}
    path = f"{path_of(reply_id)}/stream?userId=u1"
    answer = await live.client.get(path, headers=headers)
    assert answer.status_code == 200, answer.text
    return b"".join(
        block.removeprefix(RETRY) + b"\n\n"
        for block in answer.content.split(b"\n\n")
        if block and not block.startswith(b":")
    )


async def test_an_ended_reply_can_be_joined_at_every_event_on_any_server(
    two: tuple[LiveService, LiveService], shared_url: str
) -> None:
    one, _ = two
    final = law.lawful(await one.stream("Good morning"))
    whole = await stream_of(one, final["messageId"], None)
    frames = [block + b"\n\n" for block in whole.split(b"\n\n")[:-1]]
    law.lawful(events_of(whole.decode()))
    for n in range(len(frames)):
        for live in two:
            after = f"{final['messageId']}.{n}"
            assert await stream_of(live, final["messageId"], after) == b"".join(frames[n:])
    for live in two:
        last = f"{path_of(final['messageId'])}/stream?userId=u1&after={len(frames)}"
        assert (await live.client.get(last)).status_code == 204
    await law.ended_as_shown(one, shared_url, final)


async def test_a_running_reply_can_be_joined_at_every_event_on_any_server(
    two: tuple[LiveService, LiveService], shared_url: str
) -> None:
    one, _ = two
    events: list[Event] = []
    joins: list[tuple[int, asyncio.Task[bytes]]] = []
    async for event in law.read_stream(one, LONG):
        events.append(event)
        if len(events) <= 40 and event[0] != "final":
            for live in two:
                joined = stream_of(live, events[0][1]["messageId"], event[2])
                joins.append((len(events), asyncio.create_task(joined)))
    final = law.lawful(events)
    assert joins
    for n, join in joins:
        assert events_of((await join).decode()) == events[n:]
    await law.ended_as_shown(one, shared_url, final)


@pytest.mark.parametrize("on", ["its server", "another one"])
async def test_a_reader_that_leaves_at_any_event_changes_nothing(
    two: tuple[LiveService, LiveService], on: str
) -> None:
    """Sockets are closed or reset. The reply continues, and the rest is read on another server."""
    one, other = two
    for cut in range(1, 6):
        left: list[Event] = []
        async for event in law.read_stream(one, f"Good morning {cut}"):
            left.append(event)
            if len(left) == cut:
                break
        where = one if on == "its server" else other
        rest = await where.join(left[0][1]["messageId"], left[-1][2])
        final = law.lawful([*left, *rest])
        assert final["subtype"] == "success"
        await law.stored(one, final)
    assert one.model.aborted == 0


async def test_many_readers_on_two_servers_get_the_same_bytes(
    two: tuple[LiveService, LiveService],
) -> None:
    chance = sizes.chance("readers")
    events: list[Event] = []
    joins: list[tuple[int, asyncio.Task[bytes]]] = []
    async for event in law.read_stream(two[0], LONG):
        events.append(event)
        if len(events) == 10:
            for _ in range(40):
                n = chance.randrange(10)
                after = None if n == 0 else f"{events[0][1]['messageId']}.{n}"
                joined = stream_of(chance.choice(two), events[0][1]["messageId"], after)
                joins.append((n, asyncio.create_task(joined)))
    whole = await stream_of(two[1], events[0][1]["messageId"], None)
    frames = [block + b"\n\n" for block in whole.split(b"\n\n")[:-1]]
    assert events_of(whole.decode()) == events
    for n, join in joins:
        assert await join == b"".join(frames[n:])


async def test_a_reader_far_behind_gets_a_snapshot(pair: Pair) -> None:
    """The reader is more than 200 events behind, during and after the reply; the rest is exact.

    The reply is longer than its part in memory.
    """
    pieces = ('{"intent":"general","response":{"markdown":"', *["x" * 2_100] * 300, '"}}')
    model = OfflineModel(script=[Fault("raw", pieces=pieces)], pace=0.01)
    async with pair.tenant(model) as (one, other):
        events: list[Event] = []
        joining: asyncio.Task[list[Event]] | None = None
        async for event in law.read_stream(one, "Good morning"):
            events.append(event)
            if len(events) == 220:
                joining = asyncio.create_task(other.join(events[0][1]["messageId"]))
        final = law.lawful(events)
        assert joining is not None
        for joined in (await joining, await one.join(final["messageId"])):
            name, snapshot, at = joined[0]
            assert name == "snapshot"
            assert at == f"{final['messageId']}.{snapshot['through']}"
            assert joined[1:] == events[snapshot["through"] :]
            later = [op for each, data, _ in joined[1:] if each == "chunk" for op in data["ops"]]
            assert fold(later, snapshot["data"]) == final["data"]
        near = f"{final['messageId']}.150"
        assert await other.join(final["messageId"], near) == events[150:]


async def test_a_reply_without_frames_is_read_from_the_log(
    two: tuple[LiveService, LiveService],
) -> None:
    one, other = two
    finals = [
        law.lawful(await one.stream("Good morning")),
        law.lawful(await one.stream("Good morning [[offline: status code=400]]")),
    ]
    kept = [await one.join(final["messageId"]) for final in finals]
    async with service_transaction(other.service.pool) as connection:
        await connection.execute("delete from app.reply_chunk")
    for final, events in zip(finals, kept, strict=True):
        for n in range(len(events) - 1):
            joined = await other.join(final["messageId"], f"{final['messageId']}.{n}")
            assert [name for name, _, _ in joined] == ["snapshot", "final"]
            assert joined[0][1]["data"] == final["data"]
            assert joined[-1] == events[-1]
        last = f"{path_of(final['messageId'])}/stream?userId=u1&after={events[-1][2]}"
        assert (await other.client.get(last)).status_code == 204


async def test_frames_are_deleted_after_a_day(url: str) -> None:
    async with running(url) as live:
        await live.project()
        await live.credit()
        final = law.lawful(await live.stream("Good morning"))
    async with running(url, keep_seconds=0.0, reply_seconds=0.001) as live:
        async with asyncio.timeout(10):
            await until_deleted(live, final["messageId"])
        joined = await live.join(final["messageId"])
        assert [name for name, _, _ in joined] == ["snapshot", "final"]


async def test_a_reply_that_has_not_ended_keeps_its_frames(url: str) -> None:
    kept: list[int] = []
    async with running(url) as live:
        await live.project()
        await live.credit()
        ended = law.lawful(await live.stream("Good morning"))
        async for name, data, _ in law.read_stream(live, "Good morning [[offline: hang after=8]]"):
            if name == "accepted":
                reply_id = data["messageId"]
            if name == "chunk" and not kept:
                frame_store = FrameStore(partial(connections.connect, url), live.service.pool, 0)
                purging = asyncio.create_task(frame_store.purge(keep_seconds=0.0))
                await until_deleted(live, ended["messageId"])
                kept.append(await frames_kept(live, reply_id))
                await cancelled(purging)
                cancel = await live.client.post(f"{path_of(reply_id)}/cancel?userId=u1")
                assert cancel.status_code == 200
    assert kept[0] >= len(("accepted", "intent", "chunk"))


async def until_deleted(live: LiveService, reply_id: str) -> None:
    """Wait until the table has no frame of the reply."""
    async with asyncio.timeout(10):
        while await frames_kept(live, reply_id):  # noqa: ASYNC110 - no event says so
            await asyncio.sleep(0.05)


async def frames_kept(live: LiveService, reply_id: str) -> int:
    async with service_transaction(live.service.pool) as connection:
        found = await connection.execute(
            "select from app.reply_chunk where message_id = %s", [reply_id]
        )
    return found.rowcount


async def test_a_reply_has_its_state_and_progress(two: tuple[LiveService, LiveService]) -> None:
    one, other = two
    events: list[Event] = []
    states: list[httpx.Response] = []
    async for event in law.read_stream(one, "Good morning [[offline: hang after=8]]"):
        events.append(event)
        if [name for name, _, _ in events].count("chunk") == 2 and not states:
            path = path_of(events[0][1]["messageId"])
            states += [await live.client.get(f"{path}?userId=u1") for live in two]
            assert (await other.client.post(f"{path}/cancel?userId=u1")).status_code == 200
    final = law.lawful(events)
    assert final["reason"] == "cancelled"
    for answer in states:
        state = answer.json()
        assert state["status"] == "running"
        shown = law.operations(events[: state["through"]])
        assert (state["mode"], state["data"]) == (final["mode"], fold(shown))
    for live in two:
        state = (await live.client.get(f"{path_of(final['messageId'])}?userId=u1")).json()
        assert (state["status"], state["through"]) == ("ended", len(events) - 1)
        assert orjson.dumps(state["final"]) == orjson.dumps(final)


@pytest.mark.parametrize(
    ("method", "path", "user"),
    [
        ("GET", "{}/stream", "stranger"),
        ("GET", "{}", "stranger"),
        ("POST", "{}/cancel", "stranger"),
        ("GET", "nobody/stream", "u1"),
        ("GET", "nobody", "u1"),
        ("POST", "nobody/cancel", "u1"),
    ],
)
async def test_a_reply_looks_missing_to_a_user_without_access(
    shared: LiveService, method: str, path: str, user: str
) -> None:
    final = law.lawful(await shared.stream("Good morning"))
    target = f"{path_of(path.format(final['messageId']))}?userId={user}"
    refused = await shared.client.request(method, target)
    assert (refused.status_code, refused.headers["Content-Type"]) == (
        404,
        "application/problem+json",
    )
    base = shared.client.base_url
    async with httpx.AsyncClient(base_url=base, auth=Signed("k2")) as client:
        assert (await client.request(method, target.replace("stranger", "u1"))).status_code == 404


@pytest.mark.parametrize("after", ["x", "nobody.1", "-1", "1.5", "99", "99999999999999999999"])
async def test_an_event_id_that_the_reply_does_not_have_is_refused(
    two: tuple[LiveService, LiveService], after: str
) -> None:
    final = law.lawful(await two[0].stream("Good morning"))
    path = f"{path_of(final['messageId'])}/stream?userId=u1"
    answer = await two[1].client.get(path, headers={"Last-Event-ID": after})
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_cursor")
