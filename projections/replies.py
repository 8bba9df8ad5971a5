"""The replies: the session and lease of each reply, and the position of its end."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from psycopg.rows import class_row

from domain.events import ReplyCompleted, ReplyFailed, ReplyStarted, SessionDeleted
from projections.projection import Connection, Projection

REPLIES: Final = Projection(
    name="replies",
    version=3,
    rules="c47a0d18",
    handles=(ReplyStarted, ReplyCompleted, ReplyFailed, SessionDeleted),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyRef:
    """The ids that together name a reply."""

    tenant_id: str
    project_id: str
    session_id: str
    reply_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyRow:
    """A reply. `started_at` is its last start, and `lease_id` the lease of the process that has
    started it. `ended_position` is None while the reply runs.

    Only the user `private_to` may see the reply, unless that is empty.
    """

    tenant_id: str
    project_id: str
    session_id: str
    private_to: str
    reply_id: str
    lease_id: int
    started_at: datetime
    ended_position: int | None

    @property
    def ref(self) -> ReplyRef:
        """The ids that name this reply."""
        return ReplyRef(
            tenant_id=self.tenant_id,
            project_id=self.project_id,
            session_id=self.session_id,
            reply_id=self.reply_id,
        )


async def reply(connection: Connection, *, tenant_id: str, reply_id: str) -> ReplyRow | None:
    """The reply, or None."""
    async with connection.cursor(row_factory=class_row(ReplyRow)) as cursor:
        await cursor.execute(
            REPLIES.statements["of_id"], {"tenant_id": tenant_id, "reply_id": reply_id}
        )
        return await cursor.fetchone()


async def running(
    connection: Connection,
    *,
    tenant_id: str,
    project_id: str,
    session_id: str | None = None,
    limit: int,
) -> list[ReplyRow]:
    """The newest `limit` running replies of a project that all its members see, or of one session:
    newest first."""
    asked = {"tenant_id": tenant_id, "project_id": project_id, "limit": limit}
    name = "running"
    if session_id is not None:
        name, asked = "running_of_session", asked | {"session_id": session_id}
    async with connection.cursor(row_factory=class_row(ReplyRow)) as cursor:
        await cursor.execute(REPLIES.statements[name], asked)
        return await cursor.fetchall()


async def orphans(
    connection: Connection,
    *,
    lease_id: int,
    until: datetime | None,
    here: list[str],
    lease_seconds: float,
    grace_seconds: float,
    limit: int,
) -> list[ReplyRow]:
    """Running replies of all tenants that no process writes, oldest first.

    A reply is such an orphan when its lease was released or has expired, or when its lease is the
    caller's `lease_id` and the caller does not write it: it is not in `here`. `until` is the end of
    the caller's lease, if the caller may take other processes for dead; without it, and when it is
    not the end that is stored, only released leases count. No reply is an orphan in the first
    `grace_seconds` after the start of the database, because processes could not renew their leases
    while the database was away.
    """
    async with connection.cursor(row_factory=class_row(ReplyRow)) as cursor:
        await cursor.execute(
            REPLIES.statements["orphans"],
            {
                "lease_id": lease_id,
                "until": until,
                "here": here,
                "lease_seconds": lease_seconds,
                "grace_seconds": grace_seconds,
                "limit": limit,
            },
        )
        return await cursor.fetchall()
