import asyncio
from collections.abc import AsyncIterator

import pytest

from service.eventlog import live
from service.eventlog.live import HistoryLost, LiveLog
from service.eventlog.store import NewEvent, Recorded
from service.postgres import connections
from tests.service.cutter import Cutter
from tests.service.eventlog.logs import Log, event, listeners, running_log


@pytest.fixture
async def log(url: str) -> AsyncIterator[Log]:
    async with running_log(url) as running:
        yield running


async def followed(log: Log, after: int, upto: int, *, seconds: float = 20) -> list[Recorded]:
    """The events that a follower gets, after a position and up to another position."""
    events: list[Recorded] = []
    pages = log.live_log.follow(after)
    async with asyncio.timeout(seconds):
        async for page in pages:
            events += page
            if events and events[-1].position >= upto:
                break
    await pages.aclose()
    return events


def positions(events: list[Recorded]) -> list[int]:
    return [each.position for each in events]


async def insert_silently(url: str, position: int) -> None:
    """Commit an event without a notification."""
    async with await connections.connect(url, as_service=False) as owner:
        await owner.execute(
            "insert into app.event (position, version, schema_version, append_id, recorded_at,"
            " tenant_id, stream_id, type, state, metadata) values"
            " (%(at)s, 1, 1, gen_random_uuid(), now(), 't', %(at)s::text, 'X', '', '{}')",
            {"at": position},
        )


async def test_a_follower_gets_past_and_new_events(log: Log) -> None:
    for _ in range(3):
        await log.writer.append([event(), event()])
    following = asyncio.create_task(followed(log, 2, 12))
    await asyncio.gather(*(log.writer.append([event(), event()]) for _ in range(3)))
    events = await following
    assert positions(events) == list(range(3, 13))
    assert events == await log.store.range(after=2)


