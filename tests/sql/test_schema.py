"""The promises of the schema: events never change, roles have no needless rights, and every
column is explained."""

import re
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias
from uuid import uuid4

import orjson
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from domain.events import SessionOpened
from projections import PROJECTIONS, past
from projections.projection import Connection, install, rebuild, verify
from service.eventlog.store import NewEvent
from service.postgres import connections, migrations
from service.postgres.analysts import BadName, add_analyst, remove_analyst
from service.postgres.embedded import Server
from tests.projections.actions.append import new_events
from tests.projections.generated import owning, writing
from tests.service.eventlog.logs import event, running_log

NewDatabase: TypeAlias = Callable[[], str]
OPENED = SessionOpened(session_id="1", project_id="p1", user_id="u1")

EVENT = NewEvent("t1", "session-1", 1, "SessionArchived", b'{"session_id":"1"}')


@pytest.mark.parametrize(
    "statement",
    [
        "update app.event set type = 'SessionDeleted'",
        "update app.event set position = position + 1",
        "delete from app.event",
        "truncate app.event",
        "update app.event set state = app.masked(state)",
        "update app.event set metadata = '{}'",
    ],
)
async def test_even_the_owner_cannot_change_events(url: str, statement: str) -> None:
    async with writing(url) as log, owning(url) as owner:
        await log.append([[EVENT]])
        before = await log.events()
        with pytest.raises(psycopg.Error) as refused:
            await owner.execute(statement.encode())
        assert refused.value.sqlstate == "TL001"
        assert await log.events() == before


@pytest.mark.parametrize(
    ("state", "left"),
    [
        (b'{"text": "secret", "message_id": "m"}', {"text": "", "message_id": "m"}),
        (b'{"message_id": "m"}', {"message_id": "m"}),
        (b"secret, not JSON", {}),
        (b'["secret"]', {}),
        (b'"secret"', {}),
        (b"\xff secret", {}),
        (b'{"text": "\\u0000 secret"}', {}),
    ],
)
async def test_nothing_of_a_text_is_left_after_masking(
    url: str, state: bytes, left: dict[str, str]
) -> None:
    async with owning(url) as owner:
        rows = await owner.execute("select app.masked(%b)", [state])
        ((masked,),) = await rows.fetchall()
    assert orjson.loads(masked) == left


async def test_the_service_may_only_append_to_the_log(shared_url: str) -> None:
    async with await connections.connect(shared_url) as service:
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


