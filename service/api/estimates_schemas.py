"""What an estimate takes and answers."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from domain.metering import ESTIMATES, OPERATIONS, Confidence, Past, estimate
from domain.modes import PLANNER
from service.api.schemas import BalanceQuery
from service.wire import Id, Wire


class EstimateQuery(BalanceQuery):
    """The project of a message that is not sent yet, and the user that would send it."""

    project_id: Id
    user_id: Id | None = None


class ModeEstimate(Wire):
    """What a reply of a mode may take. `seconds` is the usual bill, `reservedSeconds` what is set
    aside while the reply runs. `replies` are the past ones that `seconds` and `confidence` rest on.
    `sufficient` says whether the balance allows the message; it is absent without a user."""

    seconds: int
    reserved_seconds: int
    confidence: Confidence
    replies: int
    sufficient: bool | None = None


class Estimates(Wire):
    """Estimates by `chatMode`; a message without one reserves as `general` does."""

    by_mode: Annotated[dict[str, ModeEstimate], Field(description="By the mode of the reply.")]
    available_seconds: int | None = None


def estimates(past: Mapping[str, Past], available: int | None) -> Estimates:
    """The estimates of all modes."""
    modes: dict[str, ModeEstimate] = {}
    for mode in PLANNER:
        reserved = ESTIMATES[mode]
        known = past.get(OPERATIONS[mode])
        seconds, confidence = estimate(mode, known)
        modes[mode] = ModeEstimate(
            seconds=seconds,
            reserved_seconds=reserved,
            confidence=confidence,
            replies=0 if known is None else known.replies,
            sufficient=None if available is None else available >= reserved,
        )
    return Estimates(by_mode=modes, available_seconds=available)
