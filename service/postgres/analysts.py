"""Analysts: database roles that can read the views of one tenant, and nothing else."""

import re
import secrets
from typing import Final

from psycopg import sql as compose
from psycopg.conninfo import make_conninfo

from service.postgres.connections import ROLES, Connection

NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")


class BadName(ValueError):
    """The name is no name of a database role: lower-case letters, digits and `_`, at most 63."""


async def add_analyst(owner: Connection, name: str, tenant_id: str) -> str:
    """Create a role that reads a tenant's views; returns the line to connect as this role.

    A role belongs to the whole database server, so its name must be free there. Raises BadName, and
    psycopg.errors.DuplicateObject.
    """
    if not NAME.fullmatch(name):
        raise BadName(BadName.__doc__)
    password = secrets.token_urlsafe(24)
    async with owner.transaction():
        await owner.execute(
            compose.SQL("create role {} login password {} in role throughline_analyst").format(
                compose.Identifier(name), compose.Literal(password)
            )
        )
        await owner.execute(ROLES["add_analyst"], {"name": name, "tenant_id": tenant_id})
    where = owner.info
    return make_conninfo(
        host=where.host, port=where.port, dbname=where.dbname, user=name, password=password
    )


async def remove_analyst(owner: Connection, name: str) -> bool:
    """Drop the role. Returns False when there is no such analyst."""
    async with owner.transaction():
        removed = await owner.execute(ROLES["remove_analyst"], {"name": name})
        if removed.rowcount:
            await owner.execute(compose.SQL("drop role {}").format(compose.Identifier(name)))
    return bool(removed.rowcount)
