"""What plan chat takes and answers."""

from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import Field

from domain.events import ChatMode, Context
from projections.sessions import SessionRow
from service.chat.turns import OnBusy
from service.wire import Id, Locale, Text, Wire, usd

LONGEST_MESSAGE: Final = 32_000

# Not `deprecated=True`: with that, pydantic warns of each time that the service reads the member.
_OF_VERSION_1: Final[Any] = Field(json_schema_extra={"deprecated": True})


class PlanContext(Wire):
    """The parts of the project that go to the planner with the message, unasked."""

    include_version_history: bool = False
    include_project_structure: bool = False
    include_build_errors: bool = False

    @property
    def names(self) -> tuple[Context, ...]:
        """Those that are wanted."""
        wanted: tuple[tuple[Context, bool], ...] = (
            ("version_history", self.include_version_history),
            ("project_structure", self.include_project_structure),
            ("build_errors", self.include_build_errors),
        )
        return tuple(name for name, is_wanted in wanted if is_wanted)


class Said(Wire):
    """What a user says, and how it is answered."""

    user_id: Id
    message: Annotated[Text, Field(min_length=1, max_length=LONGEST_MESSAGE)]
    locale: Locale = "en"
    chat_mode: Annotated[ChatMode | None, _OF_VERSION_1] = None
    on_busy: OnBusy = "reject"
    version_id: Annotated[Id | None, _OF_VERSION_1] = None
    build_id: Annotated[Id | None, _OF_VERSION_1] = None
    context: PlanContext | None = None


class ChatPlanRequest(Said):
    """A user's message. `userId`, `projectId`, `message` and `locale` are enough: the server finds
    the rest itself.

    The members that are marked as deprecated are those of version 1 that the model and the server
    know by themselves. They still have an effect. `chatMode` is a hint to the model, and decides
    how many seconds are reserved. `versionId` and `buildId` name what the user looks at: the model
    is told, and the reply's `projectContext` names them. An unknown one is refused.
    """

    project_id: Id
    session_id: Id | None = None


class Billing(Wire):
    """What a session was billed; seconds, tokens of all kinds, USD as an exact decimal."""

    ai_seconds: int
    tokens_used: int
    cost_usd: str


class SessionAnswer(Wire):
    """A session with its bill; `buildId` is what its plan was converted to."""

    session_id: str
    project_id: str
    user_id: str
    name: str
    mode: str
    status: str
    message_count: int
    build_id: str | None = None
    created_at: datetime
    last_active: datetime
    billing: Billing


class SessionErased(Wire):
    session_id: str


def session(row: SessionRow) -> SessionAnswer:
    """A session with its bill."""
    return SessionAnswer(
        session_id=row.session_id,
        project_id=row.project_id,
        user_id=row.user_id,
        name=row.name,
        mode=row.mode,
        status=row.status,
        message_count=row.message_count,
        build_id=row.build_id,
        created_at=row.opened_at,
        last_active=row.last_active_at,
        billing=Billing(
            ai_seconds=row.ai_seconds, tokens_used=row.tokens_used, cost_usd=usd(row.cost_usd)
        ),
    )
