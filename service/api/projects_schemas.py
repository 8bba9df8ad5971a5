"""What projects and their members take and answer."""

from typing import Annotated

from pydantic import Field

from domain.events import (
    Role,
)
from service.wire import PathId, Text, Wire


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
