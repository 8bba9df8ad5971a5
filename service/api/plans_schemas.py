"""The JSON of drafts and exports: requests and answers."""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any, Literal

from domain.events import ReplyMode
from projections.drafts import DraftRow
from service.wire import Id, Locale, Query, Wire, cursor


class ExportQuery(Query):
    """As Markdown to be read, or as JSON to be worked with."""

    user_id: Id | None = None
    format: Literal["markdown", "json"] = "markdown"
    locale: Locale = "en"


class Draft(Wire):
    """A plan that was kept. The reply `messageId` holds it. A `convertible` plan can become a build
    now."""

    message_id: str
    session_id: str
    user_id: str
    mode: str
    title: str
    saved_at: datetime
    convertible: bool


class Drafts(Wire):
    """Drafts, newest first; `before` leads on."""

    drafts: list[Draft]
    before: str | None = None


class ReplyExport(Wire):
    """A reply: `data` is by the contract of its `mode`, of a `partial` one as far as it came."""

    message_id: str
    timestamp: datetime
    subtype: Literal["success", "partial"]
    mode: ReplyMode
    data: Any


class SaidMessage(Wire):
    """Something that a user said, or the service by a template."""

    kind: Literal["user_message", "system_message"]
    message_id: str
    timestamp: datetime
    user_id: str | None = None
    text: str | None = None
    template: str | None = None
    variables: dict[str, str] | None = None


class SessionExport(Wire):
    """Everything that was said in a session, in order."""

    session_id: str
    project_id: str
    user_id: str
    name: str
    items: list[SaidMessage | ReplyExport]


def draft(row: DraftRow, convertible: Collection[str]) -> Draft:
    """A plan that was kept. `convertible` has the ids of the sessions with plans to build now."""
    return Draft(
        message_id=row.reply_id,
        session_id=row.session_id,
        user_id=row.user_id,
        mode=row.mode,
        title=row.title,
        saved_at=row.saved_at,
        convertible=row.session_id in convertible,
    )


def drafts(rows: Iterable[DraftRow], convertible: Collection[str], log_epoch: str) -> Drafts:
    """A page of drafts with its cursor."""
    kept = list(rows)
    return Drafts(
        drafts=[draft(row, convertible) for row in kept],
        before=cursor(log_epoch, kept[-1].position) if kept else None,
    )
