"""The builds, and the reports of their workers."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from psycopg.rows import class_row, scalar_row
from psycopg.types.numeric import Int8

from domain.events import (
    BuildClaimed,
    BuildErased,
    BuildFailed,
    BuildFault,
    BuildOperation,
    BuildProgressed,
    BuildQueued,
    Json,
    VersionDeployed,
)
from projections.projection import Connection, Projection
from projections.read import Read

BUILDS: Final = Projection(
    name="builds",
    version=3,
    rules="2d564d12",
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
    version=3,
    rules="295348d9",
    views=("project_build_events",),
    handles=(BuildProgressed, BuildErased),
)

BuildStatus = Literal["queued", "running", "succeeded", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRow:
    """A build. `heard_at` is the time of the last report. `cursor` names the event that queued
    the build."""

    build_id: str
    project_id: str
    session_id: str
    message_id: str
    user_id: str
    prompt: str
    locale: str
    plan: Json
    converted_from_session_id: str | None
    operation: BuildOperation | None
    status: BuildStatus
    worker_id: str | None
    phase: str | None
    title: str | None
    version_id: str | None
    preview_url: str | None
    artifact_url: str | None
    code: BuildFault | None
    error: str | None
    queued_at: datetime
    claimed_at: datetime | None
    heard_at: datetime
    ended_at: datetime | None
    queued_position: int
    cursor: str

    @property
    def duration_ms(self) -> int | None:
        """Milliseconds from the queue to the end; None while the build runs."""
        if self.ended_at is None:
            return None
        return round((self.ended_at - self.queued_at).total_seconds() * 1_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildEventRow:
    """A worker's report; `at` is the time by the worker's clock. `seconds` and `tokens` are what
    the build used, by the report of its end."""

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
    seconds: int | None
    tokens: int | None
    at: datetime
    cursor: str


async def of_ids(
    connection: Connection, *, tenant_id: str, build_ids: Collection[str]
) -> dict[str, BuildRow]:
    """The builds with these ids, by id. An unknown id has no entry."""
    rows = await _builds(connection, "of_ids", tenant_id=tenant_id, build_ids=list(build_ids))
    return {row.build_id: row for row in rows}


def build_read(*, tenant_id: str, build_id: str) -> Read[BuildRow]:
    """The build with this id, for a pipeline."""
    asked = {"tenant_id": tenant_id, "build_ids": [build_id]}
    return Read(BUILDS.statements["of_ids"], class_row(BuildRow), asked)


async def open_builds(
    connection: Connection,
    *,
    tenant_id: str,
    status: Literal["queued", "running"],
    worker_id: str | None,
    after: int,
    limit: int,
) -> list[BuildRow]:
    """Open builds, oldest first, that were queued after a position."""
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
    """A project's builds, newest first, that were queued before a position."""
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
    """Open builds of all tenants without a report for so long: (tenant, project, build) ids."""
    found = await connection.execute(
        BUILDS.statements["silent"], {"silent_seconds": silent_seconds, "limit": limit}
    )
    return await found.fetchall()


def is_silent(*, tenant_id: str, build_id: str, silent_seconds: float) -> Read[bool]:
    """Whether the build is without a report for so long, for a pipeline."""
    asked = {"tenant_id": tenant_id, "build_id": build_id, "silent_seconds": silent_seconds}
    return Read(BUILDS.statements["is_silent"], scalar_row, asked)


async def events(
    connection: Connection,
    *,
    tenant_id: str,
    build_id: str,
    with_hidden: bool,
    after: int,
    limit: int,
) -> list[BuildEventRow]:
    """The reports of a build after a position, in log order."""
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
