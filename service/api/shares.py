"""Shares: a link with which everyone can read one plan, until it expires or is revoked."""

from datetime import UTC, datetime, timedelta
from functools import partial
from types import NoneType
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from domain.errors import LimitReached, ReplyUnknown, ShareUnknown
from domain.texts import markdown
from projections import shares
from projections.projection import left_out
from projections.projects import project
from projections.replies import REPLIES
from projections.shares import SHARES
from service.access.share_links import digest_of
from service.api import schemas, shares_schemas
from service.api.replies import visible_reply
from service.commands import sessions
from service.eventlog.errors import AnswerMissing
from service.eventlog.stream_ids import session_stream
from service.eventlog.transactions import Transaction
from service.http import problems
from service.http.call import Call, Service
from service.http.openapi import OpenPath
from service.http.operation import Operation, answered
from service.http.reads import INCOMPLETE, visible_project
from service.ids import new_id
from service.ops import metrics
from service.postgres.connections import tenant_transaction
from service.replies.envelope import End
from service.wire import LOG_POSITION, dumped

PATH: Final = "/v1/shares"
HEADERS: Final = {"X-Robots-Tag": "noindex, nofollow", "Cache-Control": "no-store"}
READS: Final = (REPLIES.name, SHARES.name)
_TOKEN_LENGTH: Final = 43


async def share_plan(call: Call[shares_schemas.ShareRequest, None]) -> Response:
    """Make a link to a plan."""
    asked, links = call.body, call.service.share_links
    row = await visible_reply(call, asked.user_id)
    share_id = new_id()
    token = links.token(call.caller.key_id, share_id)
    assert token is not None
    work = partial(
        sessions.share_plan,
        reply=row,
        share_id=share_id,
        user_id=asked.user_id,
        token_digest=digest_of(token),
        expires_at=datetime.now(UTC) + timedelta(seconds=asked.ttl_seconds),
    )
    result, position = await call.transact(work, user_id=asked.user_id)
    if result["share"] != share_id:  # the same request was done before
        token = links.token(call.caller.key_id, result["share"], result["digest"])
    if token is None:
        raise AnswerMissing(headers={LOG_POSITION: str(position)})
    answer = shares_schemas.ShareAnswer(
        share_id=result["share"],
        url=f"{PATH}/{token}",
        expires_at=datetime.fromisoformat(result["expires_at"]),
    )
    return answered(answer, position=position, status=201)


async def revoke_share(call: Call[None, schemas.ActingQuery]) -> Response:
    """End a share: its link leads nowhere from here on."""
    acting, share_id = call.query, call.path["share"]
    async with call.reading() as connection:
        row = await shares.share(connection, tenant_id=call.tenant_id, share_id=share_id)
        if row is not None:
            await visible_project(connection, call, row.project_id, acting.user_id)
    if row is None:
        # The same request, sent again, gets the answer that it got before.
        _, position = await call.transact(_refuse)
    else:
        work = partial(
            sessions.revoke_share,
            project_id=row.project_id,
            session_id=row.session_id,
            share_id=share_id,
            user_id=acting.user_id,
        )
        _, position = await call.transact(work, user_id=acting.user_id)
    return answered(shares_schemas.ShareEnded(share_id=share_id), position=position)


async def _refuse(_: Transaction) -> None:
    raise ShareUnknown


# Open to everyone who has the link ---------------------------------------------------------------


async def read_share(request: Request) -> Response:
    """The plan of a link, as JSON or Markdown. An unknown link and an ended one look the same."""
    service: Service = request.app.state.service
    try:
        service.overload.require_capacity()
        token = request.path_params["share"]
        service.share_reads.count(token, request.client.host if request.client else "")
        row, end, incomplete = await _shared(service, token)
    except Exception as error:
        refusal = problems.problem(error)
        if isinstance(error, LimitReached):
            metrics.LIMITED.labels(error.name).inc()
        if refusal.status_code == 500:
            raise
        refusal.headers.update(HEADERS)
        return refusal
    headers = HEADERS | ({INCOMPLETE: ", ".join(incomplete)} if incomplete else {})
    if _wants_markdown(request):
        text = markdown.reply(end.envelope["mode"], end.envelope["data"])
        return Response(text, media_type="text/markdown", headers=headers)
    answer = dumped(shares_schemas.shared_plan(end.envelope, row))
    return Response(orjson.dumps(answer), media_type="application/json", headers=headers)


def _wants_markdown(request: Request) -> bool:
    """Whether the client asks for Markdown, by `format` or else by Accept."""
    named = request.query_params.get("format")
    return named == "markdown" if named else "text/markdown" in request.headers.get("accept", "")


async def _shared(service: Service, token: str) -> tuple[shares.ShareRow, End, list[str]]:
    """The share, its plan, and the read models that leave out something of its session.

    Raises ShareUnknown.
    """
    row = await service.share_links.find(token) if len(token) == _TOKEN_LENGTH else None
    if row is None:
        raise ShareUnknown
    asked: dict[str, Any] = {"tenant_id": row.tenant_id}
    async with tenant_transaction(service.pool, row.tenant_id) as connection:
        known = await project(connection, **asked, project_id=row.project_id, user_id=None)
        stream_ids = [str(session_stream(row.session_id))]
        incomplete = await left_out(connection, READS, **asked, stream_ids=stream_ids)
    if known is None or known.erasing_since is not None:
        raise ShareUnknown
    reply = await service.turns.find(row.tenant_id, row.reply_id)
    try:
        end = None if reply is None else await service.directory.end(reply.ref)
    except ReplyUnknown:
        end = None
    if end is None:
        raise ShareUnknown
    return row, end, incomplete


OPERATIONS = (
    Operation(
        method="POST",
        path="/v1/chat-plan/replies/{messageId}/share",
        name="sharePlan",
        browsers=True,
        summary="Make a link with which everyone can read this plan, and nothing else.",
        scopes=("chat",),
        body=shares_schemas.ShareRequest,
        query=NoneType,
        answer=shares_schemas.ShareAnswer,
        status=201,
        problems=(400, 403, 404, 409, 413, 415, 422),
        handle=share_plan,
    ),
    Operation(
        method="DELETE",
        path="/v1/shares/{share}",
        name="revokeShare",
        browsers=True,
        summary="End a share: its link leads nowhere from here on.",
        scopes=("chat", "admin"),
        body=NoneType,
        query=schemas.ActingQuery,
        answer=shares_schemas.ShareEnded,
        problems=(403, 404, 409, 413, 422),
        handle=revoke_share,
    ),
)

OPEN_PATHS = (
    OpenPath(
        path="/v1/shares/{share}",
        name="readShare",
        summary="The plan of a link, as JSON, or as Markdown by Accept or format=markdown.",
        content={"application/json": shares_schemas.SharedPlan, "text/markdown": None},
        problems=(404, 429, 503),
    ),
)