async def test_a_follower_gets_every_later_event_from_any_start(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The starts: before the ring, in the ring, at the head and in the future."""
    monkeypatch.setattr(live, "PAGE", 7)
    async with running_log(url, most=20) as log:
        for _ in range(60):
            await log.writer.append([event()])
        starts = [*range(0, 60, 13), 59, 60, 61, 75, 99, 118]
        following = [asyncio.create_task(followed(log, after, 120)) for after in starts]
        for _ in range(20):
            await asyncio.gather(*(log.writer.append([event()]) for _ in range(3)))
            following.append(asyncio.create_task(followed(log, log.live_log.head - 15, 120)))
            starts.append(log.live_log.head - 15)
        for after, events in zip(starts, await asyncio.gather(*following), strict=True):
            assert positions(events) == list(range(after + 1, 121))


async def test_a_follower_below_the_ring_reads_the_table(url: str) -> None:
    async with running_log(url, most=5) as log:
        slow = log.live_log.follow(0)
        first = asyncio.create_task(anext(slow))
        for _ in range(40):
            await log.writer.append([event()])
        got = await first
        while not got or got[-1].position < 40:
            got += await anext(slow)
        await slow.aclose()
        assert positions(got) == list(range(1, 41))
        assert len(log.live_log._ring) <= 5


async def test_a_paused_follower_costs_nothing_and_resumes(url: str) -> None:
    async with running_log(url, most=50) as log:
        await log.writer.append([event()])
        stopped = log.live_log.follow(0)
        assert positions(await anext(stopped)) == [1]
        keen = asyncio.create_task(followed(log, 0, 1_001))
        for _ in range(10):
            await asyncio.gather(*(log.writer.append([event()]) for _ in range(100)))
            assert len(log.live_log._ring) <= 50, "a slow follower does not lengthen the ring"
        assert positions(await keen) == list(range(1, 1_002))
        rest: list[Recorded] = []
        while len(rest) < 1_000:
            rest += await anext(stopped)
        await stopped.aclose()
        assert positions(rest) == list(range(2, 1_002))


async def test_the_ring_is_bounded_in_bytes(url: str) -> None:
    """Large events replace older ones in the ring. A follower reads those from the table."""
    large = b'{"text":"' + b"x" * 100_000 + b'"}'
    async with running_log(url, most_bytes=1_000_000) as log:
        keen = asyncio.create_task(followed(log, 0, 41))
        await log.writer.append([event()])
        for _ in range(40):
            await log.writer.append([event(state=large)])
        assert positions(await keen) == list(range(1, 42))
        ring = log.live_log._ring
        kept = sum(len(each.state) for each in ring.after(ring.floor) or [])
        assert 800_000 < kept <= 1_000_000
        assert positions(await followed(log, 0, 41)) == list(range(1, 42))


async def test_an_append_of_another_process_arrives_by_notification(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "POLL", 60)  # so that no poll finds the event
    async with running_log(url) as log, running_log(url) as other:
        await other.writer.append([event()])
        assert await log.live_log.wait(1, seconds=5)
        following = asyncio.create_task(followed(log, 0, 21, seconds=10))
        for _ in range(20):
            await other.writer.append([event()])
        assert positions(await following) == list(range(1, 22))


async def test_both_writers_of_one_log_are_followed_in_order(url: str, log: Log) -> None:
    async with running_log(url) as other:
        following = [asyncio.create_task(followed(each, 0, 200)) for each in (log, other)]
        appends = [each.writer.append([event()]) for _ in range(100) for each in (log, other)]
        await asyncio.gather(*appends)
        for events in await asyncio.gather(*following):
            assert positions(events) == list(range(1, 201))


async def test_a_lost_listener_costs_time_but_no_event(
    url: str, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        running_log(url) as other,
        await connections.connect(url, as_service=False) as owner,
    ):
        monkeypatch.setattr(live, "POLL", 60)  # so that a listener polls once, when it begins
        following = asyncio.create_task(followed(log, 0, 3))
        await other.writer.append([event()])
        ended = await listeners(owner, end=True)
        assert len(ended) == 2
        await other.writer.append([event(), event()])
        assert positions(await following) == [1, 2, 3]
        async with asyncio.timeout(10):
            for each in (log, other):
                await each.live_log.listening.wait()
        again = await listeners(owner)
        assert len(again) == 2
        assert again.isdisjoint(ended)
        following = asyncio.create_task(followed(log, 3, 4))
        await other.writer.append([event()])
        assert positions(await following) == [4], "found by a notification"


async def test_a_poll_covers_a_lost_notification(url: str, log: Log) -> None:
    await log.writer.append([event()])
    following = asyncio.create_task(followed(log, 0, 2))
    await insert_silently(url, 2)
    assert positions(await following) == [1, 2]


async def test_followers_get_an_append_that_was_found_again_after_a_cut(url: str) -> None:
    async with Cutter(url) as cutter, running_log(url, cutter.url) as log:
        await log.writer.append([event()])
        following = asyncio.create_task(followed(log, 0, 3))
        cutter.cut_answer_to(b"append")
        await log.writer.append([event()])
        await log.writer.append([event()])
        assert positions(await following) == [1, 2, 3]


async def test_a_follower_survives_an_unreachable_database(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "POLL", 0.1)
    monkeypatch.setattr(connections, "POOL_SECONDS", 0.3)
    async with Cutter(url) as cutter, running_log(cutter.url, url) as log, running_log(url) as far:
        await far.writer.append([event()])
        pages = log.live_log.follow(0)
        got: list[Recorded] = []
        while len(got) < 1:
            got += await anext(pages)
        cutter.sever()
        await far.writer.append([event()])
        assert [await anext(pages) for _ in range(3)] == [[], [], []]
        cutter.restore()
        async with asyncio.timeout(20):
            while len(got) < 2:
                got += await anext(pages)
        await pages.aclose()
        assert positions(got) == [1, 2]


async def test_a_wait_without_news_returns_an_empty_page(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "POLL", 0.05)
    pages = log.live_log.follow(0)
    assert [await anext(pages) for _ in range(4)] == [[]] * 4
    await log.writer.append([event()])
    assert positions(await anext(pages) or await anext(pages)) == [1]
    await pages.aclose()
    assert log.live_log.followers == 0


async def test_waiting_for_a_position_has_a_limit(log: Log) -> None:
    assert not await log.live_log.wait(1, seconds=0.05)
    waiting = asyncio.create_task(log.live_log.wait(1, seconds=10))
    await log.writer.append([event()])
    assert await waiting
    assert await log.live_log.wait(1, seconds=0)


async def test_a_follower_raises_an_error_at_a_gap(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control of the counts above: a follower itself refuses a gap."""
    await log.writer.append([event()])
    (one,) = await log.store.range(after=0)
    holed: list[Recorded] | None = [one._replace(position=2)]
    monkeypatch.setattr(log.live_log, "_from_ring", lambda _after: holed)
    with pytest.raises(RuntimeError, match="gap after position 0"):
        await anext(log.live_log.follow(0))


async def test_a_hole_in_the_table_stops_a_follower_too(url: str, log: Log) -> None:
    await insert_silently(url, 1)
    await insert_silently(url, 3)
    with pytest.raises(RuntimeError, match="gap after position 1"):
        await followed(log, 1, 3)


async def rewrite(url: str, position: int) -> None:
    """Put another event in the place of the last one, as a failover can do that loses events."""
    async with await connections.connect(url, as_service=False) as owner:
        await owner.execute("set session_replication_role = replica")
        await owner.execute("delete from app.event where position >= %s", (position,))
    await insert_silently(url, position)


async def test_nobody_goes_on_in_a_log_that_lost_what_is_known(
    url: str, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "POLL", 0.05)
    await log.writer.append([event()])
    await log.writer.append([event()])
    pages = log.live_log.follow(0)
    got: list[Recorded] = []
    while len(got) < 2:
        got += await anext(pages)
    await rewrite(url, 2)
    with pytest.raises(HistoryLost):
        await anext(page async for page in pages if page)
    with pytest.raises(HistoryLost):
        await log.listening


async def test_a_follower_of_the_table_does_not_go_on_in_another_history(
    url: str, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "PAGE", 1)
    for _ in range(3):
        await log.writer.append([event()])
    nobody_listens = LiveLog(log.store)
    pages = nobody_listens.follow(0)
    assert positions([*await anext(pages), *await anext(pages)]) == [1, 2]
    await rewrite(url, 2)
    await insert_silently(url, 3)
    with pytest.raises(HistoryLost):
        await anext(pages)


async def test_a_slow_follower_does_not_get_erased_text(log: Log) -> None:
    said = NewEvent("t1", "session-1", 1, "UserMessagePosted", b'{"text":"quillwort"}')
    erased = NewEvent("t1", "session-1", 2, "SessionDeleted", b'{"session_id":"1"}')
    keen = asyncio.create_task(followed(log, 0, 3))
    await log.writer.append([event()])
    await log.writer.append([said])
    assert b"quillwort" in (log.live_log._from_ring(1) or [])[0].state, "the control"
    await log.writer.append([erased])
    assert (await followed(log, 1, 3))[0].state == b'{"text": ""}'
    assert positions(await keen) == [1, 2, 3]


async def test_the_ring_keeps_no_text_from_the_append_that_erases_it(log: Log) -> None:
    """Events that are read together with a later erasure leave the ring too."""
    said = NewEvent("t1", "session-1", 1, "UserMessagePosted", b'{"text":"quillwort"}')
    erased = NewEvent("t1", "session-1", 2, "SessionDeleted", b'{"session_id":"1"}')
    keen = asyncio.create_task(followed(log, 0, 3))
    await log.writer.append([event()])
    await log.writer.append([said, erased])
    assert (await followed(log, 1, 3))[0].state == b'{"text": ""}'
    assert positions(await keen) == [1, 2, 3]


async def test_events_of_other_tenants_do_not_wake_the_follower_of_a_tenant(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    await log.writer.append([event()])
    monkeypatch.setattr(live, "POLL", 60.0)
    pages = log.live_log.follow_tail(log.live_log.tail("t1"), 1)
    following = asyncio.create_task(anext(pages))
    await asyncio.sleep(0)  # it waits
    for _ in range(5):
        await log.writer.append([event(tenant="t2")])
    await log.writer.append([event(), event(tenant="t2")])
    assert positions(await following) == [7], "without an empty page before"
    await pages.aclose()


async def test_a_tenant_s_tail_keeps_no_text_from_the_append_that_erases_it(log: Log) -> None:
    said = NewEvent("t1", "session-1", 1, "UserMessagePosted", b'{"text":"quillwort"}')
    erased = NewEvent("t1", "session-1", 2, "SessionDeleted", b'{"session_id":"1"}')
    ours, theirs = log.live_log.tail("t1"), log.live_log.tail("t2")
    keen = asyncio.create_task(followed(log, 0, 4))
    await log.writer.append([event(tenant="t2")])
    await log.writer.append([said])
    assert b"quillwort" in (ours.after(1) or [])[0].state, "the control"
    await log.writer.append([event(), erased])
    assert positions(await keen) == [1, 2, 3, 4]
    assert ours.after(2) is None
    assert positions(ours.after(3) or []) == [4]
    assert positions(theirs.after(0) or []) == [1], "other tenants lose nothing"


async def test_a_tail_has_every_event_above_its_floor(
    url: str, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes append for two tenants, and the tail overflows."""
    monkeypatch.setattr(live, "TENANT_RING", 7)
    tail = log.live_log.tail("t1")
    keen = asyncio.create_task(followed(log, 0, 90))
    async with running_log(url) as other:
        for _ in range(20):
            appends = ([event(), event(tenant="t2")], [event(tenant="t2"), event()])
            await asyncio.gather(
                *(each.writer.append(new) for each, new in zip((log, other), appends, strict=True))
            )
        assert await log.live_log.wait(80, seconds=20)
        stored = await log.store.range(after=tail.floor)
        assert tail.after(tail.floor) == [each for each in stored if each.tenant_id == "t1"]
        await log.writer.append([event(tenant="t2"), *(event() for _ in range(9))])
        await keen
    assert positions(tail.after(tail.floor) or []) == list(range(84, 91))


async def test_a_notification_is_only_a_hint(log: Log, url: str) -> None:
    """Every role that can connect can send any payload on the channel."""
    await log.writer.append([event()])
    async with await connections.connect(url, as_service=False) as anybody:
        for payload in ("junk", "", "-1", "9" * 30, "٣", "5000000"):
            await anybody.execute("select pg_notify('throughline', %s)", (payload,))
    keen = asyncio.create_task(followed(log, 0, 2))
    await insert_silently(url, 2)
    assert positions(await keen) == [1, 2]
    assert await log.live_log.wait(2, seconds=20), "the log finds a stored event"
    assert log.live_log.head == 2, "and no event that is not stored"
    assert not log.listening.done()
