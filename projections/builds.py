"""The builds, and what their workers reported."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from psycopg.rows import class_row
from psycopg.types.numeric import Int8

from domain.events import (
    BuildClaimed,
    BuildErased,
    BuildFailed,
    BuildProgressed,
    BuildQueued,
    Json,
    VersionDeployed,
)
from projections.projection import Connection, Projection

BUILDS: Final = Projection(
    name="builds",
    version=2,
    rules="9602b949",
    views=("project_builds",),
    handles=(
        BuildQueued,
        BuildClaimed,
        BuildProgressed,
        BuildFailed,
        VersionDeployed,
        BuildErased,
    ),
)
BUILD_EVENTS: Final = Projection(
    name="build_events",
    version=2,
    rules="2549acc5",
    views=("project_build_events",),
    handles=(BuildProgressed, BuildErased),
)

BuildStatus = Literal["queued", "running", "succeeded", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRow:
    """A build as it is. `heard_at` is when somebody reported of it last."""

    build_id: str
    project_id: str
    session_id: str
    message_id: str
    user_id: str
    prompt: str
    locale: str
    plan: Json
    converted_from_session_id: str | None
    status: BuildStatus
    worker_id: str | None
    phase: str | None
    title: str | None
    version_id: str | None
    preview_url: str | None
    artifact_url: str | None
    code: str | None
    error: str | None
    queued_at: datetime
    claimed_at: datetime | None
    heard_at: datetime
    ended_at: datetime | None
    queued_position: int

    @property
    def duration_ms(self) -> int | None:
        """From queued to its end, in milliseconds; None while it goes on."""
        if self.ended_at is None:
            return None
        return round((self.ended_at - self.queued_at).total_seconds() * 1_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildEventRow:
    """One thing that a worker reported; `at` is its clock's time."""

    position: int
    event_id: str
    phase: str
    type: str
    title: str
    user_visible: bool
    version_id: str | None
    preview_url: str | None
    artifact_url: str | None
    error: str | None
    at: datetime


async def of_ids(
    connection: Connection, *, tenant_id: str, build_ids: Collection[str]
) -> dict[str, BuildRow]:
    """Those of the builds that there are, by id."""
    rows = await _builds(connection, "of_ids", tenant_id=tenant_id, build_ids=list(build_ids))
    return {row.build_id: row for row in rows}


async def open_builds(
    connection: Connection,
    *,
    tenant_id: str,
    status: Literal["queued", "running"],
    worker_id: str | None,
    after: int,
    limit: int,
) -> list[BuildRow]:
    """Builds that wait or go on, oldest first, after the position where they were queued."""
    return await _builds(
        connection,
        "open",
        tenant_id=tenant_id,
        status=status,
        worker_id=worker_id,
        after=Int8(after),
        limit=limit,
    )


async def of_project(
    connection: Connection,
    *,
    tenant_id: str,
    project_id: str,
    status: BuildStatus | None,
    before: int,
    limit: int,
) -> list[BuildRow]:
    """A project's builds, newest first, before the position where they were queued."""
    return await _builds(
        connection,
        "of_project",
        tenant_id=tenant_id,
        project_id=project_id,
        status=status,
        before=Int8(before),
        limit=limit,
    )


async def silent(
    connection: Connection, *, silent_seconds: float, limit: int
) -> list[tuple[str, str, str]]:
    """Open builds of all tenants that nobody has spoken of for so long: tenant, project, id."""
    found = await connection.execute(
        BUILDS.statements["silent"], {"silent_seconds": silent_seconds, "limit": limit}
    )
    return await found.fetchall()


async def events(
    connection: Connection,
    *,
    tenant_id: str,
    build_id: str,
    with_hidden: bool,
    after: int,
    limit: int,
) -> list[BuildEventRow]:
    """What was reported of a build, in log order, after a position."""
    async with connection.cursor(row_factory=class_row(BuildEventRow)) as cursor:
        await cursor.execute(
            BUILD_EVENTS.statements["page"],
            {
                "tenant_id": tenant_id,
                "build_id": build_id,
                "with_hidden": with_hidden,
                "after": Int8(after),
                "limit": limit,
            },
        )
        return await cursor.fetchall()


async def _builds(connection: Connection, name: str, **parameters: Any) -> list[BuildRow]:
    async with connection.cursor(row_factory=class_row(BuildRow)) as cursor:
        await cursor.execute(BUILDS.statements[name], parameters)
        return await cursor.fetchall()
