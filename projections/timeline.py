"""The unified timeline of a project, as pages of items."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from psycopg.rows import class_row
from psycopg.types.numeric import Int8

from domain.events import (
    Json,
    ReplyCompleted,
    ReplyFailed,
    SessionArchived,
    SessionConverted,
    SessionDeleted,
    SessionExpired,
    SessionMode,
    SessionModeChanged,
    SessionOpened,
    SessionRenamed,
    SystemMessagePosted,
    UserMessagePosted,
)
from projections.projection import Connection, Projection

TIMELINE: Final = Projection(
    name="timeline",
    version=1,
    view="project_timeline",
    handles=(
        UserMessagePosted,
        ReplyCompleted,
        ReplyFailed,
        SystemMessagePosted,
        SessionOpened,
        SessionRenamed,
        SessionModeChanged,
        SessionConverted,
        SessionArchived,
        SessionExpired,
        SessionDeleted,
    ),
)

_NEWEST: Final = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineRow:
    """One item. `data` is a reply by the contract of its `chat_mode`, or a system message."""

    position: int
    mode: SessionMode
    item_id: str
    kind: Literal["user_message", "reply", "system_message", "session"]
    is_visible: bool
    session_id: str
    user_id: str | None
    chat_mode: str | None
    text: str | None
    data: Json
    subtype: str | None
    tokens_used: int | None
    duration_ms: int | None
    recorded_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Which items a reader is shown: those of a mode, or of all modes; hidden ones on request."""

    mode: SessionMode | None = None
    with_hidden: bool = False

    def takes(self, mode: SessionMode, is_visible: bool) -> bool:
        """What the statements' conditions say, of an item that was read already."""
        return self.mode in (None, mode) and (self.with_hidden or is_visible)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelinePage:
    """Rows, newest first; `has_more` in the direction that was asked for."""

    rows: list[TimelineRow]
    has_more: bool


async def page(
    connection: Connection,
    *,
    tenant_id: str,
    project_id: str,
    mode: SessionMode | None = None,
    with_hidden: bool = False,
    limit: int,
    offset: int = 0,
    before: int | None = None,
    after: int | None = None,
) -> TimelinePage:
    """The newest rows, by `offset`; or those next before or next after a position.

    A page by position costs the same wherever it lies; one by offset costs what it passes over.
    """
    name = "page" if mode is None else f"page_of_{mode}"
    parameters: dict[str, Any] = {
        "tenant_id": tenant_id,
        "project_id": project_id,
        "with_hidden": with_hidden,
        "limit": limit + 1,
        "offset": offset,
        "before": Int8(_NEWEST if before is None else before),
        "after": Int8(0 if after is None else after),
    }
    query = TIMELINE.statements[name if after is None else f"{name}_after"]
    async with connection.cursor(row_factory=class_row(TimelineRow)) as cursor:
        await cursor.execute(query, parameters)
        rows = await cursor.fetchall()
    shown = rows[:limit]
    return TimelinePage(rows=shown if after is None else shown[::-1], has_more=len(rows) > limit)
