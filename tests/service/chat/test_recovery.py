"""A process dies, freezes or loses its database: each of its replies ends once, elsewhere."""

import asyncio
import signal
from contextlib import AsyncExitStack, suppress
from typing import Any

import httpx
import psycopg
import pytest
from structlog.testing import capture_logs

from domain.replies.operations import fold
from projections import PROJECTIONS
from projections.projection import install
from projections.replies import ReplyRow
from service.chat import recovery
from service.model.offline.app import OfflineModel
from service.postgres import connections, migrations
from tests.projections.trouble import until_waiting
from tests.running import Event, LiveService, running
from tests.service import law
from tests.service.eventlog.test_log_under_fire import kill, own_server
from tests.service.replicas import Reader, Replica, prepare, replicas
from tests.sizes import chance, size

KILLS = size(6, 30)
ENDS_WITHIN = 30.0
"""Seconds from the death of a server to the ends of its replies, if another server runs."""


def without_chunks(events: list[Event]) -> list[str]:
    """The names of the events, without chunks and intents."""
    return [name for name, _, _ in events if name not in ("chunk", "intent")]


async def ended_once(url: str, readers: list[Reader]) -> None:
    """Every reply has one end, the end that its reader got, and is settled once."""
    ends = await law.logged(url, "ReplyCompleted", "ReplyFailed")
    settled = await law.logged(url, "TimeConsumed", "ReservationReleased")
    reserved = {event["reservation_id"] for _, event in await law.logged(url, "TimeReserved")}
    assert sorted(event["message_id"] for _, event in ends) == sorted(
        reader.reply_id for reader in readers
    )
    assert sorted(event["reservation_id"] for _, event in settled) == sorted(reserved)
    for reader in readers:
        final = law.lawful(reader.events)
        (end,) = [event for _, event in ends if event["message_id"] == reader.reply_id]
        assert end.get("data") == final["data"]


@pytest.mark.slow
async def test_replies_of_a_killed_server_end_at_another_one(url: str) -> None:
    """Each reply is cut at another moment: before its first chunk, in the middle, at its end."""
    seconds = chance("takeover")
    projects = [f"p{n}" for n in range(KILLS)]
    async with replicas(url) as service:
        first, other = await service.start(), await service.start()
        await prepare(first, *projects)
        readers = [Reader() for _ in projects]
        asking = [
            asyncio.create_task(late(seconds.uniform(0, 1.5), reader, first, project_id))
            for reader, project_id in zip(readers, projects, strict=True)
        ]
        await asyncio.gather(*(reader.until("accepted") for reader in readers))
        await readers[0].until("chunk")
        await first.kill()
        await asyncio.gather(*asking)
        seen = [list(reader.events) for reader in readers]
        async with asyncio.timeout(ENDS_WITHIN):
            await asyncio.gather(*(reader.finish(other) for reader in readers))
        await ended_once(url, readers)
        for reader, before in zip(readers, seen, strict=True):
            final = reader.events[-1][1]
            assert (final["subtype"], final.get("reason")) in {
                ("partial", "server_lost"),
                ("success", None),  # begun anew, or ended before the kill
            }
            if final["subtype"] == "partial":
                assert "chunk" in {name for name, _, _ in reader.events}, "else it begins anew"
                assert before[-1][0] != "final"
    async with running(url) as live:
        await law.billed(live, *(reader.events[-1][1] for reader in readers))
        await law.healthy(live, url)


async def late(seconds: float, reader: Reader, replica: Replica, project_id: str) -> None:
    """Ask a little later than the other readers."""
    await asyncio.sleep(seconds)
    await reader.ask(replica, "Good morning", projectId=project_id)


