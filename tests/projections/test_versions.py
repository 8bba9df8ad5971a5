"""Read models of other versions, which a start meets."""

from dataclasses import replace

import psycopg
import pytest
from psycopg.types.numeric import Int8

from projections import PROJECTIONS
from projections.projection import install, verify
from projections.projects import PROJECTS
from projections.sessions import SESSIONS
from projections.timeline import TIMELINE
from service.postgres import connections
from tests.projections.generated import World, owning, writing
from tests.projections.trouble import assert_all_is_well, break_, odd, statuses


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


async def test_a_start_drops_what_an_interrupted_verification_has_left(url: str) -> None:
    """The rows there may have texts that are erased since."""
    shadows = "select count(*) from pg_namespace where nspname = 'verify_timeline'"
    async with writing(url) as log, owning(url) as owner:
        await log.append(World(28).appends(20))

        def interrupt(at: int, upto: int) -> None:
            with psycopg.connect(url) as other:
                other.execute("select pg_terminate_backend(%s, 10000)", [cut.info.backend_pid])

        async with owning(url) as cut:
            with pytest.raises(psycopg.OperationalError):
                await verify(cut, TIMELINE, interrupt)
        assert await (await owner.execute(shadows)).fetchone() == (1,), "the control"
        assert await install(owner, PROJECTIONS) == []
        assert await (await owner.execute(shadows)).fetchone() == (0,)
        assert await verify(owner, TIMELINE) == 0


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
