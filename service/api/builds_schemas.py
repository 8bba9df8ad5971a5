"""The JSON of builds and versions: requests and answers."""

from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from domain.events import BuildFault, BuildOperation, BuildPhase, Report, ReportType
from domain.replies.contracts import check
from projections.builds import BuildEventRow, BuildRow, BuildStatus
from projections.versions import VersionRow
from service.api.chat_schemas import LONGEST_MESSAGE
from service.api.schemas import PageSize, PastQuery
from service.timelines.items import BuildState, build_state
from service.wire import Cursor, Id, Locale, Text, Wire, clean

MOST_REPORTS: Final = 500
MOST_SECONDS: Final = 86_400
MOST_TOKENS: Final = 1_000_000_000
LONGEST_WAIT_SECONDS: Final = 30


def _plan(value: dict[str, Any]) -> dict[str, Any]:
    """A plan keeps the contract of a feature's or a fix's reply."""
    _clean_within(value)
    check("fix" if "rootCause" in value or "solution" in value else "feature", value)
    return value


def _clean_within(value: Any) -> None:
    match value:
        case str():
            clean(value)
        case dict():
            for key, each in value.items():  # pyright: ignore[reportUnknownVariableType]
                clean(str(key))  # pyright: ignore[reportUnknownArgumentType]
                _clean_within(each)
        case list():
            for each in value:  # pyright: ignore[reportUnknownVariableType]
                _clean_within(each)
        case _:
            pass


def _moment(text: str) -> str:
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is None:
            raise ValueError
        return at.astimezone(UTC).isoformat()
    except (ValueError, OverflowError):
        raise ValueError("must be a date and time with its offset, by ISO 8601") from None


PlanData = Annotated[dict[str, Any], AfterValidator(_plan)]
Moment = Annotated[
    str,
    Field(max_length=40, json_schema_extra={"format": "date-time"}),
    AfterValidator(_moment),
]
Url = Annotated[Text, Field(max_length=2_000, pattern=r"^https?://[^\s]+$")]


class ConvertRequest(Wire):
    """A plan to be built; without `planData` the session's last one."""

    user_id: Id
    project_id: Id
    session_id: Id
    plan_data: PlanData | None = None
    locale: Locale = "en"


class BuildRequest(Wire):
    """An idea to be built.

    The operation decides how many AI seconds are reserved. Without `operation` it is `main_build`
    for a project without a version, else `update`.
    """

    user_id: Id
    project_id: Id
    message: Annotated[Text, Field(min_length=1, max_length=LONGEST_MESSAGE)]
    locale: Locale = "en"
    operation: Literal["metadata_generation"] | None = None


class ClaimRequest(Wire):
    """The worker that claims the build. It may claim the build again after a restart."""

    worker_id: Id


class BuildReport(Wire):
    """One report of a worker. The same `eventId` again changes nothing.

    `completed` of `deploy` ends the build as a success and needs `versionId`. `failed` ends the
    build as a failure. The report that ends the build may say what the build used: `seconds` are AI
    seconds, of which at most the reserved ones are billed, and `tokens` are tokens of all kinds.
    Nothing is billed where the report has neither.
    """

    event_id: Id
    phase: BuildPhase
    type: ReportType
    title: Annotated[Text, Field(max_length=500)]
    at: Moment
    user_visible: bool = True
    version_id: Id | None = None
    preview_url: Url | None = None
    artifact_url: Url | None = None
    error: Annotated[Text, Field(max_length=4_000)] | None = None
    seconds: Annotated[int, Field(ge=0, le=MOST_SECONDS)] | None = Field(
        default=None, description="With the end: the AI seconds that the whole build used."
    )
    tokens: Annotated[int, Field(ge=0, le=MOST_TOKENS)] | None = Field(
        default=None, description="With the end: the tokens of all kinds that the build used."
    )

    @model_validator(mode="after")
    def _names_its_version(self) -> Self:
        if (self.phase, self.type) == ("deploy", "completed") and self.version_id is None:
            raise ValueError("a completed deploy needs versionId")
        return self

    def report(self) -> Report:
        """The report as the decider reads it."""
        return Report(**self.model_dump())


class ReportsRequest(Wire):
    """Reports, in any order, new or repeated."""

    events: Annotated[list[BuildReport], Field(min_length=1, max_length=MOST_REPORTS)]


