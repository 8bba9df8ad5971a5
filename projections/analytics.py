"""How a project's planning and building goes: sums over the read models, for a span of time."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, TypeVar

from psycopg.rows import class_row

import sql
from projections.projection import Connection

SQL: Final = sql.statements("analytics.sql")

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Replies:
    """The replies of a mode, or of all where it is None; times run from message to end."""

    mode: str | None
    replies: int
    succeeded: int
    cut_off: int
    failed: int
    p50_ms: float | None
    p95_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumed:
    """What replies of an operation type were billed, or all where it is None."""

    operation: str | None
    replies: int
    seconds: int
    cost_usd: Decimal
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sessions:
    """Planning sessions; `median_seconds` from the opening to what was said last."""

    sessions: int
    converted: int
    messages: Decimal
    median_seconds: float
    cost_usd: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Builds:
    """Builds, and of them those of converted plans."""

    builds: int
    succeeded: int
    failed: int
    converted: int
    converted_succeeded: int
    converted_failed: int
    median_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Analytics:
    """A project from `since` until right before `until`."""

    since: datetime
    until: datetime
    replies: list[Replies]
    consumed: list[Consumed]
    sessions: Sessions
    builds: Builds


async def analytics(
    connection: Connection, *, tenant_id: str, project_id: str, since: datetime, until: datetime
) -> Analytics:
    """The project's figures: of one moment, if the connection's transaction sees one."""
    asked: dict[str, Any] = {
        "tenant_id": tenant_id,
        "project_id": project_id,
        "since": since,
        "until": until,
    }
    replies = await _rows(connection, "replies", Replies, asked)
    consumed = await _rows(connection, "consumption", Consumed, asked)
    (sessions,) = await _rows(connection, "sessions", Sessions, asked)
    (builds,) = await _rows(connection, "builds", Builds, asked)
    return Analytics(
        since=since,
        until=until,
        replies=replies,
        consumed=consumed,
        sessions=sessions,
        builds=builds,
    )


async def _rows(connection: Connection, name: str, kind: type[R], asked: dict[str, Any]) -> list[R]:
    async with connection.cursor(row_factory=class_row(kind)) as cursor:
        await cursor.execute(SQL[name], asked)
        return await cursor.fetchall()
