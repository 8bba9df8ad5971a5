"""The JSON of drafts: answers."""

from collections.abc import Collection, Iterable
from datetime import datetime

from projections.drafts import DraftRow
from service.wire import Wire


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


def drafts(rows: Iterable[DraftRow], convertible: Collection[str]) -> Drafts:
    """A page of drafts with its cursor."""
    kept = list(rows)
    return Drafts(
        drafts=[draft(row, convertible) for row in kept],
        before=kept[-1].cursor if kept else None,
    )
