"""JSON on the wire of a reply: the message that asks for it, its events, its final envelope."""

from typing import Annotated, Any, Literal

from pydantic import Field

from service.api.schemas import ActingQuery
from service.replies.text_view import View
from service.wire import Query, Wire


class ViewQuery(Query):
    """`view`: operations on the reply's data, or the main prose alone as `{"text": ...}`."""

    view: View = "ops"


class JoinQuery(ActingQuery):
    """`after`: the id of the last event seen, or its number; the header Last-Event-ID wins."""

    after: Annotated[str, Field(max_length=300)] | None = None
    view: View = "ops"


class ReplyState(Wire):
    """A reply: `data` as far as it was shown, event by event up to `through`; `final` when it has
    ended."""

    message_id: str
    session_id: str
    project_id: str
    status: Literal["running", "ended"]
    through: int
    mode: str | None = None
    data: Any = None
    final: Any = None
