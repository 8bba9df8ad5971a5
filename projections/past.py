"""The read models as they were at an earlier position of the log.

The events of projects, or of one account, are copied up to the position. From them each read model
is folded anew by the rules of the live one, into tables of the schema `past`, when the first
statement reads it. Then the statements of the live read models read those tables. What was erased
since is not in them. The caller's transaction ends with a rollback: no row is ever stored.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any, Final

from psycopg import AsyncCursor
from psycopg.rows import scalar_row
from psycopg.types.numeric import Int8

from projections import PROJECTIONS
from projections.accounts import ACCOUNTS
from projections.builds import BUILD_EVENTS, BUILDS
from projections.consumption import CONSUMPTION
from projections.projection import PAST, Connection, in_past, read_in_past
from projections.projects import MEMBERS, PROJECTS
from projections.prompts import PROMPT_VERSIONS, PROMPTS
from projections.runs import RUN_CANDIDATES, RUN_STEPS, RUNS
from projections.sessions import SESSIONS
from projections.timeline import TIMELINE
from projections.versions import VERSIONS

OF_PROJECT: Final = (
    TIMELINE,
    SESSIONS,
    PROJECTS,
    MEMBERS,
    BUILDS,
    BUILD_EVENTS,
    VERSIONS,
    PROMPTS,
    PROMPT_VERSIONS,
    RUNS,
    RUN_STEPS,
    RUN_CANDIDATES,
)
"""The read models of a project that have a past."""

OF_ACCOUNT: Final = (ACCOUNTS, CONSUMPTION)
"""The read models of an account that have a past."""

_NAMES: Final = [each.name for each in PROJECTIONS]
_FOLDED: Final = frozenset(each.name for each in (*OF_PROJECT, *OF_ACCOUNT))


class TooLarge(Exception):
    """More events than a reader of the past may copy."""


class _PastCursor(AsyncCursor[Any]):
    """Executes the statements of the live read models on the read models of the past."""

    upto: int
    folded: set[str]
    """The read models that are folded already in the transaction."""

    async def execute(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        moved, names = _moved(query)
        if missing := names - self.folded:
            self.folded |= missing
            await fold_models(self.connection, sorted(missing), self.upto)
        return await super().execute(moved, *args, **kwargs)


@cache
def _moved(query: bytes) -> tuple[bytes, frozenset[str]]:
    """The statement as it reads the past, and the read models that it reads there."""
    moved = in_past(query, _NAMES)
    return moved, frozenset(each.decode() for each in read_in_past(moved)) & _FOLDED


def turn_back(connection: Connection, upto: int) -> None:
    """Let the next statements read the read models as they were at the position, up to which the
    events are copied already. The first statement that reads a read model has it folded."""
    state = {"upto": upto, "folded": set[str]()}
    connection.cursor_factory = type("PastCursor", (_PastCursor,), state)


async def fold_models(connection: Connection, names: Sequence[str], upto: int) -> None:
    """Fold the copied events into these read models of the past, each of them once."""
    async with AsyncCursor(connection) as cursor:
        await cursor.execute(PAST["fold_models"], {"names": list(names), "upto": Int8(upto)})


async def position_at(connection: Connection, time: datetime) -> int:
    """The position of the last event that was recorded at or before a time; 0 if there is none."""
    async with connection.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(PAST["position_at"], {"time": time})
        found: int = await cursor.fetchone() or 0
        return found


async def copy_projects(
    connection: Connection, project_ids: Sequence[str], upto: int, *, most: int
) -> None:
    """Copy the events of these projects of the transaction's tenant up to a position. Raises
    TooLarge."""
    await _copy(connection, list(project_ids), None, upto, most)


async def copy_account(connection: Connection, user_id: str, upto: int, *, most: int) -> None:
    """Copy the events of the account of a user of the transaction's tenant. Raises TooLarge."""
    await _copy(connection, [], user_id, upto, most)


async def _copy(
    connection: Connection, project_ids: list[str], user_id: str | None, upto: int, most: int
) -> None:
    asked = {
        "project_ids": project_ids,
        "user_id": user_id,
        "upto": Int8(upto),
        "names": list[str](),
        "most": Int8(most),
    }
    await connection.execute(PAST["limit_time"])
    async with connection.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(PAST["fold"], asked)
        if (await cursor.fetchone() or 0) > most:
            raise TooLarge
