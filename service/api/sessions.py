"""Sessions: opened or found, listed, read, changed and erased, one by one or many."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from types import NoneType
from typing import Final, Protocol

from starlette.responses import Response

from domain.errors import Refused, SessionUnknown
from projections import sessions as rows
from projections.prompts import VersionRow
from projections.sessions import SESSIONS, ListedSession, SessionRow
from service.api import schemas, sessions_schemas
from service.api.prompt_versions import target_of, version_of_id
from service.api.runs import material_of_step
from service.commands import sessions as commands
from service.commands.instructions import instructed
from service.eventlog.errors import NotServed, Unavailable, answering, not_served
from service.eventlog.transactions import IdempotencyKey, RequestContext, Transaction
from service.http.call import AnyCall, Call
from service.http.operation import Operation, Success, answered
from service.http.reads import (
    fold_projects_of,
    in_language,
    position_in,
    reading_at,
    visible_project,
    visible_session,
)


async def open_session(call: Call[sessions_schemas.SessionRequest, None]) -> Response:
    """Open a session. With `reuse`, return the matching session of the user if one exists."""
    asked, settings = call.body, call.service.settings
    made_of = await _made_of(call)
    about, instructions = asked.context.about, sessions_schemas.allowed(asked.settings, settings)
    if made_of is not None:
        about = replace(
            about, prompt_id=made_of.prompt_id, prompt_version_id=made_of.prompt_version_id
        )
        instructions |= instructed(made_of, asked.values or {})
    opening = commands.Opening(
        tenant_id=call.tenant_id,
        project_id=asked.project_id,
        user_id=asked.user_id,
        mode=asked.mode,
        name=asked.name,
        about=about,
        context=asked.context.named,
        instructions=instructions or None,
        reuse=asked.reuse,
        idle_seconds=settings.idle_seconds,
        prompt_id=None if made_of is None else made_of.prompt_id,
        material=await _material(call),
        run_material=await _step(call),
    )
    work = partial(commands.open_session, opening=opening)
    found, position = await call.transact(work, user_id=asked.user_id)
    session_id = call.entry.session_id = found["session"]
    with answering(position):
        return await answered_session(
            call, session_id, asked.user_id, position, is_new=found["is_new"]
        )


async def _made_of(call: Call[sessions_schemas.SessionRequest, None]) -> VersionRow | None:
    """The version of a prompt that the session is to be made of, if the request names one.

    Raises PromptVersionUnknown, ProjectUnknown.
    """
    asked = call.body
    if asked.prompt_version_id is None:
        return None
    async with call.reading() as connection:
        return await version_of_id(
            connection, call, asked.prompt_version_id, asked.user_id, asked.project_id
        )


async def _step(call: Call[sessions_schemas.SessionRequest, None]) -> commands.RunMaterial | None:
    """The text for a session about a step: the prompt and the output of the step."""
    asked, about = call.body, call.body.context
    if asked.mode != "run_feedback" or about.run_id is None or about.step_id is None:
        return None
    return await material_of_step(
        call, project_id=asked.project_id, run_id=about.run_id, step_id=about.step_id
    )


async def _material(
    call: Call[sessions_schemas.SessionRequest, None],
) -> commands.Material | None:
    """The text of the prompt that a session of mode idea or run_feedback is to improve.

    A context may have ids of the client's own. Raises PromptVersionUnknown for a prompt of another
    project.
    """
    asked = call.body
    if asked.context.prompt_id is None and asked.context.prompt_version_id is None:
        return None
    async with call.reading() as connection:
        target = await target_of(connection, call.tenant_id, asked.context.about, asked.project_id)
    if target is None or asked.mode not in ("idea", "run_feedback"):
        return None
    return commands.Material("prompt", target.text or "")


async def read_session(call: Call[None, sessions_schemas.SessionQuery]) -> Response:
    """A session with its bill, for the members of its project."""
    asked = call.query
    return await answered_session(
        call,
        call.path["sessionId"],
        asked.user_id,
        asked.min_position,
        locale=asked.locale,
        as_of=asked.as_of,
    )


async def answered_session(
    call: AnyCall,
    session_id: str,
    user_id: str | None,
    at_least: int | None,
    *,
    locale: str | None = None,
    is_new: bool | None = None,
    as_of: str | None = None,
) -> Response:
    """A session at a position of the log at least, for a member of its project.

    A session that was asked for by what it is for, and not by its id, comes with its address;
    `is_new` says whether the request made it.
    """
    async with reading_at(call, SESSIONS.name, at_least, as_of) as (connection, position):
        row = await visible_session(connection, call, session_id, user_id)
    language = call.locale(locale)
    answer = sessions_schemas.session(row, locale=language)
    headers = {"ETag": sessions_schemas.etag(row), **in_language(language)}
    if is_new is not None:
        headers["Location"] = f"/v1/sessions/{session_id}"
    status = 201 if is_new else 200
    return answered(answer, position=position, status=status, headers=headers)


async def list_sessions(call: Call[None, sessions_schemas.SessionsQuery]) -> Response:
    """A page of the sessions of a project."""
    asked, project_id = call.query, call.path["projectId"]
    after = sessions_schemas.key_in(call, asked.before, asked.sort)
    since = position_in(call, asked.unread_since)
    async with reading_at(call, SESSIONS.name, asked.min_position, asked.as_of) as (
        connection,
        position,
    ):
        await visible_project(connection, call, project_id, asked.user_id)
        found = await rows.page_of_project(
            connection,
            tenant_id=call.tenant_id,
            project_id=project_id,
            user_id=asked.user_id,
            wanted=asked.wanted,
            sort=asked.sort,
            after=after,
            limit=asked.limit + 1,
        )
    return _page(call, asked, found, position, since)


async def list_user_sessions(call: Call[None, sessions_schemas.UserSessionsQuery]) -> Response:
    """A page of a user's own sessions."""
    asked = call.query
    after = sessions_schemas.key_in(call, asked.before, asked.sort)
    since = position_in(call, asked.unread_since)
    async with reading_at(call, SESSIONS.name, asked.min_position, asked.as_of) as (
        connection,
        position,
    ):
        await fold_projects_of(connection, call, asked.user_id)
        found = await rows.page_of_user(
            connection,
            tenant_id=call.tenant_id,
            user_id=asked.user_id,
            wanted=asked.wanted,
            sort=asked.sort,
            after=after,
            limit=asked.limit + 1,
        )
    return _page(call, asked, found, position, since)


