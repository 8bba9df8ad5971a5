"""Problem details (RFC 9457): one table from exceptions to answers."""

from collections.abc import Mapping
from typing import Any, Final

import orjson
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.responses import Response

from domain import errors as refusals
from domain.errors import (
    LimitReached,
    PromptChanged,
    Refused,
    SessionChanged,
    ValuesMissing,
    ValuesUnknown,
)
from service.access.authentication import Forbidden, NotYours, Unauthenticated
from service.eventlog.errors import NotServed, Stored, not_served
from service.http.rate_limit_headers import refused

MEDIA_TYPE: Final = "application/problem+json"
RETRY_SECONDS: Final = "1"
"""When a request that was not served may be tried again: the Retry-After of each 503."""

REFUSALS: Final[Mapping[type[Refused], int]] = {
    refusals.ProjectUnknown: 404,
    refusals.NotAMember: 404,
    refusals.ViewerOnly: 403,
    refusals.ProjectExists: 409,
    refusals.ProjectChanged: 409,
    refusals.SessionChanged: 409,
    refusals.ModeFixed: 409,
    refusals.MessageUnknown: 404,
    refusals.TooManyForks: 409,
    refusals.MemberUnknown: 404,
    refusals.LastOwner: 409,
    refusals.SessionUnknown: 404,
    refusals.SessionEnded: 409,
    refusals.SessionFull: 409,
    refusals.SessionSpent: 409,
    refusals.UserLimitReached: 429,
    refusals.ProjectLimitReached: 429,
    refusals.ShareLimitReached: 429,
    refusals.AddressLimitReached: 429,
    refusals.ReplyInProgress: 409,
    refusals.ReplyUnknown: 404,
    refusals.ReplyNotEnded: 409,
    refusals.PlanUnknown: 404,
    refusals.ShareUnknown: 404,
    refusals.PlanMissing: 409,
    refusals.BuildInProgress: 409,
    refusals.BuildUnknown: 404,
    refusals.VersionUnknown: 404,
    refusals.PromptUnknown: 404,
    refusals.PromptVersionUnknown: 404,
    refusals.PromptRetired: 409,
    refusals.PromptChanged: 409,
    refusals.ValuesMissing: 422,
    refusals.ValuesUnknown: 422,
    refusals.PromptTooLong: 422,
    refusals.InstructionsFixed: 409,
    refusals.ImprovementUnknown: 404,
    refusals.OwnersOnly: 403,
    refusals.BuildTaken: 409,
    refusals.BuildEnded: 409,
    refusals.BuildFull: 409,
    refusals.RunUnknown: 404,
    refusals.StepUnknown: 404,
    refusals.CandidateUnknown: 404,
    refusals.RunTaken: 409,
    refusals.RunEnded: 409,
    refusals.RunNotEnded: 409,
    refusals.RunFull: 409,
    refusals.SessionPrivate: 422,
    refusals.KeyReused: 422,
    refusals.BalanceInsufficient: 402,
    refusals.ReservationSettled: 409,
}

TITLES: Final[Mapping[int, str]] = {
    400: "Bad request",
    401: "Not authenticated",
    402: "Not enough AI seconds",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    408: "Request too slow",
    409: "Conflict",
    413: "Body too large",
    414: "Request line too long",
    415: "Unsupported media type",
    422: "Invalid request",
    429: "Too many requests",
    431: "Headers too large",
    500: "Internal error",
    503: "Temporarily unavailable",
}


class BadRequest(Exception):
    """A request that is refused as it is: its `status`, with a stable `code`."""

    def __init__(
        self, status: int, code: str, detail: str, found: list[dict[str, str]] | None = None
    ) -> None:
        super().__init__(code)
        self.status, self.code, self.detail, self.found = status, code, detail, found