@pytest.mark.parametrize("shown", [True, False])
async def test_a_reply_continues_when_its_server_is_started_again(url: str, shown: bool) -> None:
    model = OfflineModel(pace=0.2) if shown else law.GatedModel()
    async with replicas(url, model) as service:
        first = await service.start()
        await prepare(first, "p1")
        reader = Reader()
        asking = asyncio.create_task(reader.ask(first, "Good morning"))
        if isinstance(model, law.GatedModel):
            await reader.until("accepted")
            await model.asked.wait()
        else:
            await reader.until("chunk")
        await first.kill()
        await asking
        if isinstance(model, law.GatedModel):
            model.go.set()
        again = await service.start()
        async with asyncio.timeout(ENDS_WITHIN):
            await reader.finish(again)
        final = law.lawful(reader.events)
        if shown:
            assert (final["subtype"], final["reason"]) == ("partial", "server_lost")
            assert without_chunks(reader.events) == ["accepted", "final"]
        else:
            assert final["subtype"] == "success"
            assert without_chunks(reader.events) == ["accepted", "notice", "final"]
        await ended_once(url, [reader])
    async with running(url) as live:
        await law.ended_as_shown(live, url, final)


async def test_a_frozen_server_that_wakes_up_emits_and_stores_nothing_more(url: str) -> None:
    async with replicas(url, OfflineModel(pace=0.2)) as service:
        frozen, other = await service.start(), await service.start()
        await prepare(frozen, "p1")
        reader, watcher = Reader(), Reader()
        asking = asyncio.create_task(reader.ask(frozen, "Good morning"))
        await reader.until("chunk")
        frozen.send(signal.SIGSTOP)
        watcher.events = list(reader.events)
        async with asyncio.timeout(ENDS_WITHIN):
            await watcher.finish(other)
        frozen.send(signal.SIGCONT)
        async with asyncio.timeout(ENDS_WITHIN):
            await asking
            await reader.finish(frozen)
        assert reader.events == watcher.events
        final = law.lawful(reader.events)
        assert (final["subtype"], final["reason"]) == ("partial", "server_lost")
        assert orderly(reader.events)
        await ended_once(url, [reader])
    async with running(url) as live:
        await law.ended_as_shown(live, url, final)


def orderly(events: list[Event]) -> bool:
    """The reader got exactly the stored events."""
    return bool(fold(law.operations(events)) == events[-1][1]["data"])


async def test_a_reply_that_crashes_its_server_is_started_three_times(url: str) -> None:
    model = law.GatedModel()
    async with replicas(url, model) as service, AsyncExitStack() as stack:
        stack.callback(model.go.set)  # the model can stop then, also where the test fails
        reader = Reader()
        server = await service.start()
        await prepare(server, "p1")
        work: Any = reader.ask(server, "Good morning")
        for starts in range(3):
            model.asked.clear()
            asking = asyncio.create_task(work)
            async with asyncio.timeout(ENDS_WITHIN):
                await model.asked.wait()
            assert len(await law.logged(url, "ReplyStarted")) == starts + 1
            await server.kill()
            await asking
            server = await service.start()
            work = reader.join(server)
        async with asyncio.timeout(ENDS_WITHIN):
            await work
            await reader.finish(server)
        final = law.lawful(reader.events)
        assert final["error"]["code"] == "server_lost"
        await ended_once(url, [reader])
    async with running(url) as live:
        await law.ended_as_shown(live, url, final)


async def test_a_reply_with_chunks_since_its_inspection_is_not_restarted(url: str) -> None:
    """Two servers recover the reply. The slower one inspected the reply before its first chunk."""
    model = law.GatedModel(pace=0.05)
    async with running(url, model) as owner, running(url) as slower:
        await owner.project()
        await owner.credit()
        events: list[Event] = []
        looked = None
        async for event in law.read_stream(owner, "Good morning"):
            events.append(event)
            if looked is None:
                row = await slower.service.turns.find("t1", event[1]["messageId"])
                assert row is not None
                looked = await slower.service.turns._recovery.inspect(row)
                assert looked is not None
                assert looked.may_restart
                model.go.set()
            if [name for name, _, _ in events].count("chunk") == 1 and event[0] == "chunk":
                await slower.service.turns._recovery.restart(looked)
        final = law.lawful(events)
        assert final["subtype"] == "success"
        assert await slower.join(final["messageId"]) == events
        await law.ended_as_shown(owner, url, final)


