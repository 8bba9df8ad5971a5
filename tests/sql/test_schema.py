"""The schema's own promises: nothing is rewritten, nobody may more than he needs, all is told."""

import re
from collections.abc import Callable

import psycopg
import pytest

from projections.projection import Connection
from service import database
from service.store import NewEvent
from tests.projections.generated import owning, writing

EVENT = NewEvent("t1", "session-1", 1, "SessionArchived", b'{"session_id":"1"}')


@pytest.mark.parametrize(
    "statement",
    [
        "update app.event set type = 'SessionDeleted'",
        "update app.event set position = position + 1",
        "delete from app.event",
        "truncate app.event",
        "update app.event set type = 'x' where false",
    ],
)
async def test_not_even_the_owner_changes_what_happened(url: str, statement: str) -> None:
    async with writing(url) as log, owning(url) as owner:
        await log.append([[EVENT]])
        before = await log.events()
        with pytest.raises(psycopg.Error) as refused:
            await owner.execute(statement.encode())
        assert refused.value.sqlstate == "TL001"
        assert await log.events() == before


async def test_the_service_may_append_to_the_log_and_no_more(url: str) -> None:
    async with await database.connect(url) as service:
        for statement in (
            "update app.event set type = 'x'",
            "delete from app.event",
            "truncate app.event",
            "drop table app.event",
            "alter table app.event disable trigger event_is_append_only",
            "insert into app.projection values ('x', 1, '{}', 0)",
            "create table app.mine (n integer)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await service.execute(statement.encode())


async def test_an_analyst_reads_the_views_and_no_more(url: str) -> None:
    async with owning(url) as analyst:
        views = await found(
            analyst, "select viewname from pg_views where schemaname = 'analytics' order by 1"
        )
        assert views == [
            "project_build_events",
            "project_builds",
            "project_chat_plan_sessions",
            "project_chat_with_builds",
            "project_timeline",
            "project_versions",
            "user_ai_time_balance",
            "user_ai_time_consumption",
        ]
        await analyst.execute("set role throughline_analyst")
        for view in views:
            await analyst.execute(f"table analytics.{view}".encode())
        for statement in (
            "select * from app.event",
            "delete from app.timeline",
            "update analytics.user_ai_time_balance set credited_seconds = 9",
            "select app.project_inline(1, 1, '{}')",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await analyst.execute(statement.encode())


async def test_every_column_that_an_analyst_sees_is_explained(url: str) -> None:
    async with owning(url) as owner:
        silent = await found(
            owner,
            """
            select format('%s.%s', attrelid::regclass, attname)
            from pg_attribute
            join pg_class on pg_class.oid = attrelid
            where relnamespace = 'analytics'::regnamespace and attnum > 0
                and coalesce(col_description(attrelid, attnum), '') = ''
            union all
            select oid::regclass::text from pg_class
            where relnamespace = 'analytics'::regnamespace
                and coalesce(obj_description(oid), '') = ''
            """,
        )
        assert silent == []


async def test_every_column_of_the_log_is_explained(url: str) -> None:
    async with owning(url) as owner:
        silent = await found(
            owner,
            """
            select attname::text from pg_attribute
            where attrelid = 'app.event'::regclass and attnum > 0
                and coalesce(col_description(attrelid, attnum), '') = ''
            """,
        )
        assert silent == []


async def test_a_log_s_epoch_is_its_own_and_stays(new_database: Callable[[], str]) -> None:
    async with owning(new_database()) as one, owning(new_database()) as other:
        epochs = await found(one, "select app.log_epoch() from generate_series(1, 3)")
        assert len(set(epochs)) == 1
        assert re.fullmatch("[0-9a-f]{8}", epochs[0])
        assert await found(other, "select app.log_epoch()") != epochs[:1]


async def found(connection: Connection, query: str) -> list[str]:
    return [value for (value,) in await (await connection.execute(query.encode())).fetchall()]
