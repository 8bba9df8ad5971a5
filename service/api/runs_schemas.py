"""The JSON of runs: requests and answers."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self

import orjson
from pydantic import AfterValidator, Field, model_validator

from domain.deciders.run import Report
from domain.events import RunFault, RunReportType
from projections.runs import BestScore, CandidateRow, RunRow, RunStatus, StepRow
from service.api.builds_schemas import (
    LONGEST_WAIT_SECONDS,
    MOST_REPORTS,
    MOST_SECONDS,
    MOST_TOKENS,
    Moment,
)
from service.api.schemas import BalanceQuery, PageSize, PastPageQuery, PastQuery
from service.api.sessions_schemas import Name
from service.wire import (
    Cursor,
    Id,
    Text,
    Wire,
    clean,
    fitting,
    without_control_characters,
)

LONGEST_TEXT: Final = 50_000
LARGEST_SCORE: Final = 1e15
NEWEST: Final = 5
"""The runs of a summary that are shown whole."""

COMPARED: Final = 100
"""The newest runs among which the best scores of a summary are."""

_DEEPEST: Final = 30
_LARGEST: Final = 2**53


def _storable(value: dict[str, Any]) -> dict[str, Any]:
    """A JSON object that the database stores and gives back as it is. Raises ValueError."""
    waiting: list[tuple[Any, int]] = [(value, 0)]
    while waiting:
        each, depth = waiting.pop()
        if depth > _DEEPEST:
            raise ValueError(f"must not be nested more than {_DEEPEST} times")
        match each:
            case str():
                clean(each)
            case bool() | None:
                pass
            case int() | float():
                if abs(each) > _LARGEST:
                    raise ValueError(f"must not hold a number beyond {_LARGEST}")
            case dict():
                waiting += [(name, depth) for name in each]  # pyright: ignore[reportUnknownVariableType]
                waiting += [(part, depth + 1) for part in each.values()]  # pyright: ignore[reportUnknownVariableType]
            case _:
                waiting += [(part, depth + 1) for part in each]
    return value


JsonObject = Annotated[dict[str, Any], AfterValidator(_storable)]
Title = Annotated[Text, Field(min_length=1, max_length=500)]
LongText = Annotated[Text, Field(max_length=LONGEST_TEXT)]
ShortName = Annotated[
    str,
    AfterValidator(clean),
    AfterValidator(without_control_characters),
    Field(min_length=1, max_length=100),
]
_Score = (
    Annotated[int, Field(ge=-LARGEST_SCORE, le=LARGEST_SCORE)]
    | Annotated[float, Field(ge=-LARGEST_SCORE, le=LARGEST_SCORE)]
)
Scores = Annotated[dict[ShortName, _Score], Field(max_length=50)]
Findings = Annotated[list[Annotated[Text, Field(max_length=1_000)]], Field(max_length=50)]
Values = Annotated[
    dict[ShortName, Annotated[Text, Field(max_length=20_000)]], Field(max_length=100)
]

_OF: Final[Mapping[str, frozenset[str]]] = {
    "step": frozenset(("step_id", "prompt", "prompt_version_id", "output")),
    "candidate": frozenset(("candidate_id", "scores", "data")),
    "succeeded": frozenset(("summary", "findings", "seconds", "tokens")),
    "failed": frozenset(("summary", "findings", "seconds", "tokens", "error")),
}
"""The members that a report of a type may have, beside the members of all reports."""

_ALWAYS: Final = frozenset(("event_id", "type", "title", "at"))


class RunRequest(Wire):
    """A run for an engine. The engine gets everything as it is; the service keeps it.

    `values` has a value for each placeholder of the prompt version. A
    session that is named must not be private, because every member of the project sees the run.
    """

    user_id: Id
    project_id: Id
    session_id: Id | None = None
    title: Title
    prompt_version_id: Id | None = None
    values: Values | None = None
    settings: JsonObject | None = None
    input: JsonObject | None = None


class RunClaimRequest(Wire):
    """The engine that claims the run. It may claim the run again after a restart."""

    worker_id: Id


class RunReport(Wire):
    """One report of an engine. The same `eventId` again changes nothing.

    A `step` has a `stepId`, its prompt and its output. A `candidate` has a `candidateId` and its
    scores, numbers by name. A later report of the same step or candidate replaces the values that
    it has, and adds its scores. `succeeded` and `failed` end the run, and may have a summary and
    key findings. The seconds and tokens of an end are kept and not billed.
    """

    event_id: Id
    type: RunReportType
    title: Title
    at: Moment
    step_id: Id | None = None
    prompt: LongText | None = None
    prompt_version_id: Id | None = None
    output: LongText | None = None
    candidate_id: Id | None = None
    scores: Scores | None = None
    data: JsonObject | None = None
    summary: Annotated[Text, Field(max_length=20_000)] | None = None
    findings: Findings | None = None
    error: Annotated[Text, Field(max_length=4_000)] | None = None
    seconds: Annotated[int, Field(ge=0, le=MOST_SECONDS)] | None = None
    tokens: Annotated[int, Field(ge=0, le=MOST_TOKENS)] | None = None

    @model_validator(mode="after")
    def _has_the_members_of_its_type(self) -> Self:
        if self.type == "step" and self.step_id is None:
            raise ValueError("a step needs stepId")
        if self.type == "candidate" and self.candidate_id is None:
            raise ValueError("a candidate needs candidateId")
        others = self.model_fields_set - _ALWAYS - _OF.get(self.type, frozenset())
        if any(getattr(self, name) is not None for name in others):
            allowed = ", ".join(sorted(_OF.get(self.type, ()))) or "no other members"
            raise ValueError(f"a report of type {self.type} has {allowed}, as schema says")
        return self

    def report(self) -> Report:
        """The report as the decider reads it."""
        members = self.model_dump(exclude={"findings"})
        return Report(**members, findings=tuple(self.findings or ()))


class RunReportsRequest(Wire):
    """Reports, in any order, new or repeated."""

    events: Annotated[list[RunReport], Field(min_length=1, max_length=MOST_REPORTS)]


class DiscussRequest(Wire):
    """Who discusses the run: in the session `sessionId`, or else in an analysis session of the run,
    which is called `name`. The candidate `candidateId` comes before all others."""

    user_id: Id
    session_id: Id | None = None
    name: Annotated[Name, Field(min_length=1)] | None = None
    candidate_id: Id | None = None


class RunsQuery(BalanceQuery):
    """The runs that are `queued` (or `running`), oldest first, for engines. With `wait` an answer
    without a queued run waits so many seconds until a run is queued."""

    status: Literal["queued", "running"] = "queued"
    worker_id: Id | None = None
    wait: int = Field(
        default=0,
        ge=0,
        le=LONGEST_WAIT_SECONDS,
        description="How many seconds the answer may wait until a run is queued.",
    )
    limit: PageSize = 20
    cursor: Cursor | None = None

    @model_validator(mode="after")
    def _waits_for_queued_runs(self) -> Self:
        if self.wait and self.status != "queued":
            raise ValueError("wait is for queued runs")
        return self


class ProjectRunsQuery(PastPageQuery):
    """A page of a project's runs, newest first; with `sessionId` the runs of that session."""

    session_id: Id | None = None
    status: RunStatus | None = None


