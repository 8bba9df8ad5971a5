"""Read models in trouble: behind, broken, rebuilt under load, killed, of another version."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count

import psycopg
import pytest
from psycopg.types.numeric import Int8

from domain.events import ERASURES
from projections import PROJECTIONS
from projections import projection as machinery
from projections.accounts import ACCOUNTS, account
from projections.projection import (
    Busy,
    Connection,
    Projection,
    ProjectionStatus,
    catch_up,
    install,
    reached,
    rebuild,
    status,
    verify,
)
from projections.projects import PROJECTS
from projections.sessions import SESSIONS
from projections.timeline import TIMELINE, Shown, page
from service.eventlog.store import NewEvent, Recorded
from service.postgres import connections
from tests.projections.fold import rows
from tests.projections.generated import Log, World, background, live, owning, writing
from tests.sizes import size

_OPENED = b'{"session_id":"odd","project_id":"p","user_id":"u","mode":"plan"}'
_CREDITED = b'{"user_id":"u","credit_id":"c","seconds":1,"kind":"paid","reason":null}'
ERASING = {kind.__name__ for kind in ERASURES}
NAMES = sorted(projection.name for projection in PROJECTIONS)
INLINE = [each for each in PROJECTIONS if each.is_inline]
"""The read models that appends carry along."""
each = pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda projection: projection.name)
inline = pytest.mark.parametrize("projection", INLINE, ids=lambda projection: projection.name)


async def statuses(connection: Connection) -> dict[str, ProjectionStatus]:
    await background(connection)
    return {model.name: model for model in await status(connection)}


async def assert_all_is_well(connection: Connection, log: Log) -> None:
    """Every read model is live, and its rows are what the log says."""
    events = await log.events()
    for name, model in (await statuses(connection)).items():
        assert model.state == "live", model
        assert (model.position, model.head) == (len(events), len(events))
        assert (
            model.halted_at,
            model.halted_before,
            model.halted_reason,
        ) == (None,) * 3
        assert await live(connection, name) == rows(name, events)


@asynccontextmanager
async def held(url: str, *names: str) -> AsyncIterator[None]:
    """Somebody else holds these read models, as a swap does."""
    async with owning(url) as other:
        for name in names:
            await other.execute(machinery.SQL["stop"], {"name": name})
        async with other.transaction():
            for name in names:
                await other.execute(machinery.SQL["lock"], {"name": name})
            yield
        await other.execute("update app.projection set is_paused = false")


IN_THE_EVENT = "raise_exception"
"""An error that what is in an event can cause."""


async def break_(
    owner: Connection, projection: Projection, *, at: str, error: str = "undefined_function"
) -> None:
    """Let the rules fail on the events of a type, and do all else as before.

    By default with an error that has another reason than what is in the event.
    """
    name = f"app.apply_{projection.name}"
    await owner.execute(f"alter function {name} rename to sound_{projection.name}".encode())
    await owner.execute(
        f"""
        create function {name}(p_after bigint, p_upto bigint) returns void
        language plpgsql as $$
        begin
            perform app.sound_{projection.name}(p_after, p_upto);
            if exists (
                select from app.event
                where position > p_after and position <= p_upto and type = '{at}'
            ) then
                raise exception 'made to fail on %', '{at}' using errcode = '{error}';
            end if;
        end
        $$
        """.encode()
    )


async def mend(owner: Connection, projection: Projection) -> None:
    name = f"app.apply_{projection.name}"
    await owner.execute(f"drop function {name}".encode())
    await owner.execute(
        f"alter function app.sound_{projection.name} rename to apply_{projection.name}".encode()
    )


def odd(n: int, kind: str = "ProjectRegistered") -> list[NewEvent]:
    """An append that a read model was broken for."""
    state = b'{"project_id":"odd-%d","name":"n","framework":null,"source_root":null}' % n
    return [NewEvent("t1", f"project-odd-{n}", 1, kind, state, f"odd-{n}")]


# where they stand --------------------------------------------------------------------------------


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


# behind, and caught up ---------------------------------------------------------------------------


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
    appends = [[NewEvent("t1", "account-t1-u", n, "TimeCredited", _CREDITED)] for n in (1, 2, 3)]
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
        await log.append([[NewEvent("t1", stream, 1, "SessionOpened", _OPENED, "p")]])
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


# broken, and mended ------------------------------------------------------------------------------


def appends_with(kind: str) -> tuple[list[tuple[NewEvent, ...]], list[tuple[NewEvent, ...]]]:
    """A generated log: what is before the first event of a type, and some appends from there on."""
    for log in (World(seed).appends(400) for seed in count(16)):
        for number, append in enumerate(log):
            if kind in {event.type for event in append}:
                return log[:number], log[number : number + 60]
    raise AssertionError


@inline
async def test_a_rule_that_fails_halts_alone(url: str, projection: Projection) -> None:
    """The append succeeds, the others move on, the status says where and why, mending mends."""
    broken_on = projection.handles[-1].__name__
    earlier, later = appends_with(broken_on)
    async with writing(url) as log, owning(url) as owner:
        await break_(owner, projection, at=broken_on)
        before = datetime.now(UTC) - timedelta(seconds=5)
        await log.append(earlier)
        known = await log.events()  # as they are before later ones erase some of it
        for append in later:
            await log.append([append])
        events = await log.events()
        assert len(events) == sum(map(len, earlier + later))
        first = next(event.position for event in events if event.type == broken_on)

        found = await statuses(owner)
        halted = found.pop(projection.name)
        assert halted.state == "halted"
        assert halted.position < first <= (halted.halted_before or 0)
        assert halted.halted_reason == f"made to fail on {broken_on}"
        assert halted.halted_at is not None
        assert before < halted.halted_at < datetime.now(UTC) + timedelta(seconds=5)
        for model in found.values():
            assert (model.state, model.position) == ("live", len(events))

        # Trying again finds the event itself, shows all before it, and stays halted.
        while not await catch_up(owner):
            pass
        halted = (await statuses(owner))[projection.name]
        assert (halted.state, halted.position, halted.halted_before) == ("halted", first - 1, first)
        shown = await live(owner, projection.name)
        assert shown == rows(projection.name, [*known, *events[len(known) : first - 1]])

        await mend(owner, projection)
        while not await catch_up(owner):
            pass
        await assert_all_is_well(owner, log)
        await log.append([odd(1)])
        await assert_all_is_well(owner, log)


def without_streams(events: Sequence[Recorded], failing: str) -> tuple[list[Recorded], set[str]]:
    """The events that are left without the streams that have an event of a type, from that event
    on, but with the erasures of these streams; and the streams."""
    left: list[Recorded] = []
    aside: set[str] = set()
    for event in events:
        if event.type == failing:
            aside.add(f"{event.tenant_id}/{event.stream_id}")
        elif f"{event.tenant_id}/{event.stream_id}" not in aside or event.type in ERASING:
            left.append(event)
    return left, aside


@each
async def test_a_stream_on_whose_event_a_rule_fails_is_set_aside_alone(
    url: str, projection: Projection
) -> None:
    """All other rows are exact and live. A rebuild with mended rules brings the stream back."""
    failing = next(
        kind.__name__ for kind in reversed(projection.handles) if kind.__name__ not in ERASING
    )
    async with writing(url) as log, owning(url) as owner:
        await break_(owner, projection, at=failing, error=IN_THE_EVENT)
        earlier, later = appends_with(failing)
        await log.append([*earlier, *later[:20]])
        for append in later[20:]:
            await log.append([append])
        left, aside = without_streams(await log.events(), failing)
        model = (await statuses(owner))[projection.name]
        assert (model.state, model.set_aside) == ("live", len(aside)), model
        assert aside
        assert await live(owner, projection.name) == rows(projection.name, left)
        found = await machinery.set_aside(owner)
        assert {f"{each.tenant_id}/{each.stream_id}" for each in found} == aside
        assert {(each.projection, each.reason) for each in found} == {
            (projection.name, f"made to fail on {failing}")
        }
        await mend(owner, projection)
        assert await verify(owner, projection) == 0
        await rebuild(owner, projection)
        assert await machinery.set_aside(owner) == []
        assert (await statuses(owner))[projection.name].set_aside == 0
        await assert_all_is_well(owner, log)


async def test_a_stream_is_set_aside_in_a_catch_up_and_in_a_rebuild_too(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machinery, "CHUNK", 50)
    unpaid = NewEvent("t1", "account-t1-x", 1, "TimeReserved", _UNPAID)
    # Less than what the first event takes, so that no range of both can succeed.
    later = NewEvent("t1", "account-t1-x", 2, "TimeCredited", _CREDITED.replace(b'"u"', b'"x"'))
    async with writing(url) as log, owning(url) as owner:
        appends = World(22).appends(200)
        async with held(url, "accounts"):
            await log.append([*appends[:150], [unpaid], *appends[150:], [later]])
        while not await catch_up(owner):
            pass
        events = await log.events()
        left = [event for event in events if event.stream_id != "account-t1-x"]
        for work in (None, rebuild):
            if work is not None:
                await work(owner, ACCOUNTS)
            assert await live(owner, "accounts") == rows("accounts", left)
            assert await verify(owner, ACCOUNTS) == 0
            (found,) = await machinery.set_aside(owner)
            assert (found.projection, found.stream_id) == ("accounts", "account-t1-x")
            assert events[found.position - 1].type == "TimeReserved"
            assert (await statuses(owner))["accounts"].set_aside == 1
        assert await schemas(owner) == set()


POISON = (
    ("SessionOpened", b"not JSON at all", "session-poison"),
    ("SessionOpened", b"[]", "session-poison"),
    ("SessionOpened", b"\xff\xfe", "session-poison"),
    ("SessionOpened", b"{}", "session-poison"),
    ("SessionRenamed", b'{"session_id": "s", "name": "\\u0000"}', "session-poison"),
    ("ReplyStarted", b'{"message_id":"m","session_id":"s","epoch":1e99}', "session-poison"),
    ("ReplyCompleted", b'{"tokens_used": "many"}', "session-poison"),
    ("TimeCredited", b'{"user_id":"u","seconds":99999999999999999999}', "account-t1-poison"),
    ("TimeConsumed", b'{"session_id":"s","seconds":"x"}', "account-t1-poison"),
    ("MemberAdded", b'{"project_id": null}', "project-poison"),
    ("BuildRequested", b"5", "build-poison"),
    ("VersionDeployed", b'{"build_id": {}}', "build-poison"),
    ("PlanSaved", b'{"message_id": []}', "session-poison"),
)


@pytest.mark.parametrize(("kind", "state", "stream"), POISON)
async def test_no_state_of_an_event_halts_a_read_model(
    url: str, kind: str, state: bytes, stream: str
) -> None:
    """The other streams of the tenant, and the other tenants, stay exact and live."""
    appends = World(11).appends(60)
    async with writing(url) as log, owning(url) as owner:
        await log.append(appends[:30])
        await log.append([*appends[30:40], [NewEvent("t1", stream, 1, kind, state, "p1")]])
        for append in appends[40:]:
            await log.append([append])
        events = [event for event in await log.events() if event.stream_id != stream]
        for name, model in (await statuses(owner)).items():
            assert model.state == "live"
            if model.set_aside:
                assert await live(owner, name) == rows(name, events)
        for projection in PROJECTIONS:
            assert await verify(owner, projection) == 0


async def test_a_halted_read_model_costs_the_next_appends_nothing(url: str) -> None:
    async with writing(url) as log, owning(url) as owner:
        await break_(owner, PROJECTS, at="ProjectRegistered")
        await log.append([odd(1)])
        first = (await statuses(owner))["projects"]
        for n in range(2, 20):
            await log.append([odd(n)])
        assert (await statuses(owner))["projects"] == replace(first, head=19)
        assert await catch_up(owner)
        assert (await statuses(owner))["projects"] == replace(first, head=19)


async def test_a_rebuild_mends_what_is_broken(url: str) -> None:
    async with writing(url) as log, owning(url) as owner:
        await log.append(World(16).appends(100))
        await break_(owner, SESSIONS, at="SessionOpened")
        await log.append([[NewEvent("t1", "session-odd", 1, "SessionOpened", _OPENED, "p")]])
        assert (await statuses(owner))["sessions"].state == "halted"
        await rebuild(owner, SESSIONS)
        await log.append([odd(1)])
        await assert_all_is_well(owner, log)


# rebuilt under load ------------------------------------------------------------------------------


async def until(done: asyncio.Event, work: Callable[[], Awaitable[None]]) -> int:
    """Do it again and again; how often."""
    for n in count():
        if done.is_set():
            return n
        await work()
    raise AssertionError


async def test_readers_and_writers_notice_nothing_of_rebuilds(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read once is there at every later read; no read and no append ever fails."""
    monkeypatch.setattr(machinery, "CHUNK", 100)
    done, numbers = asyncio.Event(), count(1)
    seen: set[int] = set()
    credited = 0

    async def write() -> None:
        n = next(numbers)
        opened = _OPENED.replace(b"odd", b"s%d" % n)
        await log.append(
            [
                [NewEvent("t9", "account-t9-u", n, "TimeCredited", _CREDITED)],
                [NewEvent("t9", f"session-s{n}", 1, "SessionOpened", opened, "p")],
            ]
        )

    async def read() -> None:
        nonlocal seen, credited
        found = await page(
            readers[0],
            tenant_id="t9",
            project_id="p",
            shown=Shown(with_hidden=True),
            limit=100_000,
        )
        positions = {row.position for row in found.rows}
        assert seen <= positions
        seen = positions
        row = await account(readers[1], tenant_id="t9", user_id="u")
        assert credited <= row.credited_seconds
        credited = row.credited_seconds
        view = await readers[2].execute("select count(*) from analytics.project_timeline")
        assert await view.fetchone()

    async def rebuild_all() -> None:
        try:
            for projection in PROJECTIONS * size(1, 2):
                await rebuild(owner, projection)
        finally:
            done.set()

    async with writing(url) as log, owning(url) as owner:
        await log.append(World(18).appends(size(300, 1_000)))
        async with owning(url) as analyst:
            await analyst.execute("set role throughline_analyst")
            readers = [await connections.connect(url), await connections.connect(url), analyst]
            async with readers[0], readers[1], asyncio.TaskGroup() as tasks:
                writes = tasks.create_task(until(done, write))
                reads = tasks.create_task(until(done, read))
                tasks.create_task(rebuild_all())
        assert writes.result() > 20
        assert reads.result() > 20
        while not await catch_up(owner):
            pass
        await assert_all_is_well(owner, log)
        for projection in PROJECTIONS:
            assert await verify(owner, projection) == 0


