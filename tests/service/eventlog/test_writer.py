import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from uuid import UUID, uuid4

import psycopg
import pytest

from service.concurrency.lru import LRU
from service.eventlog import writer
from service.eventlog.errors import DatabaseAway, OutcomeUnknown, Overloaded, Unavailable
from service.eventlog.live import LiveLog
from service.eventlog.store import EventStore, NewEvent, WrongVersion
from service.eventlog.writer import HEADS, Writer
from service.postgres import connections
from tests.service.cutter import Cutter
from tests.service.eventlog.logs import (
    Log,
    appends_blocked,
    enter_quick_way,
    event,
    everything,
    faults,
    running_log,
    until_an_append_is_blocked,
)

WAYS = [b"app.append_locked", b"with appended"]
"""A part of the appending statement: of the sure way, of the quick way."""


@pytest.fixture
async def log(url: str) -> AsyncIterator[Log]:
    async with running_log(url) as running:
        yield running


@asynccontextmanager
async def idle_writer(url: str) -> AsyncGenerator[tuple[Writer, EventStore], None]:
    """A writer that only queues until the test runs it."""
    async with connections.pool(url) as pool:
        store = EventStore(pool)
        yield Writer(partial(connections.connect, url), LiveLog(store)), store


async def drain(idle: Writer) -> None:
    """Write the waiting appends, and close."""
    idle.close()
    await idle.run()


async def test_positions_count_from_1(log: Log) -> None:
    first = await log.writer.append([event("a", 1), event("a", 2)])
    second = await log.writer.append([event("b")])
    assert (first.first_position, second.first_position) == (1, 3)
    assert not faults(await everything(log.store))


@pytest.mark.parametrize(("version", "actual"), [(1, 2), (2, 2), (4, 2), (9, 2)])
async def test_an_append_with_a_wrong_expected_version_is_refused(
    log: Log, version: int, actual: int
) -> None:
    await log.writer.append([event("a", 1), event("a", 2)])
    with pytest.raises(WrongVersion) as refused:
        await log.writer.append([event("a", version)])
    assert (refused.value.expected, refused.value.actual) == (version - 1, actual)
    assert await log.store.head() == 2


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("is_quick", [False, True])
async def test_a_stream_begins_at_version_0_or_1(log: Log, first: int, is_quick: bool) -> None:
    if is_quick:
        await enter_quick_way(log)
    for version in range(first, first + 3):
        await log.writer.append([event("a", version)])
    stream = await log.store.stream("t1", "a")
    assert [each.version for each in stream] == list(range(first, first + 3))


@pytest.mark.parametrize("append_id", [None, uuid4()], ids=["unnamed", "named"])
async def test_a_stream_that_began_at_1_takes_no_version_0(
    url: str, log: Log, append_id: UUID | None
) -> None:
    async with running_log(url) as other:
        await other.writer.append([event("a", 1), event("a", 2)])
    await enter_quick_way(log)  # this writer does not know the stream
    with pytest.raises(WrongVersion):
        await log.writer.append([event("a", 0)], append_id=append_id)


async def test_a_stream_that_does_not_exist_is_not_continued(log: Log) -> None:
    for _ in range(4):  # the sure way first, then the quick one
        with pytest.raises(WrongVersion):
            await log.writer.append([event("nothing", 2)])
        await log.writer.append([event()])


async def test_a_stale_expected_version_is_refused_from_memory(url: str) -> None:
    async with Cutter(url) as cutter, running_log(url, cutter.url) as log:
        await log.writer.append([event("a", 1), event("a", 2)])
        cutter.sever()
        with pytest.raises(WrongVersion) as refused:
            await log.writer.append([event("a", 2)])
        assert (refused.value.expected, refused.value.actual) == (1, 2)
        with pytest.raises((Unavailable, OutcomeUnknown)):  # any other version needs the database
            await log.writer.append([event("a", 3)], patience=0.2)


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


