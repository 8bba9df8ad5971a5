"""JSON on the wire: what is asked and what is answered, camelCase, nothing unknown let in."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Final, Literal, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from domain.events import (
    EVENT_TYPES,
    ChatMode,
    Context,
    CreditKind,
    Role,
)
from domain.metering import MICRO_USD
from domain.replies import MAIN_TEXT
from projections.accounts import AccountRow
from projections.builds import BuildRow, BuildStatus
from projections.consumption import ConsumptionRow
from projections.sessions import SessionRow
from projections.timeline import TimelinePage, TimelineRow
from service.texts import render
from service.views import View

ActionType = Literal["convert_to_build", "save_plan", "export"]
PLAN_ACTIONS: Final[tuple[ActionType, ...]] = ("convert_to_build", "save_plan", "export")
LONGEST_MESSAGE: Final = 32_000
MOST_SECONDS: Final = 1_000_000_000
LARGEST_PAGE: Final = 200
LAST_POSITION: Final = 2**53 - 1
MOST_EVENTS: Final = 1_000


def clean(text: str) -> str:
    """PostgreSQL holds no NUL in text, and half a surrogate pair is no character."""
    if "\0" in text:
        raise ValueError("must not hold a NUL character")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("must not hold half a surrogate pair")
    return text


Text = Annotated[str, AfterValidator(clean)]
Id = Annotated[Text, Field(min_length=1, max_length=255)]
OnBusy = Literal["reject", "enqueue", "interrupt"]
"""What becomes of a message while its session's last reply is still being written: refused,
answered after that reply, or answered in its place."""

Cursor = Annotated[str, Field(max_length=64)]
PageSize = Annotated[int, Field(ge=1, le=LARGEST_PAGE)]
Mode = Literal["all", "plan", "build"]
Locale = Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8}){0,3}$")]


def _parted(names: list[str]) -> list[str]:
    """Names may be repeated or separated by commas."""
    return [name for each in names for name in each.split(",")]


EventTypes = Annotated[
    list[str],
    AfterValidator(_parted),
    Field(max_length=100, json_schema_extra={"items": {"enum": list(EVENT_TYPES)}}),
]


class Wire(BaseModel):
    """A JSON object with exactly these members; types are not converted."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        extra="forbid",
        strict=True,
        frozen=True,
    )


class Query(BaseModel):
    """Query parameters: text by nature, so numbers and booleans are read from it.

    Those named in `repeated` may be given more than once and are read as lists.
    """

    repeated: ClassVar[frozenset[str]] = frozenset()

    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, extra="forbid"
    )


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


class MemberEntry(Wire):
    """A user and what they may do in the project."""

    user_id: Id
    role: Role = "editor"


class ProjectRequest(Wire):
    """A project to be known, with its first members."""

    project_id: Id
    name: Annotated[Text, Field(min_length=1, max_length=200)]
    framework: Annotated[Text, Field(max_length=200)] | None = None
    source_root: Annotated[Text, Field(max_length=1_000)] | None = None
    members: Annotated[list[MemberEntry], Field(min_length=1, max_length=1_000)]


class RoleRequest(Wire):
    """What a member may do."""

    role: Role = "editor"


class CreditRequest(Wire):
    """AI seconds to be added to a user's account."""

    user_id: Id
    seconds: Annotated[int, Field(ge=1, le=MOST_SECONDS)]
    kind: CreditKind
    reason: Annotated[Text, Field(max_length=500)] | None = None


class BalanceQuery(Query):
    """`minPosition`: wait until the answer holds for this position of the log."""

    min_position: Annotated[int, Field(ge=0, le=LAST_POSITION)] | None = None


class ActingQuery(BalanceQuery):
    """Who acts: with `userId` membership is checked; without it the tenant's own service acts."""

    user_id: Id | None = None


class ViewQuery(Query):
    """`view`: operations on the reply's data, or the main prose alone as `{"text": ...}`."""

    view: View = "ops"


class JoinQuery(ActingQuery):
    """`after`: the id of the last event seen, or its number; the header Last-Event-ID wins."""

    after: Annotated[str, Field(max_length=300)] | None = None
    view: View = "ops"