async def test_a_swap_waits_for_a_long_read_and_then_goes_on(url: str) -> None:
    """The swap gives way and tries again; meanwhile neither new reads nor appends wait for it."""
    async with writing(url) as log, owning(url) as owner, owning(url) as reader:
        await log.append(World(19).appends(100))
        async with reader.transaction():
            await reader.execute("select count(*) from app.timeline")
            rebuilding = asyncio.create_task(rebuild(owner, TIMELINE))
            await asyncio.sleep(0.3)
            opened = NewEvent("t1", "session-odd", 1, "SessionOpened", _OPENED, "p")
            await log.append([[opened]])
            assert await reached(reader, "timeline") < await log.store.head(), "passed by"
            await asyncio.sleep(1.0)
            assert not rebuilding.done()
        await rebuilding
        await catch_up(owner)
        await assert_all_is_well(owner, log)


async def test_a_swap_does_not_deadlock_with_readers_of_the_view(url: str) -> None:
    """A reader of the view takes the view, then the table. A swap must take them in that order."""
    async with (
        writing(url) as log,
        owning(url) as owner,
        owning(url) as long_reader,
        owning(url) as reader,
        owning(url) as watcher,
    ):
        await log.append(World(19).appends(100))
        async with asyncio.TaskGroup() as tasks, long_reader.transaction():
            await long_reader.execute("select count(*) from app.timeline")
            tasks.create_task(rebuild(owner, TIMELINE))
            await until_waiting(watcher, 1)
            tasks.create_task(reader.execute("table analytics.project_timeline"))
            await until_waiting(watcher, 2)
        await catch_up(owner)
        await assert_all_is_well(owner, log)