@pytest.mark.parametrize("is_quick", [False, True])
async def test_a_conflict_in_a_batch_fails_only_its_item(log: Log, is_quick: bool) -> None:
    await log.writer.append([event("a")])
    if is_quick:
        await enter_quick_way(log)
    before = await log.store.head()
    appends = [log.writer.append([event(f"n{n}")]) for n in range(50)]
    appends.insert(20, log.writer.append([event("a", 1)]))
    appends.insert(30, log.writer.append([event("b", 7)]))
    appends.insert(40, log.writer.append([event("c", 1), event("a", 5)]))
    results = await asyncio.gather(*appends, return_exceptions=True)
    refused = [n for n, each in enumerate(results) if isinstance(each, WrongVersion)]
    assert refused == [20, 30, 40]
    events = await everything(log.store)
    assert [each.stream_id for each in events[before:]] == [f"n{n}" for n in range(50)]
    assert not faults(events)


async def test_a_conflict_that_only_the_table_knows_fails_only_its_item(url: str, log: Log) -> None:
    async with running_log(url) as other:
        await other.writer.append([event("a")])
    await enter_quick_way(log)
    appends = [log.writer.append([event(stream)]) for stream in ("x", "a", "y")]
    results = await asyncio.gather(*appends, return_exceptions=True)
    assert [isinstance(each, WrongVersion) for each in results] == [False, True, False]
    assert not faults(await everything(log.store))


POISON = {
    "a NUL in a type": event("bad", kind="a\0b"),
    "a NUL in a stream": event("b\0d"),
    "metadata that is no JSON": event("bad")._replace(metadata="no json"),
    "half a surrogate pair": event("bad", kind="\ud800"),
    "a version beyond its type": event("bad", 2**31),
    "a schema version beyond its type": event("bad")._replace(schema_version=2**15),
    "a name too long for an index": event(secrets.token_hex(4_000)),
}


@pytest.mark.parametrize("poison", POISON.values(), ids=POISON.keys())
@pytest.mark.parametrize("is_quick", [False, True])
async def test_an_append_that_the_database_refuses_fails_alone(
    log: Log, poison: NewEvent, is_quick: bool
) -> None:
    if is_quick:
        await enter_quick_way(log)
    before = await log.store.head()
    appends = [log.writer.append([each], patience=2) for each in (event("x"), poison, event("y"))]
    first, refused, last = await asyncio.gather(*appends, return_exceptions=True)
    assert not isinstance(first, BaseException)
    assert not isinstance(last, BaseException)
    assert isinstance(refused, Exception)
    assert not isinstance(refused, Unavailable | OutcomeUnknown), "a retry would not help"
    assert [each.stream_id for each in await log.store.range(after=before)] == ["x", "y"]


async def test_only_the_first_of_racing_appends_gets_each_version(log: Log) -> None:
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


@pytest.mark.parametrize("wrong", [-2, 5])
async def test_a_writer_that_mistakes_the_head_leaves_no_gap(log: Log, wrong: int) -> None:
    await enter_quick_way(log)
    assert log.writer._last == 3
    log.writer._last += wrong
    assert (await log.writer.append([event()])).first_position == 4
    assert not faults(await everything(log.store))


async def test_events_of_another_writer_are_read_from_the_table(url: str, log: Log) -> None:
    async with running_log(url) as other:
        await other.writer.append([event("a", n) for n in range(1, 4)])
    await enter_quick_way(log)
    with pytest.raises(WrongVersion) as ahead:
        await log.writer.append([event("a", 9)])
    assert (ahead.value.expected, ahead.value.actual) == (8, 3)
    await log.writer.append([event("a", 4)])
    with pytest.raises(WrongVersion) as stale:
        await log.writer.append([event("a", 3)])
    assert (stale.value.expected, stale.value.actual) == (2, 4)
    assert log.writer._alone, "all appends used the quick way"


async def test_the_writer_returns_to_the_quick_way_when_other_writers_stop(
    url: str, log: Log
) -> None:
    async with running_log(url) as other:
        for _ in range(3):
            await log.writer.append([event()])
            await other.writer.append([event()])
        assert not log.writer._alone
    for _ in range(3):
        await log.writer.append([event()])
    assert log.writer._alone