class RunSummaryQuery(PastQuery):
    """With `sessionId` the figures of the runs that came from this session."""

    session_id: Id | None = None


class RunPartsQuery(PastQuery):
    """A page of steps or candidates, in the order of their first reports, after a cursor."""

    limit: PageSize = 20
    after: Cursor | None = None


class RunAccepted(Wire):
    """The run and its present status: `queued` when the run is new."""

    run_id: str
    status: RunStatus
    session_id: str | None = None


class RunAnswer(Wire):
    """A run: its request, its progress and its result. Times are in milliseconds.

    `sessionId` is the session that the run came from, `progress` the title of the last report.
    `prompt` is the text of the prompt version with the values, where one run alone is read.
    `code` says why a run failed. `seconds` and `tokens` are what the engine says that it used.
    """

    run_id: str
    project_id: str
    user_id: str
    session_id: str | None = None
    title: str
    prompt_version_id: str | None = None
    prompt: str | None = None
    values: dict[str, str] | None = None
    settings: dict[str, Any] | None = None
    input: dict[str, Any] | None = None
    status: RunStatus
    worker_id: str | None = None
    progress: str | None = None
    summary: str | None = None
    findings: list[str]
    code: RunFault | None = None
    error: str | None = None
    seconds: int | None = None
    tokens: int | None = None
    step_count: int
    candidate_count: int
    queued_at: datetime
    claimed_at: datetime | None = None
    ended_at: datetime | None = None
    duration: int | None = None


class OpenRuns(Wire):
    """Runs for engines; `cursor` leads on."""

    runs: list[RunAnswer]
    cursor: str | None = None


class Runs(Wire):
    """A page of runs; `before` leads on while there are more."""

    runs: list[RunAnswer]
    has_more: bool
    before: str | None = None


class RunReportsAnswer(Wire):
    """How many of the reports were new, and what the run is now; `code` says why it failed.

    An engine stops when the run has ended otherwise than by its own report, such as by the code
    `cancelled`.
    """

    accepted: int
    status: RunStatus
    code: RunFault | None = None


