"""Where read models stand: carried along by appends, behind, and caught up."""

import asyncio

import pytest
from psycopg.types.numeric import Int8

from projections import PROJECTIONS
from projections import projection as machinery
from projections.projection import catch_up, reached
from service.eventlog.store import NewEvent
from service.postgres import connections
from tests.projections.generated import World, live, owning, writing
from tests.projections.trouble import (
    CREDITED,
    INLINE,
    NAMES,
    OPENED,
    assert_all_is_well,
    held,
    odd,
    statuses,
    until_waiting,
)


async def test_an_empty_log_s_read_models_are_live(url: str) -> None:
    async with owning(url) as owner:
        found = await statuses(owner)
    assert sorted(found) == NAMES
    for projection in PROJECTIONS:
        model = found[projection.name]
        assert (model.position, model.head, model.state) == (
            0,
            0,
            "live",
        )
        assert model.version == projection.version


async def test_the_database_knows_which_types_each_handles(url: str) -> None:
    async with owning(url) as owner:
        found = await owner.execute("select name, handles from app.projection")
        handles = {name: set(types) for name, types in await found.fetchall()}
    assert handles == {each.name: {kind.__name__ for kind in each.handles} for each in PROJECTIONS}


async def test_every_append_carries_the_read_models_along(url: str) -> None:
    async with writing(url) as log, owning(url) as owner:
        for append in World(10).appends(60):
            await log.append([append])
            found = await statuses(owner)
            assert {each.position for each in found.values()} == {await log.store.head()}
        await assert_all_is_well(owner, log)


async def test_an_append_writes_no_checkpoint_of_a_read_model_that_follows(url: str) -> None:
    """Each row version that it wrote would stay as long as an analyst's transaction is open."""
    versions = (
        "select name, xmin::text, ctid::text, follows from app.projection where is_inline "
        "order by name"
    )
    appends = World(10).appends(60)
    async with writing(url) as log, owning(url) as owner:
        await log.append(appends[:1])
        before = await (await owner.execute(versions)).fetchall()
        assert all(follows for *_, follows in before)
        await log.append(appends[1:])
        assert await (await owner.execute(versions)).fetchall() == before
        await assert_all_is_well(owner, log)


async def test_a_stop_waits_for_the_append_that_is_in_flight(url: str) -> None:
    """Otherwise the checkpoint that it writes would lack the append, whose rows are there."""
    async with writing(url) as log, owning(url) as slow, owning(url) as owner:
        await log.append([odd(1)])
        async with asyncio.TaskGroup() as tasks, slow.transaction():
            insert = """
                insert into app.event (
                    position, append_id, tenant_id, stream_id, version, type, schema_version,
                    project_id, state, metadata, recorded_at
                )
                values (
                    2, gen_random_uuid(), 't1', 'project-odd-2', 1, 'ProjectRegistered', 1,
                    'odd-2', %s, '{}', now()
                )
            """
            await slow.execute(insert, [odd(2)[0].state])
            await slow.execute("select app.appended(2, 2, array['ProjectRegistered'])")
            tasks.create_task(owner.execute(machinery.SQL["stop"], {"name": "projects"}))
            async with owning(url) as watcher:
                await until_waiting(watcher, 1)
        assert await reached(owner, "projects") == 2
        assert await catch_up(owner)
        await assert_all_is_well(owner, log)


async def test_the_position_that_a_read_model_has_reached_is_read_by_its_name(url: str) -> None:
    async with writing(url) as log, owning(url) as owner:
        await log.append([odd(1), odd(2)])
        assert await reached(owner, "timeline") == 2
        assert await reached(owner, "unheard-of") == 0


async def test_a_locked_read_model_is_skipped_and_caught_up(url: str) -> None:
    appends = World(11).appends(200)
    async with writing(url) as log, owning(url) as owner:
        await log.append(appends[:20])
        async with held(url, "sessions", "timeline"):
            await log.append(appends[20:])
            found = await statuses(owner)
            behind = {name for name, model in found.items() if model.state == "behind"}
            assert behind == {"sessions", "timeline"}
        assert await catch_up(owner)
        await assert_all_is_well(owner, log)


