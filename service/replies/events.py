"""The events of a reply's stream: what a turn emits, and what the stream's contract says."""

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias, TypedDict

from orjson import dumps
from pydantic import BaseModel

from domain.events import ReplyMode
from domain.replies.operations import Operation
from service.replies.envelope import ChatPlanResponse
from service.replies.sse import encode
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

    mode: ReplyMode


class ReplyOperation(Wire):
    """One step of the envelope's `data`: `open` a container of a `kind`, `append` `text` to a
    string, `set` a `value`. `path` is a JSON Pointer."""

    op: Literal["open", "append", "set"]
    path: str
    kind: Literal["object", "array"] | None = None
    text: str | None = None
    value: Any = None


class Chunk(TypedDict):
    """More of the reply, in order. Most events are chunks, so a chunk is a dictionary: a model
    would cost more than its encoding."""

    ops: list[Operation]


class ChunkView(Wire):
    """More of the reply, in order: its operations, or with `view=text` its main prose alone."""

    ops: list[ReplyOperation] | None = None
    text: str | None = None


class Snapshot(Wire):
    """All that was shown up to the event `through`, in place of those events."""

    mode: ReplyMode | None
    data: Any
    through: int


class ToolCallStatus(Wire):
    """The model calls a tool, which reads the project: `running`, then `done` or `failed`."""

    name: str
    summary: str
    status: Literal["running", "done", "failed"]


NoticeCode = Literal["queued", "plan_thinking", "resumed", "provider_retry", "reservation_used"]


class Notice(Wire):
    """Something to know; nothing depends on it."""

    code: NoticeCode
    template: str
    variables: dict[str, Any]


class Reset(Wire):
    """Discard what was shown: it is not part of the reply after all."""

    reason: str


class GoAway(Wire):
    """Why a stream ends here: `stopping`; `removed` when the reader is no member any more, or
    `expired` when its token has expired; `erased` when the reply is gone.

    With a `messageId`, in a live timeline, the events of that reply end and the stream goes on:
    also for the reason `lost`, where they could not be read any more.
    """

    reason: str
    message_id: str | None = None


class Renew(Wire):
    """The token of this stream expires soon, in Unix seconds: get another one and come back."""

    expires_at: int


REPLY_EVENTS: Final[Mapping[str, type[BaseModel]]] = {
    "accepted": Accepted,
    "intent": Intent,
    "chunk": ChunkView,
    "snapshot": Snapshot,
    "tool": ToolCallStatus,
    "notice": Notice,
    "reset": Reset,
    "final": ChatPlanResponse,
    "renew": Renew,
    "goaway": GoAway,
}

ReplyEvent: TypeAlias = Accepted | Intent | Chunk | Snapshot | ToolCallStatus | Notice | Reset
"""The events that are made here. The final event is made of the recorded end."""

_NAMES: Final = {model: name for name, model in REPLY_EVENTS.items()}


def notice(code: NoticeCode, **variables: Any) -> Notice:
    """A notice. Its text is the template with the notice's own name."""
    return Notice(code=code, template=code, variables=variables)


def encoded(event: ReplyEvent, reply_id: bytes, number: int) -> bytes:
    """The event as it is stored and sent: event `number` of the reply, counted from 1."""
    if isinstance(event, dict):
        return b"id: %b.%d\nevent: chunk\ndata: %b\n\n" % (reply_id, number, dumps(event))
    event_id = f"{reply_id.decode()}.{number}"
    return encode(_NAMES[type(event)], event.model_dump(by_alias=True), event_id)
