"""The whole vocabulary: every event that can be appended, by stream.

An event is a fact in the past tense. Its class name is its stored type. A field's name is its
stored JSON key, unless the field names another key: `reply_id` is stored as `message_id`. A type
may only ever gain optional fields; a changed meaning is a new type with a new name. So SQL can read
stored JSON for ever, and no stored event is ever converted.

Units are in the names: `_seconds` are whole billed AI seconds, `_ms` milliseconds of wall time,
`_usd` exact decimals with six places. A number of tokens is None when the provider did not give it.

The classes have no slots: `domain/stored_events.py` gives a stored event all its fields at once, as
one dict.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias, get_args

Json: TypeAlias = Any
"""A JSON value as `orjson` reads it."""

TEXT: Final = "text"
"""Marks a field that holds what people, models or workers wrote, or something made from that.
Erasure masks these fields: `make schema` writes their names into `sql/functions/masked.sql`."""

Text: TypeAlias = Annotated[str, TEXT]

ChatMode = Literal["question", "feature", "fix", "analysis", "general"]
"""What a message to the planner is, and so the contract of its reply."""
ReplyMode = Literal[ChatMode, "improvement"]
MessageMode = Literal[ChatMode, "initial", "build"]
SessionMode = Literal[
    "plan", "setup", "analysis", "what_if", "idea", "run_feedback", "prompt", "build"
]
"""What a session is for. `domain/modes.py` says what a mode decides."""
TimelineMode = Literal["plan", "build"]
"""Whether an item of the timeline is about a build. All other items are in mode `plan`."""
CreditKind = Literal["paid", "bonus"]
MessageSource = Literal["client"]
Role = Literal["owner", "editor", "viewer"]
CancelReason = Literal["cancelled", "superseded"]
Context = Literal["version_history", "project_structure", "build_errors"]
BuildPhase = Literal["queue", "setup", "development", "dependencies", "build", "deploy", "metadata"]
ReportType = Literal["started", "progress", "completed", "failed"]
BuildFault = Literal["failed", "timed_out", "cancelled"]
RunReportType = Literal["progress", "step", "candidate", "succeeded", "failed"]
RunFault = Literal["failed", "timed_out", "cancelled"]
BuildOperation = Literal["main_build", "update", "metadata_generation"]
OperationType = Literal[
    BuildOperation,
    "plan_consultation",
    "plan_question",
    "plan_feature",
    "plan_fix",
    "plan_analysis",
    "idea_consultation",
    "run_feedback",
    "prompt_run",
]


def _stored_as(key: str) -> Mapping[str, str]:
    """The metadata of a field that has another name in stored JSON. See domain/stored_events.py."""
    return {"stored_as": key}


@dataclass(frozen=True, kw_only=True)
class _Event:
    schema_version: ClassVar[int] = 1


# project-<id> ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ProjectRegistered(_Event):
    """A project was registered, with what the planner should know about it."""

    project_id: str
    name: Text
    framework: Text | None = None
    source_root: Text | None = None


@dataclass(frozen=True, kw_only=True)
class ProjectDescribed(_Event):
    """The project was described anew: these values replace all earlier ones."""

    project_id: str
    name: Text
    framework: Text | None = None
    source_root: Text | None = None


@dataclass(frozen=True, kw_only=True)
class MemberAdded(_Event):
    """A user may act in the project. A second event for the same user changes the role."""

    project_id: str
    user_id: str
    role: Role


@dataclass(frozen=True, kw_only=True)
class MemberRemoved(_Event):
    """The user may no longer act in the project."""

    project_id: str
    user_id: str


@dataclass(frozen=True, kw_only=True)
class ProjectLocked(_Event):
    """A build of the project began. Until it ends, messages and other builds are refused."""

    project_id: str
    build_id: str


@dataclass(frozen=True, kw_only=True)
class ProjectUnlocked(_Event):
    """The project's build has ended."""

    project_id: str
    build_id: str


