from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from uuid import uuid4

import pytest

from service.eventlog import store
from service.eventlog.store import END, PAGE, SQL, EventStore, NewEvent, Recorded
from service.postgres import connections
from service.wire import BEGINNING, position_of
from tests import sizes
from tests.service.eventlog.logs import Log, event, everything, running_log

ODD = [b"", b"\\", b"\\x00\t\n", b"\xff\xfe", b'{"a":"\\u0000"}', "ü☃😀".encode(), b"\0" * 10]


@pytest.fixture
async def log(url: str) -> AsyncIterator[Log]:
    async with running_log(url) as running:
        yield running


async def test_read_events_equal_the_appended_events(log: Log) -> None:
    for state in ODD:
        await log.writer.append([event("odd\t\\n", state=state, version=ODD.index(state) + 1)])
    by_stream = await log.store.stream("t1", "odd\t\\n")
    assert [each.state for each in by_stream] == ODD
    assert by_stream == await log.store.range(after=0) == await everything(log.store)


async def test_a_replay_in_pages_is_complete(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "REPLAY_PAGE", 7)
    monkeypatch.setattr(store, "REPLAY_STATEMENT", 14)
    await log.writer.append([event("a", n) for n in range(1, 51)])
    pages = [page async for page in log.store.replay(after=3, upto=45)]
    assert [each.position for page in pages for each in page] == list(range(4, 46))
    assert max(map(len, pages)) == 7


async def test_a_replay_that_is_left_early_gives_its_connection_back(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "REPLAY_PAGE", 2)
    async with connections.pool(url, most=1) as pool, running_log(url) as log:
        await log.writer.append([event("a", n) for n in range(1, 51)])
        few = EventStore(pool)
        async with aclosing(few.replay()) as pages:
            assert [each.position for each in await anext(pages)] == [1, 2]
        async for _ in few.replay():
            break
        assert await few.head() == 50
        assert await everything(few) == await log.store.range(after=0)


async def test_a_replay_goes_up_to_the_head_at_its_end(log: Log) -> None:
    await log.writer.append([event("a")])
    positions: list[int] = []
    async for page in log.store.replay():
        positions += [each.position for each in page]
        if len(positions) < 3:
            await log.writer.append([event(f"b{len(positions)}")])
    assert positions == [1, 2, 3]


async def test_a_stream_is_read_after_a_version(log: Log) -> None:
    await log.writer.append([event("a", n) for n in range(1, 6)])
    assert [each.version for each in await log.store.stream("t1", "a", after=3)] == [4, 5]
    assert await log.store.stream("t1", "b") == []


async def test_a_stream_is_read_backwards_in_pages_of_some_events_and_of_some_bytes(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "LONGEST_BACKWARDS_PAGE", 4)
    kinds = ["X", "Y", "X", "Z"] * 5
    await log.writer.append(
        [event("a", n, kind=kind, state=b"x" * 10) for n, kind in enumerate(kinds, 1)]
    )

    async def read(**bounds: int) -> list[list[int]]:
        pages = log.store.backwards("t1", "a", ["X", "Z"], **bounds)
        return [[each.version for each in page] async for page in pages]

    newest = [n for n in range(20, 0, -1) if kinds[n - 1] != "Y"]
    assert await read(first=2) == [
        newest[:2],
        *(newest[n : n + 4] for n in (2, 6, 10)),
        newest[14:],
    ]
    assert await read(first=4, most_bytes=21, version=7) == [[7, 5, 4], [3, 1]]
    assert await read(first=4, most_bytes=1, version=3) == [[3], [1], []]


async def test_ranges_are_filtered_and_paged_by_position(log: Log) -> None:
    for n in range(1, 31):
        wanted = event(tenant=f"t{n % 2}", kind=f"K{n % 3}")._replace(project_id=f"p{n % 5}")
        await log.writer.append([wanted])
    every = await everything(log.store)

    async def read(**scope: object) -> list[int]:
        found: list[int] = []
        while page := await log.store.range(after=(found or [0])[-1], limit=4, **scope):  # type: ignore[arg-type]
            found += [each.position for each in page]
        return found

    assert await read() == list(range(1, 31))
    assert await read(tenant_id="t1") == [e.position for e in every if e.tenant_id == "t1"]
    assert await read(tenant_id="t1", types=["K0", "K2"]) == [
        e.position for e in every if e.tenant_id == "t1" and e.type in ("K0", "K2")
    ]
    assert await read(tenant_id="t0", project_id="p3") == [
        e.position for e in every if (e.tenant_id, e.project_id) == ("t0", "p3")
    ]
    assert await read(tenant_id="nobody") == []


