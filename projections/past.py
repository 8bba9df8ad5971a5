"""The read models as they were at an earlier position of the log.

Projects, or one account, are folded anew by the rules of the live read models, up to the position,
into tables of the schema `past`. Then the reads of the live read models read those tables. What was
erased since is not in them. The caller's transaction ends with a rollback: no row is ever stored.
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
from projections.projection import PAST, Connection, in_past
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
"""The read models that are folded for projects."""

OF_ACCOUNT: Final = (ACCOUNTS, CONSUMPTION)
"""The read models that are folded for an account."""

_NAMES: Final = [each.name for each in PROJECTIONS]


class TooLarge(Exception):
    """More events than a reader of the past may fold."""


class _PastCursor(AsyncCursor[Any]):
    """Executes the statements of the live read models on those of the past."""

    async def execute(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        return await super().execute(_moved(query), *args, **kwargs)


@cache
def _moved(query: bytes) -> bytes:
    return in_past(query, _NAMES)


def turn_back(connection: Connection) -> None:
    """Let the next statements read the read models of the past, which are folded already."""
    connection.cursor_factory = _PastCursor


async def position_at(connection: Connection, time: datetime) -> int:
    """The position of the last event that was recorded at or before a time; 0 if there is none."""
    async with connection.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(PAST["position_at"], {"time": time})
        found: int = await cursor.fetchone() or 0
        return found


async def fold_projects(
    connection: Connection, project_ids: Sequence[str], upto: int, *, most: int
) -> None:
    """Fold these projects of the transaction's tenant up to a position. Raises TooLarge."""
    names = [each.name for each in OF_PROJECT]
    await _fold(connection, list(project_ids), None, upto, names, most)


async def fold_account(connection: Connection, user_id: str, upto: int, *, most: int) -> None:
    """Fold the account of a user of the transaction's tenant. Raises TooLarge."""
    await _fold(connection, [], user_id, upto, [each.name for each in OF_ACCOUNT], most)


async def _fold(
    connection: Connection,
    project_ids: list[str],
    user_id: str | None,
    upto: int,
    names: list[str],
    most: int,
) -> None:
    asked = {
        "project_ids": project_ids,
        "user_id": user_id,
        "upto": Int8(upto),
        "names": names,
        "most": Int8(most),
    }
    await connection.execute(PAST["limit_time"])
    async with connection.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(PAST["fold"], asked)
        if (await cursor.fetchone() or 0) > most:
            raise TooLarge