class BuildsQuery(PastQuery):
    """Without a project: the builds that are `queued` (or `running`), oldest first, for workers.

    With a project: its builds, newest first, for its members. With `wait` an answer without a
    queued build waits so many seconds until a build is queued.
    """

    status: BuildStatus | None = None
    project_id: Id | None = None
    worker_id: Id | None = None
    wait: int = Field(
        default=0,
        ge=0,
        le=LONGEST_WAIT_SECONDS,
        description="How many seconds the answer may wait until a build is queued.",
    )
    limit: PageSize = 20
    cursor: Cursor | None = None

    @model_validator(mode="after")
    def _waits_for_queued_builds(self) -> Self:
        if self.wait and (self.project_id is not None or self.status not in (None, "queued")):
            raise ValueError("wait is for queued builds, without projectId")
        if self.as_of is not None and self.project_id is None:
            raise ValueError("asOf is for the builds of a project: name it in projectId")
        return self


class BuildEventsQuery(PastQuery):
    """A page of what was reported, oldest first, after a cursor."""

    include_hidden: bool = False
    limit: Annotated[int, Field(ge=1, le=MOST_REPORTS)] = 100
    after: Cursor | None = None


class BuildAccepted(Wire):
    """The build and its present status: `queued` when the build is new."""

    build_id: str
    status: BuildStatus


class BuildAnswer(BuildState):
    """A build, with what is to be built: `prompt` in words, `plan` if it comes from one."""

    project_id: str
    session_id: str
    message_id: str
    prompt: str
    locale: str
    plan: Any = None
    converted_from_session_id: str | None = None
    operation: BuildOperation | None = None
    worker_id: str | None = None
    code: BuildFault | None = None
    queued_at: datetime
    claimed_at: datetime | None = None
    ended_at: datetime | None = None


class BuildList(Wire):
    """Builds; `cursor` leads on."""

    builds: list[BuildAnswer]
    cursor: str | None = None


class ReportsAnswer(Wire):
    """How many of the reports were new, and what the build is now; `code` says why it failed.

    A worker stops its command when the build has ended otherwise than by its own report, such as by
    the code `cancelled`.
    """

    accepted: int
    status: BuildStatus
    code: BuildFault | None = None


class BuildEvent(Wire):
    """One thing that a worker reported."""

    event_id: str
    phase: BuildPhase
    type: ReportType
    title: str
    user_visible: bool
    at: datetime
    version_id: str | None = None
    preview_url: str | None = None
    artifact_url: str | None = None
    error: str | None = None
    seconds: int | None = None
    tokens: int | None = None


class BuildEvents(Wire):
    """What was reported, oldest first; `after` leads on."""

    events: list[BuildEvent]
    after: str | None = None
    has_more: bool


class Version(Wire):
    version_id: str
    build_id: str
    preview_url: str | None = None
    artifact_url: str | None = None
    deployed_at: datetime


class Versions(Wire):
    """Versions, newest first; `before` leads on."""

    versions: list[Version]
    before: str | None = None


def build_answer(row: BuildRow) -> BuildAnswer:
    """A build, whole."""
    return BuildAnswer(
        **build_state(row).model_dump(),
        project_id=row.project_id,
        session_id=row.session_id,
        message_id=row.message_id,
        prompt=row.prompt,
        locale=row.locale,
        plan=row.plan,
        converted_from_session_id=row.converted_from_session_id,
        operation=row.operation,
        worker_id=row.worker_id,
        code=row.code,
        queued_at=row.queued_at,
        claimed_at=row.claimed_at,
        ended_at=row.ended_at,
    )


def build_list(rows: list[BuildRow]) -> BuildList:
    """A page of builds with its cursor."""
    last = rows[-1].cursor if rows else None
    return BuildList(builds=[build_answer(row) for row in rows], cursor=last)


def build_events(rows: list[BuildEventRow], *, limit: int) -> BuildEvents:
    """A page of reports with its cursor; there is one row more than the limit if there are more."""
    shown = rows[:limit]
    return BuildEvents(
        events=[BuildEvent.model_validate(row, from_attributes=True) for row in shown],
        after=shown[-1].cursor if shown else None,
        has_more=len(rows) > limit,
    )


def versions(rows: list[VersionRow]) -> Versions:
    """A page of versions with its cursor."""
    return Versions(
        versions=[Version.model_validate(row, from_attributes=True) for row in rows],
        before=rows[-1].cursor if rows else None,
    )