async def test_every_kind_of_read_returns_the_appended_events(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streams, ranges and the copy have the appended events, field by field."""
    monkeypatch.setattr(store, "REPLAY_PAGE", 17)
    chance = sizes.chance("batches")
    versions: dict[tuple[str, str], int] = {}
    appended: list[NewEvent] = []
    for _ in range(40):
        batch: list[NewEvent] = []
        for _ in range(chance.randint(1, 5)):
            stream = (f"t{chance.randint(1, 3)}", f"s{chance.randint(1, 6)}")
            versions[stream] = versions.get(stream, 0) + 1
            batch.append(
                NewEvent(
                    *(*stream, versions[stream], chance.choice(("Added", "Moved"))),
                    state=chance.choice(ODD) + chance.randbytes(chance.randint(0, 40)),
                    project_id=chance.choice((None, "", "p1", "p\\2\t")),
                    schema_version=chance.randint(1, 9),
                    metadata=chance.choice(
                        ("{}", '{"b":1,  "a":"\\\\\\n\\t"}', '{"ü": "\\u2603"}')
                    ),
                )
            )
        appended += batch
        await log.writer.append(batch)
    every = await everything(log.store)
    assert [each.position for each in every] == list(range(1, len(appended) + 1))
    assert [as_appended(each) for each in every] == appended
    assert every == await log.store.range(after=0)
    for tenant, stream_id in versions:
        assert await log.store.stream(tenant, stream_id) == [
            each for each in every if (each.tenant_id, each.stream_id) == (tenant, stream_id)
        ]


def as_appended(recorded: Recorded) -> NewEvent:
    fields = recorded._asdict()
    return NewEvent(**{name: fields[name] for name in NewEvent._fields})


async def test_events_of_another_tenant_are_never_returned(log: Log) -> None:
    """Both tenants use the same names. The control is the range without a tenant."""
    for version in range(1, 6):
        streams = [event("same", version, tenant=tenant) for tenant in ("t1", "t2", "T1", "t1 ")]
        await log.writer.append([each._replace(project_id="p") for each in streams])
    assert len(await log.store.range(after=0)) == 20
    reads = [
        await log.store.stream("t1", "same"),
        await log.store.range(after=0, tenant_id="t1"),
        await log.store.range(after=0, tenant_id="t1", types=["X"]),
        await log.store.range(after=0, tenant_id="t1", project_id="p"),
        await log.store.range(after=0, tenant_id="t1", project_id="p", types=["X", "Y"]),
    ]
    assert [[each.tenant_id for each in read] for read in reads] == [["t1"] * 5] * 5


@pytest.mark.parametrize("limit", [1, 3, 1_000])
async def test_a_range_ends_at_its_last_position(log: Log, limit: int) -> None:
    await log.writer.append([event("a", n) for n in range(1, 11)])
    page = await log.store.range(after=2, upto=6, limit=limit)
    assert [each.position for each in page] == [3, 4, 5, 6][:limit]
    assert await log.store.range(after=10) == []


async def insert_events(owner: connections.Connection, whose: str, count: int) -> None:
    """Insert many events in one statement. The tenant and its project have the same name."""
    await owner.execute(
        "insert into app.event (position, version, schema_version, append_id, recorded_at,"
        " tenant_id, stream_id, type, project_id, state, metadata)"
        " select head.position + n, 1, 1, gen_random_uuid(), now(), %(whose)s,"
        " 's-' || head.position + n, 'X', %(whose)s, convert_to(repeat('x', 300), 'UTF8'), '{}'"
        " from generate_series(1, %(count)s) as n,"
        " (select coalesce(max(position), 0) as position from app.event) as head",
        {"whose": whose, "count": count},
    )


async def blocks_read(owner: connections.Connection, statement: str, whose: str, after: int) -> int:
    """The number of blocks that a page of this tenant or project reads."""
    wanted = {"tenant_id": whose, "project_id": whose, "types": None, "limit": PAGE}
    async with owner.transaction():
        await owner.execute(connections.ROLES["as_tenant"], wanted)
        plan = await owner.execute(
            b"explain (analyze, buffers, format json) " + SQL[statement],
            {**wanted, "after": after, "upto": END},
        )
        row = await plan.fetchone()
    assert row is not None
    top = row[0][0]["Plan"]
    return int(top["Shared Hit Blocks"] + top["Shared Read Blocks"])


@pytest.mark.parametrize("statement", ["tenant_range", "project_range"])
@pytest.mark.parametrize("young", [0, 1, 2_000])
@pytest.mark.parametrize("is_analyzed", [False, True])
async def test_a_page_of_a_quiet_tenant_does_not_scan_the_events_of_others(
    url: str, statement: str, young: int, is_analyzed: bool
) -> None:
    """PostgreSQL keeps its plans from a young log, with and without statistics."""
    async with await connections.connect(url, as_service=False) as owner:
        await owner.execute("alter table app.event set (autovacuum_enabled = off)")
        await insert_events(owner, "quiet", young)
        if is_analyzed:
            await owner.execute("analyze app.event")
        for _ in range(10):
            await blocks_read(owner, statement, "quiet", after=0)
        await insert_events(owner, "busy", 30_000)
        await insert_events(owner, "quiet", 5)
        assert await blocks_read(owner, statement, "quiet", after=young) < 20
        assert await blocks_read(owner, statement, "busy", after=young) > 50, "the control"
        assert await blocks_read(owner, statement, "nobody", after=0) < 20


async def test_a_cursor_is_of_one_event_alone(log: Log, new_database: Callable[[], str]) -> None:
    async with running_log(new_database()) as other:
        for each in (log, other):
            await each.writer.append([event(), event()])
            await each.writer.append([event()])
        here, there = await everything(log.store), await everything(other.store)
        cursors = [each.cursor for each in here]
        assert [position_of(each) for each in cursors] == [1, 2, 3]
        assert set(cursors).isdisjoint(each.cursor for each in there)
        for cursor in (BEGINNING, *cursors):
            assert not await log.store.is_lost(cursor)
        for cursor in [*(each.cursor for each in there), "0.0123abcd", "4.0123abcd"]:
            assert await log.store.is_lost(cursor)


async def test_followers_get_the_cursors_that_the_table_has(log: Log) -> None:
    following = log.live_log.follow(0)
    assert await anext(following) == []
    await log.writer.append([event(), event()], append_id=uuid4())
    await log.writer.append([event()])
    live: list[Recorded] = []
    while len(live) < 3:
        live += await anext(following)
    assert live == await everything(log.store)
