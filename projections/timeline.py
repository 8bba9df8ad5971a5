"""The timeline of a project, in pages of items."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal

from psycopg.rows import class_row
from psycopg.types.numeric import Int8

from domain.events import (
    BuildClaimed,
    BuildErased,
    BuildFailed,
    BuildReferenced,
    BuildSucceeded,
    Json,
    PlanSaved,
    ProjectErased,
    ProjectLocked,
    ProjectUnlocked,
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
    VersionDeployed,
)
from domain.session import PLANS
from projections import builds, sessions
from projections.builds import BuildRow
from projections.projection import Connection, Projection

TIMELINE: Final = Projection(
    name="timeline",
    version=4,
    rules="c214077e",
    views=("project_timeline", "project_chat_with_builds"),
    handles=(
        UserMessagePosted,
        ReplyCompleted,
        ReplyFailed,
        SystemMessagePosted,
        PlanSaved,
        SessionOpened,
        SessionRenamed,
        SessionModeChanged,
        SessionConverted,
        SessionArchived,
        SessionExpired,
        SessionDeleted,
        BuildClaimed,
        BuildReferenced,
        BuildSucceeded,
        BuildFailed,
        VersionDeployed,
        BuildErased,
        ProjectLocked,
        ProjectUnlocked,
        ProjectErased,
    ),
)

_NEWEST: Final = 2**63 - 1

Kind = Literal[
    "user_message",
    "reply",
    "system_message",
    "session",
    "build_reference",
    "deployment",
    "build_status",
    "lock",
    "erasure",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineRow:
    """An item. `data` is a reply by the contract of its `chat_mode`, or a system message.

    `build` is the current state of the item's build. An item of kind `build_status` says that the
    build has changed; `request` is the item that asked for the build. `is_convertible` is true for
    a plan that can become a build now.
    """

    position: int
    mode: SessionMode
    item_id: str
    kind: Kind
    is_visible: bool
    is_live: bool
    session_id: str | None
    user_id: str | None
    chat_mode: str | None
    text: str | None
    data: Json
    subtype: str | None
    tokens_used: int | None
    duration_ms: int | None
    build_id: str | None
    converted_from_session_id: str | None
    recorded_at: datetime
    build: BuildRow | None = None
    request: "TimelineRow | None" = None
    is_convertible: bool = False

    @property
    def is_plan(self) -> bool:
        """Whether the item is a whole reply that can be built."""
        return self.kind == "reply" and self.subtype == "success" and self.chat_mode in PLANS


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """The filter of a reader: items of one mode or of all, hidden items or not, and with `live` the
    items for readers that follow the timeline."""

    mode: SessionMode | None = None
    with_hidden: bool = False
    with_live: bool = False

    def includes(self, mode: SessionMode, *, is_visible: bool, is_live: bool) -> bool:
        """The same filter as in the SQL, for rows already in memory."""
        asked_for = self.with_live if is_live else self.with_hidden
        return self.mode in (None, mode) and (is_visible or asked_for)


VISIBLE: Final = Shown()
"""The filter of a reader without any option."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelinePage:
    """Rows, newest first. `has_more` tells of rows beyond the page in the direction of the read."""

    rows: list[TimelineRow]
    has_more: bool


async def page(
    connection: Connection,
    *,
    tenant_id: str,
    project_id: str,
    shown: Shown = VISIBLE,
    limit: int,
    offset: int = 0,
    before: int | None = None,
    after: int | None = None,
) -> TimelinePage:
    """A page of rows: the newest after `offset` rows, or those next to a position.

    A page by position has the same cost everywhere. A page by offset reads the rows that it skips.
    """
    name = "page_of_build" if shown.mode == "build" else "page"
    rows = await _rows(
        connection,
        name if after is None else f"{name}_after",
        tenant_id=tenant_id,
        project_id=project_id,
        mode=shown.mode,
        with_hidden=shown.with_hidden,
        with_live=shown.with_live,
        limit=limit + 1,
        offset=offset,
        before=Int8(_NEWEST if before is None else before),
        after=Int8(0 if after is None else after),
    )
    has_more, rows = len(rows) > limit, rows[:limit]
    rows = await _with_builds(connection, tenant_id, rows)
    rows = await _with_plans(connection, tenant_id, rows)
    return TimelinePage(rows=rows if after is None else rows[::-1], has_more=has_more)


async def _with_builds(
    connection: Connection, tenant_id: str, rows: list[TimelineRow]
) -> list[TimelineRow]:
    """The rows with their builds."""
    ids = {row.build_id for row in rows if row.build_id is not None}
    if not ids:
        return rows
    known = await builds.of_ids(connection, tenant_id=tenant_id, build_ids=ids)
    changed = [row.build_id for row in rows if row.kind == "build_status"]
    found: list[TimelineRow] = []
    if changed:
        found = await _rows(connection, "requests", tenant_id=tenant_id, build_ids=changed)
    requests = {row.build_id: _about(row, known) for row in found}
    return [
        replace(row, request=requests.get(row.build_id))
        if row.kind == "build_status"
        else _about(row, known)
        for row in rows
    ]


async def _with_plans(
    connection: Connection, tenant_id: str, rows: list[TimelineRow]
) -> list[TimelineRow]:
    """The rows, with `is_convertible` set for plans."""
    ids = {row.session_id for row in rows if row.is_plan and row.session_id is not None}
    if not ids:
        return rows
    now = await sessions.convertible(connection, tenant_id=tenant_id, session_ids=ids)
    return [replace(row, is_convertible=row.is_plan and row.session_id in now) for row in rows]


def _about(row: TimelineRow, known: Mapping[str, BuildRow]) -> TimelineRow:
    return row if row.build_id is None else replace(row, build=known.get(row.build_id))


async def _rows(connection: Connection, name: str, **parameters: Any) -> list[TimelineRow]:
    async with connection.cursor(row_factory=class_row(TimelineRow)) as cursor:
        await cursor.execute(TIMELINE.statements[name], parameters)
        return await cursor.fetchall()