@dataclass(frozen=True, kw_only=True)
class ProjectErasureRequested(_Event):
    """The project will be erased. From here on nobody can see it or write to it."""

    project_id: str


@dataclass(frozen=True, kw_only=True)
class ProjectErased(_Event):
    """The texts of the project are gone. Its sessions were erased before. See ERASURES."""

    project_id: str


@dataclass(frozen=True, kw_only=True)
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


@dataclass(frozen=True, kw_only=True)
class SessionOpened(_Event):
    """A user began a conversation about a project.

    The ids from `run_id` to `build_id` are the context: what the conversation is about. A fork
    shares what the session `forked_from_session_id` had said up to the message
    `forked_from_message_id`, which is in the event `forked_from_version` of that stream.
    """

    session_id: str
    project_id: str
    user_id: str
    mode: SessionMode = "plan"
    name: Text | None = None
    run_id: str | None = None
    step_id: str | None = None
    candidate_id: str | None = None
    prompt_id: str | None = None
    prompt_version_id: str | None = None
    version_id: str | None = None
    build_id: str | None = None
    forked_from_session_id: str | None = None
    forked_from_message_id: str | None = None
    forked_from_version: int | None = None


@dataclass(frozen=True, kw_only=True)
class SessionRenamed(_Event):
    session_id: str
    name: Text


@dataclass(frozen=True, kw_only=True)
class SessionDescribed(_Event):
    session_id: str
    description: Text


@dataclass(frozen=True, kw_only=True)
class SessionTagged(_Event):
    """The session has these tags from here on, and no others."""

    session_id: str
    tags: Annotated[tuple[str, ...], TEXT]


@dataclass(frozen=True, kw_only=True)
class SessionStarred(_Event):
    session_id: str


@dataclass(frozen=True, kw_only=True)
class SessionUnstarred(_Event):
    session_id: str


@dataclass(frozen=True, kw_only=True)
class SessionModeChanged(_Event):
    session_id: str
    mode: SessionMode


@dataclass(frozen=True, kw_only=True)
class SessionInstructed(_Event):
    """How the session's replies are made, from here on: the values replace all earlier ones.

    `instructions` is the system text of a mode that has none of its own. `model` and `max_tokens`
    are None where the service's own are used. `settings` keeps what the client asked for, also
    what the provider does not take.

    Where the instructions are a version of a prompt, `answers` are the values of its placeholders,
    and the version has the number `prompt_number`.
    """

    session_id: str
    instructions: Text | None = None
    model: str | None = None
    max_tokens: int | None = None
    settings: Annotated[Json, TEXT] = None
    prompt_id: str | None = None
    prompt_version_id: str | None = None
    prompt_number: int | None = None
    answers: Annotated[Json, TEXT] = None


@dataclass(frozen=True, kw_only=True)
class MaterialAdded(_Event):
    """The session got a text for the model, beside its messages. `kind` names the sort of text."""

    session_id: str
    message_id: str
    kind: str
    text: Text


@dataclass(frozen=True, kw_only=True)
class MaterialErased(_Event):
    """The text of one material is gone, because the text that it was made from is. See ERASURES."""

    session_id: str
    message_id: str


@dataclass(frozen=True, kw_only=True)
class UserMessagePosted(_Event):
    """The user sent a message. `chat_mode` is the client's hint; the model decides the mode.

    `context` names what the model gets without a tool call. In mode `build` the message asks for
    the build `build_id`: `initial` from an idea, `build` from the plan of the session
    `converted_from_session_id`. `viewed_version_id` and `viewed_build_id` are what the user looked
    at while writing, where the client says so. A message with the source `client` was appended: the
    model was not asked.
    """

    session_id: str
    message_id: str
    user_id: str
    text: Text
    locale: str
    chat_mode: MessageMode | None = None
    mode: TimelineMode = "plan"
    build_id: str | None = None
    converted_from_session_id: str | None = None
    context: tuple[Context, ...] = ()
    viewed_version_id: str | None = None
    viewed_build_id: str | None = None
    source: MessageSource | None = None


