"""The JSON of forks: requests and answers."""

from datetime import datetime
from typing import Literal

from projections.sessions import SessionRow
from service.wire import Id, Wire

ForkMode = Literal["plan", "setup", "analysis", "what_if", "idea", "run_feedback", "prompt"]


class ForkRequest(Wire):
    """The message where the fork leaves the session: a message, or a reply that has ended."""

    user_id: Id
    message_id: Id
    mode: ForkMode | None = None


class ForkedFrom(Wire):
    """The session that a fork has left, and the last message that both have."""

    session_id: str
    message_id: str


class ForkAnswer(Wire):
    """A session that shares what another one had said."""

    session_id: str
    project_id: str
    user_id: str
    mode: str
    status: str
    forked_from: ForkedFrom
    created_at: datetime


def fork(row: SessionRow) -> ForkAnswer:
    """The fork of this row."""
    assert row.forked_from_session_id is not None
    assert row.forked_from_message_id is not None
    return ForkAnswer(
        session_id=row.session_id,
        project_id=row.project_id,
        user_id=row.user_id,
        mode=row.mode,
        status=row.status,
        forked_from=ForkedFrom(
            session_id=row.forked_from_session_id, message_id=row.forked_from_message_id
        ),
        created_at=row.opened_at,
    )
