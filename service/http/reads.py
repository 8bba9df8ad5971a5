"""The common parts of reads: access to a project, cursors, and waiting for a position."""

import asyncio
from typing import Any, Final

from domain.errors import ProjectUnknown
from projections.projection import head, is_set_aside, reached
from projections.projects import ProjectRow, project
from service.eventlog.store import Unavailable
from service.http.call import AnyCall
from service.http.problems import BadRequest

WAIT_SECONDS: Final = 5.0
INCOMPLETE: Final = "X-Read-Model-Incomplete"
_STEP_SECONDS: Final = 0.05


async def visible_project(
    connection: Any, call: AnyCall, project_id: str, user_id: str | None
) -> ProjectRow:
    """The project if the acting user is a member. Raises ProjectUnknown, Forbidden.

    Without a user the tenant's own service acts: its key needs `admin` or `read`.
    """
    if user_id is None and "admin" not in call.caller.scopes:
        call.caller.require("read")
    row = await project(
        connection, tenant_id=call.tenant_id, project_id=project_id, user_id=user_id
    )
    if row is None or row.erasing_since is not None:
        raise ProjectUnknown
    if call.caller.project_id not in (None, project_id):
        raise ProjectUnknown
    return row


async def position_of(connection: Any, name: str, at_least: int | None) -> int:
    """The position of the read model, once it has come to `at_least`.

    Raises BadRequest for a position that the log itself has not come to, and Unavailable when the
    read model does not come to it in time.
    """
    position = await reached(connection, name)
    if at_least is None or position >= at_least:
        return position
    await come_to(connection, at_least)
    deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
    while position < at_least:
        if asyncio.get_running_loop().time() >= deadline:
            raise Unavailable("the read model has not come to the position in time")
        await asyncio.sleep(_STEP_SECONDS)
        position = await reached(connection, name)
    return position


async def come_to(connection: Any, position: int) -> int:
    """The log's head. Raises BadRequest for a position that the log has not come to."""
    at = await head(connection)
    if position > at:
        raise BadRequest(409, "position_not_in_log", "The log has not come to this position.")
    return at


def position_in(cursor: str | None, log_epoch: str) -> int | None:
    """The position of a cursor of this log. Raises BadRequest for any other."""
    if cursor is None:
        return None
    history, _, position = cursor.partition(".")
    if not position.isascii() or not position.isdigit() or len(position) > 18:
        raise BadRequest(422, "bad_cursor", "Use a cursor as an earlier answer gave it.")
    if history != log_epoch:
        raise BadRequest(
            409,
            "cursor_of_another_log",
            "The log was restored since this cursor was given. Read from the start again.",
        )
    return int(position)


async def incomplete(
    connection: Any,
    call: AnyCall,
    projection: str,
    *,
    stream_id: str | None = None,
    project_id: str | None = None,
) -> dict[str, str]:
    """The header X-Read-Model-Incomplete where a read model leaves out the stream, or any stream of
    the project, that the answer is about; else none."""
    left_out = await is_set_aside(
        connection,
        projection,
        tenant_id=call.tenant_id,
        stream_id=stream_id,
        project_id=project_id,
    )
    return {INCOMPLETE: projection} if left_out else {}
