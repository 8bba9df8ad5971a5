"""The stream of a project's timeline: the items of the pages, without gap or repeat."""

import asyncio
import socket
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace

import psycopg
import pytest

from projections.projection import catch_up, reached, rebuild
from projections.timeline import TIMELINE, Shown
from service.eventlog.store import EventStore, NewEvent
from service.http import merge, sse_response
from service.http.merge import MergedStreams
from service.postgres import connections
from service.timelines import feed as feeds
from service.timelines.feed import Feeds, Item, Project
from service.wire import BEGINNING
from tests.projections.generated import owning
from tests.projections.trouble import break_, held, mend
from tests.running import LiveService, Signed, running
from tests.service import law
from tests.service.cutter import Cutter
from tests.service.eventlog.logs import acquired, running_log
from tests.service.watching import (
    SILENCE_SECONDS,
    append,
    append_each,
    chained,
    cursor_at,
    many,
    opened,
    refused,
    said,
    shown,
    until,
)

PATH = "/v1/project/p1/timeline/stream"


# The same items ----------------------------------------------------------------------------------


async def test_a_stream_has_the_items_of_a_page(run: LiveService) -> None:
    await run.chat("Good morning")
    async with opened(run, since=BEGINNING, includeHidden=True) as watched:
        before = await watched.read(4)
        asking = asyncio.create_task(run.chat("What is missing?"))
        happening = await watched.read(2)
        assert (await asking).is_success
    items = await shown(run, includeHidden=True)
    kinds = ["session", "system_message", *("user_message", "reply") * 2]
    assert [item["kind"] for item in items] == kinds
    assert chained(before + happening, None, "item") == items


async def test_a_stream_without_a_cursor_begins_now_after_the_last_item(run: LiveService) -> None:
    await append(run, [said("first"), said("second"), said("hidden", visible=False)])
    items = await shown(run)
    async with opened(run) as watched, opened(run, includeHidden=True) as all_of_it:
        await append(run, [said("third")])
        (third,) = chained([await watched.next()], items[-1]["cursor"], "item")
        hidden = (await shown(run, includeHidden=True))[2]
        assert chained([await all_of_it.next()], hidden["cursor"], "item") == [third]
    assert (await shown(run))[2:] == [third]


async def test_the_first_item_of_a_project_has_no_previous_item(run: LiveService) -> None:
    async with opened(run) as watched:
        await append(run, [said(project_id="p2")])
        await append(run, [said()])
        assert chained([await watched.next()], None, "item") == await shown(run)


# Resuming ----------------------------------------------------------------------------------------


HOW = {"header": ("{}", ""), "query": ("", "{}"), "both": ("{}", "another.log")}


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("ring", [2, 100], ids=["by the table", "by the ring"])
async def test_a_stream_is_resumed_at_every_item(
    run: LiveService, monkeypatch: pytest.MonkeyPatch, how: str, ring: int
) -> None:
    monkeypatch.setattr(feeds, "RING", ring)
    monkeypatch.setattr(feeds, "STEP", 3)
    for n in range(4):
        await append(run, [said(f"{n}"), said("hidden", visible=False), said(f"{n} more")])
    items = await shown(run)
    assert len(items) == 8
    async with AsyncExitStack() as stack:
        for n in range(len(items)):
            at = items[n - 1]["cursor"] if n else BEGINNING
            header, query = HOW[how]
            opening = opened(run, since=header.format(at), after=query.format(at))
            watched = await stack.enter_async_context(opening)
            events = await watched.read(len(items) - n)
            assert chained(events, at if n else None, "item") == items[n:]


async def test_readers_of_two_processes_miss_no_item_of_two_writers(
    run: LiveService, url: str
) -> None:
    async with running(url) as other, asyncio.TaskGroup() as tasks:
        readers = [
            tasks.create_task(until_last(each, leaving=leaving))
            for each in (run, other)
            for leaving in (True, False)
        ]
        await asyncio.gather(
            *(append_each(each, (said(f"{n}") for n in range(40))) for each in (run, other))
        )
        await append(other, [said("last")])
    items = await shown(run)
    assert len(items) == 81
    for reader in readers:
        assert chained(reader.result(), None, "item") == items


async def until_last(at: LiveService, *, leaving: bool) -> list[law.Event]:
    """All items up to the last one. With `leaving`, a new stream begins after every third item."""
    events: list[law.Event] = []
    while True:
        async with opened(at, since=events[-1][2] if events else BEGINNING) as watched:
            while not (leaving and watched.last and len(events) % 3 == 0):
                events.append(await watched.next())
                if events[-1][1]["aiResponse"]["data"]["template"] == "last":
                    return events