@dataclass(frozen=True, kw_only=True)
class AssistantMessageAdded(_Event):
    """A client appended what an assistant said. The model did not write the text here."""

    session_id: str
    message_id: str
    user_id: str
    text: Text
    locale: str


@dataclass(frozen=True, kw_only=True)
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


@dataclass(frozen=True, kw_only=True)
class ReplyCancelRequested(_Event):
    """A user asked for the reply's end, or a newer message replaces it (`superseded`)."""

    session_id: str
    reply_id: str = field(metadata=_stored_as("message_id"))
    reason: CancelReason


@dataclass(frozen=True, kw_only=True)
class ReplyCompleted(_Event):
    """The reply ended with content: whole (`success`) or cut off (`partial`, for `reason`).

    `data` is the fold of the operations that the client received. `duration_ms` runs from the
    message to the end of the reply. `billed_seconds` is what the settlement billed. `frames` is the
    number of stream events before the final one. `version_id` and `build_id` are what the user
    looked at, and otherwise the project's at that time; `modified_at` (ISO 8601) is the project's,
    and `locale` the message's. `first_text_ms` runs from the message to the first text that readers
    saw; None where the process that ended the reply does not know the time. `resets` counts how
    often the readers had to discard the reply, `retries` how often the provider was asked again
    after an error.
    """

    session_id: str
    reply_id: str = field(metadata=_stored_as("message_id"))
    in_reply_to: str
    subtype: Literal["success", "partial"]
    mode: ReplyMode
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
    first_text_ms: int | None = None
    resets: int = 0
    retries: int = 0