async def test_an_analyst_can_only_read_the_views(shared_url: str) -> None:
    async with owning(shared_url) as analyst:
        views = await found(
            analyst, "select viewname from pg_views where schemaname = 'analytics' order by 1"
        )
        assert views == [
            "project_build_events",
            "project_builds",
            "project_chat_plan_sessions",
            "project_chat_with_builds",
            "project_drafts",
            "project_members",
            "project_run_candidates",
            "project_run_steps",
            "project_runs",
            "project_shares",
            "project_timeline",
            "project_versions",
            "projects",
            "prompt_runs_with_details",
            "prompt_versions",
            "prompts",
            "user_ai_time_balance",
            "user_ai_time_consumption",
        ]
        await analyst.execute("set role throughline_analyst")
        for view in views:
            await analyst.execute(f"table analytics.{view}".encode())
        for statement in (
            "select * from app.event",
            "select token_digest from app.shares",
            "select source_root from app.projects",
            "delete from app.timeline",
            "update analytics.user_ai_time_balance set credited_seconds = 9",
            "select app.project_inline(1, 1, '{}')",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await analyst.execute(statement.encode())


async def test_an_analyst_sees_one_tenant_and_cannot_choose_which(url: str) -> None:
    name = f"analyst_{uuid4().hex}"
    async with writing(url) as log, owning(url) as owner:
        for tenant in ("t1", "t2"):
            opened = SessionOpened(session_id=f"of-{tenant}", project_id="p1", user_id="u1")
            await log.append([new_events(tenant, f"session-of-{tenant}", 0, [opened], "p1")])
        dsn = (await add_analyst(owner, name, "t1", known=["t1"])).conninfo
        sessions = "select session_id from analytics.project_chat_plan_sessions"
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as analyst:
            assert await found(analyst, sessions) == ["of-t1"]
            await analyst.execute("set throughline.tenant = 't2'")
            assert await found(analyst, sessions) == ["of-t1"]
            for role in ("throughline_tenant", "throughline_service"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    await analyst.execute(f"set role {role}".encode())
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await analyst.execute("update app.analyst set tenant_id = 't2'")
            await analyst.execute("set role throughline_analyst")
            assert await found(analyst, sessions) == [], "a role without a tenant"
        with pytest.raises(psycopg.errors.DuplicateObject):
            await add_analyst(owner, name, "t2", known=["t2"])
        with pytest.raises(BadName):
            await add_analyst(owner, "x; drop table app.event", "t2")
        assert await remove_analyst(owner, name)
        assert not await remove_analyst(owner, name)


GRANTS: Final = """
    select format(
        '%%s %%s',
        pg_class.oid::regclass,
        (select string_agg(privilege, ',' order by privilege)
         from unnest(
             '{select,insert,update,delete,truncate,references,trigger}'::text[]
         ) as privilege
         where has_table_privilege(%(role)s, pg_class.oid, privilege))
    )
    from pg_class
    where relnamespace::regnamespace::text = any (%(schemas)s)
        and relkind in ('r', 'v')
        and has_table_privilege(
            %(role)s, pg_class.oid, 'select,insert,update,delete,truncate,references,trigger'
        )
    """
"""What a role may do with each table and view, as `app.event select`."""


async def test_a_tenant_s_role_only_reads_the_tables_with_rows_of_tenants(shared_url: str) -> None:
    async with owning(shared_url) as owner:
        with_tenants = await found(
            owner,
            """
            select attrelid::regclass::text from pg_attribute
            join pg_class on pg_class.oid = attrelid
            where relnamespace = 'app'::regnamespace and relkind = 'r' and attname = 'tenant_id'
            """,
        )
        readable = {*with_tenants, "app.projection"} - {"app.analyst"}
        assert await grants(owner, "throughline_tenant") == {f"{each} select" for each in readable}


async def test_the_past_is_written_by_its_own_function_alone(url: str) -> None:
    """The roles of tenants read it, each its own rows. Analysts cannot even name its tables."""
    async with owning(url) as owner:
        tables = await found(
            owner,
            "select format('past.%I', tablename) from pg_tables where schemaname = 'past'",
        )
        assert len(tables) == len(PROJECTIONS) + 2
        walls = WALLS["row level security off"].replace("'app'::", "'past'::")
        assert await found(owner, walls) == []
        granted = await grants(owner, "throughline_tenant", "past")
        assert granted == {f"{each} select" for each in tables}
        assert await grants(owner, "throughline_analyst", "past") == set()
        may = "select has_schema_privilege('throughline_analyst', 'past', 'usage')::text"
        assert await found(owner, may) == ["false"]


async def test_an_analyst_s_role_only_reads_the_views_and_their_tables(shared_url: str) -> None:
    async with owning(shared_url) as owner:
        views = await found(
            owner,
            "select format('analytics.%I', viewname) from pg_views where schemaname = 'analytics'",
        )
        tables = ["accounts", "build_events", "builds", "consumption", "drafts", "members"]
        tables += ["prompt_versions", "prompts", "run_candidates", "run_steps", "runs", "sessions"]
        tables += ["timeline", "versions"]
        readable = [*views, *(f"app.{each}" for each in (*tables, "analyst"))]
        assert await grants(owner, "throughline_analyst") == {f"{each} select" for each in readable}


async def test_the_service_s_role_writes_only_what_it_keeps(shared_url: str) -> None:
    async with owning(shared_url) as owner:
        granted = await grants(owner, "throughline_service")
        writable = {each.split()[0] for each in granted if each.split()[1] != "select"}
        assert not any("truncate" in each or "trigger" in each for each in granted)
        assert "app.event insert,select" in granted
        assert "app.audit insert,select" in granted
        assert "app.analyst" not in writable
        assert all(each.startswith("app.") for each in writable)


async def grants(owner: Connection, role: str, *schemas: str) -> set[str]:
    asked = {"role": role, "schemas": list(schemas or ("app", "analytics", "public"))}
    rows = await owner.execute(GRANTS.encode(), asked)
    return {grant for (grant,) in await rows.fetchall()}


async def test_no_lock_that_an_analyst_can_take_delays_others(url: str) -> None:
    """Not even if she knows the names of all locks that earlier versions took."""
    name = f"analyst_{uuid4().hex}"
    works = ("append", "migrate", *(projection.name for projection in PROJECTIONS))
    async with running_log(url) as one, running_log(url) as other, owning(url) as owner:
        dsn = (await add_analyst(owner, name, "t1", known=["t1"])).conninfo
        async with await psycopg.AsyncConnection.connect(dsn) as analyst:
            for work in works:
                key = f"select pg_advisory_lock(hashtextextended('throughline.{work}', 0))"
                await analyst.execute(key.encode())
            for table in ("append_lock", "follow_lock", "rebuild", "event", "projection"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    async with analyst.transaction():
                        await analyst.execute(f"lock table app.{table} in exclusive mode".encode())
            for n in range(10):
                for log in (one, other):
                    await log.writer.append([event(f"s-{n}-{log is one}")])
            assert await one.store.head() == 20
            assert await migrations.migrate(url) == []
            for projection in PROJECTIONS:
                await rebuild(owner, projection)
        await remove_analyst(owner, name)


WALLS: Final = {
    "row level security off": """
        select oid::regclass::text from pg_class
        where relnamespace = 'app'::regnamespace and relkind in ('r', 'p')
            and not (relrowsecurity and relforcerowsecurity)
            and oid::regclass::text not in (
                'app.projection', 'app.nonce', 'app.lease', 'app.append_lock', 'app.follow_lock',
                'app.rebuild'
            )
        """,
    "a view that reads as its owner": """
        select oid::regclass::text from pg_class
        where relnamespace = 'analytics'::regnamespace
            and not coalesce(reloptions, '{}') @> '{security_invoker=true}'
        """,
    "something beside tables and views": """
        select oid::regclass::text from pg_class
        where relnamespace in ('app'::regnamespace, 'analytics'::regnamespace)
            and relkind not in ('r', 'i', 'v', 'S', 't', 'c')
        """,
    "unique among all tenants": """
        select indexrelid::regclass::text from pg_index
        join pg_attribute on attrelid = indrelid and attname = 'tenant_id'
        join pg_class on pg_class.oid = indrelid
        where relnamespace = 'app'::regnamespace and indisunique
            and indkey[0] <> attnum
        """,
    "a definer's function that looks where its caller says": """
        select proname from pg_proc
        where pronamespace in ('app'::regnamespace, 'analytics'::regnamespace) and prosecdef
            and not coalesce(array_to_string(proconfig, ','), '') like '%search_path%'
        """,
}
OURS_ALONE: Final = [
    "event_position_is_taken_once",
    "reply_chunk_is_taken_once",
    "analyst_pkey",
    "sign_in_link_pkey",
    "browser_session_has_its_own_secret",
]
"""Keys that no tenant can choose: positions, ids and secrets that the service makes, roles."""


@pytest.mark.parametrize("fault", WALLS)
async def test_the_catalogue_has_no_hole_between_tenants(url: str, fault: str) -> None:
    async with owning(url) as owner:
        holes = await found(owner, WALLS[fault])
        assert {hole.removeprefix("app.") for hole in holes} <= set(OURS_ALONE)
        for hole in (
            "create table app.hole (tenant_id text, key text unique)",
            "create view analytics.hole as select 1 as n",
            "create materialized view app.copy as select 1 as n",
            "create function app.hole() returns int language sql security definer as 'select 1'",
        ):
            await owner.execute(hole.encode())
        assert len(await found(owner, WALLS[fault])) > len(holes), "the control"


async def test_the_owner_does_not_need_to_be_a_superuser(
    server: Server, new_database: NewDatabase
) -> None:
    """An owner of the database that can create roles can migrate it and rebuild read models."""
    name = f"owner_{uuid4().hex}"
    url = new_database()
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute(f"create role {name} login createrole password 'p'".encode())
        for role in ("service", "tenant", "analyst"):
            granted = f"grant throughline_{role} to {name} with admin option"
            admin.execute(granted.encode())
        own = f"{name}_db"
        admin.execute(f"create database {own} owner {name} template template0".encode())
    theirs = make_conninfo(url, user=name, password="p", dbname=own)
    try:
        await migrations.migrate(theirs)
        assert await migrations.unbound_roles(theirs) == []
        async with owning(theirs) as owner, writing(theirs) as log:
            await install(owner, PROJECTIONS)
            await log.append([new_events("t1", "session-1", 0, [OPENED], "p1")])
            for projection in PROJECTIONS:
                await rebuild(owner, projection)
                assert await verify(owner, projection) == 0
            assert await found(owner, "select session_id from app.sessions") == ["1"]
        async with (
            connections.pool(theirs) as pool,
            connections.past_transaction(pool, "t1") as connection,
        ):
            await past.copy_projects(connection, ["p1"], 1, most=1)
            await past.fold_models(connection, ["sessions"], 1)
            assert await found(connection, "select session_id from past.sessions") == ["1"]
    finally:
        with psycopg.connect(server.url, autocommit=True) as admin:
            admin.execute(f"drop database {own} with (force)".encode())
            admin.execute(f"drop role {name}".encode())


@pytest.fixture
def two_owners(server: Server) -> Iterator[tuple[str, str]]:
    """The URLs of two empty databases with an owner each. The owners may create roles alone."""
    made = [f"second_{uuid4().hex[:8]}", f"third_{uuid4().hex[:8]}"]
    with psycopg.connect(server.url, autocommit=True) as admin:
        for name in made:
            admin.execute(f"create role {name} login createrole password 'p'".encode())
            admin.execute(f'create database "{name}-A" owner {name} template template0'.encode())
    one, other = (make_conninfo(server.url, user=n, password="p", dbname=f"{n}-A") for n in made)
    yield one, other
    with psycopg.connect(server.url, autocommit=True) as admin:
        for name in made:
            admin.execute(f'drop database "{name}-A" with (force)'.encode())
            for role in ("service", "tenant", "analyst"):
                admin.execute(f"drop role if exists throughline_{name}_a_{role}".encode())
            admin.execute(f"drop role {name}".encode())


async def test_the_databases_of_two_owners_on_one_server_have_roles_of_their_own(
    template: str, two_owners: tuple[str, str]
) -> None:
    for url in two_owners:
        await migrations.migrate(url)
        await migrations.migrate(url)
        assert await migrations.unbound_roles(url) == []
        async with owning(url) as owner, writing(url) as log, connections.pool(url) as pool:
            assert await install(owner, PROJECTIONS) == [each.name for each in PROJECTIONS]
            for tenant in ("t1", "t2"):
                opened = SessionOpened(session_id=f"of-{tenant}", project_id="p1", user_id="u1")
                await log.append([new_events(tenant, f"session-of-{tenant}", 0, [opened], "p1")])
            for projection in PROJECTIONS[:2]:
                await rebuild(owner, projection)
                assert await verify(owner, projection) == 0
            async with connections.tenant_transaction(pool, "t1") as tenant_s:
                rows = await tenant_s.execute("select session_id, current_user from app.sessions")
                ((session, role),) = await rows.fetchall()
            assert session == "of-t1"
            assert re.fullmatch(r"throughline_(second|third)_\w{8}_a_tenant", role)
            name = f"analyst_{uuid4().hex}"
            login = await add_analyst(owner, name, "t2")
            sessions = "select session_id from analytics.project_chat_plan_sessions"
            async with await psycopg.AsyncConnection.connect(login.url) as analyst:
                assert await found(analyst, sessions) == ["of-t2"]
            await remove_analyst(owner, name)
            named = "select distinct role::regrole::text from pg_policy, unnest(polroles) as role"
            own = role.removesuffix("_tenant")
            assert {each.removeprefix(own) for each in await found(owner, named)} == {
                *("_service", "_tenant", "_analyst")
            }


async def test_a_role_that_bypasses_row_security_is_reported(url: str, server: Server) -> None:
    assert await migrations.unbound_roles(url) == []
    async with owning(url) as owner:
        await owner.execute("alter view analytics.project_builds owner to throughline_analyst")
    assert await migrations.unbound_roles(url) == ["throughline_analyst"]


async def test_every_column_for_analysts_is_explained(shared_url: str) -> None:
    async with owning(shared_url) as owner:
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


async def test_every_column_of_the_log_is_explained(shared_url: str) -> None:
    async with owning(shared_url) as owner:
        silent = await found(
            owner,
            """
            select attname::text from pg_attribute
            where attrelid = 'app.event'::regclass and attnum > 0
                and coalesce(col_description(attrelid, attnum), '') = ''
            """,
        )
        assert silent == []


async def found(connection: Connection, query: str) -> list[str]:
    return [value for (value,) in await (await connection.execute(query.encode())).fetchall()]