async def test_a_watcher_far_behind_reads_the_table_and_then_the_ring(
    run: LiveService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "RING", 5)
    monkeypatch.setattr(feeds, "STEP", 4)
    await append(run, [said(f"{n}") for n in range(50)])
    async with opened(run, since=BEGINNING) as watched:
        events = await watched.read(50)
        await append(run, [said(f"{n}") for n in range(20)])
        events += await watched.read(20)
        for n in range(3):
            await append(run, [said(f"{n}")])
            events.append(await watched.next())
    assert chained(events, None, "item") == await shown(run)


@pytest.mark.usefixtures("url")
async def test_a_ring_is_bounded_by_bytes(
    run: LiveService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "RING_BYTES", 3_000)
    async with opened(run, since=BEGINNING) as watched:
        await append(run, [said("x" * 1_000) for _ in range(10)])
        events = await watched.read(10)
        (feed,) = run.service.feeds._feeds.values()
        assert 0 < feed.ring.total_bytes <= 3_000
        await append(run, [said("y" * 5_000)])
        events.append(await watched.next())
    assert chained(events, None, "item") == await shown(run)


# Cost --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("url")
async def test_a_hundred_watchers_cost_a_single_read(run: LiveService) -> None:
    await append(run, [said("before")])
    async with many(run) as client, AsyncExitStack() as stack:
        transactions = [
            await stack.enter_async_context(opened(run, client=client, since=BEGINNING))
            for _ in range(100)
        ]
        first = [await each.next() for each in transactions]
        assert run.service.merged_streams.open == 100
        assert run.service.feeds.readings == 1
        await append(run, [said("after")])
        second = [await each.next() for each in transactions]
        assert run.service.feeds.readings == 2
    items = await shown(run)
    for events in zip(first, second, strict=True):
        assert chained(events, None, "item") == items


async def test_events_of_other_projects_cost_no_reading(run: LiveService) -> None:
    async with opened(run) as watched:
        await append(run, [said("one")])
        await watched.next()
        readings = run.service.feeds.readings
        for n in range(5):
            await append(run, [said(project_id="p2"), said(tenant="t2")])
            await run.credit(f"u{n}")
        await append(run, [said("two")])
        await watched.next()
        assert run.service.feeds.readings == readings + 1


class SlowHead(EventStore):
    """A log that waits before it returns its head."""

    def __init__(self, pool: connections.Pool) -> None:
        super().__init__(pool)
        self.go = asyncio.Event()

    async def head(self) -> int:
        """Return the head after a wait."""
        await self.go.wait()
        return await super().head()


async def test_items_from_before_the_first_watcher_are_read(
    url: str, pool: connections.Pool
) -> None:
    """The stream reads the ring. Then an item is written. Only then the stream follows the log."""
    async with running_log(url) as log:
        store = SlowHead(pool)
        watched = Feeds(pool, store, log.live_log)
        working = asyncio.create_task(watched.run())
        async with aclosing(watched.follow(Project("t1", "p1"), 0, Shown())) as items:
            first = asyncio.create_task(anext(items))
            await until(lambda: watched.readings == 1)
            await log.writer.append([said()])
            store.go.set()
            async with asyncio.timeout(SILENCE_SECONDS):
                assert [item.position for item in await first] == [1]
        working.cancel()
        await asyncio.wait((working,))


async def test_all_watched_projects_of_a_tenant_are_read_in_one_transaction(
    url: str, pool: connections.Pool
) -> None:
    """More projects than share a round trip, each with an item of its own."""
    projects = [f"p{n}" for n in range(feeds.AT_ONCE + 5)]
    async with running_log(url) as log:
        watched = Feeds(pool, log.store, log.live_log)
        async with AsyncExitStack() as stack:
            following: list[asyncio.Task[list[Item]]] = []
            for each in projects:
                items = watched.follow(Project("t1", each), 0, Shown())
                await stack.enter_async_context(aclosing(items))
                following.append(asyncio.create_task(anext(items)))
            await until(lambda: len(watched._feeds) == len(projects))
            await log.writer.append([said(project_id=each) for each in projects])
            for feed in watched._feeds.values():
                feed.wanted = len(projects)
            before = acquired(pool)
            await watched._read_on()
            assert acquired(pool) == before + 1
            async with asyncio.timeout(SILENCE_SECONDS):
                found = [[item.position for item in await each] for each in following]
        assert found == [[n + 1] for n in range(len(projects))]