def _page(
    call: AnyCall,
    asked: sessions_schemas.SessionsQuery | sessions_schemas.UserSessionsQuery,
    found: Sequence[ListedSession],
    position: int,
    since: int | None,
) -> Response:
    locale = call.locale(asked.locale)
    page = sessions_schemas.sessions(found, asked, locale=locale, since=since)
    return answered(page, position=position, headers=in_language(locale))


# Changes of one session --------------------------------------------------------------------------


class _Change(Protocol):
    """A command on one session."""

    def __call__(
        self, transaction: Transaction, *, project_id: str, session_id: str
    ) -> Awaitable[None]: ...


async def change_session(call: Call[sessions_schemas.SessionPatch, None]) -> Response:
    """Change what a user can change of a session: its user may, and the tenant's own service."""
    asked = call.body
    change = partial(commands.change, changes=asked.changes, revisions=call.known_revisions)
    return await _changed(call, change, asked.user_id or call.caller.user_id)


async def archive_session(call: Call[None, schemas.ActingQuery]) -> Response:
    """Archive a session: its user may, and the tenant's own service."""
    return await _changed(call, commands.archive, call.query.user_id)


async def restore_session(call: Call[None, schemas.ActingQuery]) -> Response:
    """End the archiving of a session: its user may, and the tenant's own service."""
    return await _changed(call, commands.restore, call.query.user_id)


async def _changed(call: AnyCall, change: _Change, user_id: str | None) -> Response:
    """Change a session of the acting user, and answer it as it is then."""
    row = await _own_session(call, call.path["sessionId"], user_id)
    if row is None:
        raise SessionUnknown
    work = partial(change, project_id=row.project_id, session_id=row.session_id)
    _, position = await call.transact(work, user_id=user_id)
    with answering(position):
        return await answered_session(call, row.session_id, user_id, position)


async def _own_session(call: AnyCall, session_id: str, user_id: str | None) -> SessionRow | None:
    """The session, where the acting user or the tenant's own service may change it.

    Raises ProjectUnknown.
    """
    if user_id is None:
        call.caller.require("admin")
    async with call.reading() as connection:
        row = await rows.session(connection, tenant_id=call.tenant_id, session_id=session_id)
        if row is None or user_id not in (None, row.user_id):
            return None
        await visible_project(connection, call, row.project_id, user_id)
    return row


