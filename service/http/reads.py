"""The common parts of reads: access to a project, cursors, and waiting for a position."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import chain, repeat
from typing import Any, Final

from domain.errors import ProjectUnknown, Refused, SessionUnknown
from projections import sessions
from projections.projection import head, left_out, reached_with_gaps
from projections.projects import ProjectRow, project
from projections.sessions import Part, SessionRow
from service.eventlog.errors import ReadModelBehind
from service.eventlog.stream_ids import account_stream, build_stream, run_stream, session_stream
from service.http.call import AnyCall
from service.http.problems import BadRequest
from service.postgres.connections import Connection
from service.texts.templates import language_of

WAIT_SECONDS: Final = 5.0
"""How long a read waits until its read model has come to the position that was asked for."""

INCOMPLETE: Final = "X-Read-Model-Incomplete"
_PAUSES_SECONDS: Final = (0.02, 0.05, 0.1, 0.2, 0.5)
"""The pauses between two looks at the read model; the last pause repeats."""


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


async def visible_session(
    connection: Any, call: AnyCall, session_id: str, user_id: str | None
) -> SessionRow:
    """The session, for a member of its project; a private session for its own user alone, and for
    the tenant's own service. Raises SessionUnknown, ProjectUnknown, Forbidden.
    """
    row = await sessions.session(connection, tenant_id=call.tenant_id, session_id=session_id)
    if row is None or is_private_to_another(row.private_to, user_id):
        raise SessionUnknown
    await visible_project(connection, call, row.project_id, user_id)
    call.streams.add(str(session_stream(session_id)))
    call.streams.add(str(account_stream(call.tenant_id, row.user_id)))
    return row


async def shown_parts(connection: Any, call: AnyCall, row: SessionRow) -> tuple[Part, ...]:
    """The session with those that it was forked from, the nearest first."""
    parts = await sessions.parts(connection, tenant_id=call.tenant_id, row=row)
    call.streams.update(str(session_stream(each.session_id)) for each in parts)
    return parts


def is_private_to_another(private_to: str, user_id: str | None) -> bool:
    """Whether a row is for another user alone. The tenant's own service has no user and sees all of
    its tenant."""
    return private_to != "" and user_id not in (None, private_to)


@asynccontextmanager
async def reading_at(
    call: AnyCall, name: str, at_least: int | None
) -> AsyncGenerator[tuple[Connection, int]]:
    """A transaction of the caller's tenant, and the position of the read model in it.

    The read model has come to `at_least`. No connection is held while that is waited for. Raises
    BadRequest for a position that the log itself has not come to, and ReadModelBehind when the
    read model does not come to it in time, or has set aside what is missing.

    At the end the call notes which of its read models leave out something of the answer.
    """
    deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
    for pause in chain(_PAUSES_SECONDS, repeat(_PAUSES_SECONDS[-1])):
        async with call.reading() as connection:
            position, have_gaps = await reached_with_gaps(connection, name)
            if at_least is None or position >= at_least:
                try:
                    yield connection, position
                except Refused as refusal:
                    # What is missing because its stream is set aside is not unknown.
                    if at_least is not None and await _lacks(connection, call, have_gaps):
                        raise ReadModelBehind(name) from refusal
                    raise
                await _lacks(connection, call, have_gaps)
                return
            await come_to(connection, at_least)
        if asyncio.get_running_loop().time() >= deadline:
            raise ReadModelBehind(name)
        await asyncio.sleep(pause)


async def _lacks(connection: Connection, call: AnyCall, have_gaps: frozenset[str]) -> bool:
    """Whether read models of the call leave out something of the answer. Notes which."""
    if have_gaps & call.reads:
        await note_incomplete(connection, call)
    return bool(call.incomplete)


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


async def note_incomplete(connection: Connection, call: AnyCall) -> None:
    """Note which read models of the call leave out something of what its answer is about.

    That are the streams which the path names or the read has found. Where there are none it is the
    project, and without a project the tenant, with the account of the user. A private session is
    told in the answers about that session alone.
    """
    path, entry = call.path, call.entry
    streams = set(call.streams)
    if "buildId" in path:
        streams.add(str(build_stream(path["buildId"])))
    if "runId" in path:
        streams.add(str(run_stream(path["runId"])))
    if "userId" in path and "projectId" not in path:
        streams.add(str(account_stream(call.tenant_id, path["userId"])))
    is_wide = not streams
    if is_wide and entry.user_id is not None:
        streams.add(str(account_stream(call.tenant_id, entry.user_id)))
    call.incomplete.update(
        await left_out(
            connection,
            call.reads,
            tenant_id=call.tenant_id,
            stream_ids=streams,
            is_wide=is_wide,
            project_id=entry.project_id,
        )
    )


def in_language(locale: str | None) -> dict[str, str]:
    """The header Content-Language: the language of the service's own texts in an answer for a
    reader of this locale. Nothing for a reader who names no language."""
    return {} if locale is None else {"Content-Language": language_of(locale)}
