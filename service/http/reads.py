"""The common parts of reads: access to a project, cursors, and waiting for a position."""

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from itertools import chain, repeat
from typing import Any, Final, TypeAlias

from domain.errors import ProjectUnknown, Refused, SessionUnknown
from projections import past, sessions
from projections.projection import head, left_out, reached_with_gaps
from projections.projects import ProjectRow, page, project
from projections.sessions import Part, SessionRow
from service.eventlog.errors import ReadModelBehind
from service.eventlog.store import END, is_lost, lost_cursors
from service.eventlog.stream_ids import account_stream, build_stream, run_stream, session_stream
from service.http.call import AnyCall
from service.http.problems import BadRequest
from service.ops.metrics import REPLICA_READS
from service.postgres.connections import Connection, tenant_transaction
from service.texts.templates import language_of
from service.wire import position_of

WAIT_SECONDS: Final = 5.0
"""How long a read waits until its read model has come to the position that was asked for."""

INCOMPLETE: Final = "X-Read-Model-Incomplete"
_POSITION: Final = re.compile(r"[0-9]{1,18}", re.ASCII)
_LIKE_A_CURSOR: Final = re.compile(r"[0-9a-f]+\.[0-9a-f]+")
_OF_AN_EPOCH: Final = re.compile(r"[0-9a-f]{8}\.[0-9]{1,18}")
"""The cursors that the service gave before a cursor named an event."""

_PAUSES_SECONDS: Final = (0.02, 0.05, 0.1, 0.2, 0.5)
"""The pauses between two looks at the read model; the last pause repeats."""

_REPLICA_PAUSES_SECONDS: Final = (0.005, 0.02, 0.05)
"""The pauses between two looks at the replica, before the primary is asked."""


async def visible_project(
    connection: Any, call: AnyCall, project_id: str, user_id: str | None
) -> ProjectRow:
    """The project if the acting user is a member. Raises ProjectUnknown, Forbidden.

    Without a user the tenant's own service acts: its key needs `admin` or `read`.

    In a read of the past the user must be a member now. Then the project is folded: this row and
    all that is read next is as it was. Raises BadRequest for a project that is too large for that.
    """
    if call.past.is_folded:
        return await _project_then(connection, call, project_id)
    if user_id is None and "admin" not in call.caller.scopes:
        call.caller.require("read")
    row = await project(
        connection, tenant_id=call.tenant_id, project_id=project_id, user_id=user_id
    )
    if row is None or row.erasing_since is not None:
        raise ProjectUnknown
    if call.caller.project_id not in (None, project_id):
        raise ProjectUnknown
    if call.past.position is None:
        return row
    await fold_project(connection, call, project_id)
    return await _project_then(connection, call, project_id)


async def _project_then(connection: Connection, call: AnyCall, project_id: str) -> ProjectRow:
    """The project as it was. The schema `past` has the projects that this call has folded."""
    row = await project(connection, tenant_id=call.tenant_id, project_id=project_id, user_id=None)
    if row is None:
        raise ProjectUnknown
    return row


async def fold_account(connection: Connection, call: AnyCall, user_id: str) -> None:
    """In a read of the past, fold the account of a user. The next reads show the account as it was.

    Raises BadRequest for an account that is too large for that.
    """
    if call.past.position is not None:
        await _fold(connection, call, past.copy_account, user_id)


async def fold_project(connection: Connection, call: AnyCall, project_id: str) -> None:
    """In a read of the past, fold a project that the caller may see. The next reads show the
    project as it was. Raises BadRequest for a project that is too large for that."""
    if call.past.position is not None:
        await _fold(connection, call, past.copy_projects, [project_id])


async def fold_projects_of(connection: Connection, call: AnyCall, user_id: str | None) -> None:
    """In a read of the past, fold the projects that have the user as a member now. Without a user,
    fold all projects of the tenant. The next reads show these projects as they were.

    Raises BadRequest where the projects are too large for that.
    """
    if call.past.position is None:
        return
    most = call.service.settings.past_events
    known = await page(
        connection, tenant_id=call.tenant_id, user_id=user_id, before=END, limit=most
    )
    await _fold(connection, call, past.copy_projects, [row.project_id for row in known])


