"""The names of the three roles of a database.

Roles belong to the whole server. From PostgreSQL 16 on an owner may grant only the roles that this
owner has made. So the database of a second owner has roles of its own, named after the database.

The SQL of the project names the roles of the first owner. `sql.named` puts in the others. In the
database the functions `app.service_role`, `app.tenant_role` and `app.analyst_role` know the names,
also after a restore.
"""

import re
from typing import Final

from psycopg import sql as compose

import sql
from service.postgres.connections import ROLES, Connection

DEFAULT: Final = sql.ROLES
_LONGEST: Final = 40
_TRIES: Final = 9


class RolesRefused(RuntimeError):
    """The owner of the database can make no roles for it."""


async def prefix(connection: Connection, *, is_new: bool) -> str:
    """What the names of the database's roles begin with, before `_service` and the others.

    A new database gets names that are free on the server, or that its owner may grant already.
    Raises RolesRefused.
    """
    (is_known,) = await _one(connection, "knows_its_roles")
    if is_known:
        (name,) = await _one(connection, "service_role")
        return str(name).removesuffix("_service")
    if not is_new:
        return DEFAULT
    (database,) = await _one(connection, "database")
    own = f"{DEFAULT}_{re.sub(r'[^a-z0-9]', '_', str(database).lower())[:_LONGEST]}"
    for candidate in (DEFAULT, own, *(f"{own}_{n}" for n in range(2, _TRIES))):
        (may_grant,) = await _one(connection, "may_grant", prefix=candidate)
        if may_grant:
            return candidate
    raise RolesRefused(f"The roles {own}_service, _tenant and _analyst belong to another owner.")


async def is_in_use(connection: Connection) -> bool:
    """Whether the database has tables of the service already."""
    (found,) = await _one(connection, "is_in_use")
    return bool(found)


async def create(connection: Connection, name: str) -> list[str]:
    """Make the three roles of a prefix where they are missing, as a dump needs them; returns the
    names of the new roles."""
    found = await connection.execute(ROLES["missing"], {"prefix": name})
    missing = [role for (role,) in await found.fetchall()]
    for role in missing:
        await connection.execute(
            compose.SQL("create role {} nologin").format(compose.Identifier(role))
        )
        await connection.execute(
            compose.SQL("grant {} to current_user").format(compose.Identifier(role))
        )
    return missing


async def _one(connection: Connection, name: str, **parameters: str) -> tuple[object, ...]:
    row = await (await connection.execute(ROLES[name], parameters)).fetchone()
    assert row is not None
    return tuple(row)
