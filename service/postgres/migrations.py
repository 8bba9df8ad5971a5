"""Brings a database to this version, and finds settings and roles that are not safe."""

from contextlib import suppress
from typing import Final

import psycopg

import sql
from service.postgres import connections, functions, roles

SQL: Final = sql.statements("migrations.sql")
_CREATED_MEANWHILE: Final = (
    psycopg.errors.UniqueViolation,
    psycopg.errors.DuplicateTable,
    psycopg.errors.DuplicateObject,
)


class MigrationRefused(RuntimeError):
    """The database has a migration that this version lacks, or one with another text."""


async def migrate(url: str) -> list[str]:
    """Apply the migrations that the database lacks, then the changed functions of `sql/functions/`.

    Returns the names of the migrations. Many processes may call this at once. Raises
    MigrationRefused when a migration in the database is unknown here, or its text was changed;
    functions.FunctionRefused when a function cannot be replaced; roles.RolesRefused.
    """
    connection = await connections.connect(url, as_service=False)
    async with connection:
        # A process that creates the table at the same moment is quicker: then the table exists.
        with suppress(*_CREATED_MEANWHILE):
            await connection.execute(SQL["table"])
        return await _migrate(connection)


async def _migrate(connection: connections.Connection) -> list[str]:
    async with connection.transaction():
        await connection.execute(SQL["lock"])
        applied = await (await connection.execute(SQL["applied"])).fetchall()
        prefix = await roles.prefix(connection, is_new=not applied)
        pending = _pending({number: (name, digest) for number, name, digest in applied})
        for step in pending:
            await connection.execute(sql.named(step.text, prefix))
            await connection.execute(
                SQL["record"],
                {"number": step.number, "name": step.name, "digest": step.digest},
            )
        await functions.install(connection, prefix)
    return [step.name for step in pending]


def _pending(applied: dict[int, tuple[str, str]]) -> list[sql.Migration]:
    known = {step.number: step for step in sql.migrations()}
    for number, (name, digest) in applied.items():
        if number not in known:
            raise MigrationRefused(f"the database has step {name}, which this version lacks")
        if known[number].digest != digest:
            raise MigrationRefused(f"{name} was changed after it was applied; add a new step")
    return [step for number, step in sorted(known.items()) if number not in applied]


async def unsafe_settings(url: str) -> list[str]:
    """The names of the server's settings that are off, and without which a crash can lose an
    acknowledged commit. Empty for a safe server."""
    connection = await connections.connect(url, as_service=False)
    async with connection:
        return [name for (name,) in await (await connection.execute(SQL["safety"])).fetchall()]


async def unbound_roles(url: str) -> list[str]:
    """The names of the service's roles that row level security does not bind. Empty for a safe
    database."""
    connection = await connections.connect(url, as_service=False)
    async with connection:
        found = await connection.execute(connections.ROLES["unbound_roles"])
        return [name for (name,) in await found.fetchall()]