async def _fold(
    connection: Connection, call: AnyCall, fold: Callable[..., Awaitable[None]], what: object
) -> None:
    most = call.service.settings.past_events
    try:
        await fold(connection, what, call.past.position, most=most)
    except past.TooLarge:
        detail = (
            f"Up to this moment there are more than {most} events, which is too much for asOf. "
            "Name an earlier moment, or read the events themselves: GET /v1/events."
        )
        raise BadRequest(422, "past_too_large", detail) from None
    past.turn_back(connection, call.past.position or 0)
    call.past.is_folded = True


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
    if call.past.is_folded:
        row = await sessions.session(connection, tenant_id=call.tenant_id, session_id=session_id)
        if row is None:
            raise SessionUnknown
    call.streams.add(str(session_stream(session_id)))
    call.streams.add(str(account_stream(call.tenant_id, row.user_id)))
    return row


async def shown_parts(connection: Any, call: AnyCall, row: SessionRow) -> tuple[Part, ...]:
    """The session, then the sessions that it was forked from, the nearest first."""
    parts = await sessions.parts(connection, tenant_id=call.tenant_id, row=row)
    call.streams.update(str(session_stream(each.session_id)) for each in parts)
    return parts


def is_private_to_another(private_to: str, user_id: str | None) -> bool:
    """Whether a row is for another user alone. The tenant's own service has no user and sees all of
    its tenant."""
    return private_to != "" and user_id not in (None, private_to)


@asynccontextmanager
async def reading_at(
    call: AnyCall, name: str, at_least: int | None, as_of: str | None = None
) -> AsyncGenerator[tuple[Connection, int]]:
    """A transaction of the caller's tenant, and the position of the read model in it.

    With `as_of` the position is that moment. The caller first calls `visible_project` or a function
    that folds: they turn the connection back to the moment.

    The read model has come to `at_least`. No connection is held while that is waited for. Raises
    BadRequest for a position that the log itself has not come to, and ReadModelBehind when the
    read model does not come to it in time, or has set aside what is missing.

    Where the call may ask the replica, the replica has also come to all that this process knows of
    the log. Otherwise the transaction is one of the primary.

    At the end the call notes which of its read models leave out something of the answer.
    """
    if as_of is not None:
        async with _reading_past(call, name, as_of) as then:
            yield then
        return
    async with AsyncExitStack() as stack:
        found = await _on_replica(stack, call, name, at_least)
        connection, position, have_gaps = found or await _on_primary(stack, call, name, at_least)
        try:
            yield connection, position
        except Refused as refusal:
            # What is missing because its stream is set aside is not unknown.
            if at_least is not None and await _lacks(connection, call, have_gaps):
                raise ReadModelBehind(name) from refusal
            raise
        await _lacks(connection, call, have_gaps)


_Found: TypeAlias = tuple[Connection, int, frozenset[str]]
"""A transaction, the position of the read model in it, and the read models that have gaps."""


async def _on_primary(
    stack: AsyncExitStack, call: AnyCall, name: str, at_least: int | None
) -> _Found:
    """A transaction in which the read model has come to a position. Raises as `reading_at`."""
    deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
    for pause in chain(_PAUSES_SECONDS, repeat(_PAUSES_SECONDS[-1])):
        async with AsyncExitStack() as attempt:
            connection = await attempt.enter_async_context(call.reading())
            position, have_gaps = await _reached(connection, call, name)
            if at_least is None or position >= at_least:
                stack.push_async_exit(attempt.pop_all())
                return connection, position, have_gaps
            await come_to(connection, at_least)
        if asyncio.get_running_loop().time() >= deadline:
            break
        await asyncio.sleep(pause)
    raise ReadModelBehind(name)


async def _on_replica(
    stack: AsyncExitStack, call: AnyCall, name: str, at_least: int | None
) -> _Found | None:
    """The same on the replica, which has also come to all that this process knows of the log.

    None where the call must not ask the replica, or where the replica does not come to it soon.
    """
    replica = call.route.replica
    known = replica.known_head() if replica else None
    if replica is None or known is None:
        return None
    before, call.route.is_replica = call.route.is_replica, True
    for pause in (*_REPLICA_PAUSES_SECONDS, None):
        async with AsyncExitStack() as attempt:
            transaction = tenant_transaction(replica.pool, call.tenant_id)
            connection = await attempt.enter_async_context(transaction)
            position, have_gaps = await reached_with_gaps(connection, name)
            is_new = position >= known or await head(connection) >= known
            # A cursor that the replica does not know is the primary's to refuse.
            if is_new and position >= (at_least or 0) and not await _lost(connection, call):
                stack.push_async_exit(attempt.pop_all())
                REPLICA_READS.labels("replica").inc()
                return connection, position, have_gaps
        if pause is not None:
            await asyncio.sleep(pause)
    call.route.is_replica = before
    REPLICA_READS.labels("primary").inc()
    return None


