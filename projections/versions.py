"""The versions of the projects."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from psycopg.rows import class_row
from psycopg.types.numeric import Int8

from domain.events import BuildErased, VersionDeployed
from projections.projection import Connection, Projection
from projections.read import Read

VERSIONS: Final = Projection(
    name="versions",
    version=2,
    rules="5ca674cc",
    views=("project_versions",),
    handles=(VersionDeployed, BuildErased),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRow:
    """A version that was deployed, and the build that made it."""

    version_id: str
    build_id: str
    preview_url: str | None
    artifact_url: str | None
    deployed_at: datetime
    position: int
    cursor: str


def version_read(*, tenant_id: str, project_id: str, version_id: str) -> Read[VersionRow]:
    """The version with this id, for a pipeline."""
    asked = {"tenant_id": tenant_id, "project_id": project_id, "version_id": version_id}
    return Read(VERSIONS.statements["of_id"], class_row(VersionRow), asked)


async def newest(
    connection: Connection, *, tenant_id: str, project_id: str, before: int, limit: int
) -> list[VersionRow]:
    """A project's versions, newest first, before a position."""
    async with connection.cursor(row_factory=class_row(VersionRow)) as cursor:
        await cursor.execute(
            VERSIONS.statements["newest"],
            {
                "tenant_id": tenant_id,
                "project_id": project_id,
                "before": Int8(before),
                "limit": limit,
            },
        )
        return await cursor.fetchall()
