"""The events of a reply's stream, as they are sent."""

from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import BaseModel

from domain.events import (
    ChatMode,
)
from service.replies.envelope import ChatPlanResponse
from service.wire import Wire


class Accepted(Wire):
    """The message and its reservation are stored; the reply begins."""

    message_id: str
    user_message_id: str
    session_id: str
    position: int
    reserved_seconds: int
    contract: str


class Intent(Wire):
    """What the model decided that the message is."""

    mode: ChatMode


class ReplyOperation(Wire):
    """One step of the envelope's `data`: `open` a container of a `kind`, `append` `text` to a
    string, `set` a `value`. `path` is a JSON Pointer."""

    op: Literal["open", "append", "set"]
    path: str
    kind: Literal["object", "array"] | None = None
    text: str | None = None
    value: Any = None


class Chunk(Wire):
    """More of the reply, in order: its operations, or with `view=text` its main prose alone."""

    ops: list[ReplyOperation] | None = None
    text: str | None = None


class Snapshot(Wire):
    """All that was shown up to the event `through`, in place of those events."""

    mode: ChatMode | None
    data: Any
    through: int


class ToolLook(Wire):
    """The planner looks at the project, read-only: `running`, then `done` or `failed`."""

    name: str
    summary: str
    status: Literal["running", "done", "failed"]


class Notice(Wire):
    """Something to know; nothing depends on it."""

    code: Literal["queued", "resumed", "provider_retry", "reservation_used"]
    template: str
    variables: dict[str, Any]


class Reset(Wire):
    """Discard what was shown: it is not the reply after all."""

    reason: str


class GoAway(Wire):
    """Why a stream ends here: `stopping`, or `removed` for who is no member any more."""

    reason: str


class Renew(Wire):
    """The token of this stream expires soon, in Unix seconds: get another one and come back."""

    expires_at: int


REPLY_EVENTS: Final[Mapping[str, type[BaseModel]]] = {
    "accepted": Accepted,
    "intent": Intent,
    "chunk": Chunk,
    "snapshot": Snapshot,
    "tool": ToolLook,
    "notice": Notice,
    "reset": Reset,
    "final": ChatPlanResponse,
    "renew": Renew,
    "goaway": GoAway,
}
