"""What the service cannot read in one stream or project harms no other stream or project."""

import asyncio

import orjson
import pytest
from structlog.testing import capture_logs

from service.eventlog.store import NewEvent
from service.jobs.expiry import expire_idle
from service.ops import metrics
from service.timelines import feed as feeds
from service.wire import BEGINNING
from tests.running import LiveService
from tests.service.watching import append, chained, opened, said, shown

LARGE, TOO_LARGE = b'{"n": 1e30}', b'{"n": 1e400}'
"""Numbers that JSON in PostgreSQL has. The service's JSON does not have the second one."""


def unreadable(project_id: str = "p1", variables: bytes = TOO_LARGE) -> NewEvent:
    event = said(project_id=project_id)
    return event._replace(state=event.state.replace(b'"variables":{}', b'"variables":' + variables))


async def test_an_item_with_a_large_number_is_shown(run: LiveService) -> None:
    await append(run, [unreadable(variables=LARGE)])
    (item,) = await shown(run)
    assert item["kind"] == "system_message"


async def test_an_item_that_cannot_be_shown_keeps_its_place_on_pages_and_in_streams(
    run: LiveService,
) -> None:
    counted = metrics.UNREADABLE._value.get()
    async with opened(run, since=BEGINNING) as watched:
        await append(run, [said("first")])
        await append(run, [unreadable()])
        await append(run, [said("last")])
        events = await watched.read(3)
    items = await shown(run)
    assert chained(events, None, "item") == items
    assert [item["kind"] for item in items] == ["system_message", "unreadable", "system_message"]
    assert "000" not in str(items[1])
    assert items[1]["mode"] == "plan"
    async with opened(run, since=items[0]["cursor"]) as again:
        assert chained(await again.read(2), items[0]["cursor"], "item") == items[1:]
    assert metrics.UNREADABLE._value.get() > counted


async def test_a_project_whose_items_cannot_be_read_does_not_keep_the_others_waiting(
    run: LiveService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failure is one of the project's pages, whatever its cause."""
    failing = feeds.Feeds._extend
    await run.project("p2")

    def fail(self: feeds.Feeds, feed: feeds.Feed, *rest: object) -> None:
        if feed is run.service.feeds._feeds.get((run.tenant_id, "p1", "")):
            raise LookupError("a fault in one project")
        failing(self, feed, *rest)  # type: ignore[arg-type]

    async with opened(run, since=BEGINNING) as bad:
        async with opened(run, "/v1/project/p2/timeline/stream", since=BEGINNING) as good:
            monkeypatch.setattr(feeds.Feeds, "_extend", fail)
            monkeypatch.setattr(feeds, "FAILED_SECONDS", 0.1)
            await append(run, [said("one"), said("two", project_id="p2")])
            (event,) = chained([await good.next()], None, "item")
            assert event["aiResponse"]["data"]["template"] == "two"
        monkeypatch.undo()
        (event,) = chained([await bad.next()], None, "item")
        assert event["aiResponse"]["data"]["template"] == "one"


FOREIGN = (
    ("MemberRemoved", b"{}"),
    ("MemberRemoved", b'{"project_id": ["p1"], "user_id": {"u": 1}}'),
    ("ReplyCancelRequested", b"{}"),
    ("ReplyCancelRequested", b'{"reply_id": 1, "reason": 2, "more": 3}'),
    ("ReplyStarted", b'{"something": "else"}'),
    ("ProjectErasureRequested", b"{}"),
    ("SomethingElse", b"\xff not even text"),
)


async def test_the_service_passes_over_events_that_another_application_wrote(
    run: LiveService,
) -> None:
    await run.project("p2")
    path = "/v1/project/p2/timeline/stream"
    with capture_logs() as lines:
        async with opened(run, replies=True), opened(run, path, since=BEGINNING) as watched:
            for n, (name, state) in enumerate(FOREIGN):
                await append(run, [NewEvent("t1", f"foreign-{n}", 1, name, state, "p1")])
            await append(run, [said("after all", project_id="p2")])
            (event,) = chained([await watched.next()], None, "item")
            await run.service.live_log.wait(await run.service.store.head(), seconds=10)
            await asyncio.sleep(0)
    assert event["aiResponse"]["data"]["template"] == "after all"
    passed = [each["type"] for each in lines if each["event"] == "event_passed_over"]
    assert {"MemberRemoved", "ReplyCancelRequested", "ReplyStarted"} <= set(passed)
    assert not [each for each in lines if each["event"] == "task_failed"]
    assert (await run.client.get("/healthz")).status_code == 200


async def test_a_session_with_a_foreign_event_does_not_keep_others_from_expiring(
    run: LiveService,
) -> None:
    poisoned = (await run.chat("One")).json()["sessionId"]
    state = orjson.dumps({"message_id": "m", "foreign": True})
    stream = f"session-{poisoned}"
    version = (await run.service.store.stream(run.tenant_id, stream))[-1].version + 1
    await append(run, [NewEvent("t1", stream, version, "PlanSaved", state, "p1")])
    run.service.transactions._memory.pop((run.tenant_id, stream))
    await run.project("p2")
    other = (await run.chat("Two", projectId="p2")).json()["sessionId"]
    assert await expire_idle(run.service.transactions, run.service.pool, 0.0) == 1
    answer = await run.client.get(f"/v1/chat-plan/session/{other}?userId=u1")
    assert answer.json()["status"] == "expired"
