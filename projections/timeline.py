"""The timeline of a project, in pages of items."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal

from psycopg.rows import class_row
from psycopg.types.numeric import Int8

from domain.deciders.session import PLANS
from domain.events import (
    AssistantMessageAdded,
    BuildClaimed,
    BuildErased,
    BuildFailed,
    BuildReferenced,
    BuildSucceeded,
    Json,
    MaterialAdded,
    MaterialErased,
    PlanSaved,
    ProjectErased,
    ProjectLocked,
    ProjectUnlocked,
    PromptErased,
    PromptErasureRequested,
    PromptVersionAdded,
    ReplyCompleted,
    ReplyFailed,
    RunClaimed,
    RunErased,
    RunFailed,
    RunQueued,
    RunSucceeded,
    SessionArchived,
    SessionConverted,
    SessionDeleted,
    SessionExpired,
    SessionMode,
    SessionModeChanged,
    SessionOpened,
    SessionRenamed,
    SessionRestored,
    SessionResumed,
    SystemMessagePosted,
    TimelineMode,
    UserMessagePosted,
    VersionDeployed,
)
from projections import builds, runs, sessions
from projections.builds import BuildRow
from projections.projection import Connection, Projection
from projections.read import Read
from projections.runs import RunRow
from projections.sessions import LAST, Part

TIMELINE: Final = Projection(
    name="timeline",
    version=9,
    rules="385eafaf",
    views=("project_timeline", "project_chat_with_builds"),
    handles=(
        UserMessagePosted,
        AssistantMessageAdded,
        MaterialAdded,
        MaterialErased,
        ReplyCompleted,
        ReplyFailed,
        SystemMessagePosted,
        PlanSaved,
        SessionOpened,
        SessionRenamed,
        SessionModeChanged,
        SessionConverted,
        SessionArchived,
        SessionRestored,
        SessionExpired,
        SessionResumed,
        SessionDeleted,
        BuildClaimed,
        BuildReferenced,
        BuildSucceeded,
        BuildFailed,
        VersionDeployed,
        BuildErased,
        RunQueued,
        RunClaimed,
        RunSucceeded,
        RunFailed,
        RunErased,
        ProjectLocked,
        ProjectUnlocked,
        ProjectErased,
        PromptVersionAdded,
        PromptErasureRequested,
        PromptErased,
    ),
)

ItemKind = Literal[
    "user_message",
    "reply",
    "system_message",
    "assistant_message",
    "material",
    "session",
    "build_reference",
    "deployment",
    "prompt_version",
    "run",
]
"""The kinds of items. Other rows are for readers of the live timeline alone."""

Kind = Literal[ItemKind, "build_status", "run_status", "lock", "erasure"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineRow:
    """An item. `data` is a reply by the contract of its `chat_mode`, or a system message.

    `locale` is the language of a message, or of the message that a reply answers; None for other
    items.
    `in_reply_to` is the message that a reply answers, and `version_id` the version of the project
    that it speaks of. `first_text_ms` is None where no reader saw a text, or the time is not known.

    `source` is `client` for what a client appended without asking the model. `session_mode` is the
    present mode of the session.

    `build` is the current state of the item's build, and `run` the state of the run whose id is the
    `item_id`. An item of kind `build_status` or `run_status` says that the build or the run has
    changed; `request` is the item that asked for it. `is_convertible` is true for a plan that can
    become a build now.
    """

    position: int
    cursor: str
    mode: TimelineMode
    item_id: str
    kind: Kind
    is_visible: bool
    is_live: bool
    session_id: str | None
    user_id: str | None
    chat_mode: str | None
    in_reply_to: str | None
    locale: str | None
    source: str | None
    text: str | None
    data: Json
    subtype: str | None
    tokens_used: int | None
    duration_ms: int | None
    first_text_ms: int | None
    billed_seconds: int | None
    reason: str | None
    version_id: str | None
    build_id: str | None
    converted_from_session_id: str | None
    recorded_at: datetime
    session_mode: SessionMode | None
    build: BuildRow | None = None
    run: RunRow | None = None
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

    mode: TimelineMode | None = None
    with_hidden: bool = False
    with_live: bool = False

    def includes(self, mode: TimelineMode, *, is_visible: bool, is_live: bool) -> bool:
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
    read = page_read(
        tenant_id,
        project_id,
        shown,
        limit=limit,
        offset=offset,
        before=before,
        after=after,
    )
    await read.send(connection)
    return await read.page(connection)


async def messages(
    connection: Connection,
    *,
    tenant_id: str,
    parts: Sequence[Part],
    limit: int,
    before: int | None = None,
    after: int | None = None,
) -> TimelinePage:
    """A page of what was said in a session: the newest rows, or those next to a position.

    `parts` are the session and the sessions that it was forked from, as `projections.sessions` has
    them.
    """
    read = messages_read(
        tenant_id, parts, limit=limit, before=LAST if before is None else before, after=after
    )
    await read.send(connection)
    return await read.page(connection)


class PageRead:
    """A page that is sent first and taken later, so that several pages share a round trip."""

    def __init__(
        self, tenant_id: str, read: Read[TimelineRow], limit: int, *, is_after: bool
    ) -> None:
        self._tenant_id, self._read, self._limit, self._is_after = tenant_id, read, limit, is_after

    async def send(self, connection: Connection) -> None:
        """Send the statement."""
        await self._read.send(connection)

    async def page(self, connection: Connection) -> TimelinePage:
        """The page, which was sent before on this connection."""
        found = await self._read.rows()
        rows = await _with_builds(connection, self._tenant_id, found[: self._limit])
        rows = await _with_runs(connection, self._tenant_id, rows)
        rows = await _with_plans(connection, self._tenant_id, rows)
        return TimelinePage(
            rows=rows[::-1] if self._is_after else rows, has_more=len(found) > self._limit
        )


def page_read(
    tenant_id: str,
    project_id: str,
    shown: Shown,
    *,
    limit: int,
    offset: int = 0,
    before: int | None = None,
    after: int | None = None,
) -> PageRead:
    """The read of `page`, to be sent."""
    name = "page_of_build" if shown.mode == "build" else "page"
    asked = {
        "tenant_id": tenant_id,
        "project_id": project_id,
        "mode": shown.mode,
        "with_hidden": shown.with_hidden,
        "with_live": shown.with_live,
        "limit": limit + 1,
        "offset": offset,
        "before": Int8(LAST if before is None else before),
        "after": Int8(after or 0),
    }
    statement = TIMELINE.statements[name if after is None else f"{name}_after"]
    read = Read(statement, class_row(TimelineRow), asked)
    return PageRead(tenant_id, read, limit, is_after=after is not None)


def messages_read(
    tenant_id: str,
    parts: Sequence[Part],
    *,
    limit: int,
    before: int = LAST,
    after: int | None = None,
    with_live: bool = False,
) -> PageRead:
    """The read of `messages`, to be sent; `with_live` also finds the erasure of the session."""
    reached = [part for part in parts if part.upto > (after or 0)]
    asked = {
        "tenant_id": tenant_id,
        "session_ids": [part.session_id for part in reached],
        "uptos": [Int8(part.upto) for part in reached],
        "with_live": with_live,
        "limit": limit + 1,
        "before": Int8(before),
        "after": Int8(after or 0),
    }
    name = "messages_before" if after is None else "messages_after"
    read = Read(TIMELINE.statements[name], class_row(TimelineRow), asked)
    return PageRead(tenant_id, read, limit, is_after=after is not None)


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


async def _with_runs(
    connection: Connection, tenant_id: str, rows: list[TimelineRow]
) -> list[TimelineRow]:
    """The rows with their runs. The item that asked for a run is made from the run."""
    ids = {row.item_id for row in rows if row.kind in ("run", "run_status")}
    if not ids:
        return rows
    known = await runs.of_ids(connection, tenant_id=tenant_id, run_ids=ids)
    return [_about_run(row, known.get(row.item_id)) if row.item_id in ids else row for row in rows]


def _about_run(row: TimelineRow, run: RunRow | None) -> TimelineRow:
    if run is None or row.kind not in ("run", "run_status"):
        return row
    if row.kind == "run":
        return replace(row, run=run)
    request = replace(
        row,
        kind="run",
        position=run.queued_position,
        cursor=run.cursor,
        user_id=run.user_id,
        text=run.title,
        recorded_at=run.queued_at,
        run=run,
    )
    return replace(row, request=request)


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