@pytest.mark.usefixtures("url")
async def test_a_project_without_watchers_uses_no_memory(run: LiveService) -> None:
    async with opened(run) as one, opened(run) as two:
        assert await one.comment() == await two.comment() == ": throughline"
        await append(run, [said()])
        await asyncio.gather(one.next(), two.next())
        assert len(run.service.feeds._feeds) == 1
    await until(lambda: not run.service.merged_streams.open)
    assert run.service.feeds._feeds == {}
    await append(run, [said("again")])
    async with opened(run, since=BEGINNING) as watched:
        assert chained(await watched.read(2), None, "item") == await shown(run)


# Refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cursor", "status", "code"),
    [
        ("00000000.1", 409, "cursor_of_another_log"),
        ("1", 422, "bad_cursor"),
        ("abc.", 422, "bad_cursor"),
        ("-1.0123abcd", 422, "bad_cursor"),
        ("01.0123abcd", 422, "bad_cursor"),
        ("1.0123ABCD", 422, "bad_cursor"),
        ("1.0123abcd", 409, "cursor_of_another_log"),
        ("999999.0123abcd", 409, "cursor_of_another_log"),
    ],
)
async def test_an_invalid_cursor_is_refused(
    shared: LiveService, cursor: str, status: int, code: str
) -> None:
    for headers, query in (({"Last-Event-ID": cursor}, {}), ({}, {"after": cursor})):
        answer = await refused(shared, PATH, headers=headers, params=query)
        assert answer == (status, code)


@pytest.mark.parametrize("query", ["mode=other", "includeHidden=perhaps", "limit=3", "userId="])
async def test_a_bad_query_is_refused(shared: LiveService, query: str) -> None:
    assert await refused(shared, f"{PATH}?{query}") == (422, "invalid_request")


async def test_only_members_can_watch_a_project_of_their_tenant(run: LiveService) -> None:
    async with opened(run, userId="u1"):
        pass
    for path, auth in (
        (f"{PATH}?userId=u2", run.client.auth),
        ("/v1/project/p9/timeline/stream", run.client.auth),
        (PATH, Signed("k2")),
    ):
        assert await refused(run, path, auth=auth) == (404, "project_not_found")


async def test_a_removed_member_s_stream_ends(run: LiveService) -> None:
    await run.client.put("/v1/projects/p1/members/u2", json={"role": "viewer"})
    async with opened(run, userId="u2") as theirs, opened(run, userId="u1") as mine:
        await append(run, [said("one")])
        await asyncio.gather(theirs.next(), mine.next())
        await run.client.delete("/v1/projects/p1/members/u2")
        await append(run, [said("two")])
        assert (await theirs.rest())[-1] == ("goaway", {"reason": "removed"}, "")
        assert (await mine.next())[0] == "item"


async def test_too_many_streams_are_refused(
    run: LiveService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merge, "MOST_OPEN", 1)
    await until(lambda: not run.service.merged_streams.open)
    async with opened(run) as watched:
        await watched.comment()
        assert await refused(run, PATH) == (503, "overloaded")


async def test_a_head_request_opens_nothing(run: LiveService) -> None:
    await until(lambda: not run.service.merged_streams.open)
    answer = await run.client.head(PATH)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert run.service.merged_streams.open == 0


# Filters -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ring", [3, 100], ids=["by the table", "by the ring"])
@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("mode", ["all", "plan", "build"])
async def test_a_stream_filters_as_a_page_does(
    run: LiveService,
    shared_url: str,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    hidden: bool,
    ring: int,
) -> None:
    monkeypatch.setattr(feeds, "RING", ring)
    monkeypatch.setattr(feeds, "STEP", 4)
    last = await append(run, [said(f"{n}", visible=n % 3 > 0) for n in range(24)])
    async with owning(shared_url) as owner:
        await owner.execute(
            "update app.timeline set mode = 'build' where position = any(%s)",
            [list(range(last - 22, last + 1, 4))],
        )
    items = await shown(run, mode=mode, includeHidden=hidden)
    assert len(items) == {"all": 24, "plan": 18, "build": 6}[mode] * (3 if hidden else 2) // 3
    async with opened(run, since=BEGINNING, mode=mode, includeHidden=hidden) as watched:
        assert chained(await watched.read(len(items)), None, "item") == items


