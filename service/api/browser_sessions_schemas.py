"""The bodies and answers of the calls with which a browser signs in."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import Field

from service.access.browser_sessions import BrowserSession
from service.wire import Id, Query, Wire

LINK_SECONDS: Final = 600
FEWEST_SECONDS: Final = 10
MOST_SECONDS: Final = 86_400
LONGEST_CODE: Final = 255


class LinkRequest(Wire):
    """The user that a link signs in, and for how many seconds the link works.

    With `projectId` the browser is signed in to this project alone.
    """

    user_id: Id
    project_id: Id | None = None
    ttl_seconds: Annotated[int, Field(ge=FEWEST_SECONDS, le=MOST_SECONDS)] = LINK_SECONDS


class LinkAnswer(Wire):
    """A link. The first browser that opens `url` is signed in as the user."""

    url: str
    expires_at: datetime


class CodeRequest(Wire):
    """The code of a link."""

    code: Annotated[str, Field(min_length=1, max_length=LONGEST_CODE)]


class SignedIn(Wire):
    """The browser session that a link has become."""

    browser_session_id: str
    user_id: str
    project_id: str | None = None
    expires_at: datetime


class BrowserToken(Wire):
    """A short token of a browser session, as `Authorization: Bearer`."""

    token: str
    expires_at: datetime
    user_id: str
    project_id: str | None = None


class OwnQuery(Query):
    """The user that is signed in; a browser's token knows its user."""

    user_id: Id


class BrowserSessionEntry(Wire):
    """A browser in which the user is signed in. `current` marks the browser that asks."""

    browser_session_id: str
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    current: bool


class BrowserSessionList(Wire):
    browser_sessions: list[BrowserSessionEntry]


class BrowserSessionEnded(Wire):
    browser_session_id: str


def entries(rows: Iterable[BrowserSession], current: str | None) -> BrowserSessionList:
    """The list, with the browser session that asks marked."""
    return BrowserSessionList(
        browser_sessions=[
            BrowserSessionEntry(
                browser_session_id=row.browser_session_id,
                created_at=row.created_at.astimezone(UTC),
                last_used_at=row.last_used_at.astimezone(UTC),
                expires_at=row.expires_at.astimezone(UTC),
                current=row.browser_session_id == current,
            )
            for row in rows
        ]
    )
