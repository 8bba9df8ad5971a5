"""Browser sessions: a user signs in with a link, and the browser gets short tokens."""

from datetime import UTC, datetime
from types import NoneType
from typing import Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from service.access.authentication import Caller
from service.access.browser_sessions import SECONDS, of_user
from service.api import browser_sessions_schemas as schemas
from service.api.tokens import require_readable
from service.api.tokens_schemas import TOKEN_SECONDS
from service.http.call import AnyCall, Call, Service
from service.http.operation import BROWSER_SESSION, Credential, Operation, answered
from service.http.problems import BadRequest
from service.http.reads import visible_project
from service.ids import new_id

COOKIE_PATH: Final = "/v1"


async def create_link(call: Call[schemas.LinkRequest, None]) -> Response:
    """A link that signs a user in once."""
    asked = call.body
    if asked.project_id is not None:
        async with call.reading() as connection:
            await visible_project(connection, call, asked.project_id, asked.user_id)
    require_readable(_token(call, asked.user_id, asked.project_id, new_id())[0])
    code, expires_at = await call.service.browser_sessions.add_link(
        call.caller,
        user_id=asked.user_id,
        project_id=asked.project_id,
        seconds=asked.ttl_seconds,
    )
    answer = schemas.LinkAnswer(
        url=f"{call.address}/?code={code}", expires_at=expires_at.astimezone(UTC)
    )
    return answered(answer, position=call.service.live_log.head, status=201)


async def redeem_link(call: Call[schemas.CodeRequest, None]) -> Response:
    """A browser session in place of a link; its secret is in the cookie alone."""
    caller = call.caller
    assert caller.user_id is not None
    row, secret = await call.service.browser_sessions.redeem(call.body.code)
    answer = schemas.SignedIn(
        browser_session_id=row.browser_session_id,
        user_id=caller.user_id,
        project_id=caller.project_id,
        expires_at=row.expires_at.astimezone(UTC),
    )
    response = answered(answer, position=call.service.live_log.head, status=201)
    response.set_cookie(
        BROWSER_SESSION,
        secret,
        max_age=SECONDS,
        path=COOKIE_PATH,
        secure=call.address.startswith("https:"),
        httponly=True,
        samesite="strict",
    )
    return response


async def renew_token(call: Call[None, None]) -> Response:
    """A short token for the browser of a browser session."""
    caller = call.caller
    assert caller.user_id is not None
    if caller.project_id is not None:
        async with call.reading() as connection:
            await visible_project(connection, call, caller.project_id, caller.user_id)
    token, expires_at = _token(call, caller.user_id, caller.project_id, caller.browser_session_id)
    answer = schemas.BrowserToken(
        token=token,
        expires_at=datetime.fromtimestamp(expires_at, UTC),
        user_id=caller.user_id,
        project_id=caller.project_id,
    )
    return answered(answer, position=call.service.live_log.head)


def _token(
    call: AnyCall, user_id: str, project_id: str | None, browser_session_id: str | None
) -> tuple[str, int]:
    """A token of the caller's key for a browser session, and its expiry in Unix seconds."""
    return call.service.browser_tokens.mint(
        call.caller.key_id,
        user_id=user_id,
        project_id=project_id,
        seconds=TOKEN_SECONDS,
        browser_session_id=browser_session_id,
    )


async def list_browser_sessions(call: Call[None, schemas.OwnQuery]) -> Response:
    """The browsers in which a user is signed in, newest first."""
    async with call.reading() as connection:
        rows = await of_user(connection, call.caller, call.query.user_id)
    answer = schemas.entries(rows, call.caller.browser_session_id)
    return answered(answer, position=call.service.live_log.head)


async def end_browser_session(call: Call[None, schemas.OwnQuery]) -> Response:
    """Sign a user out in one browser."""
    ended = call.path["browserSessionId"]
    if not await call.service.browser_sessions.end(call.caller, ended, call.query.user_id):
        raise BadRequest(
            404, "browser_session_not_found", "The user is not signed in with this browser session."
        )
    answer = schemas.BrowserSessionEnded(browser_session_id=ended)
    response = answered(answer, position=call.service.live_log.head)
    if ended == call.caller.browser_session_id:
        response.delete_cookie(BROWSER_SESSION, COOKIE_PATH, httponly=True, samesite="strict")
    return response


# What proves the caller --------------------------------------------------------------------------


async def _by_code(service: Service, request: Request, body: bytes) -> Caller:
    """Find the caller by the code in the body: the user for whom the link was made."""
    _require_same_origin(request)
    try:
        code = orjson.loads(body)["code"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        code = None
    return await service.browser_sessions.of_code(code if isinstance(code, str) else "")


async def _by_cookie(service: Service, request: Request, _: bytes) -> Caller:
    """The caller is the user of the browser session. The cookie has the secret of that session."""
    _require_same_origin(request)
    return await service.browser_sessions.of_secret(request.cookies.get(BROWSER_SESSION, ""))


def _require_same_origin(request: Request) -> None:
    """Raises BadRequest unless a page of this service asks. A browser sends cookies by itself, also
    with a request that a page of another origin makes."""
    site = request.headers.get("sec-fetch-site")
    _, _, origin = request.headers.get("origin", "").partition("://")
    if site == "same-origin" or (site is None and origin and origin == request.headers.get("host")):
        return
    raise BadRequest(
        403, "another_origin", "Only a page of this service may ask for this: same origin alone."
    )


OPERATIONS = (
    Operation(
        method="POST",
        path="/v1/links",
        name="createLink",
        summary="A link that signs one user in to the web client, once. Sent again, also with an "
        "Idempotency-Key, it answers another link.",
        scopes=("chat",),
        body=schemas.LinkRequest,
        query=NoneType,
        answer=schemas.LinkAnswer,
        status=201,
        problems=(400, 404, 413, 415, 422),
        handle=create_link,
    ),
    Operation(
        method="POST",
        path="/v1/browser-sessions",
        name="redeemLink",
        summary="A browser session in place of a link, as a cookie. The link works once.",
        scopes=("chat",),
        body=schemas.CodeRequest,
        query=NoneType,
        answer=schemas.SignedIn,
        status=201,
        problems=(400, 413, 415, 422),
        credential=Credential(_by_code),
        handle=redeem_link,
    ),
    Operation(
        method="POST",
        path="/v1/browser-sessions/token",
        name="renewToken",
        summary="A short token for the browser that has the cookie of a browser session. It stores "
        "nothing but the time.",
        scopes=("chat",),
        body=NoneType,
        query=NoneType,
        answer=schemas.BrowserToken,
        problems=(404, 413),
        credential=Credential(_by_cookie, "browserSession"),
        handle=renew_token,
    ),
    Operation(
        method="GET",
        path="/v1/browser-sessions",
        name="listBrowserSessions",
        browsers=True,
        summary="The browsers in which a user is signed in, newest first.",
        scopes=("chat",),
        body=NoneType,
        query=schemas.OwnQuery,
        answer=schemas.BrowserSessionList,
        problems=(422,),
        handle=list_browser_sessions,
    ),
    Operation(
        method="DELETE",
        path="/v1/browser-sessions/{browserSessionId}",
        name="endBrowserSession",
        browsers=True,
        summary="Sign a user out in one browser. Its tokens work until they expire.",
        scopes=("chat",),
        body=NoneType,
        query=schemas.OwnQuery,
        answer=schemas.BrowserSessionEnded,
        problems=(404, 413, 422),
        handle=end_browser_session,
    ),
)
