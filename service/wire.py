"""JSON on the wire: what is asked and what is answered, camelCase, nothing unknown let in."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Final, Literal, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from domain.events import EVENT_TYPES, ChatMode, CreditKind, ReplyCompleted, ReplyFailed, Role
from domain.metering import MICRO_USD
from domain.replies import MAIN_TEXT
from projections.accounts import AccountRow
from projections.consumption import ConsumptionRow
from projections.sessions import SessionRow
from projections.timeline import TimelinePage, TimelineRow
from service.views import View

LONGEST_MESSAGE: Final = 32_000
MOST_SECONDS: Final = 1_000_000_000
LARGEST_PAGE: Final = 200
LAST_POSITION: Final = 2**53 - 1
MOST_EVENTS: Final = 1_000


def _clean(text: str) -> str:
    """PostgreSQL holds no NUL in text, and half a surrogate pair is no character."""
    if "\0" in text:
        raise ValueError("must not hold a NUL character")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("must not hold half a surrogate pair")
    return text


Text = Annotated[str, AfterValidator(_clean)]
Id = Annotated[Text, Field(min_length=1, max_length=255)]
OnBusy = Literal["reject", "enqueue", "interrupt"]
"""What becomes of a message while its session's last reply is still being written: refused,
answered after that reply, or answered in its place."""

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
    """What the planner may look at; hints."""

    include_version_history: bool = False
    include_project_structure: bool = False
    include_build_errors: bool = False


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

    limit: Annotated[int, Field(ge=1, le=LARGEST_PAGE)] = 20
    offset: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    mode: Mode = "all"
    include_hidden: bool = False
    before: Annotated[str, Field(max_length=64)] | None = None
    after: Annotated[str, Field(max_length=64)] | None = None


class TimelineStreamQuery(Query):
    """What the stream shows, as a page does; `after` resumes it, as the header Last-Event-ID.

    With `replies` it also carries the events of running replies: without ids, each with the
    `messageId` of its reply.
    """

    user_id: Id | None = None
    mode: Mode = "all"
    include_hidden: bool = False
    replies: bool = False
    after: Annotated[str, Field(max_length=64)] | None = None


class EventsQuery(Query):
    """A tenant's events after a cursor, from the first without one; of a project, of some types.

    A page has 100 unless `limit` says otherwise; lines end with the log. A stream has no limit.
    """

    repeated = frozenset({"types"})

    after: Annotated[str, Field(max_length=64)] | None = None
    limit: Annotated[int, Field(ge=1, le=MOST_EVENTS)] | None = None
    types: EventTypes | None = None
    project_id: Id | None = None


class LedgerQuery(Query):
    """A page of the ledger, newest first."""

    limit: Annotated[int, Field(ge=1, le=LARGEST_PAGE)] = 20
    before: Annotated[str, Field(max_length=64)] | None = None


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


class Notice(Wire):
    """Something to know; nothing depends on it."""

    code: Literal["queued", "resumed", "provider_retry", "reservation_used"]
    template: str
    variables: dict[str, Any]


class Reset(Wire):
    """Discard what was shown: it is not the reply after all."""

    reason: str


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
    type: Literal["plan_message", "build_request", "deployment"] = "plan_message"
    mode: Literal["plan", "build"]
    kind: Literal["user_message", "reply", "system_message", "session"]
    chat_mode: str | None = None
    status: Literal["planning", "in_progress", "deployed", "failed"] = "planning"
    session_id: str
    user_message: UserMessage | None = None
    ai_response: AiResponse | None = None
    event: Any = None


class LiveItem(TimelineItem):
    """An item as a stream tells it; `prev` is the cursor of the one before it, null at the start.

    Who gets an item whose `prev` is the last cursor that they have, has missed nothing.
    """

    prev: str | None


class GoAway(Wire):
    """Why a stream ends here: `stopping`, or `removed` for who is no member any more."""

    reason: str


class Timeline(Wire):
    """A page, newest first. `before` leads to older items, `after` to newer ones."""

    items: list[TimelineItem]
    has_more: bool
    before: str | None = None
    after: str | None = None


class Billing(Wire):
    """What a session was billed; seconds, tokens of all kinds, USD as an exact decimal."""

    ai_seconds: int
    tokens_used: int
    cost_usd: str


class SessionAnswer(Wire):
    """A session with its bill."""

    session_id: str
    project_id: str
    user_id: str
    name: str
    mode: str
    status: str
    message_count: int
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


def final_envelope(
    ended: ReplyCompleted | ReplyFailed, ended_at: datetime, registered_at: datetime
) -> dict[str, Any]:
    """The envelope of a reply as the log has it: the same wherever and whenever it is made.

    `registered_at` is its project's.
    """
    envelope: dict[str, Any] = {
        "session_id": ended.session_id,
        "message_id": ended.message_id,
        "timestamp": ended_at,
    }
    metadata: dict[str, Any] = {
        "duration_ms": ended.duration_ms,
        "tokens_used": ended.tokens_used,
        "cache_hits": ended.cache_hits,
        "billed_seconds": 0,
        "projectContext": ProjectContext(last_modified=registered_at),
    }
    data = None
    if isinstance(ended, ReplyCompleted):
        envelope |= {"subtype": ended.subtype, "mode": ended.mode, "reason": ended.reason}
        metadata |= {
            "billed_seconds": ended.billed_seconds,
            "warnings": list(ended.warnings),
        }
        # As it was shown, value by value: the operations folded equal it.
        data = ended.data
    else:
        error = ReplyError(
            code=ended.code,
            template=f"reply_{ended.code}",
            retry_after_seconds=ended.retry_after_seconds,
        )
        envelope |= {"subtype": "error", "mode": "general", "error": error}
    answer = ChatPlanResponse(**envelope, metadata=ReplyMetadata(**metadata))
    return dumped(answer) | {"data": data}


def timeline(page: TimelinePage, epoch: str) -> Timeline:
    """A page of the timeline with its cursors."""
    items = [item(row, epoch) for row in page.rows]
    return Timeline(
        items=items,
        has_more=page.has_more,
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
        mode=row.mode,
        kind=row.kind,
        chat_mode=row.chat_mode,
        status="failed" if row.subtype == "error" else "planning",
        session_id=row.session_id,
        user_message=UserMessage(text=row.text or "", session_id=row.session_id) if said else None,
        ai_response=AiResponse(
            text=_main_text(row),
            data=row.data,
            subtype=row.subtype,
            tokens_used=row.tokens_used,
            duration=row.duration_ms,
        )
        if answered
        else None,
        event=row.data if row.kind == "session" else None,
    )


def _main_text(row: TimelineRow) -> str | None:
    """The main prose of a reply; a partial one may not have come to it."""
    pointer = MAIN_TEXT.get(cast(ChatMode, row.chat_mode))
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
        created_at=row.opened_at,
        last_active=row.last_active_at,
        billing=Billing(
            ai_seconds=row.ai_seconds, tokens_used=row.tokens_used, cost_usd=_usd(row.cost_usd)
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
            cost_usd=None if row.cost_usd is None else _usd(row.cost_usd),
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


def _usd(amount: Decimal) -> str:
    return str(amount.quantize(MICRO_USD))
