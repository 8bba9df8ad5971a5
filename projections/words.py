"""The words of what was said in a project, for searches."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from psycopg.rows import class_row
from psycopg.types.numeric import Int8

from domain.events import (
    AssistantMessageAdded,
    MaterialAdded,
    MaterialErased,
    ProjectErased,
    ReplyCompleted,
    SessionDeleted,
    SessionMode,
    SessionOpened,
    SessionRenamed,
    UserMessagePosted,
)
from projections.projection import Connection, Projection
from projections.timeline import ItemKind

WORDS: Final = Projection(
    name="words",
    version=2,
    rules="bd512bcd",
    is_inline=False,
    handles=(
        UserMessagePosted,
        AssistantMessageAdded,
        MaterialAdded,
        ReplyCompleted,
        SessionOpened,
        SessionRenamed,
        SessionDeleted,
        MaterialErased,
        ProjectErased,
    ),
)

MATCH_BEGINS: Final = "\x01"
MATCH_ENDS: Final = "\x02"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRow:
    """What a search found: an item of the timeline, or with the kind `session` a session's name.

    `marked` are the passages around the matches, each match between `MATCH_BEGINS` and
    `MATCH_ENDS`.
    """

    position: int
    cursor: str
    session_id: str
    session_name: str
    item_id: str
    kind: ItemKind
    locale: str | None
    recorded_at: datetime
    marked: str


async def search(
    connection: Connection,
    *,
    tenant_id: str,
    project_id: str,
    query: str,
    user_id: str | None,
    mode: SessionMode | None,
    before: int,
    limit: int,
) -> list[FoundRow]:
    """What the query finds in a project, the newest first, before a position.

    The query is as people write it: words, "a phrase", or, -without. Sessions of other users that
    are private are not found.
    """
    asked = {
        "tenant_id": tenant_id,
        "project_id": project_id,
        "query": query,
        "user_id": user_id or "",
        "mode": mode,
        "before": Int8(before),
        "limit": limit,
    }
    async with connection.cursor(row_factory=class_row(FoundRow)) as cursor:
        await cursor.execute(WORDS.statements["search"], asked)
        return await cursor.fetchall()
