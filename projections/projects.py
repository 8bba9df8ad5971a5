"""The projects and their members."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from psycopg.rows import class_row

from domain.events import (
    MemberAdded,
    MemberRemoved,
    ProjectErased,
    ProjectErasureRequested,
    ProjectLocked,
    ProjectRegistered,
    ProjectUnlocked,
    VersionDeployed,
)
from projections.projection import Connection, Projection
from projections.read import Read

PROJECTS: Final = Projection(
    name="projects",
    version=3,
    rules="7d130e10",
    handles=(
        ProjectRegistered,
        ProjectLocked,
        ProjectUnlocked,
        VersionDeployed,
        ProjectErasureRequested,
        ProjectErased,
    ),
)
MEMBERS: Final = Projection(
    name="members",
    version=2,
    rules="3e33abef",
    handles=(MemberAdded, MemberRemoved, ProjectErasureRequested),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectRow:
    """A project, with what the planner should know about it.

    `active_build_id` is the running build, `last_build_id` the last build that began, with its
    status and the time of its end (or of its order), `version_id` the version that is deployed
    since `modified_at`. From `erasing_since` on the project is hidden.
    """

    project_id: str
    name: str
    framework: str | None
    source_root: str | None
    registered_at: datetime
    active_build_id: str | None
    last_build_id: str | None
    version_id: str | None
    modified_at: datetime
    erasing_since: datetime | None
    last_build_status: str | None
    last_build_at: datetime | None


async def project(
    connection: Connection, *, tenant_id: str, project_id: str, user_id: str | None
) -> ProjectRow | None:
    """The project, or None. With a `user_id` the user must be a member."""
    read = project_read(tenant_id=tenant_id, project_id=project_id, user_id=user_id)
    await read.send(connection)
    return await read.row()


def project_read(*, tenant_id: str, project_id: str, user_id: str | None) -> Read[ProjectRow]:
    """The read of `project`, for a pipeline."""
    return Read(
        PROJECTS.statements["by_id" if user_id is None else "of_member"],
        class_row(ProjectRow),
        {"tenant_id": tenant_id, "project_id": project_id, "user_id": user_id},
    )


async def erasing(connection: Connection, *, limit: int) -> list[tuple[str, str]]:
    """Projects of all tenants that wait for erasure, oldest first: (tenant, project) ids."""
    found = await connection.execute(PROJECTS.statements["erasing"], {"limit": limit})
    return await found.fetchall()