async def test_a_reply_that_another_server_has_gone_on_with_is_left_to_that_server(
    url: str,
) -> None:
    """Two servers found the reply in the same list. The slower one comes to the reply later."""
    model = law.GatedModel()
    async with running(url, model) as dead, running(url, model) as quicker, running(url) as slower:
        row, reading = await asked_at(dead, model, url)
        left = await quicker.service.turns._recovery.inspect(row)
        assert left is not None
        await quicker.service.turns._recovery.restart(left)
        await slower.service.turns._recovery._bring_to_its_end(row)
        model.go.set()
        final = law.lawful(await reading)
        assert final["subtype"] == "success"
        assert len(await law.logged(url, "ReplyStarted")) == 2
        await law.ended_as_shown(quicker, url, final)


@pytest.mark.parametrize("locked", ["app.reply_chunk", "app.event"])
async def test_readers_of_a_server_that_does_not_succeed_in_going_on_read_what_another_one_writes(
    url: str, locked: str
) -> None:
    """It waits for the reply's frames, or for the append of the reply's start, and gives up."""
    model = law.GatedModel()
    async with running(url, model) as dead, running(url) as tired, running(url, model) as other:
        row, reading = await asked_at(dead, model, url)
        at_the_tired = asyncio.create_task(tired.join(row.reply_id))
        recovery_there = tired.service.turns._recovery
        left = await recovery_there.inspect(row)
        assert left is not None
        async with (
            await connections.connect(url, as_service=False) as observer,
            await connections.connect(url, as_service=False) as owner,
            owner.transaction(),
        ):
            await owner.execute(f"lock table {locked} in access exclusive mode")
            going_on = asyncio.create_task(recovery_there.restart(left))
            assert await until_waiting(observer, 1)
            going_on.cancel()
            with suppress(asyncio.CancelledError):
                await going_on
        again = await other.service.turns._recovery.inspect(row)
        assert again is not None
        await other.service.turns._recovery.restart(again)
        model.go.set()
        async with asyncio.timeout(ENDS_WITHIN):
            events = await at_the_tired
            assert law.lawful(events)["subtype"] == "success"
            assert await reading == events


async def asked_at(
    live: LiveService, model: law.GatedModel, url: str
) -> tuple[ReplyRow, asyncio.Task[list[Event]]]:
    """Ask a server for a reply that waits for the model: where the reply is, and its reader."""
    await live.project()
    await live.credit()
    reading = asyncio.create_task(live.stream("Good morning"))
    await model.asked.wait()
    ((_, started),) = await law.logged(url, "ReplyStarted")
    row = await live.service.turns.find("t1", started["message_id"])
    assert row is not None
    return row, reading


async def test_what_a_reply_suggests_is_said_once_when_another_server_takes_it_over(
    url: str,
) -> None:
    """The first server is slow, and comes to the end of the same reply a second time."""
    model = law.GatedModel()
    body = {"userId": "u1", "projectId": "p1", "message": "Regarde", "chatMode": "analysis"}
    sent: Any = {"json": body | {"locale": "fr-FR"}, "headers": {"Idempotency-Key": "once"}}
    async with running(url, model) as owner, running(url) as other:
        await owner.project()
        await owner.credit()
        asking = asyncio.create_task(owner.client.post("/v1/chat-plan", **sent))
        await model.asked.wait()
        ((_, started),) = await law.logged(url, "ReplyStarted")
        row = await other.service.turns.find("t1", started["message_id"])
        assert row is not None
        left = await other.service.turns._recovery.inspect(row)
        assert left is not None
        await other.service.turns._recovery.restart(left)
        final = (await other.client.post("/v1/chat-plan", **sent)).json()
        model.go.set()
        assert (await asking).json() == final
        assert (await owner.client.post("/v1/chat-plan", **sent)).json() == final
        page = (await owner.client.get("/v1/project/p1/timeline?locale=fr")).json()
        said = [each["aiResponse"]["data"] for each in page["items"] if "aiResponse" in each]
        (suggested,) = [each for each in said if each.get("template") == "plan_suggestion"]
        (recommended,) = final["data"]["findings"][0]["recommendations"]
        assert suggested["variables"] == {"suggestion": recommended}
        await law.healthy(owner, url)


