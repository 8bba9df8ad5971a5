import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from uuid import uuid4

import psycopg
import pytest

from service import database, writer
from service.hub import Hub
from service.store import NewEvent, OutcomeUnknown, Overloaded, Unavailable, WrongVersion
from service.writer import Writer
from tests.service.cutter import Cutter
from tests.service.logs import Log, event, everything, faults, running_log


@pytest.fixture
async def log(url: str) -> AsyncIterator[Log]:
    async with running_log(url) as running:
        yield running


async def test_positions_count_from_one(log: Log) -> None:
    first = await log.writer.append([event("a", 1), event("a", 2)])
    second = await log.writer.append([event("b")])
    assert (first.first_position, second.first_position) == (1, 3)
    assert not faults(await everything(log.store))


@pytest.mark.parametrize(("version", "actual"), [(1, 2), (2, 2), (4, 2), (9, 2)])
async def test_an_expectation_that_does_not_hold_is_refused(
    log: Log, version: int, actual: int
) -> None:
    await log.writer.append([event("a", 1), event("a", 2)])
    with pytest.raises(WrongVersion) as refused:
        await log.writer.append([event("a", version)])
    assert (refused.value.expected, refused.value.actual) == (version - 1, actual)
    assert await log.store.head() == 2


async def test_a_stream_that_does_not_exist_is_not_continued(log: Log) -> None:
    for _ in range(4):  # the sure way first, then the quick one
        with pytest.raises(WrongVersion):
            await log.writer.append([event("nothing", 2)])
        await log.writer.append([event()])


async def test_versions_that_do_not_follow_each_other_are_an_error_of_the_caller(log: Log) -> None:
    with pytest.raises(ValueError, match="does not follow"):
        await log.writer.append([event("a", 1), event("a", 3)])
    with pytest.raises(ValueError, match="at least one"):
        await log.writer.append([])


async def test_an_append_over_several_streams_is_all_or_nothing(log: Log) -> None:
    await log.writer.append([event("a")])
    with pytest.raises(WrongVersion):
        await log.writer.append([event("b"), event("a", 1), event("c")])
    assert [each.stream_id for each in await everything(log.store)] == ["a"]


async def test_a_conflict_in_a_batch_fails_only_its_item(log: Log) -> None:
    for _ in range(3):
        await log.writer.append([event()])
    await log.writer.append([event("a")])
    appends = [log.writer.append([event(f"n{n}")]) for n in range(50)]
    appends.insert(20, log.writer.append([event("a", 1)]))
    appends.insert(30, log.writer.append([event("a", 7)]))
    results = await asyncio.gather(*appends, return_exceptions=True)
    refused = [n for n, each in enumerate(results) if isinstance(each, WrongVersion)]
    assert refused == [20, 30]
    events = await everything(log.store)
    assert len(events) == 54
    assert not faults(events)


async def test_what_the_database_refuses_fails_alone(log: Log) -> None:
    for _ in range(3):
        await log.writer.append([event()])
    bad = [event("nul", kind="a\0b"), NewEvent("t1", "json", 1, "X", b"{}", metadata="no json")]
    appends = [log.writer.append([each]) for each in (event("x"), *bad, event("y"))]
    results = await asyncio.gather(*appends, return_exceptions=True)
    assert [isinstance(each, psycopg.DataError) for each in results] == [False, True, True, False]
    assert len(await everything(log.store)) == 5


async def test_of_racing_appends_to_one_stream_one_wins_each_version(log: Log) -> None:
    async def one() -> int:
        won = 0
        for version in range(1, 11):
            with suppress(WrongVersion):
                await log.writer.append([event("contended", version)])
                won += 1
        return won

    assert sum(await asyncio.gather(*(one() for _ in range(10)))) == 10
    assert not faults(await everything(log.store))


async def test_two_writers_interleave_without_gaps(url: str, log: Log) -> None:
    async with running_log(url) as other:
        own = [log.writer.append([event(f"a{n}"), event(f"b{n}")]) for n in range(100)]
        theirs = [other.writer.append([event(f"c{n}")]) for n in range(100)]
        await asyncio.gather(*own, *theirs)
        await other.writer.append([event("a7", 2)])
        await log.writer.append([event("a7", 3)])
        with pytest.raises(WrongVersion):
            await log.writer.append([event("c7", 1)])
    events = await everything(log.store)
    assert len(events) == 302
    assert not faults(events)


async def test_the_quick_way_comes_back_when_the_others_stop(url: str, log: Log) -> None:
    async with running_log(url) as other:
        for _ in range(3):
            await log.writer.append([event()])
            await other.writer.append([event()])
        assert not log.writer._alone
    for _ in range(3):
        await log.writer.append([event()])
    assert log.writer._alone


