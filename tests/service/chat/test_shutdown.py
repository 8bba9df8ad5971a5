"""When the service stops, its running replies end properly and are billed once."""

import asyncio
import signal
from typing import Any

from service.app import application
from service.chat.leases import LeaseTimes
from service.model.offline.app import OfflineModel
from service.model.offline.requests import parts
from service.settings import Settings
from tests.running import LiveService, running
from tests.service import law
from tests.service.chat.test_faults import SAID


async def begun(
    live: LiveService, message: str, project_id: str, started: asyncio.Barrier
) -> list[law.Event]:
    """A reply's whole stream. Waits at the barrier after the first chunk."""
    events: list[law.Event] = []
    async for event in law.read_stream(live, message, projectId=project_id):
        events.append(event)
        if [name for name, _, _ in events].count("chunk") == 1 and event[0] == "chunk":
            await started.wait()
    return events


async def stopped_while_streaming(
    url: str, message: str, model: OfflineModel, **settings: Any
) -> tuple[list[law.Final], OfflineModel]:
    """The ends of three projects' replies that were streaming when the signal came."""
    started = asyncio.Barrier(4)
    projects = ("p1", "p2", "p3")
    async with running(url, model, **settings) as live:
        for project_id in projects:
            await live.project(project_id)
        await live.credit()
        transactions = [
            asyncio.create_task(begun(live, f"Good morning{message}", project_id, started))
            for project_id in projects
        ]
        await started.wait()
        live.server.handle_exit(15, None)
        # A stream without an end, or with an incomplete chunk, fails here.
        finals = [law.lawful(events) for events in await asyncio.gather(*transactions)]
    return finals, model


async def each_was_settled_once(url: str, finals: list[law.Final]) -> None:
    """Each reply is settled once in the log. The service has stopped, so the log is read."""
    settled = await law.logged(url, "TimeConsumed", "ReservationReleased")
    assert sorted(event["message_id"] for _, event in settled if "message_id" in event) == sorted(
        final["messageId"] for final in finals if final["subtype"] != "error"
    )
    assert len(settled) == len(finals)
    ended = {
        event["message_id"]: event
        for _, event in await law.logged(url, "ReplyCompleted", "ReplyFailed")
    }
    assert len(ended) == len(finals)
    for final in finals:
        if final["subtype"] == "error":
            assert ended[final["messageId"]]["code"] == final["error"]["code"]
        else:
            assert ended[final["messageId"]]["data"] == final["data"]


async def test_replies_that_can_end_in_time_end_with_success(url: str) -> None:
    model = OfflineModel(pace=0.02)
    finals, model = await stopped_while_streaming(url, "", model, grace_seconds=10.0)
    assert [final["subtype"] for final in finals] == ["success"] * 3
    assert model.aborted == 0
    await each_was_settled_once(url, finals)
    async with running(url) as live:
        await law.ended_as_shown(live, url, *finals)


async def test_replies_that_cannot_end_in_time_end_partial_with_the_data_shown(url: str) -> None:
    hang = " [[offline: hang after=8 ping=0.05]]"
    finals, model = await stopped_while_streaming(url, hang, OfflineModel(), grace_seconds=0.3)
    for final in finals:
        assert (final["subtype"], final["reason"]) == ("partial", "stopping")
        assert final["data"]["markdown"].startswith("(offline model)")
    assert model.calls == 3
    await each_was_settled_once(url, finals)
    async with running(url) as live:
        await law.ended_as_shown(live, url, *finals)


async def test_a_reply_without_chunks_continues_at_the_next_service(url: str) -> None:
    model = law.GatedModel()
    async with running(url, model, grace_seconds=0.3) as live:
        await live.project()
        await live.credit()
        asking = asyncio.create_task(live.stream("Good morning"))
        await model.asked.wait()
        live.server.handle_exit(15, None)
        events = await asking
        model.go.set()
    assert [name for name, _, _ in events] == ["accepted", "goaway"]
    reply_id, last_id = events[0][1]["messageId"], events[0][2]
    async with running(url) as live:
        rest = await live.join(reply_id, last_id)
        final = law.lawful([events[0], *rest])
        assert final["subtype"] == "success"
        await law.ended_as_shown(live, url, final)


async def test_a_client_that_waits_for_the_whole_reply_gets_its_location(url: str) -> None:
    model = law.GatedModel()
    async with running(url, model, grace_seconds=0.3) as live:
        await live.project()
        await live.credit()
        asking = asyncio.create_task(live.chat("Good morning"))
        await model.asked.wait()
        live.server.handle_exit(15, None)
        answer = await asking
        model.go.set()
    assert (answer.status_code, answer.json()["code"]) == (503, "reply_continues")
    async with running(url) as live:
        reply_id = answer.headers["Location"].rpartition("/")[2]
        final = (await live.join(reply_id))[-1][1]
        assert final["subtype"] == "success"
        await law.ended_as_shown(live, url, final)


async def test_the_next_service_continues_the_session(url: str) -> None:
    finals, _ = await stopped_while_streaming(
        url, " [[offline: hang after=8]]", OfflineModel(), grace_seconds=0.3
    )
    async with running(url) as live:
        final = law.lawful(await live.stream("Good morning"))
        assert final["sessionId"] in {each["sessionId"] for each in finals}
        assert final["data"] == SAID
        said = [parts(turn["content"])[0]["text"] for turn in live.model.requests[-1]["messages"]]
        assert len(said) == 3  # the interrupted turn with its shown part, and the new turn


async def test_a_service_that_stops_does_not_renew_the_lease_that_it_gave_back(url: str) -> None:
    """A process that finds its lease gone sends itself a signal. The test counts these signals:
    otherwise a signal would stop the test run."""
    heard: list[int] = []
    former = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        for _ in range(3):
            app = application(
                Settings(anthropic_base_url="http://127.0.0.1:9"),
                database_url=url,
                direct_url=url,
                lease_times=LeaseTimes(renewed_every=0.0),
            )
            async with app.router.lifespan_context(app):
                pass
    finally:
        signal.signal(signal.SIGTERM, former)
    assert heard == []
