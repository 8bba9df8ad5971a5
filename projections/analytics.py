"""Figures of a project's planning and building in a span of time, from the read models."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, TypeVar

from psycopg.rows import class_row

import sql
from domain.metering import Past
from domain.modes import PRIVATE_ID
from projections.projection import Connection

SQL: Final = sql.statements("analytics.sql")

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Replies:
    """The replies of a mode; of all modes where `mode` is None. Times run from message to end.

    `resets` counts the replies that their readers had to discard once, `wrong_language` the replies
    that were shown in another language than the message asked for.
    """

    mode: str | None
    replies: int
    succeeded: int
    cut_off: int
    failed: int
    p50_ms: float | None
    p95_ms: float | None
    resets: int
    retries: int
    wrong_language: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InLanguage:
    """The replies to messages in a language; `in_language` are whole and in that language."""

    language: str
    replies: int
    succeeded: int
    in_language: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumed:
    """The bill of an operation type; of all types where it is None.

    Of the seconds, `bonus_seconds` were paid with bonus credits; for `unknown_seconds` nobody noted
    with what they were paid.
    """

    operation: str | None
    replies: int
    seconds: int
    bonus_seconds: int
    unknown_seconds: int
    cost_usd: Decimal
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sessions:
    """Planning sessions. `median_seconds` runs from the opening to the last message.

    `continued_messages` are the messages that were not the first of their session.
    """

    sessions: int
    converted: int
    messages: Decimal
    all_messages: int
    continued_messages: int
    median_seconds: float
    cost_usd: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Builds:
    """Builds, and how many of them came from converted plans."""

    builds: int
    succeeded: int
    failed: int
    converted: int
    converted_succeeded: int
    converted_failed: int
    median_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """Runs of engines."""

    runs: int
    succeeded: int
    failed: int
    median_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """Prompts, their versions, and the improvements that were written and accepted."""

    prompts: int
    versions: int
    improvements: int
    accepted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedRuns:
    """Sessions of prompts. `returned` took a message an hour after their opening or later; `users`
    have opened them, and `members` are all members of the project."""

    saved_runs: int
    returned: int
    messages: Decimal
    users: int
    members: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Analytics:
    """The figures from `since`, included, to `until`, excluded."""

    since: datetime
    until: datetime
    replies: list[Replies]
    languages: list[InLanguage]
    consumed: list[Consumed]
    sessions: Sessions
    builds: Builds
    runs: Runs
    prompts: Prompts
    saved_runs: SavedRuns


async def past_bills(
    connection: Connection, *, tenant_id: str, project_id: str, user_id: str | None
) -> dict[str, Past]:
    """What the project's last replies were billed, by operation, as far as the user may see."""
    asked = {
        "tenant_id": tenant_id,
        "project_id": project_id,
        "user_id": user_id,
        "private_id": PRIVATE_ID,
    }
    return {each.operation: each for each in await _rows(connection, "past_bills", Past, asked)}


async def analytics(
    connection: Connection,
    *,
    tenant_id: str,
    project_id: str,
    user_id: str | None,
    since: datetime,
    until: datetime,
) -> Analytics:
    """The project's figures, without the private sessions of others than the user; without a user
    all. They agree with each other in a repeatable read transaction."""
    asked: dict[str, Any] = {
        "tenant_id": tenant_id,
        "project_id": project_id,
        "user_id": user_id,
        "private_id": PRIVATE_ID,
        "since": since,
        "until": until,
    }
    replies = await _rows(connection, "replies", Replies, asked)
    languages = await _rows(connection, "languages", InLanguage, asked)
    consumed = await _rows(connection, "consumption", Consumed, asked)
    (sessions,) = await _rows(connection, "sessions", Sessions, asked)
    (builds,) = await _rows(connection, "builds", Builds, asked)
    (runs,) = await _rows(connection, "runs", Runs, asked)
    (prompts,) = await _rows(connection, "prompts", Prompts, asked)
    (saved_runs,) = await _rows(connection, "saved_runs", SavedRuns, asked)
    return Analytics(
        since=since,
        until=until,
        replies=replies,
        languages=languages,
        consumed=consumed,
        sessions=sessions,
        builds=builds,
        runs=runs,
        prompts=prompts,
        saved_runs=saved_runs,
    )


async def _rows(connection: Connection, name: str, kind: type[R], asked: dict[str, Any]) -> list[R]:
    async with connection.cursor(row_factory=class_row(kind)) as cursor:
        await cursor.execute(SQL[name], asked)
        return await cursor.fetchall()