# Silent, slow and stopped streams ----------------------------------------------------------------


@pytest.mark.usefixtures("url")
async def test_a_comment_comes_at_once_and_during_silence(run: LiveService) -> None:
    patient = replace(run.service, merged_streams=MergedStreams(heartbeat_seconds=0.05))
    run.server._app.state.service = patient
    async with opened(run) as watched:
        assert await watched.comment() == ": throughline"
        assert [await watched.comment() for _ in range(3)] == [": still here"] * 3
        await append(run, [said()])
        assert (await watched.next())[0] == "item"
        assert await watched.comment() == ": still here"


class Raw:
    """A connection whose data is read only on request."""

    def __init__(self, run: LiveService, path: str) -> None:
        request = next(Signed(run.key_id).auth_flow(run.client.build_request("GET", path)))
        head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        self._sent = f"GET {path} HTTP/1.1\r\n{head}\r\n".encode()
        self._port = run.client.base_url.port

    async def __aenter__(self) -> "Raw":
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self._port))
        self._reader, self._writer = await asyncio.open_connection(sock=connection, limit=4_096)
        self._reader._transport.pause_reading()  # type: ignore[attr-defined]
        self._writer.write(self._sent)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def everything(self) -> bytes:
        """The data up to the end of the connection."""
        self._reader._transport.resume_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(30):
            return await self._reader.read()


async def test_a_stopping_service_ends_its_streams_properly(url: str) -> None:
    """The streams end at once, although a running reply still delays the end of the service."""
    model = law.GatedModel()
    async with running(url, model, grace_seconds=30.0) as run:
        await run.project()
        await run.credit()
        asking = asyncio.create_task(run.chat("Good morning"))
        await model.asked.wait()
        async with opened(run) as watched, Raw(run, PATH) as raw:
            assert await watched.comment() == ": throughline"
            await until(lambda: run.service.merged_streams.open == 2)
            run.server.handle_exit(15, None)
            assert await watched.rest() == [("goaway", {"reason": "stopping"}, "")]
            sent = await raw.everything()
        assert not asking.done()
        model.go.set()
        assert (await asking).json()["subtype"] == "success"
    assert b"\r\n\r\n" in sent
    assert sent.endswith(
        b'retry: 2000\nevent: goaway\ndata: {"reason":"stopping"}\n\n\r\n0\r\n\r\n'
    )


async def test_a_watcher_that_comes_during_shutdown_is_sent_away(url: str) -> None:
    async with running(url) as run:
        await run.project()
        run.service.merged_streams.stop()
        async with opened(run) as watched:
            assert await watched.rest() == [("goaway", {"reason": "stopping"}, "")]


async def test_a_reader_that_does_not_read_is_cut_and_can_come_back(
    run: LiveService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse_response, "SEND_SECONDS", 0.2)
    await append_each(run, (said("x" * 100_000) for _ in range(60)))
    items = await shown(run)
    async with Raw(run, f"{PATH}?after={BEGINNING}") as slow, opened(run) as quick:
        await until(lambda: run.service.merged_streams.open == 2)
        await until(lambda: run.service.merged_streams.open == 1)
        await append(run, [said("later")])
        assert (await quick.next())[0] == "item"
        sent = await slow.everything()
    assert not sent.endswith(b"0\r\n\r\n"), "the service closed the connection"
    came = sent.count(b"\nevent: item\n")
    assert came < 60
    async with opened(run, after=items[came - 2]["cursor"] if came > 1 else BEGINNING) as again:
        events = await again.read(61 - max(came - 1, 0))
    before = items[came - 2]["cursor"] if came > 1 else None
    assert chained(events, before, "item") == (await shown(run))[max(came - 1, 0) :]


# A read model behind the log ---------------------------------------------------------------------


async def test_a_halted_read_model_delays_items_and_loses_none(run: LiveService, url: str) -> None:
    await append(run, [said("before")])
    async with owning(url) as owner, opened(run, since=BEGINNING) as watched:
        events = [await watched.next()]
        await break_(owner, TIMELINE, at="SystemMessagePosted")
        await append_each(run, (said(f"{n}") for n in range(5)))
        behind = await reached(owner, "timeline")
        assert behind < await run.service.store.head()
        async with (
            opened(run, since=watched.last, minPosition="0") as later,
            opened(run, minPosition="0") as now,
        ):
            assert await later.comment() == await now.comment() == ": throughline"
            await mend(owner, TIMELINE)
            while not await catch_up(owner):
                pass
            await append(run, [said("after")])
            events += await watched.read(6)
            items = await shown(run)
            assert chained(events, None, "item") == items
            # A stream that began during the halt starts at the read model's position.
            assert chained(await later.read(6), items[0]["cursor"], "item") == items[1:]
            assert chained(await now.read(6), items[0]["cursor"], "item") == items[1:]