class TimelineQuery(ActingQuery):
    """A page of the timeline, newest first: by offset, or next to a cursor of an earlier page."""

    limit: PageSize = 20
    offset: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    mode: Mode = "all"
    include_hidden: bool = False
    before: Cursor | None = None
    after: Cursor | None = None


class TimelineStreamQuery(Query):
    """What the stream shows, as a page does; `after` resumes it, as the header Last-Event-ID.

    With `replies` it also carries the events of running replies: without ids, each with the
    `messageId` of its reply.
    """

    user_id: Id | None = None
    mode: Mode = "all"
    include_hidden: bool = False
    replies: bool = False
    after: Cursor | None = None


class EventsQuery(Query):
    """A tenant's events after a cursor, from the first without one; of a project, of some types.

    A page has 100 unless `limit` says otherwise; lines end with the log. A stream has no limit.
    """

    repeated = frozenset({"types"})

    after: Cursor | None = None
    limit: Annotated[int, Field(ge=1, le=MOST_EVENTS)] | None = None
    types: EventTypes | None = None
    project_id: Id | None = None


class PageQuery(ActingQuery):
    """A page, newest first, before a cursor."""

    limit: PageSize = 20
    before: Cursor | None = None


class LedgerQuery(Query):
    """A page of the ledger, newest first."""

    limit: PageSize = 20
    before: Cursor | None = None


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
    variables: dict[str, Any] = {}
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


class ItemAction(Wire):
    """Something that could be done with an item; `enabled` if it can be done now."""

    type: ActionType
    label: str
    enabled: bool


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


class UserMessage(Wire):
    text: str
    session_id: str


class BuildState(Wire):
    """A build as it is now: `queued`, `running`, `succeeded` or `failed`; milliseconds."""

    build_id: str
    status: BuildStatus
    phase: str | None = None
    title: str | None = None
    version_id: str | None = None
    preview_url: str | None = None
    artifact_url: str | None = None
    error: str | None = None
    duration: int | None = None


class Conversion(Wire):
    """Where a build's message comes from: the session whose plan it turned into a build."""

    from_session_id: str
    converted_at: datetime


class AiResponse(Wire):
    """A reply by the contract of its mode, with its main prose as `text`; or a template."""

    text: str | None = None
    data: Any = None
    subtype: str | None = None
    tokens_used: int | None = None
    duration: int | None = None


class TimelineItem(Wire):
    """One thing that happened in a project; `cursor` is its place in the one order of all."""

    id: str
    cursor: str
    timestamp: datetime
    type: Literal["plan_message", "build_request", "deployment"]
    mode: Literal["plan", "build"]
    kind: Literal[
        "user_message", "reply", "system_message", "session", "build_reference", "deployment"
    ]
    chat_mode: str | None = None
    status: Literal["planning", "in_progress", "deployed", "failed"]
    session_id: str | None = None
    user_message: UserMessage | None = None
    ai_response: AiResponse | None = None
    build: BuildState | None = None
    conversion: Conversion | None = None
    actions: list[ItemAction] | None = None
    event: Any = None


class LiveItem(TimelineItem):
    """An item as a stream tells it; `prev` is the id of the event before it, null at the start.

    Who gets an event whose `prev` is the last id that they have, has missed nothing. An item that
    asked for a build comes again, with the same `id`, when the build has changed.
    """

    prev: str | None


class Lock(Wire):
    """The project is being built, and takes no messages; without a build it takes them again."""

    active_build_id: str | None
    prev: str | None


class GoAway(Wire):
    """Why a stream ends here: `stopping`, or `removed` for who is no member any more."""

    reason: str


class Timeline(Wire):
    """A page, newest first. `before` leads to older items, `after` to newer ones.

    While there is an `activeBuildId` the project takes no messages.
    """

    items: list[TimelineItem]
    has_more: bool
    active_build_id: str | None = None
    before: str | None = None
    after: str | None = None


class Billing(Wire):
    """What a session was billed; seconds, tokens of all kinds, USD as an exact decimal."""

    ai_seconds: int
    tokens_used: int
    cost_usd: str


