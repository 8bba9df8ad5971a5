"""The runs of engines, with their steps and candidates."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from psycopg.rows import class_row, scalar_row
from psycopg.types.numeric import Int8

from domain.events import (
    Json,
    RunCandidateReported,
    RunClaimed,
    RunErased,
    RunFailed,
    RunFault,
    RunProgressed,
    RunQueued,
    RunStepReported,
    RunSucceeded,
)
from projections.projection import Connection, Projection
from projections.read import Read

RUNS: Final = Projection(
    name="runs",
    version=1,
    rules="49921a2b",
    views=("project_runs",),
    handles=(
        RunQueued,
        RunClaimed,
        RunProgressed,
        RunStepReported,
        RunCandidateReported,
        RunSucceeded,
        RunFailed,
        RunErased,
    ),
)
RUN_STEPS: Final = Projection(
    name="run_steps",
    version=1,
    rules="d699c913",
    views=("project_run_steps",),
    handles=(RunStepReported, RunErased),
)
RUN_CANDIDATES: Final = Projection(
    name="run_candidates",
    version=1,
    rules="8327a4de",
    views=("project_run_candidates",),
    handles=(RunCandidateReported, RunErased),
)

RunStatus = Literal["queued", "running", "succeeded", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """A run. `progress` is the title of the last report, and `heard_at` its time. `cursor` is that
    of the event that queued the run."""

    run_id: str
    project_id: str
    user_id: str
    session_id: str | None
    title: str
    prompt_version_id: str | None
    answers: Json
    settings: Json
    input: Json
    status: RunStatus
    worker_id: str | None
    progress: str | None
    summary: str | None
    findings: list[str]
    code: RunFault | None
    error: str | None
    seconds: int | None
    tokens: int | None
    queued_at: datetime
    claimed_at: datetime | None
    heard_at: datetime
    ended_at: datetime | None
    queued_position: int
    cursor: str
    step_count: int
    candidate_count: int

    @property
    def duration_ms(self) -> int | None:
        """Milliseconds from the queue to the end; None while the run runs."""
        if self.ended_at is None:
            return None
        return round((self.ended_at - self.queued_at).total_seconds() * 1_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRow:
    """A step of a run; `at` is the time of the last report by the engine's clock."""

    step_id: str
    title: str
    prompt: str | None
    prompt_version_id: str | None
    output: str | None
    at: datetime
    position: int
    cursor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateRow:
    """A candidate of a run; `scores` are numbers by name."""

    candidate_id: str
    title: str
    scores: dict[str, int | float]
    data: Json
    at: datetime
    position: int
    cursor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BestScore:
    """The highest score of a name, and the candidate with this score."""

    name: str
    score: float
    run_id: str
    candidate_id: str
    title: str


async def of_ids(
    connection: Connection, *, tenant_id: str, run_ids: Collection[str]
) -> dict[str, RunRow]:
    """The runs with these ids, by id. An unknown id has no entry."""
    rows = await _runs(connection, "of_ids", tenant_id=tenant_id, run_ids=list(run_ids))
    return {row.run_id: row for row in rows}


async def open_runs(
    connection: Connection,
    *,
    tenant_id: str,
    status: Literal["queued", "running"],
    worker_id: str | None,
    after: int,
    limit: int,
) -> list[RunRow]:
    """Open runs, oldest first, that were queued after a position."""
    return await _runs(
        connection,
        "open",
        tenant_id=tenant_id,
        status=status,
        worker_id=worker_id,
        after=Int8(after),
        limit=limit,
    )


async def of_project(
    connection: Connection,
    *,
    tenant_id: str,
    project_id: str,
    session_id: str | None,
    status: RunStatus | None,
    before: int,
    limit: int,
) -> list[RunRow]:
    """A project's runs, newest first, that were queued before a position."""
    return await _runs(
        connection,
        "of_project",
        tenant_id=tenant_id,
        project_id=project_id,
        session_id=session_id,
        status=status,
        before=Int8(before),
        limit=limit,
    )


async def counts(
    connection: Connection, *, tenant_id: str, project_id: str, session_id: str | None
) -> dict[RunStatus, int]:
    """How many runs of a project have each status. A status without a run has no entry."""
    asked = {"tenant_id": tenant_id, "project_id": project_id, "session_id": session_id}
    found = await connection.execute(RUNS.statements["counts"], asked)
    return dict(await found.fetchall())


async def best_scores(
    connection: Connection, *, tenant_id: str, run_ids: Collection[str]
) -> list[BestScore]:
    """The highest score of each name among the candidates of these runs, by name."""
    async with connection.cursor(row_factory=class_row(BestScore)) as cursor:
        asked = {"tenant_id": tenant_id, "run_ids": list(run_ids)}
        await cursor.execute(RUN_CANDIDATES.statements["best_scores"], asked)
        return await cursor.fetchall()


async def steps(
    connection: Connection, *, tenant_id: str, run_id: str, after: int, limit: int
) -> list[StepRow]:
    """The steps of a run that were first reported after a position, oldest first."""
    return await _steps(
        connection, "page", tenant_id=tenant_id, run_id=run_id, after=Int8(after), limit=limit
    )


async def step(
    connection: Connection, *, tenant_id: str, run_id: str, step_id: str
) -> StepRow | None:
    """The step, or None."""
    found = await _steps(connection, "of_id", tenant_id=tenant_id, run_id=run_id, step_id=step_id)
    return found[0] if found else None


async def candidates(
    connection: Connection, *, tenant_id: str, run_id: str, after: int, limit: int
) -> list[CandidateRow]:
    """The candidates of a run that were first reported after a position, oldest first."""
    return await _candidates(
        connection, "page", tenant_id=tenant_id, run_id=run_id, after=Int8(after), limit=limit
    )


async def best_candidates(
    connection: Connection, *, tenant_id: str, run_id: str, first: str | None, limit: int
) -> list[CandidateRow]:
    """The candidates of a run, the highest average of the scores first; the candidate `first`
    before all others."""
    return await _candidates(
        connection, "best", tenant_id=tenant_id, run_id=run_id, candidate_id=first, limit=limit
    )


async def silent(
    connection: Connection, *, silent_seconds: float, limit: int
) -> list[tuple[str, str]]:
    """Open runs of all tenants without a report for so long: (tenant, run) ids."""
    found = await connection.execute(
        RUNS.statements["silent"], {"silent_seconds": silent_seconds, "limit": limit}
    )
    return await found.fetchall()


def is_silent(*, tenant_id: str, run_id: str, silent_seconds: float) -> Read[bool]:
    """Whether the run is without a report for so long, for a pipeline."""
    asked = {"tenant_id": tenant_id, "run_id": run_id, "silent_seconds": silent_seconds}
    return Read(RUNS.statements["is_silent"], scalar_row, asked)


async def _runs(connection: Connection, name: str, **parameters: Any) -> list[RunRow]:
    async with connection.cursor(row_factory=class_row(RunRow)) as cursor:
        await cursor.execute(RUNS.statements[name], parameters)
        return await cursor.fetchall()


async def _steps(connection: Connection, name: str, **parameters: Any) -> list[StepRow]:
    async with connection.cursor(row_factory=class_row(StepRow)) as cursor:
        await cursor.execute(RUN_STEPS.statements[name], parameters)
        return await cursor.fetchall()


async def _candidates(connection: Connection, name: str, **parameters: Any) -> list[CandidateRow]:
    async with connection.cursor(row_factory=class_row(CandidateRow)) as cursor:
        await cursor.execute(RUN_CANDIDATES.statements[name], parameters)
        return await cursor.fetchall()
