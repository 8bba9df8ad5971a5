"""Migrations apply each step once and in order, and refuse a changed history."""

import asyncio
from collections.abc import Callable, Iterator
from hashlib import sha256
from urllib.parse import urlsplit

import psycopg
import pytest

import sql
from service.postgres import connections, migrations
from service.postgres.embedded import Server
from service.postgres.migrations import MigrationRefused, migrate
from sql import Migration
from tests.running import UNSAFE

NAMES = [step.name for step in sql.migrations()]


@pytest.fixture
def empty(server: Server) -> Iterator[str]:
    """A database without migrations."""
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute("create database unmigrated template template0")
    yield urlsplit(server.url)._replace(path="/unmigrated").geturl()
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute("drop database unmigrated with (force)")


async def taken(url: str) -> list[str]:
    async with await connections.connect(url, as_service=False) as owner:
        found = await owner.execute("select name from throughline_migration order by number")
        return [name for (name,) in await found.fetchall()]


def with_steps(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[list[Migration]], list[Migration]]
) -> None:
    steps = change(sql.migrations())
    monkeypatch.setattr(sql, "migrations", lambda: steps)


def step(number: int, text: bytes) -> Migration:
    return Migration(number, f"{number:04}_another", text, sha256(text).hexdigest())


def test_the_migration_steps_are_numbered_as_their_files_are() -> None:
    numbers = [each.number for each in sql.migrations()]
    assert numbers == sorted(set(numbers))
    assert all(each.name.startswith(f"{each.number:04}_") for each in sql.migrations())


async def test_an_empty_database_gets_every_step_in_order(empty: str) -> None:
    assert await migrate(empty) == NAMES
    assert await taken(empty) == NAMES


async def test_a_database_gets_each_step_once(url: str) -> None:
    assert await taken(url) == NAMES
    assert await migrate(url) == []


async def test_concurrent_migrations_apply_each_step_once(empty: str) -> None:
    done = await asyncio.gather(*(migrate(empty) for _ in range(6)))
    assert sorted(done, key=len)[:-1] == [[]] * 5
    assert sorted(done, key=len)[-1] == NAMES


async def test_a_later_version_applies_only_the_new_steps(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = step(9_000, b"create table app.another (n integer)")
    with_steps(monkeypatch, lambda steps: [*steps, new])
    assert await migrate(url) == [new.name]
    assert await migrate(url) == []
    assert await taken(url) == [*NAMES, new.name]


async def test_a_failed_step_rolls_back_the_other_steps(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = step(9_000, b"create table app.another (n integer)")
    bad = step(9_001, b"create table app.another (n integer)")
    with_steps(monkeypatch, lambda steps: [*steps, good, bad])
    with pytest.raises(psycopg.errors.DuplicateTable):
        await migrate(url)
    assert await taken(url) == NAMES
    with_steps(monkeypatch, lambda steps: steps[:-1])
    assert await migrate(url) == [good.name]


async def test_a_changed_migration_step_is_refused(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def edit(steps: list[Migration]) -> list[Migration]:
        first = steps[0]
        return [Migration(first.number, first.name, b"select 1", "other"), *steps[1:]]

    with_steps(monkeypatch, edit)
    with pytest.raises(MigrationRefused, match=f"{NAMES[0]} was changed"):
        await migrate(url)


async def test_a_database_of_a_later_version_is_refused(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_steps(monkeypatch, lambda steps: steps[:-1])
    with pytest.raises(MigrationRefused, match=f"step {NAMES[-1]}, which this version lacks"):
        await migrate(url)


async def test_a_server_that_may_lose_commits_is_recognized(url: str) -> None:
    assert sorted(await migrations.unsafe_settings(url)) == sorted(UNSAFE)
    patient = f"{url}&options=-c%20synchronous_commit%3Don"
    unsafe = await migrations.unsafe_settings(patient)
    assert set(unsafe) == set(UNSAFE) - {"synchronous_commit"}
