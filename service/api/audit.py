"""The audit of a tenant, for its admins."""

from types import NoneType
from typing import Final

from starlette.responses import Response

from service.access import audit
from service.api import audit_schemas
from service.http.call import Call
from service.http.operation import Operation, answered

_NEWEST: Final = "~"
"""After every request id: those are hexadecimal."""


async def read_audit(call: Call[None, audit_schemas.AuditQuery]) -> Response:
    """A page of the audit, newest first."""
    asked = call.query
    async with call.reading() as connection:
        rows = await audit.page(
            connection,
            tenant_id=call.tenant_id,
            user_id=asked.user_id,
            project_id=asked.project_id,
            operation=asked.operation,
            before=asked.before or _NEWEST,
            limit=asked.limit,
        )
    return answered(audit_schemas.audit(rows), position=call.service.live_log.head)


OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/audit",
        name="readAudit",
        summary="Who asked for what, from where, and what came of it, newest first.",
        scopes=("admin",),
        body=NoneType,
        query=audit_schemas.AuditQuery,
        answer=audit_schemas.AuditPage,
        problems=(422,),
        handle=read_audit,
    ),
)
