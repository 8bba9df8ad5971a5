"""Operations and handlers of types that do not fit. A type checker must refuse each line that has
the comment `type: ignore`: mypy and pyright report a comment that hides no error (`make lint`).
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from dataclasses import dataclass
from types import NoneType

from starlette.responses import Response

from service.api.projects_schemas import ProjectRequest, RoleRequest
from service.api.schemas import ActingQuery, PageQuery
from service.http.call import Call
from service.http.operation import B, Operation, Q
from service.settings import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Get(Operation[B, Q]):
    """An operation of which only the types are of interest."""

    method: str = "GET"
    path: str = "/"
    name: str = "x"
    summary: str = ""
    scopes: tuple[Scope, ...] = ("read",)


async def page(call: Call[None, PageQuery]) -> Response:
    return Response(repr(call.query.limit))


async def project(call: Call[ProjectRequest, None]) -> Response:
    return Response(call.body.name)


async def acting(call: Call[object, ActingQuery]) -> Response:
    return Response(call.query.user_id)


async def limit_of_acting(call: Call[None, ActingQuery]) -> Response:
    return Response(repr(call.query.limit))  # type: ignore[attr-defined]


OPERATIONS = (
    Get(body=NoneType, query=PageQuery, handle=page),
    Get(body=ProjectRequest, query=NoneType, handle=project),
    Get(body=RoleRequest, query=ActingQuery, handle=acting),
    Get(body=RoleRequest, query=PageQuery, handle=acting),
    Get(body=NoneType, query=ActingQuery, handle=page),  # type: ignore[arg-type]
    Get(body=NoneType, query=NoneType, handle=page),  # type: ignore[misc]
    Get(body=ProjectRequest, query=PageQuery, handle=page),  # type: ignore[arg-type]
    Get(body=RoleRequest, query=NoneType, handle=project),  # type: ignore[arg-type]
    Get(body=NoneType, query=NoneType, handle=project),  # type: ignore[misc]
)
