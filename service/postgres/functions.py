"""The SQL functions of `sql/functions/`: each is created or replaced when its text changes.

A migration is applied once and never edited, so a migration cannot hold the current text of a
function. Migrations make tables, indexes, triggers and roles. These files are applied afterwards.
PostgreSQL keeps the owner and the grants of a function that it replaces.

While two releases run side by side, the process that started last decides the text. So a function
must work with the release before it, or come with a migration, which stops older processes at their
start.
"""

from typing import Any, Final

import psycopg

import sql

SQL: Final = sql.statements("functions.sql")


class FunctionRefused(RuntimeError):
    """A function has other parameters or another result in the database than in its file."""


async def install(connection: psycopg.AsyncConnection[Any], roles: str = sql.ROLES) -> list[str]:
    """Create or replace the functions whose text is not in the database; returns their names.

    The caller is the database's owner, in a transaction that holds the lock of the migrations.
    `roles` is what the names of the database's roles begin with.
    Raises FunctionRefused when PostgreSQL cannot replace a function by its new text.
    """
    await connection.execute(SQL["table"])
    installed = dict(await (await connection.execute(SQL["installed"])).fetchall())
    changed = [each for each in sql.functions() if installed.get(each.name) != each.digest]
    await connection.execute(SQL["unchecked"])
    for function in changed:
        await _replace(connection, function, roles)
    return [function.name for function in changed]


async def _replace(
    connection: psycopg.AsyncConnection[Any], function: sql.Function, roles: str
) -> None:
    try:
        await connection.execute(sql.named(function.text, roles))
    except psycopg.errors.InvalidFunctionDefinition as error:
        raise _refused(function, error.diag.message_primary or "") from error
    found = await connection.execute(SQL["signatures"], {"name": function.name})
    if await found.fetchone() != (1,):
        raise _refused(function, "the types of its parameters differ")
    await connection.execute(SQL["record"], {"name": function.name, "digest": function.digest})


def _refused(function: sql.Function, reason: str) -> FunctionRefused:
    return FunctionRefused(
        f"sql/functions/{function.name}.sql cannot replace app.{function.name} of the database: "
        f"{reason}; add a migration that drops the old function"
    )
