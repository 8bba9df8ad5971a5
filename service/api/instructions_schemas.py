"""What changes of a session's instructions take."""

from typing import Annotated, Final

from pydantic import Field, model_validator

from service.api.sessions_schemas import SessionSettings, Values
from service.wire import Id, Wire

NEWEST: Final = "newest"
_VERSION: Final = "The version of a prompt, or `newest` for the newest one of the session's prompt."


class InstructionsRequest(Wire):
    """How the replies of a session of mode prompt are made from here on. A member that is left out
    stays as it is. `settings` replace all earlier settings.

    With another version and without `values`, the session keeps the values that the
    version needs.
    """

    user_id: Id
    prompt_version_id: Annotated[Id | None, Field(description=_VERSION)] = None
    values: Values | None = None
    settings: SessionSettings | None = None

    @model_validator(mode="after")
    def _names_a_change(self) -> "InstructionsRequest":
        if self.model_fields_set == {"user_id"}:
            raise ValueError("promptVersionId, values or settings is needed")
        return self
