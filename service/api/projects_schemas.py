"""What projects and their members take and answer."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field, model_validator

from domain.deciders.project import Description
from domain.events import Role
from projections.projects import ListedProject, MemberRow, ProjectRow
from service.api.schemas import PageSize, PastPageQuery, PastQuery
from service.wire import Id, PathId, Text, Wire


class MemberEntry(Wire):
    """A user and what they may do in the project."""

    user_id: PathId
    role: Role = "editor"


class ProjectRequest(Wire):
    """A project to be known, with its first members."""

    project_id: PathId
    name: Annotated[Text, Field(min_length=1, max_length=200)]
    framework: Annotated[Text, Field(max_length=200)] | None = None
    source_root: Annotated[Text, Field(max_length=1_000)] | None = None
    members: Annotated[list[MemberEntry], Field(min_length=1, max_length=1_000)]


class RoleRequest(Wire):
    """What a member may do."""

    role: Role = "editor"


class ProjectAnswer(Wire):
    project_id: str


class MemberAnswer(Wire):
    project_id: str
    user_id: str
    role: Role


class ProjectsQuery(PastPageQuery):
    """A page of projects, newest first: a user's projects, or without `userId` the tenant's."""


class DescriptionRequest(Wire):
    """What changes. A member that is left out stays; null empties `framework`, `sourceRoot`."""

    name: Annotated[Text, Field(min_length=1, max_length=200)] | None = None
    framework: Annotated[Text, Field(max_length=200)] | None = None
    source_root: Annotated[Text, Field(max_length=1_000)] | None = None

    @model_validator(mode="after")
    def _names_a_change(self) -> "DescriptionRequest":
        if not self.model_fields_set:
            raise ValueError("name, framework or sourceRoot is needed")
        if "name" in self.model_fields_set and self.name is None:
            raise ValueError("a name is a text")
        return self

    @property
    def changes(self) -> dict[str, Any]:
        """The members that were sent."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class MembersQuery(PastQuery):
    """A page of members after a user's id, in the order of the ids."""

    limit: PageSize = 100
    after: Annotated[Id, Field(description="The id of a user: the members after it.")] | None = None


class ProjectEntry(Wire):
    """A project. `role` is the acting user's, and absent without a user.

    `activeBuildId` is the build that runs, `lastBuildId` the last build that began, `versionId` the
    version that is deployed since `lastModified`.
    """

    project_id: str
    name: str
    framework: str | None = None
    source_root: str | None = None
    role: Role | None = None
    active_build_id: str | None = None
    last_build_id: str | None = None
    version_id: str | None = None
    created_at: datetime
    last_modified: datetime


class Projects(Wire):
    """A page of projects, newest first; `before` leads on while there are more."""

    projects: list[ProjectEntry]
    has_more: bool
    before: str | None = None


class Membership(Wire):
    """A member, and the role since a time."""

    user_id: str
    role: Role
    since: datetime


class Members(Wire):
    """A page of members by their ids; `after` leads on while there are more."""

    members: list[Membership]
    has_more: bool
    after: str | None = None


def project_entry(row: ProjectRow, role: Role | None) -> ProjectEntry:
    """A project as JSON."""
    return ProjectEntry(
        project_id=row.project_id,
        name=row.name,
        framework=row.framework,
        source_root=row.source_root,
        role=role,
        active_build_id=row.active_build_id,
        last_build_id=row.last_build_id,
        version_id=row.version_id,
        created_at=row.registered_at,
        last_modified=row.modified_at,
    )


def etag(row: ProjectRow) -> str:
    """The entity tag of what a request can change of the project."""
    described = Description(name=row.name, framework=row.framework, source_root=row.source_root)
    return f'"{described.revision}"'


def projects(rows: Sequence[ListedProject], limit: int) -> Projects:
    """A page of projects; `rows` has one more than the page where there are more."""
    shown = rows[:limit]
    return Projects(
        projects=[project_entry(row, row.role) for row in shown],
        has_more=len(rows) > limit,
        before=shown[-1].cursor if shown else None,
    )


def members(rows: Sequence[MemberRow], limit: int) -> Members:
    """A page of members; `rows` has one more than the page where there are more."""
    shown = rows[:limit]
    return Members(
        members=[Membership.model_validate(row, from_attributes=True) for row in shown],
        has_more=len(rows) > limit,
        after=shown[-1].user_id if shown else None,
    )
