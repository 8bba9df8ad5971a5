"""Analysts: database roles that can read the views of one tenant, and nothing else."""

import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from psycopg import sql as compose
from psycopg.conninfo import make_conninfo

from service.postgres.connections import ROLES, Connection

NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")


class BadName(ValueError):
    """The name is no name of a database role: lower-case letters, digits and `_`, at most 63."""


class UnknownTenant(ValueError):
    """No key and no event is of this tenant, so there is nothing to see."""


class UnknownAnalyst(ValueError):
    """There is no analyst of this name in this database."""


@dataclass(frozen=True, slots=True)
class Login:
    """How an analyst connects. Nobody but the analyst has the password: the database keeps its
    SCRAM verifier. Without a password the lines leave it to `PGPASSWORD` or to a question."""

    host: str
    port: int
    database: str
    name: str
    password: str | None = None

    @property
    def conninfo(self) -> str:
        """The line for psql, psycopg and DuckDB."""
        return make_conninfo(
            host=self.host,
            port=self.port,
            dbname=self.database,
            user=self.name,
            password=self.password,
        )

    @property
    def url(self) -> str:
        """The URL, for other programs."""
        secret = "" if self.password is None else f":{quote(self.password, safe='')}"
        who, database = f"{self.name}{secret}", quote(self.database, safe="")
        if self.host.startswith("/"):
            socket = quote(self.host, safe="")
            return f"postgresql://{who}@/{database}?host={socket}&port={self.port}"
        return f"postgresql://{who}@{self.host}:{self.port}/{database}"

    @property
    def lines(self) -> list[str]:
        """What to paste into a shell, into DuckDB and into Python with pandas."""
        attached = self.conninfo.replace("'", "''")
        query = "select * from analytics.user_ai_time_balance"
        return [
            f'psql "{self.conninfo}"',
            self.url,
            "-- DuckDB:",
            f"attach '{attached}' as throughline (type postgres, read_only);",
            "# Python, with pandas and psycopg:",
            "import pandas, psycopg",
            f"with psycopg.connect({self.conninfo!r}) as database:"
            f" rows = database.execute({query!r});"
            " print(pandas.DataFrame(rows, columns=[each.name for each in rows.description]))",
        ]


async def add_analyst(
    owner: Connection, name: str, tenant_id: str, *, known: Collection[str] = ()
) -> Login:
    """Create a role that reads a tenant's views; returns how to connect as this role.

    A role belongs to the whole database server, so its name must be free there. A tenant with
    events may have an analyst, and so may the `known` tenants. Raises BadName, UnknownTenant, and
    psycopg.errors.DuplicateObject.
    """
    if not NAME.fullmatch(name):
        raise BadName(BadName.__doc__)
    if tenant_id not in known:
        await require_events(owner, tenant_id)
    login = login_of(owner, name, secrets.token_urlsafe(24))
    async with owner.transaction():
        (group,) = await (await owner.execute(ROLES["analyst_role"])).fetchone() or ("",)
        await owner.execute(
            compose.SQL("create role {} login password {} in role {}").format(
                compose.Identifier(name), _verifier(owner, login), compose.Identifier(group)
            )
        )
        await owner.execute(ROLES["add_analyst"], {"name": name, "tenant_id": tenant_id})
    return login


async def require_events(owner: Connection, tenant_id: str) -> None:
    """Raises UnknownTenant unless there are events of the tenant."""
    found = await owner.execute(ROLES["has_events"], {"tenant_id": tenant_id})
    if await found.fetchone() != (True,):
        raise UnknownTenant(f"{UnknownTenant.__doc__} Its name is {tenant_id!r}.")


async def new_password(owner: Connection, name: str) -> Login:
    """Give an analyst another password. Raises UnknownAnalyst."""
    if name not in dict(await analysts(owner)):
        raise UnknownAnalyst(f"There is no analyst {name}.")
    login = login_of(owner, name, secrets.token_urlsafe(24))
    await owner.execute(
        compose.SQL("alter role {} password {}").format(
            compose.Identifier(name), _verifier(owner, login)
        )
    )
    return login


async def analysts(owner: Connection) -> list[tuple[str, str]]:
    """The analysts of this database by name, each with the tenant."""
    return await (await owner.execute(ROLES["analysts"])).fetchall()


def login_of(owner: Connection, name: str, password: str | None = None) -> Login:
    """How a role connects to the database of this connection."""
    where = owner.info
    return Login(where.host, where.port, where.dbname, name, password)


def _verifier(owner: Connection, login: Login) -> compose.Literal:
    """The password as the server keeps it, made here: so it is in no statement and in no log."""
    password, name = (login.password or "").encode(), login.name.encode()
    verifier = owner.pgconn.encrypt_password(password, name, b"scram-sha-256")
    return compose.Literal(verifier.decode())


async def remove_analyst(owner: Connection, name: str) -> bool:
    """Drop the role. Returns False when there is no such analyst."""
    async with owner.transaction():
        removed = await owner.execute(ROLES["remove_analyst"], {"name": name})
        if removed.rowcount:
            await owner.execute(compose.SQL("drop role {}").format(compose.Identifier(name)))
    return bool(removed.rowcount)
