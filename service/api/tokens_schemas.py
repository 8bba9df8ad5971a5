"""What browsers' tokens take and answer."""

from datetime import datetime
from typing import Annotated, Final

from pydantic import Field

from service.wire import Id, Wire

TOKEN_SECONDS: Final = 300


FEWEST_SECONDS: Final = 10


MOST_TOKEN_SECONDS: Final = 900


class TokenRequest(Wire):
    """The user and the project of a browser's token, and its life in seconds.

    Without `projectId` the token is for all projects of the user.
    """

    user_id: Id
    project_id: Id | None = None
    ttl_seconds: Annotated[int, Field(ge=FEWEST_SECONDS, le=MOST_TOKEN_SECONDS)] = TOKEN_SECONDS


class TokenAnswer(Wire):
    """A token: as `Authorization: Bearer`, as `?ticket=`, or as the cookie that comes with it."""

    token: str
    expires_at: datetime