async def _refuse(_: Transaction) -> None:
    raise SessionUnknown


async def delete_session(call: Call[None, schemas.ActingQuery]) -> Response:
    """Erase a session: its user may, and the tenant's own service."""
    row = await _own_session(call, call.path["sessionId"], call.query.user_id)
    if row is None:
        # The same request, sent again, gets the answer that it got before.
        _, position = await call.transact(_refuse)
    else:
        position = await call.service.erasure.session(
            call.tenant_id, row.project_id, row.session_id, call.cause(call.query.user_id)
        )
    answer = sessions_schemas.SessionErased(session_id=call.path["sessionId"])
    return answered(answer, position=position)


# Many sessions -----------------------------------------------------------------------------------

_COMMANDS: Final[dict[str, _Change]] = {"archive": commands.archive, "restore": commands.restore}


async def change_sessions(call: Call[sessions_schemas.BatchRequest, None]) -> Response:
    """Do the same to many sessions, each by itself.

    Where the database goes away, what was done stays, and the rest is refused.
    """
    asked = call.body
    user_id = asked.user_id or call.caller.user_id
    if user_id is None:
        call.caller.require("admin")
    _, position = await call.transact(_begin, user_id=user_id)
    results: list[sessions_schemas.BatchResult] = []
    failed: NotServed | None = None
    for session_id in asked.session_ids:
        try:
            if failed is not None:
                raise failed
            position = max(position, await _change_one(call, session_id, user_id))
            result = sessions_schemas.BatchResult(session_id=session_id, status="done")
        except Refused as refusal:
            result = sessions_schemas.BatchResult(
                session_id=session_id, status="refused", code=refusal.code, detail=str(refusal)
            )
        except Exception as error:
            failure = not_served(error)
            if failure is None or not results:
                raise
            result, failed = _failed(session_id, failure), Unavailable()
        results.append(result)
    return answered(sessions_schemas.BatchAnswer(results=results), position=position)


async def _begin(_: Transaction) -> None:
    """Claim the Idempotency-Key of the whole request, before anything is done under it."""


def _failed(session_id: str, failure: NotServed) -> sessions_schemas.BatchResult:
    return sessions_schemas.BatchResult(
        session_id=session_id,
        status="unknown" if failure.stored == "unknown" else "refused",
        code=failure.code,
        detail=failure.detail,
    )


async def _change_one(
    call: Call[sessions_schemas.BatchRequest, None], session_id: str, user_id: str | None
) -> int:
    """Do the action of the batch to one session; returns the position that says so.

    What the same request did before is done. Raises what the action refuses.
    """
    service, cause = call.service, _cause_of_one(call, session_id, user_id)
    row = await _own_session(call, session_id, user_id)
    if row is not None and call.body.action == "delete":
        return await service.erasure.session(call.tenant_id, row.project_id, session_id, cause)
    work: Callable[[Transaction], Awaitable[None]] = _refuse
    if row is not None:
        change = _COMMANDS[call.body.action]
        work = partial(change, project_id=row.project_id, session_id=session_id)
    _, appended = await service.transactions.transact(call.tenant_id, work, cause=cause)
    return appended.last_position if appended else 0


def _cause_of_one(call: AnyCall, session_id: str, user_id: str | None) -> RequestContext:
    """What is stored beside the change of one session of many, under a key of its own.

    A client's key has no line break, so no client can name this key.
    """
    cause = call.cause(user_id)
    if cause.named is None:
        return cause
    key = f"{cause.named.key}\n{session_id}"
    return replace(cause, named=IdempotencyKey(key=key, fingerprint=cause.named.fingerprint))


