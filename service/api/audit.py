"""The audit of a tenant, for its admins."""

from typing import Final

from starlette.responses import Response

from service.access import audit
from service.api import schemas
from service.http.operation import Call, Operation, answered

_NEWEST: Final = "~"
"""After every request id: those are hexadecimal."""


async def read_audit(call: Call) -> Response:
    """A page of the audit, newest first."""
    asked: schemas.AuditQuery = call.query
    async with call.reading() as connection:
        rows = await audit.page(
            connection,
            tenant_id=call.caller.tenant_id,
            user_id=asked.user_id,
            project_id=asked.project_id,
            before=asked.before or _NEWEST,
            limit=asked.limit,
        )
    return answered(schemas.audit(rows), position=call.service.hub.head)


OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/audit",
        name="readAudit",
        summary="Who asked for what, from where, and what came of it, newest first.",
        scopes=("admin",),
        query=schemas.AuditQuery,
        answer=schemas.AuditPage,
        problems=(422,),
        handle=read_audit,
    ),
)
