"""The SQL functions: a changed one is replaced, an unchanged one is not touched."""

import asyncio
from collections.abc import Callable, Iterator
from hashlib import sha256
from urllib.parse import urlsplit

import psycopg
import pytest

import sql
from projections import PROJECTIONS
from projections.projection import Connection
from projections.projection import install as install_projections
from scripts import schema
from service.postgres import connections
from service.postgres.embedded import Server
from service.postgres.functions import FunctionRefused, install
from service.postgres.migrations import migrate
from sql import Function, Migration
from tests.projections.generated import World, owning, writing

NAMES = [function.name for function in sql.functions()]


@pytest.fixture
def empty(server: Server) -> Iterator[str]:
    """A database without migrations."""
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute("create database functionless template template0")
    yield urlsplit(server.url)._replace(path="/functionless").geturl()
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute("drop database functionless with (force)")


@pytest.fixture
async def old(empty: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database of an older version, which had its functions in the migrations alone."""
    with monkeypatch.context() as earlier:
        earlier.setattr(sql, "functions", list[Function])
        await migrate(empty)
    async with owning(empty) as owner:
        await owner.execute("drop table throughline_function")
    return empty


def function(name: str, text: bytes) -> Function:
    return Function(name, text, sha256(text).hexdigest())


def change(
    monkeypatch: pytest.MonkeyPatch, name: str, edit: Callable[[bytes], bytes]
) -> list[Function]:
    """The functions with another text for one of them."""
    changed = [
        function(each.name, edit(each.text)) if each.name == name else each
        for each in sql.functions()
    ]
    assert changed != sql.functions()
    monkeypatch.setattr(sql, "functions", lambda: changed)
    return changed


async def stored(owner: Connection) -> dict[str, tuple[object, ...]]:
    """Each function of the schema as PostgreSQL has it, with the transaction that wrote it."""
    found = await owner.execute(
        """
        select proname, xmin::text::bigint, prosrc, prosecdef, provolatile, proconfig, proacl::text,
            proowner
        from pg_proc
        where pronamespace = 'app'::regnamespace and proname !~ '^apply_'
        """
    )
    return {name: tuple(rest) for name, *rest in await found.fetchall()}


async def test_the_files_have_all_functions_that_no_read_model_owns(url: str) -> None:
    async with owning(url) as owner:
        assert sorted(await stored(owner)) == NAMES


def test_a_file_has_one_function_and_its_name() -> None:
    for each in sql.functions():
        assert each.text.count(b"create or replace function ") == 1
        assert f"create or replace function app.{each.name}(".encode() in each.text


@pytest.mark.parametrize("name", NAMES)
async def test_postgresql_accepts_the_body_of_every_function(shared_url: str, name: str) -> None:
    """The installer does not check bodies, because a function may name a later function."""
    text = next(each.text for each in sql.functions() if each.name == name)
    async with owning(shared_url) as owner:
        await owner.execute("set check_function_bodies = on")
        await owner.execute(text)


async def test_an_old_database_gets_the_schema_of_a_new_one(old: str, template: str) -> None:
    await migrate(old)
    async with owning(old) as owner:
        await install_projections(owner, PROJECTIONS)
    assert schema.dump(old) == schema.dump(template)


async def test_an_old_database_s_changed_function_is_replaced(old: str) -> None:
    async with owning(old) as owner:
        await owner.execute(
            "create or replace function app.log_head() returns bigint language sql as 'select -1'"
        )
        await owner.execute("grant execute on function app.log_head() to public")
        await migrate(old)
        head = (await stored(owner))["log_head"]
        found = await owner.execute("select app.log_head()")
        assert await found.fetchone() == (0,)
    _, _, is_definer, _, settings, grants, _ = head
    assert is_definer
    assert settings == ['search_path=""']
    assert isinstance(grants, str)
    assert "{=X" not in grants
    assert ",=X" not in grants
    assert "throughline_service=X" in grants
    assert "throughline_tenant=X" in grants


async def test_a_changed_function_is_replaced_and_no_other_is_touched(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with writing(url) as log, owning(url) as owner:
        appends = World(1).appends(40)
        await log.append(appends[:20])
        before = await stored(owner)
        change(monkeypatch, "mask", lambda text: text.replace(b"begin\n", b"begin\n    -- new\n"))
        await migrate(url)
        after = await stored(owner)
        assert {name for name in NAMES if before[name] != after[name]} == {"mask"}
        assert "-- new" in str(after["mask"])
        assert before["mask"][2:] == after["mask"][2:], "attributes, grants and owner stay"
        await migrate(url)
        assert await stored(owner) == after
        await log.append(appends[20:])


async def test_a_function_that_a_migration_dropped_is_created_again(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = b"drop function app.tenant_last"
    steps = [*sql.migrations(), Migration(9_000, "9000_drop", text, "digest")]
    monkeypatch.setattr(sql, "migrations", lambda: steps)
    assert await migrate(url) == ["9000_drop"]
    async with owning(url) as owner:
        assert sorted(await stored(owner)) == NAMES


async def test_processes_that_start_at_once_replace_functions_in_one_transaction(
    old: str,
) -> None:
    await asyncio.gather(*(migrate(old) for _ in range(6)))
    async with owning(old) as owner:
        found = await owner.execute("select distinct xmin::text::bigint from throughline_function")
        writers = await found.fetchall()
        assert len(writers) == 1
        assert {transaction for transaction, *_ in (await stored(owner)).values()} == set(
            writers[0]
        )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("app.log_head() returns text", "cannot change return type"),
        ("app.log_head(p_after bigint) returns bigint", "types of its parameters differ"),
    ],
)
async def test_a_function_with_another_signature_is_refused(
    url: str, monkeypatch: pytest.MonkeyPatch, text: str, reason: str
) -> None:
    create = f"create or replace function {text} language sql as 'select null'".encode()
    change(monkeypatch, "log_head", lambda _: create)
    async with owning(url) as owner:
        before = await stored(owner)
        with pytest.raises(FunctionRefused, match=f"log_head.sql cannot replace .*{reason}.*drops"):
            await migrate(url)
        assert await stored(owner) == before


async def test_a_function_with_another_signature_follows_the_migration_that_drops_the_old_one(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = b"create or replace function app.cursor_of(n int) returns int return n"
    change(monkeypatch, "cursor_of", lambda _: create)
    steps = [*sql.migrations(), Migration(9_000, "9000_drop", b"drop function app.cursor_of", "d")]
    monkeypatch.setattr(sql, "migrations", lambda: steps)
    await migrate(url)
    async with owning(url) as owner:
        assert await (await owner.execute("select app.cursor_of(3)")).fetchone() == (3,)


async def test_the_installer_returns_the_names_of_what_it_replaced(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = change(monkeypatch, "cursor_of", lambda text: text + b"-- new\n")
    async with owning(url) as owner, owner.transaction():
        assert await install(owner) == ["cursor_of"]
        assert await install(owner) == []
        found = await owner.execute("select name, digest from throughline_function order by name")
        assert await found.fetchall() == [(each.name, each.digest) for each in changed]


async def test_the_service_s_role_may_not_replace_functions(url: str) -> None:
    async with await connections.connect(url) as service:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await service.execute("update public.throughline_function set digest = ''")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await service.execute(sql.functions()[0].text)
