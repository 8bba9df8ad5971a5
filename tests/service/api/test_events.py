"""The tenant's log as CloudEvents: pages, lines and a live stream have the same, whole log."""

import re
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import unquote

import orjson
import pytest

from domain.events import EVENT_TYPES
from service import wire
from service.api.events_schemas import CloudEvent
from service.eventlog import heavy_reads, live, tenant_feed
from service.eventlog.store import Recorded
from service.wire import BEGINNING
from tests.running import LiveService, Signed, problem, running
from tests.service.eventlog.logs import event
from tests.service.watching import (
    append,
    append_each,
    chained,
    head_cursor,
    many,
    opened,
    refused,
    said,
    until,
)

PATH = "/v1/events"
NAMES = re.compile(r"[a-z0-9]{1,20}|data_base64")


@pytest.fixture
def run(bare: LiveService) -> LiveService:
    return bare


async def page(run: LiveService, *, key_id: str = "", **query: Any) -> dict[str, Any]:
    answer = await run.client.get(PATH, params=query, auth=Signed(key_id or run.key_id))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return dict(answer.json())


async def lines(run: LiveService, **query: Any) -> list[Any]:
    headers = {"Accept": "application/x-ndjson"}
    answer = await run.client.get(PATH, params=query, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.text == "" or answer.text.endswith("}\n")
    return [orjson.loads(line) for line in answer.text.splitlines()]


def linked(events: list[Any], before: str | None = None) -> list[Any]:
    """The events without their links, after a check that the links form a chain."""
    named = [("event", event, event["cursor"]) for event in events]
    return chained(named, before, "event")


async def logged(run: LiveService) -> list[Recorded]:
    return await run.service.store.range(after=0, tenant_id=run.tenant_id)


def assert_cloud_event(event: dict[str, Any], stored: Recorded) -> None:
    """The CloudEvent, by version 1.0, equals the stored event."""
    CloudEvent.model_validate_json(orjson.dumps(event))
    assert all(NAMES.fullmatch(name) for name in event)
    for name, value in event.items():
        if name != "data":
            assert value is None or isinstance(value, str) or abs(value) < 2**31
    assert (event["specversion"], event["id"]) == ("1.0", stored.cursor)
    assert unquote(event["source"]) == f"/tenants/{stored.tenant_id}"
    assert (event["type"], event["subject"]) == (stored.type, stored.stream_id)
    assert event["cursor"] == stored.cursor
    assert event["position"] == str(stored.position)
    assert event["streamversion"] == stored.version
    assert event["schemaversion"] == stored.schema_version
    assert event.get("projectid") == stored.project_id
    assert event["time"].endswith("Z")
    metadata = orjson.loads(stored.metadata)
    assert event.get("requestid") == metadata.get("requestId")
    assert event.get("actor") == metadata.get("actor")
    assert event["datacontenttype"] == "application/json"
    assert event["data"] == orjson.loads(stored.state)


# Pages -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 3, 1_000])
async def test_pages_are_the_tenants_log(run: LiveService, limit: int) -> None:
    await run.project()
    await run.credit()
    await run.chat("Good morning")
    await append(run, [said(tenant="t2"), said("after another's")])
    stored = await logged(run)
    walked: list[Any] = []
    answer: dict[str, Any] = {"hasMore": True}
    while answer["hasMore"]:
        query = {"after": answer["after"]} if walked else {}
        answer = await page(run, limit=limit, **query)
        assert len(answer["events"]) <= limit
        walked += answer["events"]
    linked(walked)
    assert len(walked) == len(stored) > 9
    for shown, recorded in zip(walked, stored, strict=True):
        assert_cloud_event(shown, recorded)
    assert {each["actor"] for each in walked if "actor" in each} == {"u1"}
    assert sum("requestid" in each for each in walked) > 5


async def test_pages_are_bounded_in_bytes_and_lead_on(
    run: LiveService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "PAGE_BYTES", 2_500)
    await run.project()
    await append_each(run, (said(f"{n}" * 1_000) for n in range(5)))
    pages: list[Any] = []
    after: dict[str, str] = {}
    while not pages or pages[-1]["hasMore"]:
        params = {"types": "SystemMessagePosted", "limit": "4"} | after
        pages.append((await run.client.get(PATH, params=params)).json())
        after = {"after": pages[-1]["after"]}
    assert [len(each["events"]) for each in pages] == [2, 2, 1]


@pytest.mark.parametrize(("way", "sizes"), [("before", [2, 2, 1]), ("after", [2, 2, 1])])
async def test_pages_of_a_timeline_are_bounded_in_bytes_and_lead_on(
    run: LiveService, monkeypatch: pytest.MonkeyPatch, way: str, sizes: list[int]
) -> None:
    monkeypatch.setattr(wire, "PAGE_BYTES", 2_500)
    await run.project()
    await append_each(run, (said(f"{n}" * 1_000) for n in range(5)))
    pages: list[Any] = []
    cursor = {} if way == "before" else {"after": BEGINNING}
    while not pages or pages[-1]["hasMore"]:
        path = "/v1/project/p1/timeline?userId=u1&limit=4"
        pages.append((await run.client.get(path, params={"userId": "u1"} | cursor)).json())
        cursor = {way: pages[-1][way]}
    assert [len(each["items"]) for each in pages] == sizes
    found = [item["aiResponse"]["data"]["template"][0] for each in pages for item in each["items"]]
    assert sorted(found) == list("01234")


async def test_heavy_reads_wait_for_few_turns_and_quick_reads_do_not(
    run: LiveService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heavy_reads, "WAIT_SECONDS", 0.05)
    await run.project()
    heavy = ("/v1/events?types=ProjectLocked", "/v1/projects/p1/analytics?userId=u1")
    quick = ("/v1/events", "/v1/project/p1/timeline?userId=u1")
    async with AsyncExitStack() as turns:
        for _ in range(heavy_reads.TURNS):
            await turns.enter_async_context(run.service.heavy_reads.turn())
        for path in heavy:
            late = await run.client.get(path)
            assert problem(late) == (503, "overloaded")
            assert late.headers["Retry-After"]
        for path in quick:
            assert (await run.client.get(path)).status_code == 200
    for path in heavy:
        assert (await run.client.get(path)).status_code == 200


@pytest.mark.usefixtures("url")
async def test_an_empty_log_is_an_empty_page(run: LiveService) -> None:
    assert await page(run) == {"events": [], "after": BEGINNING, "hasMore": False}
    assert await page(run, after=BEGINNING) == await page(run)
    assert await lines(run) == []


async def test_a_page_has_a_hundred_events(run: LiveService) -> None:
    await append(run, [said(f"{n}") for n in range(101)])
    answer = await page(run)
    assert (len(answer["events"]), answer["hasMore"]) == (100, True)
    assert answer["after"] == answer["events"][-1]["cursor"]


@pytest.mark.parametrize(
    "types",
    [
        ["UserMessagePosted,ReplyCompleted"],
        ["UserMessagePosted", "ReplyCompleted"],
        ["UserMessagePosted,ReplyCompleted", "SessionDeleted"],
    ],
)
async def test_some_types_are_a_chain_of_their_own(run: LiveService, types: list[str]) -> None:
    await run.project()
    await run.credit()
    for _ in range(3):
        await run.chat("Good morning")
    answer = await page(run, types=types)
    linked(answer["events"])
    expected = ["UserMessagePosted", "ReplyCompleted"] * 3
    assert [event["type"] for event in answer["events"]] == expected
    assert await lines(run, types=types) == answer["events"]
    await run.credit()
    answer = await page(run, types=types)
    # The page covers the whole log, so the next one begins at the head, with a true `prev`.
    assert answer["after"] == await head_cursor(run)
    await run.chat("Good morning")
    more = await page(run, types=types, after=answer["after"])
    linked(more["events"], answer["events"][-1]["cursor"])
    assert len(more["events"]) == 2


async def test_the_events_of_a_project_are_a_chain_of_their_own(run: LiveService) -> None:
    await append_each(run, (said(project_id=f"p{n % 3}") for n in range(9)))
    found = await page(run, projectId="p1")
    linked(found["events"])
    assert [event["projectid"] for event in found["events"]] == ["p1"] * 3
    assert await lines(run, projectId="p1", types="SystemMessagePosted") == found["events"]
    assert (await page(run, projectId="p1", types="UserMessagePosted"))["events"] == []
    middle = found["events"][1]
    rest = await page(run, projectId="p1", after=middle["cursor"])
    assert rest["events"] == found["events"][2:]


async def test_an_unknown_type_is_refused_with_those_that_are_known(run: LiveService) -> None:
    for asked in ("types=Nothing", "types=UserMessagePosted,nothing", "types=", "types=a&types=b"):
        answer = await run.client.get(f"{PATH}?{asked}")
        body = answer.json()
        assert (answer.status_code, body["code"]) == (422, "unknown_event_type")
        assert all(name in body["detail"] for name in EVENT_TYPES)
        assert "othing" not in body["detail"]


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("after=00000000.1", 409, "cursor_of_another_log"),
        ("after=1.00000000", 409, "cursor_of_another_log"),
        ("after=999999.00000000", 409, "cursor_of_another_log"),
        ("after=1", 422, "bad_cursor"),
        ("after=1.0000000x", 422, "bad_cursor"),
        ("limit=0", 422, "invalid_request"),
        ("limit=1001", 422, "invalid_request"),
        ("limit=1&unknown=1", 422, "invalid_request"),
        ("projectId=a%00b", 422, "invalid_request"),
    ],
)
@pytest.mark.parametrize("accept", ["*/*", "application/x-ndjson", "text/event-stream"])
async def test_an_invalid_query_is_refused_in_every_format(
    shared: LiveService, query: str, status: int, code: str, accept: str
) -> None:
    asked = f"{PATH}?{query}"
    assert await refused(shared, asked, headers={"Accept": accept}) == (status, code)