@pytest.mark.parametrize("is_forgotten", [False, True])
@pytest.mark.parametrize("is_quick", [False, True])
async def test_the_same_append_id_appends_once(
    url: str, log: Log, is_forgotten: bool, is_quick: bool
) -> None:
    appends = {
        uuid4(): [event("a", 1), event("b", 1), event("a", 2)],
        uuid4(): [event("a", 3)],
    }
    if is_quick:
        await enter_quick_way(log)
    firsts = [await log.writer.append(each, append_id=name) for name, each in appends.items()]
    head = (await log.writer.append([event("a", 4)])).first_position
    async with running_log(url) as other:
        await enter_quick_way(other)
        for each in (other, log, log):
            if is_forgotten:  # like after appends to a hundred thousand other streams
                each.writer._heads = LRU(HEADS)
            again = [await each.writer.append(e, append_id=name) for name, e in appends.items()]
            assert again == firsts
    assert await log.store.head() == head + 3


async def test_the_same_append_id_twice_at_once_appends_once(log: Log) -> None:
    await enter_quick_way(log)
    append_id = uuid4()
    twins = [log.writer.append([event("a")], append_id=append_id) for _ in range(10)]
    assert len(set(await asyncio.gather(*twins))) == 1
    assert await log.store.head() == 4


@pytest.mark.parametrize("way", WAYS, ids=["sure", "quick"])
async def test_an_append_cut_off_at_commit_is_found_again(url: str, way: bytes) -> None:
    async with Cutter(url) as cutter, running_log(url, cutter.url) as log:
        if way == b"with appended":
            await enter_quick_way(log)
        cutter.cut_answer_to(way)
        appended = await log.writer.append([event("a", 1), event("a", 2)])
        assert cutter.cuts == 1
        found = await log.store.stream("t1", "a")
        assert [each.position for each in found] == [
            appended.first_position,
            appended.first_position + 1,
        ]
        # A second try that did not know the first one would refuse its own events as a conflict.
        with pytest.raises(WrongVersion):
            await log.writer.append([event("a", 1), event("a", 2)])


async def test_an_append_cut_off_at_commit_is_found_behind_later_appends(url: str) -> None:
    async with (
        Cutter(url) as cutter,
        running_log(url, cutter.url) as log,
        running_log(url) as other,
    ):
        await enter_quick_way(log)
        cutter.cut_answer_to(b"with appended")
        cutter.refuse = True
        appending = asyncio.create_task(log.writer.append([event("a")]))
        assert await other.live_log.wait(4, seconds=10)
        await other.writer.append([event("a", 2)])
        cutter.restore()
        assert (await appending).first_position == 4


@pytest.mark.parametrize("way", WAYS, ids=["sure", "quick"])
async def test_an_append_cut_off_before_it_arrived_is_appended_once(url: str, way: bytes) -> None:
    async with Cutter(url) as cutter, running_log(url, cutter.url) as log:
        if way == b"with appended":
            await enter_quick_way(log)
        cutter.cut_request_with(way)
        appended = await log.writer.append([event("a")])
        assert cutter.cuts == 1
        (found,) = await log.store.stream("t1", "a")
        assert found.position == appended.first_position == await log.store.head()


async def test_a_whole_batch_cut_off_at_commit_is_found_again(url: str) -> None:
    async with Cutter(url) as cutter, running_log(url, cutter.url) as log:
        await enter_quick_way(log)
        cutter.cut_answer_to(b"with appended")
        appends = [log.writer.append([event(f"n{n}")]) for n in range(100)]
        positions = [each.first_position for each in await asyncio.gather(*appends)]
        assert cutter.cuts == 1
        assert positions == list(range(4, 104))
        assert len(await everything(log.store)) == 103