@dataclass(frozen=True, kw_only=True)
class ReplyFailed(_Event):
    """The reply ended without content, and nothing was billed; `code` says why.

    `retry_after_seconds` is the provider's wish, None where it had none. `mode` is what the model
    had decided, else the client's hint, else None. `frames`, `locale`, `resets` and `retries` are
    as in ReplyCompleted, and so is `first_text_ms`: that text was taken back.
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
    mode: ReplyMode | None = None
    locale: str | None = None
    first_text_ms: int | None = None
    resets: int = 0
    retries: int = 0


@dataclass(frozen=True, kw_only=True)
class SystemMessagePosted(_Event):
    """The service posted a message: a template's key and variables. Each reader renders it.

    `contract_version` is the version of the template's variables.
    """

    session_id: str
    message_id: str
    template: str
    variables: Annotated[Mapping[str, str], TEXT]
    visible: bool = True
    type: str = "message"
    contract_version: str = "1.0"
    mode: TimelineMode = "plan"
    build_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class PlanSaved(_Event):
    """The plan in the reply `reply_id` was kept as a draft, under its `title`."""

    session_id: str
    reply_id: str = field(metadata=_stored_as("message_id"))
    user_id: str
    mode: ReplyMode
    title: Text


@dataclass(frozen=True, kw_only=True)
class ImprovementAccepted(_Event):
    """The improved prompt in the reply `reply_id` became a version of a prompt, which a user
    wanted. The version itself follows in the stream of the prompt, in the same append."""

    session_id: str
    reply_id: str = field(metadata=_stored_as("message_id"))
    user_id: str
    prompt_id: str
    prompt_version_id: str


@dataclass(frozen=True, kw_only=True)
class SessionConverted(_Event):
    """A plan of the session became a build. `plan_digest` is equal for equal plans.

    A second event for the same session asks for a build again, after the former build failed.
    """

    session_id: str
    build_id: str
    prompt: Text
    plan_digest: Text | None = None


@dataclass(frozen=True, kw_only=True)
class PlanShared(_Event):
    """The plan in the reply `reply_id` can be read by everyone with the share's link.

    The link has a token. The log has only its digest. The share ends at `expires_at` (ISO 8601).
    """

    session_id: str
    reply_id: str = field(metadata=_stored_as("message_id"))
    share_id: str
    user_id: str
    token_digest: str
    expires_at: str


@dataclass(frozen=True, kw_only=True)
class ShareRevoked(_Event):
    """The link of a share leads nowhere from here on."""

    session_id: str
    share_id: str


@dataclass(frozen=True, kw_only=True)
class SessionArchived(_Event):
    session_id: str


@dataclass(frozen=True, kw_only=True)
class SessionRestored(_Event):
    """The session is no longer archived."""

    session_id: str


@dataclass(frozen=True, kw_only=True)
class SessionExpired(_Event):
    """The session had no message for longer than a session may idle."""

    session_id: str


@dataclass(frozen=True, kw_only=True)
class SessionResumed(_Event):
    """A message named the expired session: it takes messages again."""

    session_id: str


@dataclass(frozen=True, kw_only=True)
class SessionDeleted(_Event):
    """The texts of the session are gone. See ERASURES."""

    session_id: str


# place-<digest> ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SessionPlaced(_Event):
    """The session is the one for its place: for one user, project, mode and context."""

    session_id: str


# prompt-<id> -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class PromptCreated(_Event):
    """A member began a prompt of the project. Its first version follows in the same append."""

    prompt_id: str
    project_id: str
    user_id: str
    name: Text


@dataclass(frozen=True, kw_only=True)
class PromptVersionAdded(_Event):
    """The prompt has a new version, the `number`th. A version never changes.

    `name` is the name of the prompt at that time. `placeholders` are the names in the text that
    values replace, in the order of their first appearance. `source_message_id` is the reply of the
    session `source_session_id` that proposed the text, where a reply did.
    """

    prompt_id: str
    prompt_version_id: str
    number: int
    name: Text
    text: Text
    placeholders: Annotated[tuple[str, ...], TEXT]
    user_id: str
    note: Text | None = None
    source_session_id: str | None = None
    source_message_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class PromptRenamed(_Event):
    prompt_id: str
    name: Text


@dataclass(frozen=True, kw_only=True)
class PromptArchived(_Event):
    """The prompt takes no more versions, and no session and no run begins with it."""

    prompt_id: str


@dataclass(frozen=True, kw_only=True)
class PromptRestored(_Event):
    """The prompt is no longer archived."""

    prompt_id: str


@dataclass(frozen=True, kw_only=True)
class PromptErasureRequested(_Event):
    """The prompt will be erased. From here on nobody can see it or use it."""

    prompt_id: str


@dataclass(frozen=True, kw_only=True)
class PromptErased(_Event):
    """The texts of the prompt are gone, and before them the sessions made of it. See ERASURES."""

    prompt_id: str


# build-<id> --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class BuildQueued(_Event):
    """A build waits for a worker. It is made from an idea, or from the plan of a session.

    `message_id` is the user's message that asked for the build, in the session `session_id`. The
    reservation `reservation_id` holds the seconds that the build may use, for its `operation`. A
    build from before builds were billed has neither.
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
    operation: BuildOperation | None = None
    reservation_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class BuildClaimed(_Event):
    """A worker claimed the build."""

    build_id: str
    worker_id: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """A worker's report. Reports with the same `event_id` are the same report.

    `at` (ISO 8601) is the time by the worker's clock. In the report that ends the build, `seconds`
    are the AI seconds and `tokens` the tokens that the build used. None was not reported.
    """

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
    seconds: int | None = None
    tokens: int | None = None

    @property
    def ends(self) -> bool:
        """Whether the report ends the build: a version is deployed, or the build failed."""
        deployed = self.phase == "deploy" and self.type == "completed"
        return self.type == "failed" or (deployed and self.version_id is not None)


@dataclass(frozen=True, kw_only=True)
class _OfBuild(_Event):
    build_id: str


@dataclass(frozen=True, kw_only=True)
class BuildProgressed(Report, _OfBuild):
    """A worker's report. It is stored as one object: the build's id, then the report's fields."""


@dataclass(frozen=True, kw_only=True)
class BuildReferenced(_Event):
    """Development began: from here on the timeline shows the build. Once for each build."""

    build_id: str
    session_id: str
    message_id: str
    title: Text