async def test_a_reply_that_takes_long_to_end_keeps_no_other_reply_waiting(url: str) -> None:
    """Another transaction has the next number of the oldest reply, and does not come to its end."""
    projects = [f"p{n}" for n in range(6)]
    async with replicas(url) as service:
        first, other = await service.start(), await service.start()
        await prepare(first, *projects)
        readers = [Reader() for _ in projects]
        asking: list[asyncio.Task[None]] = []
        for reader, project_id in zip(readers, projects, strict=True):
            message = "Good morning [[offline: hang after=4 ping=1]]"
            asking.append(asyncio.create_task(reader.ask(first, message, projectId=project_id)))
            await reader.until("chunk")
        await first.kill()
        await asyncio.gather(*asking)
        oldest, *others = readers
        async with (
            await connections.connect(url, as_service=False) as owner,
            owner.transaction(force_rollback=True),
        ):
            await owner.execute(
                "insert into app.reply_chunk select message_id, n + 1, tenant_id, epoch"
                " from app.reply_chunk where message_id = %s order by n desc limit 1",
                [oldest.reply_id],
            )
            async with asyncio.timeout(ENDS_WITHIN):
                await asyncio.gather(*(reader.finish(other) for reader in others))
            assert len(await law.logged(url, "ReplyCompleted")) == len(others)
        async with asyncio.timeout(ENDS_WITHIN):
            await oldest.finish(other)
        await ended_once(url, readers)


async def test_a_reply_that_could_not_be_brought_to_its_end_is_tried_again(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its project is missing in a read model for a while, which nothing in recovery expects."""
    monkeypatch.setattr(recovery, "RETRY_SECONDS", 0.1)
    model, reader = OfflineModel(), Reader()
    async with running(url, model, grace_seconds=0.1) as live:
        await live.project()
        await live.credit()
        asking = asyncio.create_task(ask(live, reader, "Good morning [[offline: hang times=1]]"))
        await reader.until("accepted")
    await asking
    async with await connections.connect(url, as_service=False) as owner:
        await owner.execute("create temporary table kept as select * from app.projects")
        await owner.execute("delete from app.projects")
        with capture_logs() as logged:
            async with running(url, model) as live, asyncio.timeout(ENDS_WITHIN):
                while "reply_not_recovered" not in [each["event"] for each in logged]:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
                await owner.execute("insert into app.projects select * from kept")
                events = await live.join(reader.reply_id)
                assert events[-1][1]["subtype"] == "success"
                await law.ended_as_shown(live, url, events[-1][1])


async def ask(live: LiveService, reader: Reader, message: str) -> None:
    """Post a message and read until the connection ends, however it ends."""
    with suppress(httpx.TransportError):
        async for event in law.read_stream(live, message):
            reader.events.append(event)
            reader.news.set()


@pytest.mark.slow
async def test_a_reply_survives_a_killed_database() -> None:
    """All leases expire while the database is away. No server takes a reply over for that."""
    with own_server() as server:
        await migrations.migrate(server.url)
        async with await connections.connect(server.url, as_service=False) as owner:
            await install(owner, PROJECTIONS)
        model = OfflineModel(pace=0.15)
        async with running(server.url, model) as live, running(server.url) as other:
            await live.project()
            await live.credit()
            events: list[Event] = []
            async for event in law.read_stream(live, "Good morning"):
                events.append(event)
                if len(events) in (4, 12):
                    kill(server)
            final = law.lawful(events)
            assert final["subtype"] == "success"
            await is_back(server.url)
            assert len(await law.logged(server.url, "ReplyStarted")) == 1
            assert await other.join(final["messageId"]) == events
            await law.ended_as_shown(live, server.url, final)


async def is_back(url: str) -> None:
    """Wait until the database accepts connections."""
    async with asyncio.timeout(60):
        while True:
            try:
                await (await connections.connect(url)).close()
            except psycopg.OperationalError:
                await asyncio.sleep(0.1)
            else:
                return
