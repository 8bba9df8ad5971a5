"""What sessions and their lists take and answer."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel

from domain.deciders.prompt import MOST_PLACEHOLDERS
from domain.deciders.session import About
from domain.events import SessionMode
from projections.sessions import ListedSession, ListKey, SessionRow, Sort, Wanted
from service.api.schemas import BalanceQuery, PageSize, PastQuery
from service.http.call import AnyCall
from service.http.problems import BadRequest
from service.http.reads import position_in
from service.settings import Settings
from service.texts.templates import render
from service.wire import (
    Cursor,
    Id,
    Locale,
    Moment,
    Text,
    Wire,
    clean,
    usd,
    without_control_characters,
)

MOST_IN_A_BATCH: Final = 100
SENT: Final = ("model", "maxTokens")
"""The settings of a session that the provider's API takes."""

_LINE: Final = AfterValidator(without_control_characters)
_KEPT: Final = ("active", "converted", "expired")
"""The statuses that a list shows unless it is asked for others."""

_BEFORE: Final = "`before` of the page before, in the same order."
_SORT: Final = "By the last message, newest or oldest first; by name; or the most messages first."
_STATUS: Final = (
    "The status. The default is every status but `archived`; `all` has the archived sessions, too."
)
_UNREAD: Final = "A cursor: `isUnread` says whether something was said after it."

Name = Annotated[Text, _LINE, Field(max_length=200)]
Description = Annotated[Text, Field(max_length=2_000)]
Tag = Annotated[Text, _LINE, Field(min_length=1, max_length=50)]
Tags = Annotated[list[Tag], Field(max_length=20)]
SearchedName = Annotated[Text, Field(max_length=200)]
PageCursor = Annotated[str, Field(max_length=2_000)]
OpenedMode = Literal["plan", "setup", "analysis", "what_if", "idea", "run_feedback", "prompt"]
ListedStatus = Literal["active", "converted", "expired", "archived", "all"]
Action = Literal["archive", "restore", "delete"]
LARGEST_NUMBER: Final = 2**53
"""The largest number that every client reads as it was sent."""

Scalar = (
    Annotated[str, AfterValidator(clean), Field(max_length=1_000)]
    | bool
    | Annotated[int, Field(ge=-LARGEST_NUMBER, le=LARGEST_NUMBER)]
    | Annotated[float, Field(ge=-LARGEST_NUMBER, le=LARGEST_NUMBER)]
)


def _named(settings: dict[str, Scalar]) -> dict[str, Scalar]:
    """The settings. Raises ValueError for a name that PostgreSQL cannot store."""
    for name in settings:
        without_control_characters(clean(name))
    return settings


Others = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=100)], Scalar], AfterValidator(_named)
]
_OTHERS: Final[TypeAdapter[dict[str, Any]]] = TypeAdapter(
    Annotated[Others, Field(max_length=20)], config=ConfigDict(strict=True)
)


class ContextIds(Wire):
    """The ids of what a session is about. The project must have the run, the version and the build,
    and the run the step and the candidate."""

    run_id: Id | None = None
    step_id: Id | None = None
    candidate_id: Id | None = None
    prompt_id: Id | None = None
    prompt_version_id: Id | None = None
    version_id: Id | None = None
    build_id: Id | None = None

    @model_validator(mode="after")
    def _names_the_run_of_its_parts(self) -> "ContextIds":
        if self.run_id is None and (self.step_id or self.candidate_id) is not None:
            raise ValueError("stepId and candidateId need runId: the run that has them")
        return self

    @property
    def about(self) -> About:
        """The same ids, for the session."""
        return About(**self.model_dump())

    @property
    def named(self) -> dict[str, str]:
        """The members that were sent, by their names on the wire."""
        return self.model_dump(by_alias=True, exclude_none=True)