@dataclass(frozen=True, kw_only=True)
class BuildSucceeded(_Event):
    """The build is deployed, as the version `version_id`."""

    build_id: str
    version_id: str


@dataclass(frozen=True, kw_only=True)
class BuildFailed(_Event):
    """The build ended without a version: its worker reported that (`failed`), the worker was silent
    for too long (`timed_out`), or a member of the project ended the build (`cancelled`)."""

    build_id: str
    code: BuildFault
    error: Text


@dataclass(frozen=True, kw_only=True)
class VersionDeployed(_Event):
    """The project has a new version."""

    build_id: str
    project_id: str
    session_id: str
    version_id: str
    preview_url: Text | None = None
    artifact_url: Text | None = None


@dataclass(frozen=True, kw_only=True)
class BuildErased(_Event):
    """The texts of the build are gone, as the texts of its session are. See ERASURES."""

    build_id: str


# run-<id> ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class RunQueued(_Event):
    """A run waits for an engine. The session `session_id` asked for the run, or no session did.

    `answers` are the values of the placeholders of the prompt version `prompt_version_id`.
    `settings` and `input` are for the engine: JSON objects that the service only keeps.
    """

    run_id: str
    project_id: str
    user_id: str
    title: Text
    session_id: str | None = None
    prompt_version_id: str | None = None
    answers: Annotated[Json, TEXT] = None
    settings: Annotated[Json, TEXT] = None
    input: Annotated[Json, TEXT] = None


@dataclass(frozen=True, kw_only=True)
class RunClaimed(_Event):
    """An engine claimed the run."""

    run_id: str
    worker_id: str


@dataclass(frozen=True, kw_only=True)
class RunProgressed(_Event):
    """The run has come so far. `at` (ISO 8601) is the time by the engine's clock.

    A report of an end has the type of that end here where the run had ended before.
    """

    run_id: str
    event_id: str
    type: RunReportType
    title: Text
    at: str


@dataclass(frozen=True, kw_only=True)
class RunStepReported(_Event):
    """A step of the run: its prompt, of a prompt version where it has one, and its output.

    A later report of the same step replaces the values that it has.
    """

    run_id: str
    event_id: str
    step_id: str
    title: Text
    at: str
    prompt: Text | None = None
    prompt_version_id: str | None = None
    output: Text | None = None


@dataclass(frozen=True, kw_only=True)
class RunCandidateReported(_Event):
    """A candidate of the run: `scores` are numbers by name, `data` is a JSON object of the engine.

    A later report of the same candidate adds its scores, and replaces the other values.
    """

    run_id: str
    event_id: str
    candidate_id: str
    title: Text
    at: str
    scores: Annotated[Json, TEXT] = None
    data: Annotated[Json, TEXT] = None


@dataclass(frozen=True, kw_only=True)
class RunSucceeded(_Event):
    """The run ended well. `seconds` and `tokens` are what the engine says that it used."""

    run_id: str
    event_id: str
    title: Text
    at: str
    summary: Text | None = None
    findings: Annotated[tuple[str, ...], TEXT] = ()
    seconds: int | None = None
    tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class RunFailed(_Event):
    """The run ended badly: its engine reported that (`failed`), the engine was silent for too long
    (`timed_out`), or a member of the project ended the run (`cancelled`).

    The fields after `error` come from the engine's report, where the engine ended the run.
    """

    run_id: str
    code: RunFault
    error: Text
    event_id: str | None = None
    title: Text | None = None
    at: str | None = None
    summary: Text | None = None
    findings: Annotated[tuple[str, ...], TEXT] = ()
    seconds: int | None = None
    tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class RunDiscussed(_Event):
    """The session `session_id` got results of the run as the material `message_id` of this kind.

    The erasure of the run erases the material too.
    """

    run_id: str
    session_id: str
    message_id: str
    kind: str


@dataclass(frozen=True, kw_only=True)
class RunErased(_Event):
    """The texts of the run are gone. See ERASURES."""

    run_id: str


