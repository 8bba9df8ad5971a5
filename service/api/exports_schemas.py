"""The JSON of exports: queries and answers."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import Field

from domain.events import ReplyMode
from service.api.schemas import ActingQuery
from service.wire import Id, Locale, Wire

MOST_SESSIONS: Final = 100

Format = Literal["markdown", "json", "text", "ndjson"]
Role: TypeAlias = Literal["user", "assistant", "service", "material"]
ExportedKind: TypeAlias = Literal[
    "user_message", "reply", "assistant_message", "system_message", "material"
]


class PlanExportQuery(ActingQuery):
    """As Markdown to be read, or as JSON to be worked with."""

    format: Literal["markdown", "json"] = "markdown"
    locale: Locale = "en"


class ExportQuery(ActingQuery):
    """As Markdown or text to be read, or as JSON, whole or a line an item, to be worked with."""

    format: Format = "markdown"
    locale: Locale = "en"


class ExportRequest(Wire):
    """Up to 100 sessions: with `ndjson` a line an item, else a line a session."""

    user_id: Id | None = None
    session_ids: Annotated[list[Id], Field(min_length=1, max_length=MOST_SESSIONS)]
    format: Format = "ndjson"
    locale: Locale = "en"


class ReplyExport(Wire):
    """A reply: `data` is by the contract of its `mode`, of a `partial` one as far as it came."""

    message_id: str
    timestamp: datetime
    subtype: Literal["success", "partial"]
    mode: ReplyMode
    data: Any


class ExportedItem(Wire):
    """Something that was said. `data` of a reply is by the contract of its `mode`.

    `sessionId` is the session where it was said: of a fork, the session that the fork shares it
    with. `source` is `client` for what a client appended without asking the model.
    """

    session_id: str
    kind: ExportedKind
    role: Role
    message_id: str
    timestamp: datetime
    user_id: str | None = None
    in_reply_to: str | None = None
    locale: str | None = None
    source: str | None = None
    text: str | None = None
    template: str | None = None
    variables: dict[str, str] | None = None
    subtype: str | None = None
    mode: str | None = None
    data: Any = None


class ExportedSession(Wire):
    """A session without what was said in it."""

    session_id: str
    project_id: str
    user_id: str
    name: str


class SessionExport(ExportedSession):
    """Everything that was said in a session, in order; of a fork, also what it shares."""

    items: list[ExportedItem]


class ExportLine(Wire):
    """A line of an export of several sessions, by its format.

    `ndjson`: the members of an item, and `exportedId`, the session that was asked for. `json`: a
    session with its `items`. `markdown` and `text`: a session with its `document`. A session that
    does not exist for the caller has a line with `exportedId` and the `code` of its problem.
    """

    exported_id: str
    code: str | None = None
    session_id: str | None = None
    project_id: str | None = None
    user_id: str | None = None
    name: str | None = None
    document: str | None = None
    items: list[ExportedItem] | None = None
    kind: ExportedKind | None = None
    role: Role | None = None
    message_id: str | None = None
    timestamp: datetime | None = None
    in_reply_to: str | None = None
    locale: str | None = None
    source: str | None = None
    text: str | None = None
    template: str | None = None
    variables: dict[str, str] | None = None
    subtype: str | None = None
    mode: str | None = None
    data: Any = None
