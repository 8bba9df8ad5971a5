import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest

from service import database, hub
from service.store import Recorded
from tests.service.logs import Log, event, running_log


@pytest.fixture
async def log(url: str) -> AsyncIterator[Log]:
    async with running_log(url) as running:
        yield running


async def followed(log: Log, after: int, upto: int) -> list[Recorded]:
    """What a follower gets from after a position until another one."""
    events: list[Recorded] = []
    pages = log.hub.follow(after)
    async with asyncio.timeout(20):
        async for page in pages:
            events += page
            if events and events[-1].position >= upto:
                break
    await pages.aclose()
    return events


def positions(events: list[Recorded]) -> list[int]:
    return [each.position for each in events]


async def test_a_follower_gets_what_was_and_what_comes(log: Log) -> None:
    for _ in range(3):
        await log.writer.append([event(), event()])
    following = asyncio.create_task(followed(log, 2, 12))
    await asyncio.gather(*(log.writer.append([event(), event()]) for _ in range(3)))
    events = await following
    assert positions(events) == list(range(3, 13))
    stored = await log.store.range(after=2)
    assert [each._replace(metadata="") for each in events] == [
        each._replace(metadata="") for each in stored
    ]


async def test_who_fell_out_of_the_ring_reads_the_table(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "RING", 5)
    slow = log.hub.follow(0)
    first = asyncio.create_task(anext(slow))
    for _ in range(40):
        await log.writer.append([event()])
    got = await first
    while not got or got[-1].position < 40:
        got += await anext(slow)
    await slow.aclose()
    assert positions(got) == list(range(1, 41))
    assert len(log.hub._ring) <= 10


async def test_another_process_is_heard_by_its_notification(url: str, log: Log) -> None:
    async with running_log(url) as other:
        following = asyncio.create_task(followed(log, 0, 20))
        for _ in range(20):
            await other.writer.append([event()])
        assert positions(await following) == list(range(1, 21))


async def test_both_writers_of_one_log_are_followed_in_order(url: str, log: Log) -> None:
    async with running_log(url) as other:
        following = asyncio.create_task(followed(log, 0, 200))
        appends = [each.writer.append([event()]) for _ in range(100) for each in (log, other)]
        await asyncio.gather(*appends)
        assert positions(await following) == list(range(1, 201))


async def test_a_lost_listener_costs_time_but_no_event(url: str, log: Log) -> None:
    async with running_log(url) as other:
        following = asyncio.create_task(followed(log, 0, 3))
        await other.writer.append([event()])
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as admin:
            await admin.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where query = 'listen throughline' and datname = current_database()"
            )
        await other.writer.append([event(), event()])
        assert positions(await following) == [1, 2, 3]


async def test_a_wake_up_that_never_came_is_made_good(url: str, log: Log) -> None:
    await log.writer.append([event()])
    following = asyncio.create_task(followed(log, 0, 2))
    async with await database.connect(url, as_service=False) as owner:
        await owner.execute(
            "insert into app.event (position, version, schema_version, append_id, recorded_at,"
            " tenant_id, stream_id, type, state, metadata) values"
            " (2, 1, 1, gen_random_uuid(), now(), 't', 's', 'X', '', '{}')"
        )
    assert positions(await following) == [1, 2]


async def test_silence_is_an_empty_page(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "POLL", 0.05)
    pages = log.hub.follow(0)
    assert await anext(pages) == []
    await pages.aclose()
    assert log.hub.followers == 0


async def test_waiting_for_a_position_has_a_limit(log: Log) -> None:
    assert not await log.hub.wait(1, seconds=0.05)
    waiting = asyncio.create_task(log.hub.wait(1, seconds=10))
    await log.writer.append([event()])
    assert await waiting


async def test_a_gap_would_be_an_error_not_a_silent_loss(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control of every count above: a follower itself refuses a hole."""
    await log.writer.append([event()])
    (one,) = await log.store.range(after=0)
    holed: list[Recorded] | None = [one._replace(position=2)]
    monkeypatch.setattr(log.hub, "_from_ring", lambda _after: holed)
    with pytest.raises(RuntimeError, match="gap after position 0"):
        await anext(log.hub.follow(0))
