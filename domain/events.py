"""The whole vocabulary: every event that can be appended, by stream.

An event is a fact in the past tense. Its class name is its stored type. A field's name is its
stored JSON key, unless the field names another key: `reply_id` is stored as `message_id`. A type
may only ever gain optional fields; a changed meaning is a new type with a new name. So SQL can read
stored JSON for ever, and no stored event is ever converted.

Units are in the names: `_seconds` are whole billed AI seconds, `_ms` milliseconds of wall time,
`_usd` exact decimals with six places. A number of tokens is None when the provider did not give it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from operator import attrgetter
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias, get_args

Json: TypeAlias = Any
"""A JSON value as `orjson` reads it."""

TEXT: Final = "text"
"""Marks a field that holds what people, models or workers wrote, or something made from that.
Erasure masks these fields: `make schema` writes their names into `sql/functions/masked.sql`."""

Text: TypeAlias = Annotated[str, TEXT]

ChatMode = Literal["question", "feature", "fix", "analysis", "general"]
MessageMode = Literal[ChatMode, "initial", "build"]
SessionMode = Literal["plan", "build"]
CreditKind = Literal["paid", "bonus"]
Role = Literal["owner", "editor", "viewer"]
CancelReason = Literal["cancelled", "superseded"]
Context = Literal["version_history", "project_structure", "build_errors"]
BuildPhase = Literal["queue", "setup", "development", "dependencies", "build", "deploy", "metadata"]
ReportType = Literal["started", "progress", "completed", "failed"]
BuildFault = Literal["failed", "timed_out"]
OperationType = Literal[
    "main_build",
    "metadata_generation",
    "update",
    "plan_consultation",
    "plan_question",
    "plan_feature",
    "plan_fix",
    "plan_analysis",
]


def _stored_as(key: str) -> Mapping[str, str]:
    """The metadata of a field that has another name in stored JSON."""
    return {"stored_as": key}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Event:
    schema_version: ClassVar[int] = 1


# project-<id> ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectRegistered(_Event):
    """A project became known, with what a planner should know of it."""

    project_id: str
    name: Text
    framework: Text | None = None
    source_root: Text | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberAdded(_Event):
    """A user may act in the project; a second time, with another role, changes the role."""

    project_id: str
    user_id: str
    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberRemoved(_Event):
    """The user may no longer act in the project."""

    project_id: str
    user_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectLocked(_Event):
    """A build of the project began: until it ends nobody plans or begins another one."""

    project_id: str
    build_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectUnlocked(_Event):
    """The project's build has ended."""

    project_id: str
    build_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectErasureRequested(_Event):
    """The project is to be erased: nobody sees it any more, and it takes nothing more."""

    project_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectErased(_Event):
    """All that was said of the project is gone, after that of its sessions. See ERASURES."""

    project_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageAdmitted(_Event):
    """A member's message was admitted, `at` a time (ISO 8601) that the project's limit counts.

    `reply_id` is the id of the message's reply, and so is the stored key `message_id`: a join with
    the `message_id` of UserMessagePosted finds nothing. Join it with `message_id` of ReplyStarted,
    whose `in_reply_to` is the id of the user's message.
    """

    project_id: str
    user_id: str
    reply_id: str = field(metadata=_stored_as("message_id"))
    at: str


# session-<id> ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOpened(_Event):
    """A user began to talk about a project."""

    session_id: str
    project_id: str
    user_id: str
    mode: SessionMode = "plan"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRenamed(_Event):
    session_id: str
    name: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionModeChanged(_Event):
    session_id: str
    mode: SessionMode


