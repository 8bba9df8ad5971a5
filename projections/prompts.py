"""The prompts and their versions."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from psycopg.rows import class_row
from psycopg.types.numeric import Int8

from domain.deciders.prompt import Details
from domain.events import (
    PromptArchived,
    PromptCreated,
    PromptErased,
    PromptErasureRequested,
    PromptRenamed,
    PromptRestored,
    PromptVersionAdded,
)
from projections.projection import Connection, Projection

PROMPTS: Final = Projection(
    name="prompts",
    version=1,
    rules="5538c148",
    views=("prompts",),
    handles=(
        PromptCreated,
        PromptVersionAdded,
        PromptRenamed,
        PromptArchived,
        PromptRestored,
        PromptErasureRequested,
        PromptErased,
    ),
)
PROMPT_VERSIONS: Final = Projection(
    name="prompt_versions",
    version=1,
    rules="0e893195",
    views=("prompt_versions",),
    handles=(PromptVersionAdded, PromptErasureRequested, PromptErased),
)

PromptStatus = Literal["active", "archived"]
Sort = Literal["recent", "oldest", "name"]
"""The orders of a list: by the newest version, newest or oldest first; by name."""

_FIRST: Final = -(2**63)
_LAST: Final = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptRow:
    """A prompt. `versions` is the number of the newest version, which was added at `active_at`.

    `saved_runs` is how many sessions the user has made of the prompt; None without a user.
    """

    prompt_id: str
    project_id: str
    user_id: str
    name: str
    status: PromptStatus
    versions: int
    created_at: datetime
    active_at: datetime
    active_position: int
    saved_runs: int | None

    @property
    def details(self) -> Details:
        """What a user can change, as the decider knows it."""
        return Details(name=self.name, is_archived=self.status == "archived")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedPrompt(PromptRow):
    """A prompt of a list. Its keys say where it stands in the order of the list."""

    name_key: str
    position_key: int
    cursor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRow:
    """A version of a prompt, with the prompt's present `name` and `status`.

    `usage_count` is the number of sessions that are made of the version. `text` is None in lists.
    """

    prompt_id: str
    project_id: str
    number: int
    prompt_version_id: str
    user_id: str
    text: str | None
    placeholders: list[str]
    note: str | None
    source_session_id: str | None
    source_message_id: str | None
    created_at: datetime
    name: str
    status: PromptStatus
    usage_count: int


async def prompt(
    connection: Connection, *, tenant_id: str, prompt_id: str, user_id: str | None
) -> PromptRow | None:
    """The prompt, with the number of the user's sessions made of it; or None."""
    async with connection.cursor(row_factory=class_row(PromptRow)) as cursor:
        asked = {"tenant_id": tenant_id, "prompt_id": prompt_id, "user_id": user_id}
        await cursor.execute(PROMPTS.statements["of_id"], asked)
        return await cursor.fetchone()


async def page(
    connection: Connection,
    *,
    tenant_id: str,
    project_id: str,
    user_id: str | None,
    statuses: Collection[PromptStatus],
    query: str,
    sort: Sort,
    after: tuple[str, int] | None,
    limit: int,
) -> list[ListedPrompt]:
    """The prompts of a project whose names contain `query`, after the keys of an entry."""
    name, position = after or ("", _LAST if sort == "recent" else _FIRST)
    asked = {
        "tenant_id": tenant_id,
        "project_id": project_id,
        "user_id": user_id,
        "statuses": list(statuses),
        "query": query,
        "before": Int8(position),
        "after": Int8(position),
        "after_name": name,
        "after_position": Int8(position),
        "limit": limit,
    }
    async with connection.cursor(row_factory=class_row(ListedPrompt)) as cursor:
        await cursor.execute(PROMPTS.statements[f"page_{sort}"], asked)
        return await cursor.fetchall()


async def version(
    connection: Connection, *, tenant_id: str, prompt_id: str, number: int
) -> VersionRow | None:
    """The version with this number, or None."""
    async with connection.cursor(row_factory=class_row(VersionRow)) as cursor:
        asked = {"tenant_id": tenant_id, "prompt_id": prompt_id, "number": number}
        await cursor.execute(PROMPT_VERSIONS.statements["of_number"], asked)
        return await cursor.fetchone()


async def versions(
    connection: Connection, *, tenant_id: str, prompt_id: str, before: int, limit: int
) -> list[VersionRow]:
    """The versions of a prompt, newest first, below a number, without their texts."""
    async with connection.cursor(row_factory=class_row(VersionRow)) as cursor:
        asked = {"tenant_id": tenant_id, "prompt_id": prompt_id, "below": before, "limit": limit}
        await cursor.execute(PROMPT_VERSIONS.statements["page"], asked)
        return await cursor.fetchall()


async def erasing(connection: Connection, *, limit: int) -> list[tuple[str, str, str]]:
    """Prompts of all tenants that wait for erasure, oldest first: (tenant, project, prompt) ids."""
    found = await connection.execute(PROMPTS.statements["erasing"], {"limit": limit})
    return await found.fetchall()