async def test_a_connection_without_any_answer_is_given_up(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_STATEMENT_SECONDS", 0.5)
    async with Cutter(url) as cutter, running_log(url, cutter.url) as log:
        await enter_quick_way(log)
        cutter.mute = True
        with pytest.raises(OutcomeUnknown):
            await log.writer.append([event("a")], patience=1)
        cutter.mute = False
        await log.writer.append([event("b")], patience=30)
        assert await log.store.stream("t1", "a") == []


async def test_a_time_out_says_whether_the_append_may_be_stored(url: str) -> None:
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
        assert (settled.first_position, streams.count("a"), streams.count("b")) == (
            4,
            1,
            0,
        )


async def test_a_full_queue_refuses_at_once_and_is_written_when_the_database_is_back(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "QUEUE", 20)
    monkeypatch.setattr(writer, "BATCH", 1)
    async with Cutter(url) as cutter, running_log(url, cutter.url) as log:
        await enter_quick_way(log)
        cutter.sever()

        def start() -> asyncio.Task[writer.Appended]:
            return asyncio.create_task(log.writer.append([event()], patience=60))

        tried = start()
        for _ in range(10):
            await asyncio.sleep(0)
        assert not log.writer._queue, "the writer tries the first append"
        waiting = [start() for _ in range(20)]
        refused = [start() for _ in range(1_000)]
        await asyncio.sleep(0)
        assert all(isinstance(each.exception(), Overloaded) for each in refused)
        assert len(log.writer._queue) == 20
        cutter.restore()
        landed = [each.first_position for each in await asyncio.gather(tried, *waiting)]
        assert landed == list(range(4, 25))
        await log.writer.append([event()])


async def test_too_many_bytes_in_the_queue_are_overload_too(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "QUEUE_BYTES", 1_000)
    async with idle_writer(url) as (idle, store):
        waiting = [asyncio.create_task(idle.append([event(state=b"x" * 450)])) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await idle.append([event(state=b"x" * 450)])
        await drain(idle)
        await asyncio.gather(*waiting)
        assert (await store.head(), idle._queued_bytes) == (2, 0)


async def test_metadata_counts_as_bytes_too(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "QUEUE_BYTES", 1_000)
    async with running_log(url) as log:
        with pytest.raises(Overloaded):
            await log.writer.append([event()._replace(metadata=f'["{"x" * 1_000}"]')])


async def test_each_caller_waits_for_its_own_time_out(url: str) -> None:
    async with idle_writer(url) as (idle, _):
        patient = asyncio.create_task(idle.append([event()], patience=60))
        await asyncio.sleep(0)
        hasty = [idle.append([event()], patience=each) for each in (0.1, 0.0, 0.2, 0.2)]
        results = await asyncio.gather(*hasty, return_exceptions=True)
        assert [type(each) for each in results] == [DatabaseAway] * 4
        assert not patient.done()
        await drain(idle)
        assert (await patient).first_position == 1


async def test_a_caller_that_leaves_the_queue_appends_nothing(url: str) -> None:
    async with idle_writer(url) as (idle, store):
        leaving = asyncio.create_task(idle.append([event("left")]))
        staying = asyncio.create_task(idle.append([event("stayed")]))
        await asyncio.sleep(0)
        leaving.cancel()
        await drain(idle)
        await staying
        assert [each.stream_id for each in await everything(store)] == ["stayed"]


async def test_a_caller_that_leaves_during_the_write_harms_no_other_caller(
    url: str, log: Log
) -> None:
    async with appends_blocked(url):
        leaving = asyncio.create_task(log.writer.append([event("a")]))
        await until_an_append_is_blocked(url)
        leaving.cancel()
        following = asyncio.create_task(log.writer.append([event()]))
        await asyncio.sleep(0)
    await following
    stored = len(await log.store.stream("t1", "a"))
    await log.writer.append([event("a", stored + 1)])
    assert not faults(await everything(log.store))


async def test_a_writer_that_is_cancelled_answers_everyone(url: str, log: Log) -> None:
    async with appends_blocked(url):
        sent = asyncio.create_task(log.writer.append([event()]))
        await until_an_append_is_blocked(url)
        queued = asyncio.create_task(log.writer.append([event()]))
        await asyncio.sleep(0)
        log.writing.cancel()
        await asyncio.wait((log.writing,))
        # At once, not after their time-outs.
        await asyncio.wait((sent, queued), timeout=1)
        assert queued.done()
        assert isinstance(queued.exception(), Unavailable)
        assert sent.done()
        assert isinstance(sent.exception(), OutcomeUnknown)


async def test_closing_waits_for_an_unreachable_database(url: str) -> None:
    async with Cutter(url) as cutter, running_log(url, cutter.url) as log:
        await enter_quick_way(log)
        cutter.sever()
        waiting = [asyncio.create_task(log.writer.append([event()])) for _ in range(10)]
        await asyncio.sleep(0)
        log.writer.close()
        cutter.restore()
        assert len(await asyncio.gather(*waiting)) == 10
        await log.writing


async def test_closing_writes_the_waiting_appends_and_refuses_new_ones(log: Log) -> None:
    waiting = [asyncio.create_task(log.writer.append([event()])) for _ in range(300)]
    await asyncio.sleep(0)
    log.writer.close()
    assert len(await asyncio.gather(*waiting)) == 300
    with pytest.raises(Unavailable):
        await log.writer.append([event()])


@pytest.mark.parametrize(
    "change", [b"update app.event set type = 'Y'", b"delete from app.event", b"truncate app.event"]
)
async def test_events_cannot_be_changed_or_deleted(url: str, log: Log, change: bytes) -> None:
    await log.writer.append([event()])
    async with await connections.connect(url) as service:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await service.execute(change)
    async with await connections.connect(url, as_service=False) as owner:
        with pytest.raises(psycopg.DatabaseError, match="never changed and never removed"):
            await owner.execute(change)


async def test_a_refused_append_moves_no_read_model_past_a_rival_s_event(
    url: str, log: Log
) -> None:
    """A rival commits on the quick way, while an append that will be refused waits for the lock."""
    async with await connections.connect(url, as_service=False) as owner:
        await owner.execute("create table app.probe (position bigint)")
        await owner.execute("grant all on app.probe to throughline_service")
        await owner.execute(
            "create function app.apply_probe(p_after bigint, p_upto bigint) returns void"
            " language sql as $$ insert into app.probe select position from app.event"
            " where position > p_after and position <= p_upto and type = 'Wanted' $$"
        )
        await owner.execute(
            "insert into app.projection (name, version, handles, position)"
            " values ('probe', 1, '{Wanted}', 0)"
        )
        await log.writer.append([event("a")])
        async with (
            await psycopg.AsyncConnection.connect(url) as catch_up,
            appends_blocked(url) as rival,
        ):
            refused = asyncio.create_task(log.writer.append([event("a", 7)]))
            await until_an_append_is_blocked(url)
            await catch_up.execute("select from app.projection where name = 'probe' for update")
            await rival.execute(
                "insert into app.event (position, version, schema_version, append_id, recorded_at,"
                " tenant_id, stream_id, type, state, metadata) values"
                " (2, 1, 1, gen_random_uuid(), now(), 't1', 'b', 'Wanted', '', '{}')"
            )
            await rival.execute("select app.appended(2, 2, '{Wanted}')")
            await catch_up.rollback()
        with pytest.raises(WrongVersion):
            await refused
        await log.writer.append([event("c")])
        seen = await (await owner.execute("select position from app.probe")).fetchall()
        assert seen == [(2,)], "the read model has skipped the rival's event"


async def test_closing_ends_when_every_waiting_caller_has_left(url: str) -> None:
    async with Cutter(url) as cutter, running_log(url, cutter.url) as log:
        cutter.refuse = True
        left = [log.writer.append([event("a", n)], patience=0.1) for n in (1, 1, 1)]
        results = await asyncio.gather(*left, return_exceptions=True)
        assert all(isinstance(each, Unavailable | OutcomeUnknown) for each in results)
        log.writer.close()
        await asyncio.wait_for(log.writing, 10)
