"""JSON on the wire of a reply: the message that asks for it, its events, its final envelope."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from domain.events import ChatMode, Context
from service.api.schemas import LONGEST_MESSAGE, ActingQuery, Id, Locale, Query, Text, Wire
from service.replies.text_view import View
from service.texts.templates import render

ActionType = Literal["convert_to_build", "save_plan", "export"]
PLAN_ACTIONS: Final[tuple[ActionType, ...]] = ("convert_to_build", "save_plan", "export")
OnBusy = Literal["reject", "enqueue", "interrupt"]
"""What becomes of a message while its session's last reply is still being written: refused,
answered after that reply, or answered in its place."""


# What is asked -----------------------------------------------------------------------------------


class PlanContext(Wire):
    """What the planner is told without asking for it."""

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


class ChatPlanRequest(Wire):
    """A user's message. The first four members are enough: the server finds the rest itself."""

    user_id: Id
    project_id: Id
    message: Annotated[Text, Field(min_length=1, max_length=LONGEST_MESSAGE)]
    locale: Locale = "en"
    chat_mode: ChatMode | None = None
    session_id: Id | None = None
    on_busy: OnBusy = "reject"
    version_id: Id | None = None
    build_id: Id | None = None
    context: PlanContext | None = None


class ViewQuery(Query):
    """`view`: operations on the reply's data, or the main prose alone as `{"text": ...}`."""

    view: View = "ops"


class JoinQuery(ActingQuery):
    """`after`: the id of the last event seen, or its number; the header Last-Event-ID wins."""

    after: Annotated[str, Field(max_length=300)] | None = None
    view: View = "ops"


# What is answered --------------------------------------------------------------------------------


class ProjectContext(Wire):
    """The state of the project that the reply speaks of."""

    version_id: str | None = None
    build_id: str | None = None
    last_modified: datetime


class ReplyMetadata(BaseModel):
    """Numbers of a reply. `billed_seconds` is what its settlement took."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    duration_ms: int
    tokens_used: int | None = None
    cache_hits: int | None = None
    billed_seconds: int
    warnings: list[str] = []
    projectContext: ProjectContext  # noqa: N815 - the contract mixes the two styles


class ReplyError(Wire):
    """Why a reply has nothing to show: a code, and a template's key with its variables."""

    code: str
    template: str
    variables: dict[str, Any] = Field(default_factory=dict[str, Any])
    retry_after_seconds: int | None = None


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


class Action(Wire):
    """Something that can be done with a reply. `payload` is what its call needs beside who acts."""

    type: ActionType
    label: str
    payload: Any


class ChatPlanResponse(Wire):
    """The one final envelope of a reply.

    `data` is by the contract of `mode`; of a `partial` reply it is what was shown until `reason`.
    """

    type: Literal["chat_response"] = "chat_response"
    subtype: Literal["success", "partial", "error"]
    session_id: str
    message_id: str
    timestamp: datetime
    mode: ChatMode
    data: Any = None
    reason: str | None = None
    error: ReplyError | None = None
    metadata: ReplyMetadata
    available_actions: list[Action] | None = None


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


def label(action: ActionType, locale: str) -> str:
    """What a button for the action says."""
    return render(f"action_{action}", {}, locale)