async def until_waiting(connection: Connection, backends: int) -> None:
    """Wait until so many backends of this database wait for a lock."""
    query = """
        select count(distinct pid) from pg_locks
        where not granted and pid in (
            select pid from pg_stat_activity where datname = current_database()
        )
    """
    for _ in range(90):
        if await (await connection.execute(query)).fetchone() == (backends,):
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{backends} should wait")


# killed half way ---------------------------------------------------------------------------------


async def schemas(connection: Connection) -> set[str]:
    found = await connection.execute(
        "select nspname from pg_namespace where nspname ~ '^(rebuild|verify)_'"
    )
    return {name for (name,) in await found.fetchall()}


@pytest.mark.parametrize("work", [rebuild, verify])
async def test_a_backend_that_is_killed_in_the_middle_leaves_all_as_it_was(
    url: str, work: Callable[..., Awaitable[object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machinery, "CHUNK", 50)
    async with writing(url) as log, owning(url) as owner:
        await log.append(World(20).appends(300))
        before = await live(owner, "timeline")
        doomed = await connections.connect(url, as_service=False)

        def kill(at: int, head: int) -> None:
            if at == 150:
                assert head >= 300
                with psycopg.connect(url, autocommit=True) as other:
                    other.execute("select pg_terminate_backend(%s)", [doomed.info.backend_pid])

        with pytest.raises(psycopg.OperationalError):
            await work(doomed, TIMELINE, kill)
        await doomed.close()
        assert await live(owner, "timeline") == before
        await log.append([odd(1)])
        await assert_all_is_well(owner, log)
        await work(owner, TIMELINE)
        assert await schemas(owner) == set()
        await assert_all_is_well(owner, log)


@pytest.mark.parametrize("work", [rebuild, verify])
async def test_a_task_that_is_cancelled_in_the_middle_cleans_up(
    url: str, work: Callable[..., Awaitable[object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machinery, "CHUNK", 50)
    async with writing(url) as log, owning(url) as owner:
        await log.append(World(21).appends(300))

        def stop(at: int, _head: int) -> None:
            if at == 150:
                task.cancel()

        async def cancelled() -> None:
            await work(owner, TIMELINE, stop)

        task = asyncio.create_task(cancelled())
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await schemas(owner) == set()
        await assert_all_is_well(owner, log)
        await work(owner, TIMELINE)
        await assert_all_is_well(owner, log)


async def break_rebuilds(owner: Connection) -> None:
    """Let the rules of every rebuild fail for another reason than what is in an event."""
    await owner.execute(
        """
        create or replace function app.project_around(
            p_schema text, p_name text, p_after bigint, p_upto bigint
        ) returns void
        language plpgsql as $$
        begin
            raise exception 'the disk is full' using errcode = 'disk_full';
        end
        $$
        """
    )


async def test_a_rule_that_fails_in_a_rebuild_leaves_the_live_rows(url: str) -> None:
    async with writing(url) as log, owning(url) as owner:
        await log.append(World(22).appends(200))
        before = await live(owner, "accounts")
        await break_rebuilds(owner)
        with pytest.raises(psycopg.errors.DiskFull):
            await rebuild(owner, ACCOUNTS)
        assert await schemas(owner) == set()
        assert await live(owner, "accounts") == before


_UNPAID = b'{"user_id":"x","reservation_id":"h","session_id":"s","message_id":"m","seconds":2}'


# one at a time -----------------------------------------------------------------------------------


@pytest.mark.parametrize("works", [(rebuild, rebuild), (verify, verify)], ids=["rebuild", "verify"])
async def test_of_two_rebuilds_at_once_the_second_is_refused(
    url: str, works: Sequence[Callable[..., Awaitable[object]]]
) -> None:
    async with writing(url) as log, owning(url) as a, owning(url) as b:
        await log.append(World(23).appends(200))
        done = await asyncio.gather(
            *(work(each, TIMELINE) for work, each in zip(works, (a, b), strict=True)),
            return_exceptions=True,
        )
        assert sorted(type(each).__name__ for each in done) in (
            ["Busy", "NoneType"],
            ["Busy", "int"],
        )
        assert await schemas(a) == set()
        await works[0](b, TIMELINE)
        await assert_all_is_well(a, log)


async def test_two_read_models_are_rebuilt_at_once(url: str) -> None:
    async with writing(url) as log, owning(url) as a, owning(url) as b:
        await log.append(World(24).appends(200))
        await asyncio.gather(rebuild(a, TIMELINE), rebuild(b, ACCOUNTS))
        await assert_all_is_well(a, log)


async def test_a_verification_is_not_misled_by_a_rebuild(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A swap between the verification's snapshot and its comparison is refused or not counted."""
    async with writing(url) as log, owning(url) as owner, owning(url) as other:
        await log.append(World(25).appends(300))
        original = machinery._apply

        async def apply(
            connection: Connection, projection: Projection, schema: str, after: int, upto: int
        ) -> None:
            await original(connection, projection, schema, after, upto)
            if schema.startswith("verify_"):
                with suppress(Busy):
                    await rebuild(other, TIMELINE)

        monkeypatch.setattr(machinery, "_apply", apply)
        assert await verify(owner, TIMELINE) == 0


# other versions ----------------------------------------------------------------------------------


async def test_a_missing_read_model_is_built_from_the_whole_log(url: str) -> None:
    async with writing(url) as log, owning(url) as owner:
        await log.append(World(26).appends(200))
        await owner.execute("drop table app.sessions cascade")
        await owner.execute("drop function app.apply_sessions")
        await owner.execute("delete from app.projection where name = 'sessions'")
        assert await install(owner, PROJECTIONS) == ["sessions"]
        await assert_all_is_well(owner, log)
        await owner.execute("select * from analytics.project_chat_plan_sessions")


async def test_a_higher_version_is_a_rebuild(url: str) -> None:
    async with writing(url) as log, owning(url) as owner:
        await log.append(World(27).appends(200))
        await owner.execute("delete from app.sessions")
        higher = replace(SESSIONS, version=SESSIONS.version + 1)
        assert await install(owner, [TIMELINE, higher]) == ["sessions"]
        assert (await statuses(owner))["sessions"].version == higher.version
        await assert_all_is_well(owner, log)
        assert await install(owner, [TIMELINE, higher]) == []


async def test_the_same_version_gets_its_rules_anew(url: str) -> None:
    async with writing(url) as log, owning(url) as owner:
        await break_(owner, PROJECTS, at="ProjectRegistered")
        assert await install(owner, PROJECTIONS) == []
        await log.append([odd(1)])
        await assert_all_is_well(owner, log)


async def test_the_same_version_gets_its_view_anew(url: str) -> None:
    async with owning(url) as owner:
        await owner.execute("drop view analytics.user_ai_time_balance")
        await owner.execute("create view analytics.user_ai_time_balance as select 1 as old")
        assert await install(owner, PROJECTIONS) == []
        await owner.execute("select available_seconds from analytics.user_ai_time_balance")


async def test_a_view_that_somebody_made_upon_ours_does_not_stop_a_start(url: str) -> None:
    async with owning(url) as owner:
        await owner.execute("create schema mine")
        await owner.execute("create view mine.debts as table analytics.user_ai_time_balance")
        assert await install(owner, PROJECTIONS) == []
        await owner.execute("table mine.debts")


async def test_a_lower_version_leaves_alone_what_a_higher_one_made(url: str) -> None:
    async with writing(url) as log, owning(url) as owner:
        await owner.execute("update app.projection set version = 9 where name = 'projects'")
        await break_(owner, PROJECTS, at="ProjectRegistered")
        assert await install(owner, PROJECTIONS) == []
        await log.append([odd(1)])
        model = (await statuses(owner))["projects"]
        assert (model.version, model.state) == (9, "halted")


async def test_the_service_s_own_role_may_not_touch_the_rules(url: str) -> None:
    async with await connections.connect(url) as service:
        for statement in (
            "drop table app.timeline",
            "delete from app.consumption",
            "update app.consumption set billed_seconds = 0",
            "delete from app.projection",
            "create schema rebuild_timeline",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await service.execute(statement.encode())


async def test_an_append_that_meets_no_read_models_is_an_append(url: str) -> None:
    async with writing(url) as log, owning(url) as owner:
        await owner.execute("delete from app.projection")
        await log.append([odd(1)])
        assert await log.store.head() == 1
        found = await owner.execute("select app.project_inline(%s, %s, '{}')", (Int8(1), Int8(1)))
        assert await found.fetchone()