async def _reached(connection: Connection, call: AnyCall, name: str) -> tuple[int, frozenset[str]]:
    """`reached_with_gaps`. Refuses in the same round trip the cursors of the call whose events the
    log does not have. Raises BadRequest."""
    if not call.cursors:
        return await reached_with_gaps(connection, name)
    lost = lost_cursors(call.cursors)
    await lost.send(connection)
    found = await reached_with_gaps(connection, name)
    require_none_lost(await lost.rows())
    return found


async def _lost(connection: Connection, call: AnyCall) -> list[str]:
    """Those cursors of the call whose events the log does not have."""
    if not call.cursors:
        return []
    lost = lost_cursors(call.cursors)
    await lost.send(connection)
    return await lost.rows()


@asynccontextmanager
async def _reading_past(
    call: AnyCall, name: str, as_of: str
) -> AsyncGenerator[tuple[Connection, int]]:
    """A transaction for a read of the past, and the position of that moment."""
    async with call.service.heavy_reads.turn(), call.reading_past() as connection:
        _, have_gaps = await _reached(connection, call, name)
        call.past.position = await moment(connection, as_of)
        try:
            yield connection, call.past.position
            assert call.past.is_folded, "the answer would show the present"
            await _lacks(connection, call, have_gaps)
        finally:
            call.past.position, call.past.is_folded = None, False


async def moment(connection: Connection, as_of: str) -> int:
    """The position of a moment: a cursor, a position, or a time as in RFC 3339.

    Raises BadRequest for anything else, and for a moment that has not come yet.
    """
    if _LIKE_A_CURSOR.fullmatch(as_of):
        position = _position_of(as_of)
        if await is_lost(connection, as_of):
            require_none_lost([as_of])
        return position
    if _POSITION.fullmatch(as_of):
        if int(as_of) <= await head(connection):
            return int(as_of)
        raise _unknown_moment("The log has not come to this moment yet.")
    try:
        time = datetime.fromisoformat(as_of)
        has_come = time <= datetime.now(UTC)
    except (ValueError, TypeError):
        raise _unknown_moment("This is no moment.") from None
    if not has_come:
        raise _unknown_moment("This time has not come yet.")
    return await past.position_at(connection, time)


def _unknown_moment(reason: str) -> BadRequest:
    hint = (
        "Give asOf a cursor of an earlier answer, a position, or a time that has passed, with its "
        "offset."
    )
    return BadRequest(422, "moment_unknown", f"{reason} {hint}")


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


def position_in(call: AnyCall, cursor: str | None) -> int | None:
    """The position of a cursor. Raises BadRequest for what is none.

    The call notes the cursor: `reading_at` refuses it where the log does not have its event.
    """
    if cursor is None:
        return None
    position = _position_of(cursor)
    call.cursors.add(cursor)
    return position


def _position_of(cursor: str) -> int:
    try:
        return position_of(cursor)
    except ValueError:
        if _OF_AN_EPOCH.fullmatch(cursor):
            detail = (
                "An earlier version of the service gave this cursor. Read from the start again."
            )
            raise BadRequest(409, "cursor_of_another_log", detail) from None
        detail = "Use a cursor as an earlier answer gave it."
        raise BadRequest(422, "bad_cursor", detail) from None


def require_none_lost(lost: Collection[str]) -> None:
    """Raises BadRequest where a cursor names an event that the log does not have."""
    if lost:
        raise BadRequest(
            409,
            "cursor_of_another_log",
            "The log does not have the event of this cursor: it lost its last events in a restore "
            "or a failover, or it is another log. Give an earlier cursor, or read from the start.",
        )


async def note_incomplete(connection: Connection, call: AnyCall) -> None:
    """Note which read models of the call leave out something of what its answer is about.

    An answer is about the streams that the path names or that the read has found. An answer without
    streams is about the project, and without a project about the tenant, with the account of the
    user. Only the answers about a private session tell what the private session lacks.
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