# account-<tenant>-<user> -------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class TimeCredited(_Event):
    """The account gained AI seconds."""

    user_id: str
    credit_id: str
    seconds: int
    kind: CreditKind
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class TimeReserved(_Event):
    """Seconds were reserved for one reply or build. A second event for the same reservation adds
    seconds.

    `at` (ISO 8601) is when the message was admitted, on the first event alone: the user's limit
    counts it. Where the seconds are for the build `build_id`, `reply_id` is the id of the message
    that asked for the build.
    """

    user_id: str
    reservation_id: str
    session_id: str
    reply_id: str = field(metadata=_stored_as("message_id"))
    seconds: int
    at: str | None = None
    build_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class TimeConsumed(_Event):
    """A reservation was settled: `seconds` of its `reserved_seconds` are billed, the rest is free.

    `cost_usd` was computed with the price table of version `prices`, and never changes. None is
    unknown, not zero. `bonus_seconds` of the seconds were paid with bonus credits, which are used
    up before the paid ones; None in events from before that was noted. `build_id` and `reply_id`
    are as in TimeReserved. A build reports one number of tokens, which stands in `output_tokens`.
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
    build_id: str | None = None
    bonus_seconds: int | None = None


@dataclass(frozen=True, kw_only=True)
class ReservationReleased(_Event):
    """A reservation ended and nothing was billed: all its `reserved_seconds` are free again."""

    user_id: str
    reservation_id: str
    reserved_seconds: int = field(metadata=_stored_as("held_seconds"))
    reason: str


# request-<digest> --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class RequestCompleted(_Event):
    """A request with this idempotency key was done, in the append that contains this event.

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
    | ProjectDescribed
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
    | SessionDescribed
    | SessionTagged
    | SessionStarred
    | SessionUnstarred
    | SessionModeChanged
    | SessionInstructed
    | MaterialAdded
    | MaterialErased
    | UserMessagePosted
    | AssistantMessageAdded
    | ReplyStarted
    | ReplyCancelRequested
    | ReplyCompleted
    | ReplyFailed
    | SystemMessagePosted
    | PlanSaved
    | PlanShared
    | ShareRevoked
    | ImprovementAccepted
    | SessionConverted
    | SessionArchived
    | SessionRestored
    | SessionExpired
    | SessionResumed
    | SessionDeleted
)
PlaceEvent: TypeAlias = SessionPlaced
PromptEvent: TypeAlias = (
    PromptCreated
    | PromptVersionAdded
    | PromptRenamed
    | PromptArchived
    | PromptRestored
    | PromptErasureRequested
    | PromptErased
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
RunEvent: TypeAlias = (
    RunQueued
    | RunClaimed
    | RunProgressed
    | RunStepReported
    | RunCandidateReported
    | RunSucceeded
    | RunFailed
    | RunDiscussed
    | RunErased
)
AccountEvent: TypeAlias = TimeCredited | TimeReserved | TimeConsumed | ReservationReleased
RequestEvent: TypeAlias = RequestCompleted
Event: TypeAlias = (
    ProjectEvent
    | SessionEvent
    | PlaceEvent
    | PromptEvent
    | BuildEvent
    | RunEvent
    | AccountEvent
    | RequestEvent
)

ERASURES: Final[tuple[type[Event], ...]] = (
    SessionDeleted,
    MaterialErased,
    BuildErased,
    RunErased,
    ProjectErased,
    PromptErased,
)
"""Events that erase. The append of such an event also blanks the texts in all earlier events of its
stream, in the database; MaterialErased blanks the texts of one material alone. Ids, times, seconds
and money stay."""

ERASABLE: Final[tuple[type[Event], ...]] = (
    *get_args(ProjectEvent),
    *get_args(SessionEvent),
    *get_args(PromptEvent),
    *get_args(BuildEvent),
    *get_args(RunEvent),
)
"""The types of the streams that can be erased: each of their fields with text is marked."""

EVENT_TYPES: Final[Mapping[str, type[Event]]] = {kind.__name__: kind for kind in get_args(Event)}