async def test_catching_up_goes_step_by_step(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machinery, "STEP", 50)
    async with writing(url) as log, owning(url) as owner:
        async with held(url, *(each.name for each in INLINE)):
            await log.append(World(12).appends(220))
        positions = [0]
        while not await catch_up(owner):
            positions.append(await reached(owner, "timeline"))
        assert positions == [0, 50, 100, 150, 200]
        await assert_all_is_well(owner, log)


async def test_the_service_s_own_role_can_catch_up(url: str) -> None:
    async with writing(url) as log, owning(url) as owner:
        async with held(url, *(each.name for each in INLINE)):
            await log.append(World(13).appends(200))
        async with await connections.connect(url) as service:
            assert await catch_up(service)
        await assert_all_is_well(owner, log)


async def test_many_processes_that_catch_up_at_once_do_it_once(url: str) -> None:
    async with writing(url) as log, owning(url) as owner:
        async with held(url, *(each.name for each in INLINE)):
            await log.append(World(14).appends(400))
        async with owning(url) as a, owning(url) as b, owning(url) as c:
            await asyncio.gather(*map(catch_up, (a, b, c)), log.append([odd(1), odd(2)]))
        await catch_up(owner)
        await assert_all_is_well(owner, log)


async def test_the_second_process_that_catches_up_waits_and_finds_it_done(url: str) -> None:
    appends = [[NewEvent("t1", "account-t1-u", n, "TimeCredited", CREDITED)] for n in (1, 2, 3)]
    async with writing(url) as log, owning(url) as first, owning(url) as second:
        await log.append(appends[:1])
        async with held(url, *NAMES):
            await log.append(appends[1:])
        head = await log.store.head()
        async with asyncio.TaskGroup() as tasks, first.transaction():
            for name in NAMES:
                await first.execute(machinery.SQL["lock"], {"name": name})
                await first.execute(machinery.SQL["catch_up"], {"name": name, "step": head})
                await first.execute(machinery.SQL["move"], {"name": name, "position": Int8(head)})
            tasks.create_task(catch_up(second))
            async with owning(url) as watcher:
                await until_waiting(watcher, 1)
        await assert_all_is_well(first, log)


async def test_an_erasure_waits_for_the_background_and_leaves_no_words(url: str) -> None:
    """The words of a message are made in a transaction that began before its erasure."""
    said = b'{"session_id":"odd","user_id":"u","text":"quillwort","message_id":"m","locale":"en"}'
    stream = "session-odd"
    async with writing(url) as log, owning(url) as working, owning(url) as watcher:
        await log.append([[NewEvent("t1", stream, 1, "SessionOpened", OPENED, "p")]])
        await log.append([[NewEvent("t1", stream, 2, "UserMessagePosted", said, "p")]])
        async with asyncio.TaskGroup() as tasks, working.transaction():
            await working.execute(machinery.SQL["lock"], {"name": "words"})
            await working.execute(machinery.SQL["catch_up"], {"name": "words", "step": 2})
            await working.execute(machinery.SQL["move"], {"name": "words", "position": Int8(2)})
            assert (await live(working, "words")) != []
            erasure = NewEvent("t1", stream, 3, "SessionDeleted", b'{"session_id":"odd"}', "p")
            tasks.create_task(log.append([[erasure]]))
            await until_waiting(watcher, 1)
        assert await (await watcher.execute("select * from app.words")).fetchall() == []


async def test_a_read_model_far_behind_is_left_to_the_catch_up(url: str) -> None:
    """An append does not pay for a thousand others."""
    async with writing(url) as log, owning(url) as owner:
        async with held(url, "projects"):
            for start in range(1, 1_101, 100):
                await log.append(odd(n) for n in range(start, start + 100))
        await log.append([odd(5_000)])
        assert await reached(owner, "projects") == 0
        assert await reached(owner, "members") == 1_101
        while not await catch_up(owner):
            pass
        await assert_all_is_well(owner, log)