class SessionAnswer(Wire):
    """A session with its bill; `buildId` is what its plan was converted to."""

    session_id: str
    project_id: str
    user_id: str
    name: str
    mode: str
    status: str
    message_count: int
    build_id: str | None = None
    created_at: datetime
    last_active: datetime
    billing: Billing


class ProjectAnswer(Wire):
    project_id: str


class MemberAnswer(Wire):
    project_id: str
    user_id: str
    role: Role


class AccountAnswer(Wire):
    """Whole AI seconds; available = credited - consumed - reserved."""

    user_id: str
    credited_seconds: int
    bonus_seconds: int
    consumed_seconds: int
    reserved_seconds: int
    available_seconds: int


class LedgerEntry(Wire):
    """One billed reply. Tokens and cost are absent where the provider did not say."""

    cursor: str
    project_id: str
    session_id: str
    message_id: str
    operation_type: str
    billed_seconds: int
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cost_usd: str | None = None
    prices: str
    model: str
    timestamp: datetime


class Ledger(Wire):
    """A page of the ledger, newest first; `before` leads to older entries."""

    items: list[LedgerEntry]
    before: str | None = None


class CloudEvent(BaseModel):
    """An event of the log by CloudEvents 1.0; `id` is its position, `data` what happened.

    `prev` is the cursor of the event before it in the same selection, null at its start.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    specversion: Literal["1.0"]
    id: str
    source: str
    type: str
    subject: str
    time: datetime
    datacontenttype: str
    data: Any = None
    data_base64: str | None = None
    position: str
    streamversion: int
    schemaversion: int
    projectid: str | None = None
    cursor: str
    prev: str | None
    requestid: str | None = None
    actor: str | None = None


class EventsPage(Wire):
    """Events in order. `after` leads on: everything up to there was looked at."""

    events: list[CloudEvent]
    after: str
    has_more: bool


class Messages(Wire):
    """Texts by template, in `language`; `{name}` stands for a variable."""

    contract_version: str
    language: str
    direction: Literal["ltr", "rtl"]
    templates: dict[str, str]


class Problem(BaseModel):
    """What went wrong (RFC 9457): `code` is stable, `detail` says what to do.

    `template` and `variables` are there where a user is to be told; `errors` where members of the
    request are wrong, each with a JSON Pointer.
    """

    type: str
    title: str
    status: int
    code: str
    detail: str
    template: str | None = None
    variables: dict[str, Any] | None = None
    errors: list[dict[str, str]] | None = None


class Health(Wire):
    status: Literal["ok"] = "ok"


class ProjectionHealth(Wire):
    state: Literal["live", "behind", "halted"]
    position: int
    lag: int
    reason: str | None = None


class Readiness(Wire):
    """Whether the service can serve, how far the log is and its read models."""

    status: Literal["ready", "degraded"]
    epoch: str
    head: int
    projections: dict[str, ProjectionHealth]


# From ours to the wire ---------------------------------------------------------------------------


def timeline(page: TimelinePage, epoch: str, active_build_id: str | None) -> Timeline:
    """A page of the timeline with its cursors."""
    items = [item(row, epoch) for row in page.rows]
    return Timeline(
        items=items,
        has_more=page.has_more,
        active_build_id=active_build_id,
        before=items[-1].cursor if items else None,
        after=items[0].cursor if items else None,
    )


def item(row: TimelineRow, epoch: str) -> TimelineItem:
    """An item of the timeline."""
    said = row.kind == "user_message"
    answered = row.kind in ("reply", "system_message")
    return TimelineItem(
        id=row.item_id,
        cursor=cursor(epoch, row.position),
        timestamp=row.recorded_at,
        type=_item_type(row),
        mode=row.mode,
        kind=cast(Any, row.kind),
        chat_mode=row.chat_mode,
        status=_item_status(row),
        session_id=row.session_id,
        user_message=UserMessage(text=row.text or "", session_id=row.session_id or "")
        if said
        else None,
        ai_response=AiResponse(
            text=_main_text(row),
            data=row.data,
            subtype=row.subtype,
            tokens_used=row.tokens_used,
            duration=row.duration_ms,
        )
        if answered
        else None,
        build=None if row.build is None else build_state(row.build),
        conversion=Conversion(
            from_session_id=row.converted_from_session_id, converted_at=row.recorded_at
        )
        if row.converted_from_session_id
        else None,
        actions=_item_actions(row) if row.is_plan else None,
        event=row.data if row.kind == "session" else None,
    )


def _item_type(row: TimelineRow) -> Literal["plan_message", "build_request", "deployment"]:
    if row.kind == "deployment":
        return "deployment"
    return "plan_message" if row.mode == "plan" else "build_request"


def _item_status(row: TimelineRow) -> Literal["planning", "in_progress", "deployed", "failed"]:
    if row.mode == "plan":
        return "failed" if row.subtype == "error" else "planning"
    match None if row.build is None else row.build.status:
        case "succeeded":
            return "deployed"
        case "failed":
            return "failed"
        case _:
            return "deployed" if row.kind == "deployment" else "in_progress"


def label(action: ActionType, locale: str) -> str:
    """What a button for the action says."""
    return render(f"action_{action}", {}, locale)


def _item_actions(row: TimelineRow) -> list[ItemAction]:
    return [
        ItemAction(
            type=kind,
            label=label(kind, "en"),
            enabled=row.is_convertible or kind != "convert_to_build",
        )
        for kind in PLAN_ACTIONS
    ]


def build_state(row: BuildRow) -> BuildState:
    """What an item says of its build."""
    return BuildState(
        build_id=row.build_id,
        status=row.status,
        phase=row.phase,
        title=row.title,
        version_id=row.version_id,
        preview_url=row.preview_url,
        artifact_url=row.artifact_url,
        error=row.error,
        duration=row.duration_ms,
    )


def _main_text(row: TimelineRow) -> str | None:
    """The main prose of a reply; a partial one may not have come to it."""
    pointer = MAIN_TEXT.get(cast(ChatMode, row.chat_mode)) if row.kind == "reply" else None
    data: dict[str, Any] = row.data or {}
    text = data.get(pointer.removeprefix("/")) if pointer else None
    return text if isinstance(text, str) else None


def session(row: SessionRow) -> SessionAnswer:
    """A session with its bill."""
    return SessionAnswer(
        session_id=row.session_id,
        project_id=row.project_id,
        user_id=row.user_id,
        name=row.name,
        mode=row.mode,
        status=row.status,
        message_count=row.message_count,
        build_id=row.build_id,
        created_at=row.opened_at,
        last_active=row.last_active_at,
        billing=Billing(
            ai_seconds=row.ai_seconds, tokens_used=row.tokens_used, cost_usd=usd(row.cost_usd)
        ),
    )


def account(row: AccountRow) -> AccountAnswer:
    """A user's balance."""
    return AccountAnswer.model_validate(row, from_attributes=True)