OPERATIONS = (
    Operation(
        method="POST",
        path="/v1/sessions",
        name="openSession",
        browsers=True,
        summary="Open a session; with reuse, return the user's matching session if one exists.",
        scopes=("chat",),
        body=sessions_schemas.SessionRequest,
        query=NoneType,
        answer=sessions_schemas.SessionAnswer,
        status=201,
        others={
            200: Success(
                "The user has such a session already: this one.", sessions_schemas.SessionAnswer
            )
        },
        reads=(SESSIONS,),
        problems=(400, 403, 404, 409, 413, 415, 422),
        handle=open_session,
    ),
    Operation(
        method="GET",
        path="/v1/sessions",
        name="listUserSessions",
        browsers=True,
        summary="The sessions of a user in all their projects.",
        scopes=("chat", "read", "admin"),
        body=NoneType,
        query=sessions_schemas.UserSessionsQuery,
        answer=sessions_schemas.Sessions,
        reads=(SESSIONS,),
        problems=(409, 422),
        handle=list_user_sessions,
    ),
    Operation(
        method="POST",
        path="/v1/sessions/batch",
        name="changeSessions",
        browsers=True,
        summary="Archive, restore or erase up to 100 sessions, each by itself.",
        scopes=("chat", "admin"),
        body=sessions_schemas.BatchRequest,
        query=NoneType,
        answer=sessions_schemas.BatchAnswer,
        problems=(400, 409, 413, 415, 422),
        handle=change_sessions,
    ),
    Operation(
        method="GET",
        path="/v1/projects/{projectId}/sessions",
        name="listSessions",
        browsers=True,
        summary="The sessions of a project that a member may see.",
        scopes=("chat", "read", "admin"),
        body=NoneType,
        query=sessions_schemas.SessionsQuery,
        answer=sessions_schemas.Sessions,
        reads=(SESSIONS,),
        problems=(404, 409, 422),
        handle=list_sessions,
    ),
    Operation(
        method="GET",
        path="/v1/sessions/{sessionId}",
        name="readSession",
        browsers=True,
        summary="A session with its billing aggregates, and its entity tag.",
        scopes=("chat", "read", "admin"),
        body=NoneType,
        query=sessions_schemas.SessionQuery,
        answer=sessions_schemas.SessionAnswer,
        reads=(SESSIONS,),
        problems=(404, 409, 422),
        handle=read_session,
    ),
    Operation(
        method="PATCH",
        path="/v1/sessions/{sessionId}",
        name="changeSession",
        browsers=True,
        summary="Change the name, mode, star, tags and others; with If-Match only if unchanged.",
        scopes=("chat", "admin"),
        body=sessions_schemas.SessionPatch,
        query=NoneType,
        answer=sessions_schemas.SessionAnswer,
        reads=(SESSIONS,),
        problems=(400, 404, 409, 413, 415, 422),
        handle=change_session,
    ),
    Operation(
        method="DELETE",
        path="/v1/sessions/{sessionId}",
        name="eraseSession",
        browsers=True,
        summary="Erase a session and all that was said in it. What was billed stays.",
        scopes=("chat", "admin"),
        body=NoneType,
        query=schemas.ActingQuery,
        answer=sessions_schemas.SessionErased,
        problems=(404, 409, 413, 422),
        handle=delete_session,
    ),
    Operation(
        method="GET",
        path="/v1/chat-plan/session/{sessionId}",
        name="getSession",
        browsers=True,
        summary="A session with its billing aggregates.",
        scopes=("chat", "read", "admin"),
        body=NoneType,
        query=sessions_schemas.SessionQuery,
        answer=sessions_schemas.SessionAnswer,
        reads=(SESSIONS,),
        problems=(404, 409, 422),
        handle=read_session,
    ),
    Operation(
        method="DELETE",
        path="/v1/chat-plan/session/{sessionId}",
        name="deleteSession",
        browsers=True,
        summary="Erase a session and all that was said in it. What was billed stays.",
        scopes=("chat", "admin"),
        body=NoneType,
        query=schemas.ActingQuery,
        answer=sessions_schemas.SessionErased,
        problems=(404, 409, 413, 422),
        handle=delete_session,
    ),
    Operation(
        method="POST",
        path="/v1/chat-plan/session/{sessionId}/archive",
        name="archiveSession",
        browsers=True,
        summary="Archive a session: it takes no more messages. Again, it stays archived.",
        scopes=("chat", "admin"),
        body=NoneType,
        query=schemas.ActingQuery,
        answer=sessions_schemas.SessionAnswer,
        reads=(SESSIONS,),
        problems=(404, 409, 413, 422),
        handle=archive_session,
    ),
    Operation(
        method="POST",
        path="/v1/chat-plan/session/{sessionId}/restore",
        name="restoreSession",
        browsers=True,
        summary="Make an archived session active again. Any other session stays as it is.",
        scopes=("chat", "admin"),
        body=NoneType,
        query=schemas.ActingQuery,
        answer=sessions_schemas.SessionAnswer,
        reads=(SESSIONS,),
        problems=(404, 409, 413, 422),
        handle=restore_session,
    ),
)
