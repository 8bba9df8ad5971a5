"""A cancelled reply ends at once and for good, and is billed for the shown part."""

import asyncio
import signal
from typing import Any

import httpx
import pytest

from service.model.offline.app import OfflineModel
from tests.running import Event, LiveService, running
from tests.service import law
from tests.service.replicas import Reader, prepare, replicas

HANGS = "Good morning [[offline: hang after=8 ping=0.05]]"


async def cancel(client: httpx.AsyncClient, reply_id: str) -> dict[str, Any]:
    """Cancel a reply; returns its state after that."""
    answer = await client.post(f"/v1/chat-plan/replies/{reply_id}/cancel?userId=u1")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def begun(
    live: LiveService, message: str, **members: Any
) -> tuple[str, asyncio.Task[list[Event]]]:
    """A reply's id after its first chunk, and the task that reads its stream."""
    shown: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def read() -> list[Event]:
        events: list[Event] = []
        async for event in law.read_stream(live, message, **members):
            events.append(event)
            if event[0] == "chunk" and not shown.done():
                shown.set_result(events[0][1]["messageId"])
        return events

    reading = asyncio.create_task(read())
    return await shown, reading


@pytest.mark.parametrize("on", ["its server", "another one"])
async def test_a_cancelled_reply_keeps_what_was_shown(url: str, on: str) -> None:
    async with running(url) as one, running(url) as other:
        await one.project()
        await one.credit()
        reply_id, reading = await begun(one, HANGS)
        where = one if on == "its server" else other
        state = await cancel(where.client, reply_id)
        await one.model.left.wait()  # the request to the model was closed
        final = law.lawful(await reading)
        assert (final["subtype"], final["reason"]) == ("partial", "cancelled")
        assert final["data"]["markdown"].startswith("(offline model)")
        assert state["final"] == final
        await law.ended_as_shown(one, url, final)


async def test_a_reply_that_is_cancelled_before_its_first_chunk_costs_nothing(url: str) -> None:
    model = law.GatedModel()
    async with running(url, model) as live:
        await live.project()
        await live.credit()
        events: list[Event] = []
        async for event in law.read_stream(live, "Good morning"):
            events.append(event)
            if event[0] == "accepted":
                await model.asked.wait()
                await cancel(live.client, event[1]["messageId"])
        model.go.set()
        final = law.lawful(events)
        assert final["error"]["code"] == "cancelled"
        await law.ended_as_shown(live, url, final)


async def test_a_repeated_or_late_cancellation_is_harmless(url: str) -> None:
    async with running(url) as one, running(url) as other:
        await one.project()
        await one.credit()
        reply_id, reading = await begun(one, HANGS)
        asked = [cancel(live.client, reply_id) for live in (one, other) for _ in range(5)]
        states = await asyncio.gather(*asked)
        states.append(await cancel(other.client, reply_id))
        final = law.lawful(await reading)
        assert all(state["final"] == final for state in states)
        assert len(await law.logged(url, "ReplyCancelRequested")) == 1
        whole = law.lawful(await one.stream("Good morning"))
        assert (await cancel(one.client, whole["messageId"]))["final"] == whole
        await law.ended_as_shown(one, url, final, whole)


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
async def test_a_reply_of_an_unresponsive_server_can_be_cancelled(
    url: str, how: signal.Signals
) -> None:
    async with replicas(url, OfflineModel(pace=0.2)) as service:
        owner, other = await service.start(), await service.start()
        await prepare(owner, "p1")
        reader = Reader()
        asking = asyncio.create_task(reader.ask(owner, "Good morning"))
        await reader.until("chunk")
        owner.send(how)
        state = await cancel(other.client, reader.reply_id)
        assert state["final"]["reason"] == "cancelled"
        if how == signal.SIGSTOP:
            owner.send(signal.SIGCONT)
        await asking
        async with asyncio.timeout(15):
            await reader.finish(other)
        final = law.lawful(reader.events)
        assert final == state["final"]
    async with running(url) as live:
        await law.ended_as_shown(live, url, final)