class Problem(BaseModel):
    """What went wrong (RFC 9457): `code` is stable, `detail` says what to do.

    `template` and `variables` are there where a user is to be told; `errors` where members of the
    request are wrong, each with a JSON Pointer. `stored` comes with each 503: what of the request
    is stored, nothing, everything, or nobody knows yet.
    """

    type: str
    title: str
    status: int
    code: str
    detail: str
    template: str | None = None
    variables: dict[str, Any] | None = None
    errors: list[dict[str, str]] | None = None
    stored: Stored | None = None


class ProblemResponse(Response):
    """A problem as a response, with its code for the audit."""

    def __init__(self, problem: Problem, headers: Mapping[str, str] | None) -> None:
        self.code = problem.code
        body = orjson.dumps(problem.model_dump(exclude_none=True))
        super().__init__(body, problem.status, headers=headers, media_type=MEDIA_TYPE)


def problem(error: Exception) -> ProblemResponse:
    """The answer to an exception. An unexpected one is a 500, which shows nothing of its text."""
    if isinstance(error, Refused):
        return _refusal(error)
    if isinstance(error, BadRequest):
        # The rest of a request that came too slowly is not read.
        ending = {"Connection": "close"} if error.status == 408 else None
        return answer(error.status, error.code, error.detail, errors=error.found, headers=ending)
    if isinstance(error, Unauthenticated):
        headers = {"WWW-Authenticate": "HMAC-SHA256, Bearer"}
        return answer(401, error.code, error.detail, headers=headers)
    if isinstance(error, NotYours):
        return answer(403, "token_of_another_user", "The token is for another user than userId.")
    if isinstance(error, Forbidden):
        return answer(403, "scope_missing", f"The key lacks the scope {error.scope}.")
    if (reason := not_served(error)) is not None:
        return _not_served(reason)
    detail = "The service failed. The request id finds the error in the service's log."
    return answer(500, "internal", detail)


def _refusal(error: Refused) -> ProblemResponse:
    return answer(
        REFUSALS[type(error)],
        error.code,
        str(error),
        template=error.code,
        variables=error.variables,
        errors=_errors(error),
        headers=_headers(error),
    )


def _errors(error: Refused) -> list[dict[str, str]] | None:
    """The members of `values` that are wrong, each with a JSON Pointer."""
    if not isinstance(error, ValuesMissing | ValuesUnknown):
        return None
    return [
        {"pointer": f"/values/{name}", "kind": error.code, "message": str(error)}
        for name in error.names.split(", ")
    ]


def _headers(error: Refused) -> Mapping[str, str] | None:
    if isinstance(error, LimitReached):
        return refused(error)
    if isinstance(error, SessionChanged | PromptChanged):
        return {"ETag": f'"{error.revision}"'}
    return None


def _not_served(error: NotServed) -> ProblemResponse:
    headers = {"Retry-After": RETRY_SECONDS, **error.headers}
    return answer(503, error.code, error.detail, stored=error.stored, headers=headers)


def invalid(error: ValidationError) -> BadRequest:
    """The errors of a body or query, member by member, without the values."""
    found = [
        {"pointer": _pointer(each), "kind": each["type"], "message": each["msg"]}
        for each in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    return BadRequest(422, "invalid_request", "See errors for each member that is wrong.", found)


def _pointer(error: ErrorDetails) -> str:
    parts = (str(part).replace("~", "~0").replace("/", "~1") for part in error["loc"])
    return "".join(f"/{part[:100]}" for part in parts)


def answer(
    status: int,
    code: str,
    detail: str,
    *,
    template: str | None = None,
    variables: dict[str, Any] | None = None,
    errors: list[dict[str, str]] | None = None,
    stored: Stored | None = None,
    headers: Mapping[str, str] | None = None,
) -> ProblemResponse:
    """A problem as a response."""
    body = Problem(
        type=f"urn:throughline:problem:{code}",
        title=TITLES[status],
        status=status,
        code=code,
        detail=detail,
        template=template,
        variables=variables,
        errors=errors,
        stored=stored,
    )
    return ProblemResponse(body, headers)
