"""The plans that were saved as drafts."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from psycopg.rows import class_row
from psycopg.types.numeric import Int8

from domain.events import PlanSaved, SessionDeleted
from projections.projection import Connection, Projection

DRAFTS: Final = Projection(
    name="drafts",
    version=2,
    rules="d1a41ea3",
    views=("project_drafts",),
    handles=(PlanSaved, SessionDeleted),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftRow:
    """A saved plan: the reply that contains it, and the user that saved it."""

    reply_id: str
    session_id: str
    user_id: str
    mode: str
    title: str
    saved_at: datetime
    position: int
    cursor: str


async def of_reply(connection: Connection, *, tenant_id: str, reply_id: str) -> DraftRow | None:
    """The draft of the plan in a reply, or None."""
    async with connection.cursor(row_factory=class_row(DraftRow)) as cursor:
        await cursor.execute(
            DRAFTS.statements["of_reply"], {"tenant_id": tenant_id, "reply_id": reply_id}
        )
        return await cursor.fetchone()


async def page(
    connection: Connection, *, tenant_id: str, project_id: str, before: int, limit: int
) -> list[DraftRow]:
    """A project's drafts, newest first, before a position."""
    async with connection.cursor(row_factory=class_row(DraftRow)) as cursor:
        await cursor.execute(
            DRAFTS.statements["page"],
            {
                "tenant_id": tenant_id,
                "project_id": project_id,
                "before": Int8(before),
                "limit": limit,
            },
        )
        return await cursor.fetchall()
