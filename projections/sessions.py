"""The sessions with their bills."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Literal

from psycopg.rows import class_row, scalar_row
from psycopg.types.json import Jsonb
from psycopg.types.numeric import Int8

from domain.deciders.session_state import Details
from domain.events import (
    AssistantMessageAdded,
    Json,
    ReplyCompleted,
    ReplyFailed,
    SessionArchived,
    SessionConverted,
    SessionDeleted,
    SessionDescribed,
    SessionExpired,
    SessionInstructed,
    SessionMode,
    SessionModeChanged,
    SessionOpened,
    SessionRenamed,
    SessionRestored,
    SessionResumed,
    SessionStarred,
    SessionTagged,
    SessionUnstarred,
    TimeConsumed,
    UserMessagePosted,
)
from domain.modes import EXPIRING, MODES
from projections.projection import Connection, Projection
from projections.read import Read

SESSIONS: Final = Projection(
    name="sessions",
    version=10,
    rules="ab7a59a6",
    views=("project_chat_plan_sessions", "prompt_runs_with_details"),
    handles=(
        SessionOpened,
        UserMessagePosted,
        AssistantMessageAdded,
        ReplyCompleted,
        ReplyFailed,
        TimeConsumed,
        SessionRenamed,
        SessionDescribed,
        SessionTagged,
        SessionStarred,
        SessionUnstarred,
        SessionModeChanged,
        SessionInstructed,
        SessionConverted,
        SessionArchived,
        SessionRestored,
        SessionExpired,
        SessionResumed,
        SessionDeleted,
    ),
)


LAST: Final = 2**63 - 1
"""No position is above it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRow:
    """A session with the sum of its bills; `build_id` is the last build that a plan became.

    Only the user `private_to` may see it, unless that is empty. `context` are the ids of what it is
    about, by their names on the wire. A session made of a prompt has the ids of the prompt and of
    its version, the number of the version, the present name and the newest version of the prompt,
    and in `answers` the values of the placeholders. `forked_at` is the position up to which a fork
    shares what its parent had said. `first_words` and `last_words` are the beginnings of the first
    message and of what was said last. `active_position` is the position of the last message or
    reply, and `cursor` its cursor.
    """

    session_id: str
    project_id: str
    user_id: str
    private_to: str
    name: str
    description: str
    tags: list[str]
    is_starred: bool
    mode: SessionMode
    status: str
    context: dict[str, str]
    model: str | None
    max_tokens: int | None
    settings: Json
    prompt_id: str | None
    prompt_version_id: str | None
    prompt_number: int | None
    prompt_name: str | None
    prompt_newest: int | None
    answers: Json
    forked_from_session_id: str | None
    forked_from_message_id: str | None
    forked_at: int | None
    first_words: str
    last_words: str | None
    message_count: int
    item_count: int
    tokens_used: int
    ai_seconds: int
    cost_usd: Decimal
    build_id: str | None
    opened_at: datetime
    last_active_at: datetime
    active_position: int
    cursor: str

    @property
    def details(self) -> Details:
        """What the user can change, as the decider knows it."""
        return Details(
            name=self.name,
            description=self.description,
            mode=self.mode,
            is_starred=self.is_starred,
            tags=tuple(self.tags),
            is_archived=self.status == "archived",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedSession(SessionRow):
    """A session of a list. Its keys say where it stands in the order of the list."""

    name_key: str
    number_key: int
    position_key: int

    @property
    def key(self) -> "ListKey":
        """Where the session stands."""
        return ListKey(name=self.name_key, number=self.number_key, position=self.position_key)


Sort = Literal["recent", "oldest", "name", "messages"]
"""The orders of a list: by the last message, newest or oldest first; by name; by the number of
messages, most first."""

_FIRST: Final = -(2**63)
_LAST: Final = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ListKey:
    """Where a session stands in the order of a list: by its name, then a number, then a position.

    A key that the order does not use is empty or 0.
    """

    name: str
    number: int
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the sessions of a list have in common. None is without a filter."""

    statuses: Collection[str]
    mode: SessionMode | None = None
    starred: bool | None = None
    tag: str | None = None
    run_id: str | None = None
    prompt_id: str | None = None
    name: str | None = None


async def session(connection: Connection, *, tenant_id: str, session_id: str) -> SessionRow | None:
    """The session, or None."""
    async with connection.cursor(row_factory=class_row(SessionRow)) as cursor:
        await cursor.execute(
            SESSIONS.statements["of_id"], {"tenant_id": tenant_id, "session_id": session_id}
        )
        return await cursor.fetchone()


@dataclass(frozen=True, slots=True)
class Part:
    """A session as a part of what a fork shows: what was said in it up to a position."""

    session_id: str
    upto: int


async def parts(connection: Connection, *, tenant_id: str, row: SessionRow) -> tuple[Part, ...]:
    """The session, then the sessions that it was forked from, the nearest first."""
    whole = Part(row.session_id, LAST)
    if row.forked_from_session_id is None:
        return (whole,)
    found = await connection.execute(
        SESSIONS.statements["lineage"], {"tenant_id": tenant_id, "session_id": row.session_id}
    )
    return (whole, *(Part(*each) for each in await found.fetchall()))


async def active_session(
    connection: Connection, *, tenant_id: str, project_id: str, user_id: str, idle_seconds: float
) -> str | None:
    """The id of the session that gets the user's next message in the project, or None.

    A session without a message for `idle_seconds` counts as expired.
    """
    read = active_session_read(
        tenant_id=tenant_id, project_id=project_id, user_id=user_id, idle_seconds=idle_seconds
    )
    await read.send(connection)
    return await read.row()


def active_session_read(
    *, tenant_id: str, project_id: str, user_id: str, idle_seconds: float
) -> Read[str]:
    """The read of `active_session`, for a pipeline."""
    return Read(
        SESSIONS.statements["active"],
        scalar_row,
        {
            "tenant_id": tenant_id,
            "project_id": project_id,
            "user_id": user_id,
            "full": MODES["plan"].most_messages,
            "spent": MODES["plan"].most_tokens,
            "idle_seconds": idle_seconds,
        },
    )


def reusable_read(
    *,
    tenant_id: str,
    project_id: str,
    user_id: str,
    mode: SessionMode,
    context: Mapping[str, str],
    idle_seconds: float,
) -> Read[str]:
    """The read of the session of a user, mode and context that takes one more message."""
    return Read(
        SESSIONS.statements["reusable"],
        scalar_row,
        {
            "tenant_id": tenant_id,
            "project_id": project_id,
            "user_id": user_id,
            "session_mode": mode,
            "context": Jsonb(context),
            "full": MODES[mode].most_messages,
            "spent": MODES[mode].most_tokens,
            "idle_seconds": idle_seconds,
        },
    )


async def page_of_project(
    connection: Connection,
    *,
    tenant_id: str,
    project_id: str,
    user_id: str | None,
    wanted: Wanted,
    sort: Sort,
    after: ListKey | None,
    limit: int,
) -> list[ListedSession]:
    """Sessions of a project after a key of the order: all, or all that the user may see."""
    asked = {"tenant_id": tenant_id, "project_id": project_id, "user_id": user_id, "limit": limit}
    return await _page(connection, "project", asked, wanted, sort, after)


async def page_of_user(
    connection: Connection,
    *,
    tenant_id: str,
    user_id: str,
    wanted: Wanted,
    sort: Sort,
    after: ListKey | None,
    limit: int,
) -> list[ListedSession]:
    """A user's sessions after a key of the order, in all projects that have the user as a member
    now."""
    asked = {"tenant_id": tenant_id, "user_id": user_id, "limit": limit}
    return await _page(connection, "user", asked, wanted, sort, after)


async def _page(
    connection: Connection,
    whose: str,
    asked: dict[str, Any],
    wanted: Wanted,
    sort: Sort,
    after: ListKey | None,
) -> list[ListedSession]:
    order = sort if sort in ("recent", "oldest") else "sorted"
    start = after or ListKey(name="", number=_FIRST, position=_LAST if sort == "recent" else _FIRST)
    asked |= {
        "statuses": list(wanted.statuses),
        "mode": wanted.mode,
        "starred": wanted.starred,
        "tag": wanted.tag,
        "run_id": wanted.run_id,
        "prompt_id": wanted.prompt_id,
        "searched": wanted.name,
        "sort": sort,
        "before": Int8(start.position),
        "after": Int8(start.position),
        "after_name": start.name,
        "after_number": Int8(start.number),
        "after_position": Int8(start.position),
    }
    async with connection.cursor(row_factory=class_row(ListedSession)) as cursor:
        await cursor.execute(SESSIONS.statements[f"{whose}_{order}"], asked)
        return await cursor.fetchall()


async def convertible(
    connection: Connection, *, tenant_id: str, session_ids: Collection[str]
) -> set[str]:
    """The ids of those sessions whose plans can become a build now."""
    found = await connection.execute(
        SESSIONS.statements["convertible"],
        {"tenant_id": tenant_id, "session_ids": list(session_ids)},
    )
    return {session_id for (session_id,) in await found.fetchall()}


async def idle_sessions(
    connection: Connection, *, idle_seconds: float, limit: int
) -> list[tuple[str, str, str]]:
    """Active sessions of all tenants without a message for so long: (tenant, project, session)."""
    found = await connection.execute(
        SESSIONS.statements["idle"],
        {"idle_seconds": idle_seconds, "limit": limit, "modes": list(EXPIRING)},
    )
    return await found.fetchall()
