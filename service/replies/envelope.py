"""The one final envelope of a reply: made from the log, the same wherever and whenever."""

from datetime import datetime
from typing import Any

from domain.events import ReplyCompleted, ReplyFailed
from domain.session import PLANS
from service.api.replies_schemas import (
    PLAN_ACTIONS,
    Action,
    ActionType,
    ChatPlanResponse,
    ProjectContext,
    ReplyError,
    ReplyMetadata,
    label,
)
from service.api.schemas import dumped


def final_envelope(
    ended: ReplyCompleted | ReplyFailed, ended_at: datetime, registered_at: datetime
) -> dict[str, Any]:
    """The envelope as JSON values. `registered_at` is when its project became known."""
    if isinstance(ended, ReplyFailed):
        return dumped(_failed(ended, ended_at, registered_at)) | {"data": None}
    # As it was shown, value by value: the operations folded equal it.
    return dumped(_completed(ended, ended_at, registered_at)) | {"data": ended.data}


def _completed(
    ended: ReplyCompleted, ended_at: datetime, registered_at: datetime
) -> ChatPlanResponse:
    modified_at = datetime.fromisoformat(ended.modified_at) if ended.modified_at else registered_at
    return ChatPlanResponse(
        subtype=ended.subtype,
        session_id=ended.session_id,
        message_id=ended.message_id,
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
        message_id=ended.message_id,
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
    return {"messageId": ended.message_id}
