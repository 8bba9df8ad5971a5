"""The one final envelope of a reply: made from the log, the same wherever and whenever."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from domain.deciders.session import PLANS
from domain.events import ReplyCompleted, ReplyFailed, ReplyMode
from service.texts.templates import render
from service.wire import Wire, dumped

ActionType = Literal["convert_to_build", "save_plan", "share", "export"]


PLAN_ACTIONS: Final[tuple[ActionType, ...]] = (
    "convert_to_build",
    "save_plan",
    "share",
    "export",
)


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


class Action(Wire):
    """Something that can be done with a reply. `payload` is what its call needs beside the user."""

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
    mode: ReplyMode
    data: Any = None
    reason: str | None = None
    error: ReplyError | None = None
    metadata: ReplyMetadata
    available_actions: list[Action] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a reply ended: its final envelope, and the number of frames before the final event."""

    frames: int
    envelope: dict[str, Any]


def label(action: ActionType, locale: str) -> str:
    """What a button for the action says."""
    return render(f"action_{action}", {}, locale)


def end_of(ended: ReplyCompleted | ReplyFailed, ended_at: datetime, registered_at: datetime) -> End:
    """The end of a reply, made from its event. `registered_at` is when its project became known."""
    if isinstance(ended, ReplyFailed):
        envelope = dumped(_failed(ended, ended_at, registered_at)) | {"data": None}
    else:
        # As it was shown, value by value: the operations folded equal it.
        envelope = dumped(_completed(ended, ended_at, registered_at)) | {"data": ended.data}
    return End(frames=ended.frames, envelope=envelope)


def _completed(
    ended: ReplyCompleted, ended_at: datetime, registered_at: datetime
) -> ChatPlanResponse:
    modified_at = datetime.fromisoformat(ended.modified_at) if ended.modified_at else registered_at
    return ChatPlanResponse(
        subtype=ended.subtype,
        session_id=ended.session_id,
        message_id=ended.reply_id,
        timestamp=ended_at,
        mode=ended.mode,
        reason=ended.reason,
        metadata=ReplyMetadata(
            duration_ms=ended.duration_ms,
            tokens_used=ended.tokens_used,
            cache_hits=ended.cache_hits,
            billed_seconds=ended.billed_seconds,
            warnings=list(ended.warnings),
            projectContext=ProjectContext(
                version_id=ended.version_id, build_id=ended.build_id, last_modified=modified_at
            ),
        ),
        available_actions=actions(ended),
    )


def _failed(ended: ReplyFailed, ended_at: datetime, registered_at: datetime) -> ChatPlanResponse:
    return ChatPlanResponse(
        subtype="error",
        session_id=ended.session_id,
        message_id=ended.reply_id,
        timestamp=ended_at,
        mode="general",
        error=ReplyError(
            code=ended.code,
            template=f"reply_{ended.code}",
            retry_after_seconds=ended.retry_after_seconds,
        ),
        metadata=ReplyMetadata(
            duration_ms=ended.duration_ms,
            tokens_used=ended.tokens_used,
            cache_hits=ended.cache_hits,
            billed_seconds=0,
            projectContext=ProjectContext(last_modified=registered_at),
        ),
    )


def actions(ended: ReplyCompleted) -> list[Action]:
    """What can be done with the reply: a whole plan can be built and kept, all can be exported."""
    is_plan = ended.subtype == "success" and ended.mode in PLANS
    kinds: tuple[ActionType, ...] = PLAN_ACTIONS if is_plan else ("export",)
    return [
        Action(type=kind, label=label(kind, ended.locale), payload=_payload(kind, ended))
        for kind in kinds
    ]


def _payload(kind: ActionType, ended: ReplyCompleted) -> dict[str, Any]:
    if kind == "convert_to_build":
        return {"sessionId": ended.session_id, "planData": ended.data}
    return {"messageId": ended.reply_id}
