"""Projects and their members: each decision is one append to the project's stream."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from domain.deciders import project
from domain.events import Role
from service.eventlog.stream_ids import project_stream
from service.eventlog.transactions import Transaction


async def require_actor(transaction: Transaction, project_id: str, user_id: str) -> None:
    """Require a user that may act in the project. Raises NotAMember, ViewerOnly for a viewer."""
    project.require_actor(await transaction.load(project_stream(project_id)), user_id)


async def register(
    transaction: Transaction,
    *,
    project_id: str,
    name: str,
    framework: str | None,
    source_root: str | None,
    members: Mapping[str, Role],
) -> None:
    """Make a project known, with its first members. Raises ProjectExists."""
    decision = partial(
        project.register,
        project_id=project_id,
        name=name,
        framework=framework,
        source_root=source_root,
        members=members,
    )
    await transaction.decide(project_stream(project_id), decision)


async def describe(
    transaction: Transaction,
    *,
    project_id: str,
    changes: Mapping[str, Any],
    revisions: Collection[str] | None,
) -> None:
    """Change what the project is known by.

    Raises ProjectUnknown, and ProjectChanged unless the present revision is among `revisions`.
    """
    stream = project_stream(project_id)
    state = await transaction.load(stream)
    description = replace(state.description, **changes)
    decision = partial(project.describe, description=description, revisions=revisions)
    await transaction.decide(stream, decision)


async def add_member(
    transaction: Transaction, *, project_id: str, user_id: str, role: Role
) -> None:
    """Let a user act in the project, or change the role of a member. Raises LastOwner."""
    decision = partial(project.add_member, user_id=user_id, role=role)
    await transaction.decide(project_stream(project_id), decision)


async def remove_member(transaction: Transaction, *, project_id: str, user_id: str) -> None:
    """Take a user out of the project. Raises MemberUnknown, LastOwner."""
    decision = partial(project.remove_member, user_id=user_id)
    await transaction.decide(project_stream(project_id), decision)
