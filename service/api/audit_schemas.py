"""What the audit takes and answers."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from service.access.audit import AuditRow
from service.api.schemas import PageSize
from service.wire import Id, Query, Wire


class AuditQuery(Query):
    """A page of the audit, newest first: of a user, of a project, of an operation where given.

    `operation` is the operationId of this document, such as `postChatPlan`.
    """

    user_id: Id | None = None
    project_id: Id | None = None
    operation: Annotated[str, Field(pattern=r"^[A-Za-z]{1,64}$")] | None = None
    limit: PageSize = 20
    before: Annotated[str, Field(pattern=r"^[0-9a-f-]{36}$")] | None = None


class AuditItem(Wire):
    """A request: the key and the user that it came with (no `userId`: the tenant's own service,
    about nobody), and what was answered.

    With what the reply that it asked for was billed; tokens are absent where the provider did not
    say.
    """

    request_id: str
    timestamp: datetime
    key_id: str
    user_id: str | None = None
    operation: str
    project_id: str | None = None
    session_id: str | None = None
    message_id: str | None = None
    address: str | None = None
    user_agent: str | None = None
    status: int
    code: str | None = None
    milliseconds: int
    billed_seconds: int | None = None
    tokens_used: int | None = None


class AuditPage(Wire):
    """A page of the audit, newest first; `before` leads to older entries."""

    items: list[AuditItem]
    before: str | None = None


def audit(rows: list[AuditRow]) -> AuditPage:
    """A page of the audit with its cursor."""
    items = [
        AuditItem(
            request_id=row.request_id,
            timestamp=row.at,
            key_id=row.key_id,
            user_id=row.user_id,
            operation=row.operation,
            project_id=row.project_id,
            session_id=row.session_id,
            message_id=row.reply_id,
            address=row.address,
            user_agent=row.user_agent,
            status=row.status,
            code=row.code,
            milliseconds=row.milliseconds,
            billed_seconds=row.billed_seconds,
            tokens_used=row.tokens_used,
        )
        for row in rows
    ]
    return AuditPage(items=items, before=items[-1].request_id if items else None)