async def test_the_log_needs_the_right_to_read_it(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests import running as tests_running

    limited = {
        "k1": tests_running.KEYS["k1"].model_copy(update={"scopes": frozenset({"chat"})}),
        "k2": tests_running.KEYS["k2"].model_copy(update={"scopes": frozenset({"admin"})}),
    }
    monkeypatch.setattr(tests_running, "KEYS", limited)
    async with running(url) as run:
        assert await refused(run, PATH) == (403, "scope_missing")
        assert await page(run, key_id="k2")


# Tenants and other applications ------------------------------------------------------------------


@pytest.mark.usefixtures("url")
async def test_a_tenant_has_its_own_events_only(run: LiveService) -> None:
    tracked = event("an-application", tenant="t1/tracking", kind="tracked")
    await append_each(run, [said("mine"), said("theirs", tenant="t2"), tracked, said("also mine")])
    for key_id, tenant_id, count in (("k1", "t1", 2), ("k2", "t2", 1)):
        answer = await page(run, key_id=key_id)
        linked(answer["events"])
        assert [event["source"] for event in answer["events"]] == [f"/tenants/{tenant_id}"] * count
        async with (
            many(run, key_id) as client,
            opened(run, PATH, client=client, since=BEGINNING) as stream,
        ):
            events = [data for _, data, _ in await stream.read(count)]
        assert events == answer["events"]


async def test_events_of_other_applications_are_returned_unchanged(run: LiveService) -> None:
    states = (b'{"a": [1, 2.50]}', b"\x00\xff", b"")
    await append_each(run, (event(state=state, kind="of.another:Kind") for state in states))
    answer = await page(run)
    first, second, third = linked(answer["events"])
    assert (first["type"], first["data"]) == ("of.another:Kind", {"a": [1, 2.5]})
    assert second["datacontenttype"] == "application/octet-stream"
    assert (second["data_base64"], third["data_base64"]) == ("AP8=", "")
    assert "data" not in second


# Lines -------------------------------------------------------------------------------------------


async def test_a_long_log_comes_whole_as_lines(run: LiveService) -> None:
    for _ in range(10):
        await append(run, [said(f"{n}", tenant="t2" if n % 5 == 0 else "t1") for n in range(625)])
    found = await lines(run)
    assert len(linked(found)) == 5_000
    assert [event["id"] for event in found] == [
        recorded.cursor
        for recorded in await run.service.store.range(
            after=0, limit=10_000, tenant_id=run.tenant_id
        )
    ]
    some = await lines(run, limit=250)
    assert some == found[:250]
    assert await lines(run, after=some[-1]["cursor"], limit=1_000) == found[250:1_250]


# Live --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [2, 100])
async def test_a_stream_is_resumed_at_every_event(
    run: LiveService, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    monkeypatch.setattr(tenant_feed, "STEP", step)
    await append_each(run, (said(f"{n}", tenant="t2" if n % 3 == 0 else "t1") for n in range(12)))
    events = (await page(run))["events"]
    async with AsyncExitStack() as stack:
        transactions = []
        for n in range(len(events) + 1):
            since = events[n - 1]["cursor"] if n else BEGINNING
            watched = await stack.enter_async_context(opened(run, PATH, since=since))
            assert [data for _, data, _ in await watched.read(len(events) - n)] == events[n:]
            transactions.append(watched)
        await append_each(run, [said("later", tenant="t2"), said("later")])
        (later,) = (await page(run, after=events[-1]["cursor"]))["events"]
        for watched in transactions:
            assert await watched.next() == ("event", later, later["cursor"])


async def test_a_stream_without_a_cursor_begins_with_the_log(run: LiveService) -> None:
    await append(run, [said("one")])
    async with opened(run, PATH) as watched:
        assert await watched.comment() == ": throughline"
        await watched.next()
        await append(run, [said("two")])
        await watched.next()


async def test_a_stream_has_the_events_of_two_processes(run: LiveService, url: str) -> None:
    async with (
        running(url) as other,
        opened(run, PATH) as here,
        opened(other, PATH, types="SystemMessagePosted", projectId="p1") as there,
    ):
        for n in range(20):
            await append(run, [said(f"{n}"), said(project_id="p2")])
            added = event(kind="MemberAdded", state=b'{"project_id":"p1","user_id":"u","role":"x"}')
            await append(other, [added._replace(project_id="p1"), said(f"{n} more")])
        events = await here.read(80)
        chosen = await there.read(40)
    assert chained(events, None, "event") == linked((await page(run, limit=1_000))["events"])
    whole = await page(run, limit=1_000, types="SystemMessagePosted", projectId="p1")
    assert chained(chosen, None, "event") == linked(whole["events"])


async def test_a_reader_behind_the_live_tail_reads_the_tenant_s_log(
    run: LiveService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "TENANT_RING", 3)
    async with opened(run, PATH) as watched:
        assert await watched.comment() == ": throughline"
        await append(run, [said("one")])
        events = [await watched.next()]
        await append(run, [said(f"{n}") for n in range(50)])
        await append(run, [said(f"{n}", tenant="t1" if n == 25 else "t2") for n in range(50)])
        await append(run, [said("last")])
        events += await watched.read(52)
    linked_page = linked((await page(run, limit=1_000))["events"])
    assert chained(events, None, "event") == linked_page


async def test_a_stream_of_events_ends_properly_when_the_service_stops(url: str) -> None:
    async with running(url) as run:
        await append(run, [said()])
        async with opened(run, PATH) as watched:
            await watched.next()
            run.server.handle_exit(15, None)
            assert await watched.rest() == [("goaway", {"reason": "stopping"}, "")]


async def test_a_reader_that_disconnects_is_released(run: LiveService) -> None:
    async with opened(run, PATH) as watched:
        await watched.comment()
        await append(run, [said()])
        await watched.next()
        followers = run.service.live_log.followers
    await until(lambda: not run.service.merged_streams.open)
    await until(lambda: run.service.live_log.followers < followers)
