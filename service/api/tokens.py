"""Tokens for browsers, minted by a server that holds a key."""

from datetime import UTC, datetime
from types import NoneType

from starlette.responses import Response

from service.access.browser_tokens import LONGEST
from service.api import tokens_schemas
from service.http.call import Call
from service.http.operation import COOKIE, Operation, answered
from service.http.problems import BadRequest
from service.http.reads import visible_project


async def mint_token(call: Call[tokens_schemas.TokenRequest, None]) -> Response:
    """A token for one user, for a few minutes. It is for one project, or for all projects of the
    user."""
    asked = call.body
    if asked.project_id is not None:
        async with call.reading() as connection:
            await visible_project(connection, call, asked.project_id, asked.user_id)
    token, expires_at = call.service.browser_tokens.mint(
        call.caller.key_id,
        user_id=asked.user_id,
        project_id=asked.project_id,
        seconds=asked.ttl_seconds,
    )
    require_readable(token)
    answer = tokens_schemas.TokenAnswer(
        token=token, expires_at=datetime.fromtimestamp(expires_at, UTC)
    )
    response = answered(answer, position=call.service.live_log.head, status=201)
    response.set_cookie(
        COOKIE,
        token,
        max_age=asked.ttl_seconds,
        path="/v1",
        secure=True,
        httponly=True,
        samesite="strict",
    )
    response.headers["Cache-Control"] = "no-store"
    return response


def require_readable(token: str) -> None:
    """Raises BadRequest for a token that is too long to be read."""
    if len(token) > LONGEST:
        detail = "These ids are too long for a token; many characters need six bytes there."
        raise BadRequest(422, "token_too_long", detail)


OPERATIONS = (
    Operation(
        method="POST",
        path="/v1/tokens",
        name="mintToken",
        summary="A short token with which one user's browser may read and chat in one project, or "
        "without projectId in all projects of the user. "
        "It stores nothing: sent again, also with an Idempotency-Key, it answers another token.",
        scopes=("chat",),
        body=tokens_schemas.TokenRequest,
        query=NoneType,
        answer=tokens_schemas.TokenAnswer,
        status=201,
        problems=(400, 404, 413, 415, 422),
        handle=mint_token,
    ),
)
