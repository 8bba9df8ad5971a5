"""JSON on the wire: what is asked and what is answered, camelCase, nothing unknown let in."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from domain.events import (
    EVENT_TYPES,
    CreditKind,
    Role,
)
from domain.metering import MICRO_USD
from projections.accounts import AccountRow
from projections.consumption import ConsumptionRow
from projections.sessions import SessionRow
from service.access.audit import AuditRow

LONGEST_MESSAGE: Final = 32_000
MOST_SECONDS: Final = 1_000_000_000
LARGEST_PAGE: Final = 200
LAST_POSITION: Final = 2**53 - 1
TOKEN_SECONDS: Final = 300
FEWEST_SECONDS: Final = 10
MOST_TOKEN_SECONDS: Final = 900
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
Cursor = Annotated[str, Field(max_length=64)]
PageSize = Annotated[int, Field(ge=1, le=LARGEST_PAGE)]
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


class TokenRequest(Wire):
    """Who a browser's token is for, and for how many seconds."""

    user_id: Id
    project_id: Id
    ttl_seconds: Annotated[int, Field(ge=FEWEST_SECONDS, le=MOST_TOKEN_SECONDS)] = TOKEN_SECONDS


class BalanceQuery(Query):
    """`minPosition`: wait until the answer holds for this position of the log."""

    min_position: Annotated[int, Field(ge=0, le=LAST_POSITION)] | None = None


class ActingQuery(BalanceQuery):
    """Who acts: with `userId` membership is checked; without it the tenant's own service acts."""

    user_id: Id | None = None


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


class AuditQuery(Query):
    """A page of the audit, newest first: of a user, of a project where given."""

    user_id: Id | None = None
    project_id: Id | None = None
    limit: PageSize = 20
    before: Annotated[str, Field(pattern=r"^[0-9a-f-]{36}$")] | None = None


class LedgerQuery(Query):
    """A page of the ledger, newest first."""

    limit: PageSize = 20
    before: Cursor | None = None


# What is answered --------------------------------------------------------------------------------


class GoAway(Wire):
    """Why a stream ends here: `stopping`, or `removed` for who is no member any more."""

    reason: str


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


class TokenAnswer(Wire):
    """A token: as `Authorization: Bearer`, as `?ticket=`, or as the cookie that comes with it."""

    token: str
    expires_at: datetime


class Renew(Wire):
    """The token of this stream expires soon, in Unix seconds: get another one and come back."""

    expires_at: int


class ProjectAnswer(Wire):
    project_id: str


class SessionErased(Wire):
    session_id: str


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


class AuditItem(Wire):
    """A request: the key and the user that it came with (no `userId`: the tenant's own service,
    about nobody), and what was answered.

    With what the reply that it asked for was billed; tokens are absent where the provider did not
    say.
    """

    request_id: str
    timestamp: datetime
    key_id: str
    user_id: str | None = None
    operation: str
    project_id: str | None = None
    session_id: str | None = None
    message_id: str | None = None
    address: str | None = None
    user_agent: str | None = None
    status: int
    code: str | None = None
    milliseconds: int
    billed_seconds: int | None = None
    tokens_used: int | None = None


class AuditPage(Wire):
    """A page of the audit, newest first; `before` leads to older entries."""

    items: list[AuditItem]
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


def audit(rows: list[AuditRow]) -> AuditPage:
    """A page of the audit with its cursor."""
    items = [
        AuditItem(
            request_id=row.request_id,
            timestamp=row.at,
            key_id=row.key_id,
            user_id=row.user_id,
            operation=row.operation,
            project_id=row.project_id,
            session_id=row.session_id,
            message_id=row.message_id,
            address=row.address,
            user_agent=row.user_agent,
            status=row.status,
            code=row.code,
            milliseconds=row.milliseconds,
            billed_seconds=row.billed_seconds,
            tokens_used=row.tokens_used,
        )
        for row in rows
    ]
    return AuditPage(items=items, before=items[-1].request_id if items else None)


def cursor(epoch: str, position: int) -> str:
    """A place in the log for the wire: it knows its history, so it cannot be resumed in another."""
    return f"{epoch}.{position}"


def dumped(answer: BaseModel) -> dict[str, Any]:
    """The answer as JSON values, without what is absent."""
    return answer.model_dump(mode="json", by_alias=True, exclude_none=True)


def usd(amount: Decimal) -> str:
    """An amount of USD, exact to a millionth."""
    return str(amount.quantize(MICRO_USD))
