"""What the acceptance of an improvement takes and answers."""

from pydantic import model_validator

from service.api.prompts_schemas import PromptName, PromptVersion
from service.wire import Id, Wire


class AcceptRequest(Wire):
    """The prompt that gets the version: `promptId`, or a new one with this `name`; without both
    the one in the context of the session."""

    user_id: Id
    prompt_id: Id | None = None
    name: PromptName | None = None

    @model_validator(mode="after")
    def _names_one_prompt(self) -> "AcceptRequest":
        if self.prompt_id is not None and self.name is not None:
            raise ValueError("send promptId for a prompt that there is, or name for a new one")
        return self


class AcceptedImprovement(Wire):
    """The version that an improved prompt became."""

    prompt_id: str
    version: PromptVersion