class RunStep(Wire):
    """A step of a run, by its last report."""

    step_id: str
    title: str
    prompt: str | None = None
    prompt_version_id: str | None = None
    output: str | None = None
    at: datetime


class RunSteps(Wire):
    """Steps in the order of their first reports; `after` leads on."""

    steps: list[RunStep]
    has_more: bool
    after: str | None = None


class RunCandidate(Wire):
    """A candidate of a run, with its scores by name."""

    candidate_id: str
    title: str
    scores: dict[str, int | float]
    data: dict[str, Any] | None = None
    at: datetime


class RunCandidates(Wire):
    """Candidates in the order of their first reports; `after` leads on."""

    candidates: list[RunCandidate]
    has_more: bool
    after: str | None = None


class RunCounts(Wire):
    """How many runs there are, all and by their status."""

    runs: int
    queued: int
    running: int
    succeeded: int
    failed: int


class BestScoreAnswer(Wire):
    """The highest score of a name, and the candidate with this score."""

    score: float
    run_id: str
    candidate_id: str
    title: str


class RunSummary(Wire):
    """The runs of a project at a glance: their number by status, the newest five, and for each name
    of a score the highest one among the newest 100 runs."""

    counts: RunCounts
    newest: list[RunAnswer]
    best_scores: dict[str, BestScoreAnswer]


class Discussed(Wire):
    """The session in which the run is discussed."""

    session_id: str


class RunErased(Wire):
    run_id: str


def run_answer(row: RunRow, prompt: str | None = None) -> RunAnswer:
    """A run, with the text of its prompt where that was read."""
    return RunAnswer(
        run_id=row.run_id,
        project_id=row.project_id,
        user_id=row.user_id,
        session_id=row.session_id,
        title=row.title,
        prompt_version_id=row.prompt_version_id,
        prompt=prompt,
        values=row.answers,
        settings=row.settings,
        input=row.input,
        status=row.status,
        worker_id=row.worker_id,
        progress=row.progress,
        summary=row.summary,
        findings=row.findings,
        code=row.code,
        error=row.error,
        seconds=row.seconds,
        tokens=row.tokens,
        step_count=row.step_count,
        candidate_count=row.candidate_count,
        queued_at=row.queued_at,
        claimed_at=row.claimed_at,
        ended_at=row.ended_at,
        duration=row.duration_ms,
    )


def open_runs(rows: list[RunRow]) -> OpenRuns:
    """A page of runs for engines, with its cursor."""
    rows = rows[: fitting(map(_size, rows))]
    last = rows[-1].cursor if rows else None
    return OpenRuns(runs=[run_answer(row) for row in rows], cursor=last)


def _size(row: RunRow | StepRow | CandidateRow) -> int:
    """About the bytes of a row."""
    return len(orjson.dumps(row))


def runs(rows: list[RunRow], *, limit: int) -> Runs:
    """A page of runs with its cursor; there is one row more than the limit if there are more."""
    shown = rows[: min(limit, fitting(map(_size, rows)))]
    return Runs(
        runs=[run_answer(row) for row in shown],
        has_more=len(rows) > len(shown),
        before=shown[-1].cursor if shown else None,
    )


def steps(rows: list[StepRow], *, limit: int) -> RunSteps:
    """A page of steps with its cursor; there is one row more than the limit if there are more."""
    shown = rows[: min(limit, fitting(map(_size, rows)))]
    return RunSteps(
        steps=[RunStep.model_validate(row, from_attributes=True) for row in shown],
        has_more=len(rows) > len(shown),
        after=shown[-1].cursor if shown else None,
    )


def candidates(rows: list[CandidateRow], *, limit: int) -> RunCandidates:
    """A page of candidates with its cursor; there is one row more than the limit if there are
    more."""
    shown = rows[: min(limit, fitting(map(_size, rows)))]
    return RunCandidates(
        candidates=[RunCandidate.model_validate(row, from_attributes=True) for row in shown],
        has_more=len(rows) > len(shown),
        after=shown[-1].cursor if shown else None,
    )


def summary(
    counts: Mapping[RunStatus, int], newest: list[RunRow], best: list[BestScore]
) -> RunSummary:
    """The runs of a project at a glance."""
    return RunSummary(
        counts=RunCounts(
            runs=sum(counts.values()),
            queued=counts.get("queued", 0),
            running=counts.get("running", 0),
            succeeded=counts.get("succeeded", 0),
            failed=counts.get("failed", 0),
        ),
        newest=[run_answer(row) for row in newest],
        best_scores={
            each.name: BestScoreAnswer(
                score=each.score,
                run_id=each.run_id,
                candidate_id=each.candidate_id,
                title=each.title,
            )
            for each in best
        },
    )
