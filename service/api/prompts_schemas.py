"""What prompts and their versions take and answer."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import AfterValidator, Field, TypeAdapter, model_validator

from domain.deciders import prompt
from domain.deciders.prompt import MOST_CHARACTERS, MOST_PLACEHOLDERS
from domain.texts.word_diff import OpKind
from projections.prompts import ListedPrompt, PromptRow, PromptStatus, Sort, VersionRow
from service.api.schemas import ActingQuery, PageSize, PastQuery
from service.http.call import AnyCall
from service.http.problems import BadRequest
from service.http.reads import position_in
from service.wire import Id, Text, Wire, without_control_characters

_BEFORE: Final = "`before` of the page before, in the same order."
_SORT: Final = "By the newest version, newest or oldest first; or by name."
_STATUS: Final = "The status. The default is `active`; `all` has the archived prompts, too."
_NAMED: Final = "A part of the name."
_ABOVE: Final = "The number of a version: the versions before it."
_AGAINST: Final = "The number of the other version, from which the differences lead to this one."


def _with_few_placeholders(text: str) -> str:
    if len(prompt.placeholders(text)) > MOST_PLACEHOLDERS:
        raise ValueError(f"a text has at most {MOST_PLACEHOLDERS} placeholders")
    return text


PromptName = Annotated[
    Text, AfterValidator(without_control_characters), Field(min_length=1, max_length=200)
]
PromptText = Annotated[
    Text, AfterValidator(_with_few_placeholders), Field(min_length=1, max_length=MOST_CHARACTERS)
]
Note = Annotated[Text, Field(min_length=1, max_length=2_000)]
VersionNumber = Annotated[int, Field(ge=1, lt=2**31)]


class VersionRequest(Wire):
    """A new version of a prompt; `note` says what is new. A placeholder is written `{{name}}`."""

    user_id: Id
    text: PromptText
    note: Note | None = None


class PromptRequest(VersionRequest):
    """A new prompt of a project, with its first version. A placeholder is written `{{name}}`."""

    project_id: Id
    name: PromptName


class PromptPatch(Wire):
    """What changes of a prompt. A member that is left out stays."""

    user_id: Id | None = None
    name: PromptName | None = None
    archived: bool | None = None

    @model_validator(mode="after")
    def _names_a_change(self) -> "PromptPatch":
        if not self.changes:
            raise ValueError("name or archived is needed")
        return self

    @property
    def changes(self) -> dict[str, Any]:
        """The members that were sent, as the details of a prompt."""
        sent = {"name": self.name, "is_archived": self.archived}
        return {name: value for name, value in sent.items() if value is not None}


class PromptsQuery(PastQuery):
    """A page of the prompts of a project. With `userId`, `savedRuns` counts the saved runs of this
    user."""

    limit: PageSize = 20
    before: Annotated[
        Annotated[str, Field(max_length=2_000)] | None, Field(description=_BEFORE)
    ] = None
    sort: Annotated[Sort, Field(description=_SORT)] = "recent"
    status: Annotated[Literal[PromptStatus, "all"], Field(description=_STATUS)] = "active"
    q: Annotated[Annotated[Text, Field(max_length=200)] | None, Field(description=_NAMED)] = None

    @property
    def statuses(self) -> tuple[PromptStatus, ...]:
        """The statuses that are asked for."""
        return ("active", "archived") if self.status == "all" else (self.status,)


class VersionsQuery(PastQuery):
    """A page of the versions of a prompt, newest first."""

    limit: PageSize = 20
    before: Annotated[VersionNumber | None, Field(description=_ABOVE)] = None


class DiffQuery(ActingQuery):
    """The two versions of a diff: the version of the path, and the version that it is compared
    with."""

    against: Annotated[VersionNumber, Field(description=_AGAINST)]


class VersionSource(Wire):
    """The reply that proposed the text of a version, and its session."""

    session_id: str
    message_id: str


class PromptVersion(Wire):
    """A version of a prompt, by `userId`. A list has no `text`.

    `usageCount` is the number of sessions that are made of the version, of all users.
    """

    prompt_version_id: str
    prompt_id: str
    number: int
    text: str | None = None
    placeholders: list[str]
    user_id: str
    note: str | None = None
    source: VersionSource | None = None
    created_at: datetime
    usage_count: int


class PromptAnswer(Wire):
    """A prompt of the author `userId`. A list has no `version`, which is the newest one.

    `versionCount` is the number of the newest version, which was added at `lastModified`.
    `savedRuns` is how many sessions the acting user has made of the prompt and not archived; it is
    absent without a user.
    """

    prompt_id: str
    project_id: str
    user_id: str
    name: str
    status: PromptStatus
    version_count: int
    version: PromptVersion | None = None
    saved_runs: int | None = None
    created_at: datetime
    last_modified: datetime


class Prompts(Wire):
    """A page of prompts; `before` leads on while there are more."""

    prompts: list[PromptAnswer]
    has_more: bool
    before: str | None = None


class PromptVersions(Wire):
    """A page of versions, newest first; `before` leads on while there are more."""

    versions: list[PromptVersion]
    has_more: bool
    before: int | None = None


class DiffOp(Wire):
    """A piece of text that both versions have, or one of them."""

    op: OpKind
    text: str


class VersionDiff(Wire):
    """What differs between two versions: `ops` word by word, `unified` line by line.

    The pieces `equal` and `delete` together are the text of the version `against`, the pieces
    `equal` and `insert` the text of the version `number`.
    """

    prompt_id: str
    number: int
    against: int
    ops: list[DiffOp]
    unified: str


class PromptErased(Wire):
    prompt_id: str


def version(row: VersionRow) -> PromptVersion:
    """A version as JSON."""
    source = None
    if row.source_session_id is not None and row.source_message_id is not None:
        source = VersionSource(session_id=row.source_session_id, message_id=row.source_message_id)
    return PromptVersion(
        prompt_version_id=row.prompt_version_id,
        prompt_id=row.prompt_id,
        number=row.number,
        text=row.text,
        placeholders=row.placeholders,
        user_id=row.user_id,
        note=row.note,
        source=source,
        created_at=row.created_at,
        usage_count=row.usage_count,
    )


def versions(rows: Sequence[VersionRow], limit: int) -> PromptVersions:
    """A page of versions; `rows` has one more than the page where there are more."""
    shown = rows[:limit]
    return PromptVersions(
        versions=[version(row) for row in shown],
        has_more=len(rows) > limit,
        before=shown[-1].number if shown else None,
    )


def prompt_answer(row: PromptRow, newest: VersionRow | None = None) -> PromptAnswer:
    """A prompt as JSON, with its newest version where that was read."""
    return PromptAnswer(
        prompt_id=row.prompt_id,
        project_id=row.project_id,
        user_id=row.user_id,
        name=row.name,
        status=row.status,
        version_count=row.versions,
        version=None if newest is None else version(newest),
        saved_runs=row.saved_runs,
        created_at=row.created_at,
        last_modified=row.active_at,
    )


def etag(row: PromptRow) -> str:
    """The entity tag of what a request can change of the prompt."""
    return f'"{row.details.revision}"'


def prompts(rows: Sequence[ListedPrompt], asked: PromptsQuery) -> Prompts:
    """A page of prompts; `rows` has one more than the page where there are more."""
    shown = rows[: asked.limit]
    return Prompts(
        prompts=[prompt_answer(row) for row in shown],
        has_more=len(rows) > asked.limit,
        before=_page_cursor(asked.sort, shown[-1]) if shown else None,
    )


_Position = Annotated[int, Field(ge=-(2**63), lt=2**63)]
_PAGE_CURSOR: Final[TypeAdapter[tuple[str, Sort, str, int]]] = TypeAdapter(
    tuple[str, Sort, Annotated[Text, Field(max_length=400)], _Position]
)


def _page_cursor(sort: Sort, row: ListedPrompt) -> str:
    """The keys of an entry, with the order and the cursor of the entry."""
    content = orjson.dumps([row.cursor, sort, row.name_key, row.position_key])
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def keys_in(call: AnyCall, before: str | None, sort: Sort) -> tuple[str, int] | None:
    """The keys in a list's cursor, which the call notes. Raises BadRequest for a cursor of another
    order, and for any other text."""
    if before is None:
        return None
    try:
        content = urlsafe_b64decode(before.encode("ascii") + b"=" * (-len(before) % 4))
        cursor, of_sort, name, position = _PAGE_CURSOR.validate_json(content)
    except ValueError:
        detail = "Use `before` as the page before gave it."
        raise BadRequest(422, "bad_cursor", detail) from None
    if of_sort != sort:
        raise BadRequest(422, "bad_cursor", f"This cursor is for sort={of_sort}: send it with it.")
    position_in(call, cursor)
    return name, position
