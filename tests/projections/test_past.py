"""The past: what a read model was at an earlier position, without what was erased since."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import chain, product
from typing import Any, Final

import psycopg
import pytest
from psycopg import sql as compose
from psycopg.rows import dict_row

from domain.events import Event, PromptCreated, PromptErasureRequested, PromptVersionAdded
from projections import PROJECTIONS, past
from projections.projection import Connection, Projection, install
from projections.prompts import PROMPT_VERSIONS, PROMPTS
from projections.sessions import SESSIONS
from projections.timeline import TIMELINE
from service.eventlog.store import NewEvent, Recorded
from service.postgres import connections
from tests.projections.actions.append import new_events
from tests.projections.actions.values import PROJECTS, TENANTS, USERS
from tests.projections.fold import Row, key_of, rows
from tests.projections.generated import World, live, owning, writing
from tests.sizes import SEED, size

EVENTS: Final = size(350, 1_500)
STEP: Final = size(25, 10)
"""After how many appends the rows are recorded."""

ERASURES: Final = (
    "SessionDeleted",
    "MaterialErased",
    "BuildErased",
    "RunErased",
    "PromptErasureRequested",
    "PromptErased",
    "ProjectErasureRequested",
    "ProjectErased",
)
MOST: Final = 1_000_000


@asynccontextmanager
async def turned_back(
    pool: connections.Pool, tenant_id: str, upto: int, *, project_id: str = "", user_id: str = ""
) -> AsyncGenerator[Connection]:
    """A transaction that reads a project, or else the account of a user, as it was."""
    async with connections.past_transaction(pool, tenant_id) as connection:
        if user_id:
            await past.copy_account(connection, user_id, upto, most=MOST)
        else:
            await past.copy_projects(connection, [project_id], upto, most=MOST)
        models = past.OF_ACCOUNT if user_id else past.OF_PROJECT
        await past.fold_models(connection, [each.name for each in models], upto)
        yield connection


async def found(connection: Connection, projection: Projection) -> list[Row]:
    """The rows of the past, by key."""
    query = compose.SQL("select * from {} order by {}").format(
        compose.Identifier("past", projection.name),
        compose.SQL(", ").join(map(compose.Identifier, key_of(projection.name))),
    )
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query)
        return await cursor.fetchall()


PARTS: Final = {"run_steps": "runs", "run_candidates": "runs", "build_events": "builds"}
"""Read models whose rows name no project, but a row of another read model, which does."""


def of(
    everything: Mapping[str, list[Row]], name: str, tenant_id: str, project_id: str
) -> list[Row]:
    """The rows of a read model about a project."""
    whole = PARTS.get(name, name)
    key = "project_id" if whole == name else f"{whole.removesuffix('s')}_id"
    known = {
        row[key]
        for row in everything[whole]
        if (row["tenant_id"], row["project_id"]) == (tenant_id, project_id)
    }
    return [row for row in everything[name] if row["tenant_id"] == tenant_id and row[key] in known]


def as_remembered(events: list[Recorded], upto: int) -> dict[str, list[Row]]:
    """What the log says of a position now: what was erased later is not in it."""
    began = {(event.tenant_id, event.stream_id) for event in events if event.position <= upto}
    kept = [
        event
        for event in events
        if event.position <= upto
        or (event.type in ERASURES and (event.tenant_id, event.stream_id) in began)
    ]
    return {each.name: rows(each.name, kept) for each in past.OF_PROJECT}


async def test_the_past_of_a_project_is_what_was_recorded_then(
    url: str, pool: connections.Pool
) -> None:
    recorded: dict[int, dict[str, list[Row]]] = {}
    async with writing(url) as log, owning(url) as owner:
        appends = World(SEED).appends(EVENTS)
        for at in range(0, len(appends), STEP):
            await log.append(appends[at : at + STEP])
            recorded[await log.store.head()] = {
                each.name: await live(owner, each.name) for each in past.OF_PROJECT
            }
        events = await log.events()
    for upto, then in recorded.items():
        remembered = as_remembered(events, upto)
        for tenant_id, project_id in product(TENANTS, PROJECTS):
            is_erased = any(
                event.position > upto and event.type in ERASURES
                for event in events
                if (event.tenant_id, event.project_id) == (tenant_id, project_id)
            )
            async with turned_back(pool, tenant_id, upto, project_id=project_id) as connection:
                for each in past.OF_PROJECT:
                    known = await found(connection, each)
                    place = (each.name, tenant_id, project_id)
                    assert known == of(remembered, *place), (place, upto)
                    if not is_erased:
                        assert known == of(then, *place), (place, upto)


async def test_the_past_of_an_account_is_what_was_recorded_then(
    url: str, pool: connections.Pool
) -> None:
    recorded: dict[int, dict[str, list[Row]]] = {}
    async with writing(url) as log, owning(url) as owner:
        appends = World(SEED + 1).appends(EVENTS)
        for at in range(0, len(appends), STEP):
            await log.append(appends[at : at + STEP])
            recorded[await log.store.head()] = {
                each.name: await live(owner, each.name) for each in past.OF_ACCOUNT
            }
    for upto, then in recorded.items():
        for tenant_id, user_id in product(TENANTS, USERS):
            async with turned_back(pool, tenant_id, upto, user_id=user_id) as connection:
                for each in past.OF_ACCOUNT:
                    own = [
                        row
                        for row in then[each.name]
                        if (row["tenant_id"], row["user_id"]) == (tenant_id, user_id)
                    ]
                    assert await found(connection, each) == own, (each.name, user_id, upto)


async def test_the_past_leaves_out_what_the_read_model_has_set_aside(
    url: str, pool: connections.Pool
) -> None:
    async with writing(url) as log, owning(url) as owner:
        await log.append(World(SEED).appends(100))
        head = await log.store.head()
        shown = {row["position"]: row for row in await live(owner, "timeline")}
        (last,) = [row for row in shown.values() if row["kind"] == "user_message"][-1:]
        aside = {"position": last["position"], "stream": f"session-{last['session_id']}"}
        await owner.execute(
            """
            insert into app.set_aside (projection, tenant_id, stream_id, position, reason)
            select 'timeline', tenant_id, stream_id, position, 'a test'
            from app.event
            where position = %(position)s and stream_id = %(stream)s
            """,
            aside,
        )
        tenant_id, project_id = last["tenant_id"], last["project_id"]
        async with turned_back(pool, tenant_id, head, project_id=project_id) as connection:
            known = {row["position"] for row in await found(connection, TIMELINE)}
            sessions = await found(connection, SESSIONS)
        left_out = {
            event.position
            for event in await log.events()
            if (event.tenant_id, event.stream_id) == (tenant_id, aside["stream"])
            and event.position >= last["position"]
        }
        everything = of({"timeline": list(shown.values())}, "timeline", tenant_id, project_id)
        assert known == {row["position"] for row in everything} - left_out
        assert last["position"] in left_out
        assert last["session_id"] in {row["session_id"] for row in sessions}


def with_messages(events: int, projects: Sequence[str]) -> list[tuple[NewEvent, ...]]:
    """Appends of at least so many events, in which each of these projects of the first tenant has a
    message."""
    world = World(SEED)
    made: list[tuple[NewEvent, ...]] = []
    missing = set(projects)
    while missing:
        more = world.appends(events)
        made += more
        missing -= {
            each.project_id
            for each in chain.from_iterable(more)
            if each.tenant_id == TENANTS[0] and each.type == "UserMessagePosted"
        }
    return made


async def test_readers_of_one_project_take_turns_and_leave_nothing(
    url: str, pool: connections.Pool
) -> None:
    async with writing(url) as log, owning(url) as owner:
        await log.append(with_messages(400, PROJECTS[:2]))
        head = await log.store.head()
        expected = of(
            {"timeline": await live(owner, "timeline")}, "timeline", TENANTS[0], PROJECTS[0]
        )

        async def read(projects: Sequence[str]) -> list[Row]:
            async with connections.past_transaction(pool, TENANTS[0]) as connection:
                await past.copy_projects(connection, projects, head, most=MOST)
                await past.fold_models(connection, [TIMELINE.name], head)
                return await found(connection, TIMELINE)

        both = PROJECTS[:2]
        answers = await asyncio.gather(
            *(read(PROJECTS[:1]) for _ in range(4)), read(both), read(both[::-1])
        )
        assert expected
        assert answers[:4] == [expected] * 4
        assert answers[4] == answers[5]
        assert len(answers[4]) > len(expected), "two projects"
        for table in ("event", "turn", *(each.name for each in past.OF_PROJECT)):
            query = compose.SQL("table {}").format(compose.Identifier("past", table))
            assert await (await owner.execute(query)).fetchall() == [], table


async def test_the_past_is_never_stored(url: str, pool: connections.Pool) -> None:
    async with writing(url) as log:
        await log.append(World(SEED).appends(20))
    with pytest.raises(psycopg.DatabaseError, match="never stored"):
        async with connections.tenant_transaction(pool, TENANTS[0]) as connection:
            await past.copy_projects(connection, [PROJECTS[0]], 20, most=MOST)


async def test_more_events_than_a_reader_may_fold_are_refused(
    url: str, pool: connections.Pool
) -> None:
    async with writing(url) as log:
        await log.append(with_messages(200, PROJECTS[:1]))
        mine = [
            event.position
            for event in await log.events()
            if (event.tenant_id, event.project_id) == (TENANTS[0], PROJECTS[0])
        ]
    asked: dict[str, Any] = {"project_ids": [PROJECTS[0]], "upto": mine[-1]}
    async with connections.past_transaction(pool, TENANTS[0]) as connection:
        await past.copy_projects(connection, **asked, most=len(mine))
    async with connections.past_transaction(pool, TENANTS[0]) as connection:
        with pytest.raises(past.TooLarge):
            await past.copy_projects(connection, **asked, most=len(mine) - 1)


async def test_the_copied_events_have_the_columns_of_the_log(url: str) -> None:
    columns = """
        select column_name, data_type, is_nullable, collation_name
        from information_schema.columns
        where table_schema = %s and table_name = 'event'
        order by ordinal_position
        """
    async with owning(url) as owner:
        log, copied = [
            await (await owner.execute(columns.encode(), (schema,))).fetchall()
            for schema in ("app", "past")
        ]
    assert log
    assert copied == log


async def test_a_read_model_with_other_rules_gets_another_copy(url: str) -> None:
    async with owning(url) as owner:
        await owner.execute("comment on table past.drafts is 'of an older version'")
        await owner.execute("alter table past.drafts add column old text")
        await install(owner, PROJECTIONS)
        await owner.execute("alter table past.words add column kept text")
        await install(owner, PROJECTIONS)
        found = await owner.execute(
            "select table_name, column_name from information_schema.columns "
            "where table_schema = 'past' and column_name in ('old', 'kept')"
        )
        assert await found.fetchall() == [("words", "kept")]


async def test_what_waits_for_its_erasure_has_no_past(url: str, pool: connections.Pool) -> None:
    """Its texts are still in the log."""
    prompt = {"prompt_id": "q", "name": "Selling", "user_id": "u1"}
    written: list[Event] = [
        PromptCreated(project_id="p1", **prompt),
        PromptVersionAdded(
            prompt_version_id="q.1", number=1, text="a hyacinth", placeholders=(), **prompt
        ),
    ]
    closed: list[Event] = [PromptErasureRequested(prompt_id="q")]
    models = (TIMELINE, PROMPTS, PROMPT_VERSIONS)
    async with writing(url) as log:
        await log.append([new_events("t1", "prompt-q", 0, written, "p1")])
        async with turned_back(pool, "t1", 2, project_id="p1") as connection:
            assert "hyacinth" in str([await found(connection, each) for each in models])
        await log.append([new_events("t1", "prompt-q", 2, closed, "p1")])
        assert b"hyacinth" in b"".join([event.state for event in await log.events()])
    async with turned_back(pool, "t1", 2, project_id="p1") as connection:
        left = str([await found(connection, each) for each in models])
    assert ("hyacinth" in left, "Selling" in left) == (False, False)