async def test_a_stream_follows_a_read_model_that_progresses_a_little(
    run: LiveService, url: str
) -> None:
    archived = NewEvent("t1", "session-s", 1, "SessionArchived", b'{"session_id":"s"}', "p1")
    async with owning(url) as owner, opened(run, since=BEGINNING) as watched:
        await break_(owner, TIMELINE, at="SessionArchived")
        async with held(url, "timeline"):
            await append_each(run, [said("one"), archived, said("two")])
        events = [await watched.next()]
        assert await reached(owner, "timeline") == await run.service.store.head() - 2
        await mend(owner, TIMELINE)
        events.append(await watched.next())
    assert chained(events, None, "item") == await shown(run)


async def test_a_cursor_beyond_the_read_model_is_not_a_gap(run: LiveService, url: str) -> None:
    """The `prev` of the next event is an item that the read model did not have at the start."""
    async with held(url, "timeline"):
        upto = await append(run, [said("one"), said("two"), said("three")])
        cursor = await cursor_at(run, upto - 1)
        watching = opened(run, after=cursor, minPosition="0")
        watched = await watching.__aenter__()
        assert await watched.comment() == ": throughline"
    three = await watched.next()
    await watching.__aexit__(None, None, None)
    items = await shown(run)
    assert chained([three], items[1]["cursor"], "item") == items[2:]


async def test_a_rebuild_does_not_disturb_a_stream(run: LiveService, url: str) -> None:
    async with owning(url) as owner, opened(run, since=BEGINNING) as watched:
        writing = asyncio.create_task(append_each(run, (said(f"{n}") for n in range(60))))
        for _ in range(3):
            await rebuild(owner, TIMELINE)
        await writing
        assert chained(await watched.read(60), None, "item") == await shown(run)


@pytest.mark.parametrize(
    ("ring", "text"),
    [(100, b"order by position desc"), (1, b"and position > ")],
    ids=["for the ring", "behind the ring"],
)
async def test_a_read_that_is_cut_off_is_repeated(
    url: str, monkeypatch: pytest.MonkeyPatch, ring: int, text: bytes
) -> None:
    monkeypatch.setattr(feeds, "RING", ring)
    async with (
        Cutter(url) as cutter,
        connections.pool(cutter.url) as pool,
        running_log(url) as log,
    ):
        await log.writer.append([said("one"), said("two"), said("three")])
        cutter.cut_request_with(text)
        watched = Feeds(pool, log.store, log.live_log)
        working = asyncio.create_task(watched.run())
        positions: list[int] = []
        async with aclosing(watched.follow(Project("t1", "p1"), 0, Shown())) as pages:
            async with asyncio.timeout(SILENCE_SECONDS):
                while len(positions) < 3:
                    positions += [item.position for item in await anext(pages)]
        assert (positions, cutter.cuts) == ([1, 2, 3], 1)
        working.cancel()
        await asyncio.wait((working,))


async def test_lost_connections_delay_items_and_lose_none(run: LiveService, url: str) -> None:
    async with opened(run, since=BEGINNING) as watched:
        await append(run, [said("one")])
        events = [await watched.next()]
        for _ in range(3):
            async with await psycopg.AsyncConnection.connect(url, autocommit=True) as admin:
                await admin.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    " where datname = current_database() and pid <> pg_backend_pid()"
                )
            await append(run, [said("more")])
            events.append(await watched.next())
    assert chained(events, None, "item") == await shown(run)


async def test_a_stream_that_breaks_before_its_first_event_is_resumed_at_its_header(
    run: LiveService,
) -> None:
    await append(run, [said("before")])
    async with opened(run) as watched:
        begin = watched.answer.headers["X-Log-Cursor"]
    assert begin == (await shown(run))[-1]["cursor"]
    await append(run, [said("meanwhile")])
    async with opened(run, since=begin) as watched:
        assert watched.answer.headers["X-Log-Cursor"] == begin
        assert chained([await watched.next()], begin, "item") == (await shown(run))[-1:]