async def test_the_same_append_id_appends_once(url: str, log: Log) -> None:
    append_id = uuid4()
    first = await log.writer.append([event("a"), event("b")], append_id=append_id)
    await log.writer.append([event("a", 2)])
    async with running_log(url) as other:
        for each in (log, other):
            again = await each.writer.append([event("a"), event("b")], append_id=append_id)
            assert again.first_position == first.first_position
    assert len(await everything(log.store)) == 3


async def test_an_append_cut_off_at_commit_is_found_again(url: str) -> None:
    async with Cutter(url) as cutter, running_log(url, cutter.url) as log:
        for _ in range(3):
            await log.writer.append([event()])
        cutter.cut_answer_to(b"with appended")
        appended = await log.writer.append([event("a")])
        assert cutter.cuts == 1
        (found,) = [each for each in await everything(log.store) if each.stream_id == "a"]
        assert found.position == appended.first_position
        # A second try that did not know the first would take it for somebody else's.
        with pytest.raises(WrongVersion):
            await log.writer.append([event("a")])


async def test_an_append_cut_off_before_it_arrived_is_appended_once(url: str) -> None:
    async with Cutter(url) as cutter, running_log(url, cutter.url) as log:
        for _ in range(3):
            await log.writer.append([event()])
        cutter.cut_request_with(b"with appended")
        await log.writer.append([event("a")])
        assert cutter.cuts == 1
        assert [each.stream_id for each in await everything(log.store)].count("a") == 1


async def test_who_cannot_wait_is_told_whether_it_may_be_there(url: str) -> None:
    async with Cutter(url) as cutter, running_log(url, cutter.url) as log:
        for _ in range(3):
            await log.writer.append([event()])
        cutter.cut_answer_to(b"with appended")
        cutter.refuse = True
        append_id = uuid4()
        sent = asyncio.create_task(
            log.writer.append([event("a")], append_id=append_id, patience=0.5)
        )
        with pytest.raises(OutcomeUnknown):
            await sent
        with pytest.raises(Unavailable):
            await log.writer.append([event("b")], patience=0.2)
        cutter.refuse = False
        settled = await log.writer.append([event("a")], append_id=append_id)
        streams = [each.stream_id for each in await everything(log.store)]
        assert (settled.first_position, streams.count("a"), streams.count("b")) == (4, 1, 0)


async def test_overload_is_said_at_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "QUEUE", 20)
    async with database.pool(url) as pool:
        from service.store import EventStore

        idle = Writer(partial(database.connect, url), Hub(EventStore(pool)))
        waiting = [asyncio.create_task(idle.append([event()])) for _ in range(20)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await idle.append([event()])
        running = asyncio.create_task(idle.run())
        positions = [each.first_position for each in await asyncio.gather(*waiting)]
        assert sorted(positions) == list(range(1, 21))
        idle.close()
        await running


async def test_too_many_bytes_are_overload_too(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "QUEUE_BYTES", 1_000)
    async with running_log(url) as log:
        with pytest.raises(Overloaded):
            await log.writer.append([event(state=b"x" * 1_001)])
        await log.writer.append([event(state=b"x" * 900)])


async def test_a_caller_that_leaves_the_queue_appends_nothing(url: str) -> None:
    async with database.pool(url) as pool:
        from service.store import EventStore

        store = EventStore(pool)
        idle = Writer(partial(database.connect, url), Hub(store))
        leaving = asyncio.create_task(idle.append([event("left")]))
        staying = asyncio.create_task(idle.append([event("stayed")]))
        await asyncio.sleep(0)
        leaving.cancel()
        running = asyncio.create_task(idle.run())
        await staying
        idle.close()
        await running
        assert [each.stream_id for each in await everything(store)] == ["stayed"]


async def test_closing_writes_what_waits_and_takes_no_more(log: Log) -> None:
    waiting = [asyncio.create_task(log.writer.append([event()])) for _ in range(300)]
    await asyncio.sleep(0)
    log.writer.close()
    assert len(await asyncio.gather(*waiting)) == 300
    with pytest.raises(Unavailable):
        await log.writer.append([event()])


@pytest.mark.parametrize(
    "change", [b"update app.event set type = 'Y'", b"delete from app.event", b"truncate app.event"]
)
async def test_events_are_never_changed_nor_removed(url: str, log: Log, change: bytes) -> None:
    await log.writer.append([event()])
    async with await database.connect(url) as service:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await service.execute(change)
    async with await database.connect(url, as_service=False) as owner:
        with pytest.raises(psycopg.DatabaseError, match="never changed and never removed"):
            await owner.execute(change)


async def test_closing_ends_when_all_that_waited_have_left(url: str) -> None:
    async with Cutter(url) as cutter, running_log(url, cutter.url) as log:
        cutter.refuse = True
        left = [log.writer.append([event("a", n)], patience=0.1) for n in (1, 1, 1)]
        results = await asyncio.gather(*left, return_exceptions=True)
        assert all(isinstance(each, Unavailable | OutcomeUnknown) for each in results)
        log.writer.close()
        await asyncio.wait_for(log.writing, 10)
