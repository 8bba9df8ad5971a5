"""A session has one running reply at a time. A message during a reply is refused, waits for the
end of the reply, or interrupts the reply."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from service.model.offline.app import OfflineModel
from tests.running import LiveService, running
from tests.service import law
from tests.service.chat.test_cancel import HANGS, begun, cancel
from tests.service.replicas import Reader, prepare, replicas


async def test_a_message_during_a_reply_is_refused_with_the_id_of_that_reply(url: str) -> None:
    async with running(url) as one, running(url) as other:
        await one.project()
        await one.credit()
        reply_id, reading = await begun(one, HANGS)
        for live in (one, other):
            answer = await live.chat("And now?")
            problem = answer.json()
            assert (answer.status_code, problem["code"]) == (409, "reply_in_progress")
            assert problem["variables"] == {"message_id": reply_id}
        await cancel(one.client, reply_id)
        finals = [law.lawful(await reading), law.lawful(await one.stream("And now?"))]
        assert len(await law.logged(url, "UserMessagePosted")) == 2
        await law.ended_as_shown(one, url, *finals)


@pytest.mark.parametrize("on", ["its server", "another one"])
async def test_a_message_can_wait_for_the_end_of_the_running_reply(url: str, on: str) -> None:
    async with running(url, OfflineModel(pace=0.01)) as one, running(url) as other:
        await one.project()
        await one.credit()
        _, reading = await begun(one, "Good morning")
        where = one if on == "its server" else other
        waited = await where.stream("And now?", onBusy="enqueue")
        first, second = law.lawful(await reading), law.lawful(waited)
        assert waited[1][0] == "notice"
        assert waited[1][1]["code"] == "queued"
        kinds = ("ReplyStarted", "ReplyCompleted")
        ended = [name for name, _ in await law.logged(url, *kinds)]
        assert ended == ["ReplyStarted", "ReplyStarted", "ReplyCompleted", "ReplyCompleted"]
        said = where.model.requests[-1]["messages"]
        assert [turn["role"] for turn in said] == ["user", "assistant", "user"]
        await law.ended_as_shown(one, url, first, second)


async def test_waiting_messages_are_answered_in_their_order(url: str) -> None:
    async with running(url) as live:
        await live.project()
        await live.credit()
        reply_id, reading = await begun(live, HANGS)
        heads: list[asyncio.Task[list[law.Event]]] = []
        for n in range(4):
            head = live.service.live_log.head
            heads.append(asyncio.create_task(live.stream(f"Number {n}", onBusy="enqueue")))
            assert await live.service.live_log.wait(head + 1, seconds=10)
        await cancel(live.client, reply_id)
        finals = [law.lawful(await each) for each in (reading, *heads)]
        ended = [event["message_id"] for _, event in await law.logged(url, "ReplyCompleted")]
        assert ended == [final["messageId"] for final in finals]
        await law.ended_as_shown(live, url, *finals)


async def test_a_waiting_message_can_be_cancelled(url: str) -> None:
    async with running(url) as live:
        await live.project()
        await live.credit()
        reply_id, reading = await begun(live, HANGS)
        waiting: list[law.Event] = []
        async for event in law.read_stream(live, "And now?", onBusy="enqueue"):
            waiting.append(event)
            if event[0] == "notice":
                await cancel(live.client, waiting[0][1]["messageId"])
        assert law.lawful(waiting)["error"]["code"] == "cancelled"
        await cancel(live.client, reply_id)
        finals = [law.lawful(await reading), law.lawful(waiting)]
        assert live.model.calls == 1
        await law.ended_as_shown(live, url, *finals)


async def test_another_server_does_not_bill_the_time_in_line(url: str) -> None:
    """The message came ten minutes before its reply begins."""
    async with running(url, OfflineModel(pace=0.1)) as owner, running(url) as other:
        await owner.project()
        await owner.credit()
        reply_id, reading = await begun(owner, HANGS)
        waiting: list[law.Event] = []
        left = None
        async for event in law.read_stream(owner, "And now?", onBusy="enqueue"):
            waiting.append(event)
            if event[0] == "notice":
                await cancel(owner.client, reply_id)
            if event[0] == "chunk" and left is None:
                row = await other.service.turns.find("t1", waiting[0][1]["messageId"])
                assert row is not None
                early = replace(row, started_at=row.started_at - timedelta(minutes=10))
                left = await other.service.turns._recovery.inspect(early)
        assert left is not None
        assert left.seconds < 60
        law.lawful(await reading)
        law.lawful(waiting)


@pytest.mark.parametrize("on", ["its server", "another one"])
async def test_a_message_can_interrupt_the_running_reply(url: str, on: str) -> None:
    async with running(url) as one, running(url) as other:
        await one.project()
        await one.credit()
        _, reading = await begun(one, HANGS)
        where: LiveService = one if on == "its server" else other
        second = law.lawful(await where.stream("And now?", onBusy="interrupt"))
        first = law.lawful(await reading)
        assert (first["subtype"], first["reason"]) == ("partial", "superseded")
        assert second["subtype"] == "success"
        assert len(where.model.requests[-1]["messages"]) == 3
        await law.ended_as_shown(one, url, first, second)


async def test_a_waiting_message_is_answered_when_its_server_dies(url: str) -> None:
    model = law.GatedModel()
    async with replicas(url, model) as service:
        first, other = await service.start(), await service.start()
        await prepare(first, "p1")
        readers = [Reader(), Reader()]
        asking = [asyncio.create_task(readers[0].ask(first, "Good morning"))]
        await readers[0].until("accepted")
        waits = readers[1].ask(first, "And now?", onBusy="enqueue")
        asking.append(asyncio.create_task(waits))
        await readers[1].until("notice")
        await first.kill()
        await asyncio.gather(*asking)
        model.go.set()
        async with asyncio.timeout(15):
            await asyncio.gather(*(reader.finish(other) for reader in readers))
        finals = [law.lawful(reader.events) for reader in readers]
        assert [final["subtype"] for final in finals] == ["success", "success"]
        assert len(model.requests[-1]["messages"]) == 3
    async with running(url) as live:
        await law.ended_as_shown(live, url, *finals)


async def test_a_refused_message_interrupts_nothing(url: str) -> None:
    """The refusals: too little balance without the running reply's reservation, and the user's
    limit."""
    async with running(url, user_messages=2) as live:
        await live.project()
        await live.credit(seconds=100)
        _, first = await begun(live, HANGS)
        dear = await live.chat("Review it", chatMode="analysis", onBusy="interrupt")
        assert (dear.status_code, dear.json()["code"]) == (402, "insufficient_balance")
        assert not first.done()
        reply_id, second = await begun(live, HANGS, onBusy="interrupt")
        assert law.lawful(await first)["subtype"] == "partial"
        late = await live.chat("And then?", onBusy="interrupt")
        assert (late.status_code, late.json()["code"]) == (429, "user_limit_reached")
        assert not second.done()
        await cancel(live.client, reply_id)
        assert law.lawful(await second)["subtype"] == "partial"
        assert len(await law.logged(url, "ReplyCancelRequested")) == 2
