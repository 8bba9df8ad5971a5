"""Prompts are created and changed, and get versions: each decision is one append."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from domain.deciders import project, prompt
from domain.deciders.prompt import Source
from domain.errors import OwnersOnly
from service.commands.projects import require_actor
from service.eventlog.stream_ids import project_stream, prompt_stream
from service.eventlog.transactions import Transaction
from service.ids import new_id


async def create(
    transaction: Transaction,
    *,
    project_id: str,
    user_id: str,
    name: str,
    text: str,
    note: str | None = None,
    source: Source | None = None,
) -> str:
    """Create a prompt with its first version; returns its id. Raises NotAMember, ViewerOnly."""
    await require_actor(transaction, project_id, user_id)
    stream = prompt_stream(new_id(), project_id)
    transaction.begin(stream)
    creating = partial(
        prompt.create, prompt_id=stream.id, project_id=project_id, user_id=user_id, name=name
    )
    await transaction.decide(stream, creating)
    adding = partial(prompt.add_version, user_id=user_id, text=text, note=note, source=source)
    await transaction.decide(stream, adding)
    return stream.id


async def add_version(
    transaction: Transaction,
    *,
    project_id: str,
    prompt_id: str,
    user_id: str,
    text: str,
    note: str | None = None,
    source: Source | None = None,
) -> int:
    """Add a version to a prompt; returns its number. Of versions that are added at once, each gets
    a number of its own.

    Raises NotAMember, ViewerOnly, PromptUnknown, PromptRetired.
    """
    stream = prompt_stream(prompt_id, project_id)
    await transaction.recall(project_stream(project_id), stream)
    await require_actor(transaction, project_id, user_id)
    adding = partial(prompt.add_version, user_id=user_id, text=text, note=note, source=source)
    await transaction.decide(stream, adding)
    return (await transaction.load(stream)).versions


async def change(
    transaction: Transaction,
    *,
    project_id: str,
    prompt_id: str,
    user_id: str | None,
    changes: Mapping[str, Any],
    revisions: Collection[str] | None,
) -> None:
    """Change details of a prompt, for a user or for the tenant.

    Raises NotAMember, ViewerOnly, PromptUnknown, and PromptChanged unless the present revision is
    among `revisions`.
    """
    if user_id is not None:
        await require_actor(transaction, project_id, user_id)
    stream = prompt_stream(prompt_id, project_id)
    details = replace((await transaction.load(stream)).details, **changes)
    await transaction.decide(stream, partial(prompt.change, details=details, revisions=revisions))


async def request_erasure(
    transaction: Transaction, *, project_id: str, prompt_id: str, user_id: str | None
) -> None:
    """Close a prompt for good, for a user or for the tenant.

    Raises NotAMember, ViewerOnly, OwnersOnly, PromptUnknown.
    """
    stream = prompt_stream(prompt_id, project_id)
    await transaction.recall(project_stream(project_id), stream)
    if user_id is not None:
        known = await transaction.load(project_stream(project_id))
        project.require_actor(known, user_id)
        author = (await transaction.load(stream)).user_id
        if user_id != author and known.members[user_id] != "owner":
            raise OwnersOnly
    await transaction.decide(stream, prompt.request_erasure)
