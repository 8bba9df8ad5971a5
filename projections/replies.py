"""The replies: where each one belongs, who writes it, and where in the log it ended."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from psycopg.rows import class_row

from domain.events import ReplyCompleted, ReplyFailed, ReplyStarted, SessionDeleted
from projections.projection import Connection, Projection

REPLIES: Final = Projection(
    name="replies",
    version=2,
    rules="f916d925",
    handles=(ReplyStarted, ReplyCompleted, ReplyFailed, SessionDeleted),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyRef:
    """Where a reply belongs."""

    tenant_id: str
    project_id: str
    session_id: str
    reply_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyRow:
    """A reply. `started_at` is when it was begun last; `ended_position` is None while it runs."""

    tenant_id: str
    project_id: str
    session_id: str
    reply_id: str
    started_at: datetime
    ended_position: int | None

    @property
    def ref(self) -> ReplyRef:
        """Where it belongs."""
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
    connection: Connection, *, tenant_id: str, project_id: str, limit: int
) -> list[ReplyRow]:
    """A project's replies that have not ended, the newest so many."""
    async with connection.cursor(row_factory=class_row(ReplyRow)) as cursor:
        await cursor.execute(
            REPLIES.statements["running"],
            {"tenant_id": tenant_id, "project_id": project_id, "limit": limit},
        )
        return await cursor.fetchall()


async def orphans(
    connection: Connection,
    *,
    lease_id: int,
    here: list[str],
    lease_seconds: float,
    grace_seconds: float,
    limit: int,
) -> list[ReplyRow]:
    """Replies that run in nobody's hands, of all tenants, oldest first.

    Those under the lease of no living process; and those under the lease `lease_id` that are not
    among the ones it writes `here`. Nobody is taken for dead in the first `grace_seconds` of the
    database itself: it may have been the one that was away.
    """
    async with connection.cursor(row_factory=class_row(ReplyRow)) as cursor:
        await cursor.execute(
            REPLIES.statements["orphans"],
            {
                "lease_id": lease_id,
                "here": here,
                "lease_seconds": lease_seconds,
                "grace_seconds": grace_seconds,
                "limit": limit,
            },
        )
        return await cursor.fetchall()
