"""What plan chat takes and answers."""

from typing import Annotated, Any, Final

from pydantic import Field

from domain.events import ChatMode, Context
from service.chat.turns import OnBusy
from service.wire import Id, Locale, Text, Wire

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
        """The parts of the context that are wanted."""
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

    The deprecated members come from version 1. By now the model and the server know the same by
    themselves. The deprecated members still have an effect. `chatMode` is a hint to the model, and
    decides how many seconds are reserved. `versionId` and `buildId` name what the user looks at:
    the model is told, and the reply's `projectContext` names them. An unknown one is refused.
    """

    project_id: Id
    session_id: Id | None = None