class SessionSettings(Wire):
    """How the replies of a session of mode prompt are made.

    `model` is the service's own or another one that the service allows, and `maxTokens` is at most
    the service's own. The session keeps up to 20 other settings, such as `temperature`, which the
    provider's API does not take: the answer names them in `notSent`.
    """

    model_config = ConfigDict(extra="allow")

    model: Annotated[Text, Field(min_length=1, max_length=200)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _keeps_what_can_be_stored(self) -> "SessionSettings":
        try:
            _OTHERS.validate_python(self.others)
        except ValidationError as error:
            message = "other settings are texts, numbers and booleans, 20 at most, with short names"
            raise ValueError(message) from error
        return self

    @property
    def others(self) -> dict[str, Any]:
        """The settings that are kept and not sent."""
        return self.model_extra or {}


ValueName = Annotated[str, AfterValidator(clean), Field(pattern=r"^\w{1,64}$")]
Values = Annotated[
    dict[ValueName, Annotated[Text, Field(max_length=20_000)]],
    Field(max_length=MOST_PLACEHOLDERS),
]


class SessionRequest(Wire):
    """A session to be opened. `name` is its name; without one it is called by its first message.

    With `reuse` the answer is the user's session of this mode and context in the project that takes
    messages, where there is one: of sessions that were asked for at the same time all callers get
    one.

    `settings`, `promptVersionId` and `values` are for mode prompt. The session has the text of that
    version with a value for each of its placeholders, and keeps it whatever becomes of the prompt.
    """

    user_id: Id
    project_id: Id
    mode: OpenedMode
    name: Annotated[Name, Field(min_length=1)] | None = None
    context: ContextIds = ContextIds()
    prompt_version_id: Id | None = None
    values: Values | None = None
    settings: SessionSettings | None = None
    reuse: bool = False

    @model_validator(mode="after")
    def _has_a_prompt_in_its_mode(self) -> "SessionRequest":
        if self.mode != "prompt":
            for name in ("settings", "prompt_version_id", "values"):
                if getattr(self, name) is not None:
                    wire = to_camel(name)
                    raise ValueError(f"{wire} is for mode prompt; leave it out in other modes")
        if self.prompt_version_id is None:
            if self.values is not None:
                raise ValueError("values are for the placeholders of a promptVersionId")
        elif self.reuse or self.context.prompt_id or self.context.prompt_version_id:
            raise ValueError(
                "a session of a promptVersionId is always new and has this prompt as its context; "
                "leave reuse, context.promptId and context.promptVersionId out"
            )
        return self


def allowed(asked: SessionSettings | None, settings: Settings) -> dict[str, Any]:
    """The settings as fields of the session's instructions.

    Raises BadRequest for a model that the service does not allow, and for more tokens than the
    service's own.
    """
    if asked is None:
        return {}
    if asked.model not in (None, settings.model, *settings.models):
        names = ", ".join(dict.fromkeys((settings.model, *settings.models)))
        raise BadRequest(422, "model_not_allowed", f"Name one of these models: {names}.")
    if asked.max_tokens is not None and asked.max_tokens > settings.max_tokens:
        detail = f"A reply has at most {settings.max_tokens} tokens; send a lower maxTokens."
        raise BadRequest(422, "too_many_tokens", detail)
    return {
        "model": asked.model,
        "max_tokens": asked.max_tokens,
        "settings": asked.others or None,
    }


class SessionPatch(Wire):
    """What changes of a session. A member that is left out stays; null empties `name`,
    `description`, `tags`. Without a name the session is called by its first message again.

    `mode` is one of the same kind: plan, setup, analysis and what_if are of one kind, idea and
    run_feedback of another.
    """

    user_id: Id | None = None
    name: Name | None = None
    description: Description | None = None
    mode: SessionMode | None = None
    starred: bool | None = None
    tags: Tags | None = None
    archived: bool | None = None

    @model_validator(mode="after")
    def _names_a_change(self) -> "SessionPatch":
        changed = self.model_fields_set - {"user_id"}
        if not changed:
            raise ValueError("name, description, mode, starred, tags or archived is needed")
        if any(getattr(self, each) is None for each in changed & {"mode", "starred", "archived"}):
            raise ValueError("mode, starred and archived cannot be null")
        return self

    @property
    def changes(self) -> dict[str, Any]:
        """The members that were sent, as the details of a session."""
        details: dict[str, tuple[str, Callable[[Any], Any]]] = {
            "name": ("name", lambda name: name or ""),
            "description": ("description", lambda text: text or ""),
            "mode": ("mode", lambda mode: mode),
            "starred": ("is_starred", bool),
            "tags": ("tags", lambda tags: tuple(dict.fromkeys(tags or ()))),
            "archived": ("is_archived", bool),
        }
        sent = self.model_fields_set & details.keys()
        return {details[each][0]: details[each][1](getattr(self, each)) for each in sent}


class BatchRequest(Wire):
    """The same action on up to 100 sessions, each by itself."""

    user_id: Id | None = None
    session_ids: Annotated[list[Id], Field(min_length=1, max_length=MOST_IN_A_BATCH)]
    action: Action


class SessionQuery(PastQuery):
    """A session without a name is called by a text in the language `locale`. The default is the
    language of Accept-Language."""

    locale: Locale | None = None


class _ListQuery(BalanceQuery):
    as_of: Moment | None = None
    limit: PageSize = 20
    before: Annotated[PageCursor | None, Field(description=_BEFORE)] = None
    sort: Annotated[Sort, Field(description=_SORT)] = "recent"
    mode: Annotated[SessionMode | None, Field(description="The mode of the sessions.")] = None
    status: Annotated[ListedStatus | None, Field(description=_STATUS)] = None
    starred: Annotated[bool | None, Field(description="Whether the user has marked them.")] = None
    tag: Annotated[Tag | None, Field(description="A tag that they have.")] = None
    run_id: Annotated[Id | None, Field(description="The run that they are about.")] = None
    prompt_id: Annotated[Id | None, Field(description="The prompt that they are about.")] = None
    q: Annotated[SearchedName | None, Field(description="A part of the name.")] = None
    unread_since: Annotated[Cursor | None, Field(description=_UNREAD)] = None
    locale: Locale | None = None

    @property
    def wanted(self) -> Wanted:
        """The filters."""
        kept = (*_KEPT, "archived") if self.status == "all" else (self.status,)
        return Wanted(
            statuses=_KEPT if self.status is None else tuple(each for each in kept if each),
            mode=self.mode,
            starred=self.starred,
            tag=self.tag,
            run_id=self.run_id,
            prompt_id=self.prompt_id,
            name=self.q,
        )


class SessionsQuery(_ListQuery):
    """A page of the sessions of a project. With `userId`, the sessions that this member sees;
    without, all.

    `mode`, `status`, `starred`, `tag`, `runId`, `promptId` and `q` are filters.
    """

    user_id: Id | None = None


class UserSessionsQuery(_ListQuery):
    """A page of a user's own sessions, in all projects that have the user as a member now."""

    user_id: Id


class Billing(Wire):
    """What a session was billed; seconds, tokens of all kinds, USD as an exact decimal."""

    ai_seconds: int
    tokens_used: int
    cost_usd: str


class SessionPrompt(Wire):
    """The version of a prompt that a session is made of, and the values of its placeholders.

    `name` is the present name of the prompt, and `newest` the number of its newest version. A fork
    has no values of its own.
    """

    prompt_id: str
    prompt_version_id: str
    number: int
    name: str
    newest: int
    values: dict[str, str] | None = None


class ForkedFrom(Wire):
    """Where a fork left another session: after this message."""

    session_id: str
    message_id: str


class SessionAnswer(Wire):
    """A session with its bill.

    `name` is the name that a user gave (`isNamed`), else the beginning of the first message, else a
    text in the reader's language. `preview` is the beginning of what was said last. `messageCount`
    counts the user's messages, `itemCount` the replies too. `buildId` is what its plan was
    converted to, and `prompt` what a session of mode prompt is made of. `notSent` names the
    settings that are kept and not sent to the model. `cursor` names the last message or reply,
    and `isUnread` is there where the list has `unreadSince`.
    """

    session_id: str
    project_id: str
    user_id: str
    name: str
    is_named: bool
    description: str
    mode: SessionMode
    status: str
    starred: bool
    tags: list[str]
    context: dict[str, str]
    prompt: SessionPrompt | None = None
    settings: dict[str, Any] | None = None
    not_sent: list[str] | None = None
    message_count: int
    item_count: int
    preview: str
    is_private: bool
    is_unread: bool | None = None
    forked_from: ForkedFrom | None = None
    build_id: str | None = None
    created_at: datetime
    last_active: datetime
    cursor: str
    billing: Billing


class Sessions(Wire):
    """A page of sessions; `before` leads on while there are more."""

    sessions: list[SessionAnswer]
    has_more: bool
    before: str | None = None


class SessionErased(Wire):
    session_id: str


class BatchResult(Wire):
    """What became of one session. `unknown`: nobody knows yet; send the same request again with its
    Idempotency-Key."""

    session_id: str
    status: Literal["done", "refused", "unknown"]
    code: str | None = None
    detail: str | None = None


class BatchAnswer(Wire):
    """One result for each session of the request, in its order."""

    results: list[BatchResult]


def session(
    row: SessionRow, *, locale: str | None, unread_since: int | None = None
) -> SessionAnswer:
    """A session for a reader of a locale."""
    settings = _settings(row)
    forked_from = None
    if row.forked_from_session_id is not None and row.forked_from_message_id is not None:
        forked_from = ForkedFrom(
            session_id=row.forked_from_session_id, message_id=row.forked_from_message_id
        )
    return SessionAnswer(
        session_id=row.session_id,
        project_id=row.project_id,
        user_id=row.user_id,
        name=row.name or row.first_words or render(f"session_name_{row.mode}", {}, locale or "en"),
        is_named=row.name != "",
        description=row.description,
        mode=row.mode,
        status=row.status,
        starred=row.is_starred,
        tags=row.tags,
        context=row.context,
        prompt=_prompt(row),
        settings=settings or None,
        not_sent=sorted(settings.keys() - set(SENT)) or None,
        message_count=row.message_count,
        item_count=row.item_count,
        preview=row.last_words or "",
        is_private=row.private_to != "",
        is_unread=None if unread_since is None else row.active_position > unread_since,
        forked_from=forked_from,
        build_id=row.build_id,
        created_at=row.opened_at,
        last_active=row.last_active_at,
        cursor=row.cursor,
        billing=Billing(
            ai_seconds=row.ai_seconds, tokens_used=row.tokens_used, cost_usd=usd(row.cost_usd)
        ),
    )


def _prompt(row: SessionRow) -> SessionPrompt | None:
    if row.prompt_id is None or row.prompt_version_id is None or row.prompt_number is None:
        return None
    return SessionPrompt(
        prompt_id=row.prompt_id,
        prompt_version_id=row.prompt_version_id,
        number=row.prompt_number,
        name=row.prompt_name or "",
        newest=row.prompt_newest or row.prompt_number,
        values=row.answers,
    )


def _settings(row: SessionRow) -> dict[str, Any]:
    """The settings of a session by their names on the wire."""
    others: dict[str, Any] = row.settings or {}
    sent: dict[str, Any] = dict(zip(SENT, (row.model, row.max_tokens), strict=True))
    return {name: value for name, value in sent.items() if value is not None} | others


def etag(row: SessionRow) -> str:
    """The entity tag of what a request can change of the session."""
    return f'"{row.details.revision}"'


def sessions(
    rows: Sequence[ListedSession],
    asked: SessionsQuery | UserSessionsQuery,
    *,
    locale: str | None,
    since: int | None,
) -> Sessions:
    """A page of sessions; `rows` has one more than the page where there are more.

    A session is unread where something was said in it after the position `since`.
    """
    shown = rows[: asked.limit]
    return Sessions(
        sessions=[session(row, locale=locale, unread_since=since) for row in shown],
        has_more=len(rows) > asked.limit,
        before=_page_cursor(asked.sort, shown[-1]) if shown else None,
    )


# The cursor of a list ----------------------------------------------------------------------------

_Number = Annotated[int, Field(ge=-(2**63), lt=2**63)]
_PAGE_CURSOR: Final[TypeAdapter[tuple[str, Sort, str, int, int]]] = TypeAdapter(
    tuple[str, Sort, Annotated[Text, Field(max_length=400)], _Number, _Number]
)


def _page_cursor(sort: Sort, row: ListedSession) -> str:
    """The key of a session in the order of a list, with the order and the cursor of the session."""
    key = row.key
    content = orjson.dumps([row.cursor, sort, key.name, key.number, key.position])
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def key_in(call: AnyCall, before: str | None, sort: Sort) -> ListKey | None:
    """The key in a list's cursor, which the call notes. Raises BadRequest for a cursor of another
    order, and for any other text."""
    if before is None:
        return None
    try:
        content = urlsafe_b64decode(before.encode("ascii") + b"=" * (-len(before) % 4))
        cursor, of_sort, name, number, position = _PAGE_CURSOR.validate_json(content)
    except ValueError:
        detail = "Use `before` as the page before gave it."
        raise BadRequest(422, "bad_cursor", detail) from None
    if of_sort != sort:
        raise BadRequest(422, "bad_cursor", f"This cursor is for sort={of_sort}: send it with it.")
    position_in(call, cursor)
    return ListKey(name=name, number=number, position=position)