def ledger(rows: list[ConsumptionRow], epoch: str) -> Ledger:
    """A page of the ledger with its cursor."""
    items = [
        LedgerEntry(
            cursor=cursor(epoch, row.position),
            project_id=row.project_id,
            session_id=row.session_id,
            message_id=row.message_id,
            operation_type=row.operation_type,
            billed_seconds=row.billed_seconds,
            input_tokens=row.input_tokens,
            output_tokens=row.output_tokens,
            cache_read_tokens=row.cache_read_tokens,
            cache_write_tokens=row.cache_write_tokens,
            cost_usd=None if row.cost_usd is None else usd(row.cost_usd),
            prices=row.prices,
            model=row.model,
            timestamp=row.recorded_at,
        )
        for row in rows
    ]
    return Ledger(items=items, before=items[-1].cursor if items else None)


def cursor(epoch: str, position: int) -> str:
    """A place in the log for the wire: it knows its history, so it cannot be resumed in another."""
    return f"{epoch}.{position}"


def dumped(answer: BaseModel) -> dict[str, Any]:
    """The answer as JSON values, without what is absent."""
    return answer.model_dump(mode="json", by_alias=True, exclude_none=True)


def usd(amount: Decimal) -> str:
    """An amount of USD, exact to a millionth."""
    return str(amount.quantize(MICRO_USD))
