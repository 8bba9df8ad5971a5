"""The plans that can be read with a link."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from psycopg.rows import class_row

from domain.events import PlanShared, SessionDeleted, ShareRevoked
from projections.projection import Connection, Projection

SHARES: Final = Projection(
    name="shares",
    version=1,
    rules="450ff24d",
    views=("project_shares",),
    handles=(PlanShared, ShareRevoked, SessionDeleted),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareRow:
    """A shared plan: the reply with the plan, and the user that shared it."""

    tenant_id: str
    share_id: str
    reply_id: str
    project_id: str
    session_id: str
    user_id: str
    shared_at: datetime
    expires_at: datetime


async def share(connection: Connection, *, tenant_id: str, share_id: str) -> ShareRow | None:
    """The share, or None; also a share that has expired."""
    return await _row(connection, "of_id", {"tenant_id": tenant_id, "share_id": share_id})


async def share_of_token(connection: Connection, *, token_digest: str) -> ShareRow | None:
    """The share of any tenant with this token that has not ended, or None."""
    return await _row(connection, "of_token", {"token_digest": token_digest})


async def _row(connection: Connection, name: str, asked: dict[str, Any]) -> ShareRow | None:
    async with connection.cursor(row_factory=class_row(ShareRow)) as cursor:
        await cursor.execute(SHARES.statements[name], asked)
        return await cursor.fetchone()
