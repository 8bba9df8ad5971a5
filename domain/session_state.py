"""The state of a session, and how each event changes it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from json import dumps
from typing import Final, Literal, assert_never

from domain.events import (
    CancelReason,
    ChatMode,
    Json,
    PlanSaved,
    PlanShared,
    ReplyCancelRequested,
    ReplyCompleted,
    ReplyFailed,
    ReplyStarted,
    SessionArchived,
    SessionConverted,
    SessionDeleted,
    SessionEvent,
    SessionExpired,
    SessionMode,
    SessionModeChanged,
    SessionOpened,
    SessionRenamed,
    SessionRestored,
    SessionResumed,
    ShareRevoked,
    SystemMessagePosted,
    UserMessagePosted,
)

PLANS: Final[frozenset[ChatMode]] = frozenset({"feature", "fix"})
"""The modes whose replies are plans, which can be built."""

Status = Literal["new", "active", "converted", "archived", "expired", "deleted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningReply:
    """A reply in progress: its lease, how often it was started, and why it was cancelled, if so."""

    in_reply_to: str
    reservation_id: str
    model: str
    lease_id: int
    starts: int = 1
    cancelled: CancelReason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A plan that can be built, with its short title."""

    mode: ChatMode
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What decisions need to know.

    `running` are the replies that have not ended by id, oldest first. `plans` are the plans by the
    ids of their replies, `plan` is the data of the newest plan, and `saved` are the ids of the
    drafts. `builds` are the ids of the builds that the session asked for. `converted_to` is the id
    of the last build that a plan became, and `plan_digest` is that plan's digest. `shares` maps the
    ids of the shares that were not revoked to the replies with their plans.
    """

    session_id: str = ""
    project_id: str = ""
    user_id: str = ""
    status: Status = "new"
    name: str = ""
    mode: SessionMode = "plan"
    message_count: int = 0
    tokens_used: int = 0
    running: Mapping[str, RunningReply] = field(default_factory=dict[str, RunningReply])
    plans: Mapping[str, Plan] = field(default_factory=dict[str, Plan])
    plan: Json = None
    saved: frozenset[str] = frozenset()
    builds: tuple[str, ...] = ()
    converted_to: str | None = None
    plan_digest: str | None = None
    shares: Mapping[str, str] = field(default_factory=dict[str, str])


INITIAL: Final = Session()


def evolve(state: Session, event: SessionEvent) -> Session:
    """The session after one more event."""
    match event:
        case UserMessagePosted():
            builds = () if event.build_id is None else (event.build_id,)
            return replace(
                state, message_count=state.message_count + 1, builds=state.builds + builds
            )
        case ReplyStarted():
            return _with_running(state, event.reply_id, _started(state, event))
        case ReplyCancelRequested():
            return _cancelled(state, event)
        case ReplyCompleted():
            return _completed(_ended(state, event), event)
        case ReplyFailed():
            return _ended(state, event)
        case SystemMessagePosted():
            return state
        case PlanSaved():
            return replace(state, saved=state.saved | {event.reply_id})
        case PlanShared():
            return replace(state, shares={**state.shares, event.share_id: event.reply_id})
        case ShareRevoked():
            rest = {key: reply for key, reply in state.shares.items() if key != event.share_id}
            return replace(state, shares=rest)
        case SessionOpened():
            return Session(
                session_id=event.session_id,
                project_id=event.project_id,
                user_id=event.user_id,
                mode=event.mode,
                status="active",
            )
        case SessionRenamed():
            return replace(state, name=event.name)
        case SessionModeChanged():
            return replace(state, mode=event.mode)
        case SessionConverted():
            return replace(
                state,
                status="converted",
                converted_to=event.build_id,
                plan_digest=event.plan_digest,
            )
        case SessionArchived():
            return replace(state, status="archived")
        case SessionRestored():
            return replace(state, status="active" if state.converted_to is None else "converted")
        case SessionExpired():
            return replace(state, status="expired")
        case SessionResumed():
            return replace(state, status="active")
        case SessionDeleted():
            return _deleted(state)
        case _:
            assert_never(event)


def fold(events: Iterable[SessionEvent], state: Session = INITIAL) -> Session:
    """The session after all of `events`."""
    for event in events:
        state = evolve(state, event)
    return state


def _started(state: Session, event: ReplyStarted) -> RunningReply:
    former = state.running.get(event.reply_id)
    if former is not None:
        return replace(former, lease_id=event.lease_id, starts=former.starts + 1)
    return RunningReply(
        in_reply_to=event.in_reply_to,
        reservation_id=event.reservation_id,
        model=event.model,
        lease_id=event.lease_id,
    )


def _cancelled(state: Session, event: ReplyCancelRequested) -> Session:
    running = state.running.get(event.reply_id)
    if running is None:
        return state
    return _with_running(state, event.reply_id, replace(running, cancelled=event.reason))


def _ended(state: Session, event: ReplyCompleted | ReplyFailed) -> Session:
    rest = {key: run for key, run in state.running.items() if key != event.reply_id}
    return replace(state, running=rest, tokens_used=state.tokens_used + (event.tokens_used or 0))


def _completed(state: Session, event: ReplyCompleted) -> Session:
    if event.subtype != "success" or event.mode not in PLANS or event.data is None:
        return state
    said = event.data["summary"] if event.mode == "feature" else event.data["issue"]["description"]
    plan = Plan(mode=event.mode, title=str(said))
    return replace(state, plan=event.data, plans={**state.plans, event.reply_id: plan})


def _deleted(state: Session) -> Session:
    """The session after its erasure: its ids alone."""
    return Session(
        session_id=state.session_id,
        project_id=state.project_id,
        user_id=state.user_id,
        status="deleted",
    )


def _with_running(state: Session, reply_id: str, running: RunningReply) -> Session:
    return replace(state, running={**state.running, reply_id: running})


def plan_digest(plan: Json) -> str:
    """A name for a plan, in hexadecimal digits: the same for the same values in any order."""
    return sha256(dumps(plan, sort_keys=True, ensure_ascii=True).encode()).hexdigest()