@dataclass(frozen=True, slots=True, kw_only=True)
class UserMessagePosted(_Event):
    """The user said something; `chat_mode` is the client's hint, not what the model decided.

    `context` names what the planner is to be told without asking. In mode `build` the message asks
    for the build `build_id`: `initial` from an idea, `build` from the plan of the session
    `converted_from_session_id`.
    """

    session_id: str
    message_id: str
    user_id: str
    text: Text
    locale: str
    chat_mode: MessageMode | None = None
    mode: SessionMode = "plan"
    build_id: str | None = None
    converted_from_session_id: str | None = None
    context: tuple[Context, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyStarted(_Event):
    """A reply began. The reservation `reservation_id` holds the seconds that the reply may use.

    `lease_id`, a fencing token, names the lease of the process that writes the reply. A second
    event for the same reply says that another process took the reply over.
    """

    session_id: str
    reply_id: str = field(metadata=_stored_as("message_id"))
    in_reply_to: str
    model: str
    reservation_id: str
    lease_id: int = field(default=0, metadata=_stored_as("epoch"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyCancelRequested(_Event):
    """Somebody wants the reply to end: for good, or because a newer message takes its place."""

    session_id: str
    reply_id: str = field(metadata=_stored_as("message_id"))
    reason: CancelReason


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyCompleted(_Event):
    """The reply ended with content: whole (`success`) or cut off (`partial`, for `reason`).

    `data` is what the client was shown, operation by operation; `duration_ms` runs from the
    message to the end of the reply, `billed_seconds` is what its settlement took, `frames` the
    number of stream events that came before the final one. `version_id`, `build_id` and
    `modified_at` (ISO 8601) say how the project stood; `locale` is the message's.
    """

    session_id: str
    reply_id: str = field(metadata=_stored_as("message_id"))
    in_reply_to: str
    subtype: Literal["success", "partial"]
    mode: ChatMode
    data: Annotated[Json, TEXT]
    duration_ms: int
    billed_seconds: int
    model: str
    reason: str | None = None
    warnings: tuple[str, ...] = ()
    tokens_used: int | None = None
    cache_hits: int | None = None
    frames: int = 0
    locale: str = "en"
    version_id: str | None = None
    build_id: str | None = None
    modified_at: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyFailed(_Event):
    """The reply ended with nothing to show, and nothing billed; `code` says why.

    `retry_after_seconds` is what the provider asked for, where it did; `frames` as in
    ReplyCompleted.
    """

    session_id: str
    reply_id: str = field(metadata=_stored_as("message_id"))
    in_reply_to: str
    code: str
    duration_ms: int
    retry_after_seconds: int | None = None
    tokens_used: int | None = None
    cache_hits: int | None = None
    frames: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemMessagePosted(_Event):
    """The service said something: a template's key and variables, rendered where it is read.

    `contract_version` is that of the template's variables.
    """

    session_id: str
    message_id: str
    template: str
    variables: Annotated[Mapping[str, str], TEXT]
    visible: bool = True
    type: str = "message"
    contract_version: str = "1.0"
    mode: SessionMode = "plan"
    build_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSaved(_Event):
    """The plan in the reply `reply_id` was kept as a draft, under its `title`."""

    session_id: str
    reply_id: str = field(metadata=_stored_as("message_id"))
    user_id: str
    mode: ChatMode
    title: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionConverted(_Event):
    """The session's plan became a build. `plan_digest` tells whether another plan is the same."""

    session_id: str
    build_id: str
    prompt: Text
    plan_digest: Text | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionArchived(_Event):
    session_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionExpired(_Event):
    """Nobody had spoken for longer than a session may idle."""

    session_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionDeleted(_Event):
    """All that was said in the session is gone. See ERASURES."""

    session_id: str


# build-<id> --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildQueued(_Event):
    """A build waits for a worker: of an idea, or of the plan of a session.

    `message_id` is the user's message that asked for it, in the session `session_id`.
    """

    build_id: str
    project_id: str
    session_id: str
    message_id: str
    user_id: str
    prompt: Text
    locale: str = "en"
    plan: Annotated[Json, TEXT] = None
    converted_from_session_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildClaimed(_Event):
    """A worker took the build."""

    build_id: str
    worker_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildProgressed(_Event):
    """A worker reported something, whatever it was; `at` (ISO 8601) is when, by its clock."""

    build_id: str
    event_id: str
    phase: BuildPhase
    type: ReportType
    title: Text
    at: str
    user_visible: bool = True
    version_id: str | None = None
    preview_url: Text | None = None
    artifact_url: Text | None = None
    error: Text | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildReferenced(_Event):
    """Development began: from here on the timeline shows the build. Once a build."""

    build_id: str
    session_id: str
    message_id: str
    title: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSucceeded(_Event):
    """The build is deployed, as the version `version_id`."""

    build_id: str
    version_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildFailed(_Event):
    """The build ended without a version: its worker said so, or nobody said anything for long."""

    build_id: str
    code: BuildFault
    error: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionDeployed(_Event):
    """The project has a new version."""

    build_id: str
    project_id: str
    session_id: str
    version_id: str
    preview_url: Text | None = None
    artifact_url: Text | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildErased(_Event):
    """All that was said of the build is gone, with its session. See ERASURES."""

    build_id: str


# account-<tenant>-<user> -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeCredited(_Event):
    """The account gained AI seconds."""

    user_id: str
    credit_id: str
    seconds: int
    kind: CreditKind
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeReserved(_Event):
    """Seconds were set aside for one reply; a second time for the same reservation adds to it.

    The first has the time (ISO 8601) `at` which the message was taken: the user's limit counts it.
    """

    user_id: str
    reservation_id: str
    session_id: str
    reply_id: str = field(metadata=_stored_as("message_id"))
    seconds: int
    at: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeConsumed(_Event):
    """A reservation was settled: `seconds` of its `reserved_seconds` are billed, the rest is free.

    `cost_usd` was computed with the price table `prices` at the time; nothing ever reprices it.
    None is unknown, not zero.
    """

    user_id: str
    reservation_id: str
    project_id: str
    session_id: str
    reply_id: str = field(metadata=_stored_as("message_id"))
    operation: OperationType
    seconds: int
    reserved_seconds: int = field(metadata=_stored_as("held_seconds"))
    model: str
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cost_usd: Decimal | None = None
    prices: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationReleased(_Event):
    """A reservation ended with nothing consumed: all its `reserved_seconds` are free again."""

    user_id: str
    reservation_id: str
    reserved_seconds: int = field(metadata=_stored_as("held_seconds"))
    reason: str


# request-<digest> --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestCompleted(_Event):
    """A request with this idempotency key was done, in the append that this event is part of.

    `result` is the JSON value that the request's answer is made from. The append began `offset`
    positions before this event.
    """

    key: str
    fingerprint: str
    result: Json
    offset: int = field(metadata=_stored_as("place"))


# -------------------------------------------------------------------------------------------------

ProjectEvent: TypeAlias = (
    ProjectRegistered
    | MemberAdded
    | MemberRemoved
    | ProjectLocked
    | ProjectUnlocked
    | ProjectErasureRequested
    | ProjectErased
    | MessageAdmitted
)
SessionEvent: TypeAlias = (
    SessionOpened
    | SessionRenamed
    | SessionModeChanged
    | UserMessagePosted
    | ReplyStarted
    | ReplyCancelRequested
    | ReplyCompleted
    | ReplyFailed
    | SystemMessagePosted
    | PlanSaved
    | SessionConverted
    | SessionArchived
    | SessionExpired
    | SessionDeleted
)
BuildEvent: TypeAlias = (
    BuildQueued
    | BuildClaimed
    | BuildProgressed
    | BuildReferenced
    | BuildSucceeded
    | BuildFailed
    | VersionDeployed
    | BuildErased
)
AccountEvent: TypeAlias = TimeCredited | TimeReserved | TimeConsumed | ReservationReleased
RequestEvent: TypeAlias = RequestCompleted
Event: TypeAlias = ProjectEvent | SessionEvent | BuildEvent | AccountEvent | RequestEvent

ERASURES: Final[tuple[type[Event], ...]] = (SessionDeleted, BuildErased, ProjectErased)
"""After these, what people wrote is blank in all earlier events of the stream: the append that has
one masks them, in the database. Ids, times, seconds and money stay."""

ERASABLE: Final[tuple[type[Event], ...]] = (
    *get_args(ProjectEvent),
    *get_args(SessionEvent),
    *get_args(BuildEvent),
)
"""The types of the streams that can be erased: each of their fields with text is marked."""

EVENT_TYPES: Final[Mapping[str, type[Event]]] = {kind.__name__: kind for kind in get_args(Event)}

_READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "cost_usd": Decimal,
    "warnings": tuple,
    "context": tuple,
}
"""How a stored value becomes the field's type, where JSON has no such type."""


@dataclass(frozen=True, slots=True)
class _Form:
    """How an event type is stored: its field names by stored key, in the fields' order.

    `renamed` are those that differ, `values` reads all fields of an event and is None where no
    field differs, `readers` are the fields that JSON has no type for.
    """

    kind: type[Event]
    keys: Mapping[str, str]
    renamed: tuple[tuple[str, str], ...]
    readers: tuple[tuple[str, Callable[[Any], Any]], ...]
    values: Callable[[Event], tuple[Any, ...]] | None


def _form(kind: type[Event]) -> _Form:
    keys = {str(each.metadata.get("stored_as", each.name)): each.name for each in fields(kind)}
    renamed = tuple((key, name) for key, name in keys.items() if key != name)
    return _Form(
        kind,
        keys=keys,
        renamed=renamed,
        readers=tuple((name, _READERS[name]) for name in keys.values() if name in _READERS),
        values=attrgetter(*keys.values()) if renamed else None,
    )


_FORMS: Final[Mapping[str, _Form]] = {name: _form(kind) for name, kind in EVENT_TYPES.items()}


def from_stored(name: str, state: Mapping[str, Json]) -> Event:
    """The event of type `name` from its stored JSON object.

    Raises KeyError for a type that is not in the vocabulary, TypeError for a key that the type
    does not have.
    """
    form = _FORMS[name]
    values = dict(state)
    for key, field_name in form.renamed:
        if field_name in values:
            raise TypeError(f"{name} has no stored key {field_name}")
        if key in values:
            values[field_name] = values.pop(key)
    for field_name, read in form.readers:
        if (value := values.get(field_name)) is not None:
            values[field_name] = read(value)
    return form.kind(**values)


def to_stored(event: Event) -> Event | dict[str, Any]:
    """What `orjson` writes as the event's stored JSON object, with its keys in the fields' order.

    That is the event itself, unless a field of its type is stored under another key.
    """
    form = _FORMS[type(event).__name__]
    if form.values is None:
        return event
    return dict(zip(form.keys, form.values(event), strict=True))


def stored_keys(kind: type[Event]) -> Mapping[str, str]:
    """The stored JSON keys of an event type, each with the field it fills, in the fields' order."""
    return _FORMS[kind.__name__].keys
