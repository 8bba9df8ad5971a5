"""Runs: asked for by users, claimed and reported on by engines, discussed in sessions."""

from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from types import NoneType
from typing import Final

from starlette.responses import Response

from domain.deciders import prompt
from domain.deciders.session import About
from domain.errors import RunUnknown
from domain.texts import run_material
from domain.texts.run_material import Candidate, Results, Step
from projections import prompts
from projections import runs as rows
from projections.runs import RUN_CANDIDATES, RUN_STEPS, RUNS, CandidateRow, RunRow, StepRow
from service.api import runs_schemas, schemas
from service.api.prompt_versions import version_of_id
from service.commands import runs as commands
from service.commands.sessions import Opening, RunMaterial
from service.eventlog.errors import answering
from service.eventlog.store import END
from service.eventlog.stream_ids import run_stream
from service.eventlog.transactions import Transaction
from service.http.call import AnyCall, Call
from service.http.operation import Operation, Success, answered
from service.http.reads import fold_project, position_in, reading_at, visible_project
from service.ids import new_id
from service.postgres.connections import Connection
from service.texts.templates import render

_WHOLE: Final = (RUNS, RUN_STEPS, RUN_CANDIDATES)
"""The read models of a run, with the numbers of its steps and candidates."""


async def create_run(call: Call[runs_schemas.RunRequest, None]) -> Response:
    """Queue a run for an engine."""
    asked = call.body
    await _require_askable(call)
    order = commands.RunOrder(
        project_id=asked.project_id,
        user_id=asked.user_id,
        title=asked.title,
        session_id=asked.session_id,
        prompt_version_id=asked.prompt_version_id,
        answers=asked.values,
        settings=asked.settings,
        given=asked.input,
    )
    work = partial(commands.queue, run_id=new_id(), order=order)
    found, position = await call.transact(work, user_id=asked.user_id)
    run_id = found["run"]
    with answering(position):
        state = await call.service.transactions.current(call.tenant_id, run_stream(run_id))
    if state.status == "new" or state.status == "erased":
        raise RunUnknown
    answer = runs_schemas.RunAccepted(
        run_id=run_id, status=state.status, session_id=asked.session_id
    )
    headers = {"Location": f"/v1/runs/{run_id}"}
    return answered(answer, position=position, status=201, headers=headers)


async def _require_askable(call: Call[runs_schemas.RunRequest, None]) -> None:
    """Raises ProjectUnknown, PromptVersionUnknown, and ValuesMissing, ValuesUnknown, PromptTooLong
    unless the values are exactly the values that the prompt version needs."""
    asked = call.body
    async with call.reading() as connection:
        await visible_project(connection, call, asked.project_id, asked.user_id)
        if asked.prompt_version_id is None:
            return
        version = await version_of_id(
            connection, call, asked.prompt_version_id, asked.user_id, asked.project_id
        )
    prompt.fill(version.text or "", asked.values or {})


async def list_open_runs(call: Call[None, runs_schemas.RunsQuery]) -> Response:
    """Runs for engines. No connection is held while the poll waits."""
    asked = call.query
    after = position_in(call, asked.cursor) or 0
    found: list[RunRow] = []
    position = 0
    async with aclosing(call.service.run_polls.rounds(call.tenant_id, asked.wait)) as rounds:
        async for _ in rounds:
            async with reading_at(call, RUNS.name, asked.min_position) as (connection, position):
                found = await rows.open_runs(
                    connection,
                    tenant_id=call.tenant_id,
                    status=asked.status,
                    worker_id=asked.worker_id,
                    after=after,
                    limit=asked.limit,
                )
            if found:
                break
    answer = runs_schemas.open_runs(found)
    return answered(answer, position=position, is_idle=bool(asked.wait) and not found)


async def read_run(call: Call[None, schemas.PastQuery]) -> Response:
    """One run."""
    row, position = await _visible(call)
    if call.query.as_of is not None:
        row, position = await _run_then(call, row.project_id, call.query.as_of)
    return await _whole(call, row, position)


async def _whole(call: AnyCall, row: RunRow, position: int) -> Response:
    """A run with the text of its prompt, which is read where it stands: it can be erased there."""
    text = None
    named = prompt.version_named(row.prompt_version_id or "")
    if named is not None:
        prompt_id, number = named
        async with call.reading() as connection:
            version = await prompts.version(
                connection, tenant_id=call.tenant_id, prompt_id=prompt_id, number=number
            )
        if version is not None and version.project_id == row.project_id:
            text = prompt.fill(version.text or "", row.answers or {})
    return answered(runs_schemas.run_answer(row, text), position=position)


async def list_steps(call: Call[None, runs_schemas.RunPartsQuery]) -> Response:
    """The steps of a run."""
    asked = call.query
    after = position_in(call, asked.after) or 0
    row, _ = await _visible(call)
    async with reading_at(call, RUN_STEPS.name, asked.min_position, asked.as_of) as (
        connection,
        position,
    ):
        await fold_project(connection, call, row.project_id)
        await _of_id(connection, call, row.run_id)
        found = await rows.steps(
            connection,
            tenant_id=call.tenant_id,
            run_id=row.run_id,
            after=after,
            limit=asked.limit + 1,
        )
    answer = runs_schemas.steps(found, limit=asked.limit)
    return answered(answer, position=position)


async def list_candidates(call: Call[None, runs_schemas.RunPartsQuery]) -> Response:
    """The candidates of a run."""
    asked = call.query
    after = position_in(call, asked.after) or 0
    row, _ = await _visible(call)
    async with reading_at(call, RUN_CANDIDATES.name, asked.min_position, asked.as_of) as (
        connection,
        position,
    ):
        await fold_project(connection, call, row.project_id)
        await _of_id(connection, call, row.run_id)
        found = await rows.candidates(
            connection,
            tenant_id=call.tenant_id,
            run_id=row.run_id,
            after=after,
            limit=asked.limit + 1,
        )
    answer = runs_schemas.candidates(found, limit=asked.limit)
    return answered(answer, position=position)


async def list_project_runs(call: Call[None, runs_schemas.ProjectRunsQuery]) -> Response:
    """The runs of a project, newest first."""
    asked = call.query
    before = position_in(call, asked.before)
    async with _in_project(call, asked) as (connection, position):
        found = await rows.of_project(
            connection,
            tenant_id=call.tenant_id,
            project_id=call.path["projectId"],
            session_id=asked.session_id,
            status=asked.status,
            before=END if before is None else before,
            limit=asked.limit + 1,
        )
    answer = runs_schemas.runs(found, limit=asked.limit)
    return answered(answer, position=position)


async def summarise_runs(call: Call[None, runs_schemas.RunSummaryQuery]) -> Response:
    """The runs of a project at a glance."""
    asked, tenant_id, project_id = call.query, call.tenant_id, call.path["projectId"]
    async with _in_project(call, asked) as (connection, position):
        counts = await rows.counts(
            connection, tenant_id=tenant_id, project_id=project_id, session_id=asked.session_id
        )
        newest = await rows.of_project(
            connection,
            tenant_id=tenant_id,
            project_id=project_id,
            session_id=asked.session_id,
            status=None,
            before=END,
            limit=runs_schemas.COMPARED,
        )
        best = await rows.best_scores(
            connection, tenant_id=tenant_id, run_ids=[row.run_id for row in newest]
        )
    answer = runs_schemas.summary(counts, newest[: runs_schemas.NEWEST], best)
    return answered(answer, position=position)


# What engines write ------------------------------------------------------------------------------


async def claim_run(call: Call[runs_schemas.RunClaimRequest, None]) -> Response:
    """Claim a run; of many engines that try, one gets it."""
    run_id = call.path["runId"]
    work = partial(commands.claim, run_id=run_id, worker_id=call.body.worker_id)
    _, position = await call.transact(work)
    with answering(position):
        row, _ = await _run(call, run_id, position)
        return await _whole(call, row, position)


async def report_run(call: Call[runs_schemas.RunReportsRequest, None]) -> Response:
    """Store an engine's reports."""
    reports = [each.report() for each in call.body.events]
    work = partial(commands.report, run_id=call.path["runId"], reports=reports)
    result, position = await call.transact(work)
    answer = runs_schemas.RunReportsAnswer.model_validate(result)
    return answered(answer, position=position)


# What users write --------------------------------------------------------------------------------


async def cancel_run(call: Call[None, schemas.ActingQuery]) -> Response:
    """End a run; a run that has ended stays as it is."""
    asked, run_id = call.query, call.path["runId"]
    await _require_visible(call, run_id, asked.user_id)
    work = partial(commands.cancel, run_id=run_id, user_id=asked.user_id)
    _, position = await call.transact(work, user_id=asked.user_id)
    with answering(position):
        row, _ = await _run(call, run_id, position)
    return answered(runs_schemas.run_answer(row), position=position)


async def delete_run(call: Call[None, schemas.ActingQuery]) -> Response:
    """Erase a run: its user may, and the tenant's own service."""
    user_id, run_id = call.query.user_id, call.path["runId"]
    if user_id is None:
        call.caller.require("admin")
    try:
        await _require_visible(call, run_id, user_id)
    except RunUnknown:
        # The same request, sent again, gets the answer that it got before.
        _, position = await call.transact(_refuse)
    else:
        work = partial(commands.erase, run_id=run_id, user_id=user_id)
        _, position = await call.transact(work, user_id=user_id)
    return answered(runs_schemas.RunErased(run_id=run_id), position=position)


async def _refuse(_: Transaction) -> None:
    raise RunUnknown


async def discuss_run(call: Call[runs_schemas.DiscussRequest, None]) -> Response:
    """Open or find the analysis session of a run, and tell it the results of the run."""
    asked, run_id = call.body, call.path["runId"]
    head = await call.service.store.head()
    row, _ = await _run(call, run_id, head)
    async with call.reading() as connection:
        await visible_project(connection, call, row.project_id, asked.user_id)
    text = await _results(call, row, asked.candidate_id, head)
    material = RunMaterial(
        project_id=row.project_id, run_id=run_id, kind=run_material.RESULTS, text=text
    )
    discussion = commands.Discussion(
        material=material,
        candidate_id=asked.candidate_id,
        user_id=asked.user_id,
        session_id=asked.session_id,
        opening=_analysis(call, material),
    )
    work = partial(commands.discuss, asked=discussion)
    found, position = await call.transact(work, user_id=asked.user_id)
    session_id = call.entry.session_id = found["session"]
    return answered(
        runs_schemas.Discussed(session_id=session_id),
        position=position,
        status=201 if found["is_new"] else 200,
        headers={"Location": f"/v1/sessions/{session_id}"},
    )


def _analysis(call: Call[runs_schemas.DiscussRequest, None], material: RunMaterial) -> Opening:
    """The session in which a run is discussed, unless the request names another one."""
    asked, run_id = call.body, call.path["runId"]
    context = {"runId": run_id, "candidateId": asked.candidate_id}
    name = render("session_name_of_run", {"run": run_id[:8]}, call.locale(None) or "en")
    return Opening(
        tenant_id=call.tenant_id,
        project_id=material.project_id,
        user_id=asked.user_id,
        mode="analysis",
        name=asked.name or name,
        about=About(run_id=run_id, candidate_id=asked.candidate_id),
        context={key: value for key, value in context.items() if value is not None},
        instructions=None,
        reuse=True,
        idle_seconds=call.service.settings.idle_seconds,
        run_material=material,
    )


async def _results(call: AnyCall, row: RunRow, first: str | None, at_least: int) -> str:
    """The results of a run as a text. The candidate `first` comes before all others."""
    tenant_id = call.tenant_id
    async with reading_at(call, RUN_CANDIDATES.name, at_least) as (connection, _):
        best = await rows.best_candidates(
            connection,
            tenant_id=tenant_id,
            run_id=row.run_id,
            first=first,
            limit=run_material.MOST_CANDIDATES,
        )
    async with reading_at(call, RUN_STEPS.name, at_least) as (connection, _):
        steps = await rows.steps(
            connection,
            tenant_id=tenant_id,
            run_id=row.run_id,
            after=0,
            limit=run_material.MOST_STEPS,
        )
    return run_material.results_text(
        Results(
            run_id=row.run_id,
            title=row.title,
            status=row.status,
            error=row.error,
            summary=row.summary,
            findings=row.findings,
            candidates=[_candidate(each) for each in best],
            steps=[_step(each) for each in steps],
        )
    )


def _candidate(row: CandidateRow) -> Candidate:
    return Candidate(
        candidate_id=row.candidate_id, title=row.title, scores=row.scores, data=row.data
    )


def _step(row: StepRow) -> Step:
    return Step(title=row.title, prompt=row.prompt, output=row.output)


async def material_of_step(
    call: AnyCall, *, project_id: str, run_id: str, step_id: str
) -> RunMaterial | None:
    """The text about a step of a run, for a session; None where the run has no step of this id."""
    head = await call.service.store.head()
    async with reading_at(call, RUN_STEPS.name, head) as (connection, _):
        found = await rows.step(
            connection, tenant_id=call.tenant_id, run_id=run_id, step_id=step_id
        )
    if found is None:
        return None
    text = run_material.step_text(_step(found))
    return RunMaterial(project_id=project_id, run_id=run_id, kind=run_material.STEP, text=text)


# Access ------------------------------------------------------------------------------------------


@asynccontextmanager
async def _in_project(
    call: AnyCall, asked: schemas.PastQuery | schemas.PastPageQuery
) -> AsyncGenerator[tuple[Connection, int]]:
    """A read of the runs of the path's project, for those who may see the project."""
    async with reading_at(call, RUNS.name, asked.min_position, asked.as_of) as (
        connection,
        position,
    ):
        await visible_project(connection, call, call.path["projectId"], asked.user_id)
        yield connection, position


async def _run(call: AnyCall, run_id: str, at_least: int | None) -> tuple[RunRow, int]:
    """The run, and the position of its read model. Raises RunUnknown."""
    async with reading_at(call, RUNS.name, at_least) as (connection, position):
        return await _of_id(connection, call, run_id), position


async def _run_then(call: AnyCall, project_id: str, as_of: str) -> tuple[RunRow, int]:
    """The run of the path as it was, for those who may see it, and the position of that moment.

    Raises RunUnknown.
    """
    async with reading_at(call, RUNS.name, None, as_of) as (connection, position):
        await fold_project(connection, call, project_id)
        return await _of_id(connection, call, call.path["runId"]), position


async def _of_id(connection: Connection, call: AnyCall, run_id: str) -> RunRow:
    known = await rows.of_ids(connection, tenant_id=call.tenant_id, run_ids=[run_id])
    if run_id not in known:
        raise RunUnknown
    return known[run_id]


async def _require_visible(call: AnyCall, run_id: str, user_id: str | None) -> None:
    """Raises RunUnknown, and ProjectUnknown for those who may not see the run's project."""
    row, _ = await _run(call, run_id, None)
    async with call.reading() as connection:
        await visible_project(connection, call, row.project_id, user_id)


async def _visible(call: Call[object, schemas.ActingQuery]) -> tuple[RunRow, int]:
    """The run of the path, if its project may be seen. Engines see the runs of all projects."""
    asked = call.query
    row, position = await _run(call, call.path["runId"], asked.min_position)
    if asked.user_id is not None or not call.caller.scopes & {"admin", "read", "build"}:
        async with call.reading() as connection:
            await visible_project(connection, call, row.project_id, asked.user_id)
    return row, position


OPERATIONS = (
    Operation(
        method="POST",
        path="/v1/runs",
        name="createRun",
        browsers=True,
        summary="Ask for a run of an engine, from a session or without one.",
        scopes=("chat", "build"),
        body=runs_schemas.RunRequest,
        query=NoneType,
        answer=runs_schemas.RunAccepted,
        status=201,
        problems=(400, 403, 404, 409, 413, 415, 422),
        handle=create_run,
    ),
    Operation(
        method="GET",
        path="/v1/runs",
        name="listOpenRuns",
        summary="What an engine may take, oldest first.",
        scopes=("build", "read", "admin"),
        body=NoneType,
        query=runs_schemas.RunsQuery,
        answer=runs_schemas.OpenRuns,
        reads=_WHOLE,
        problems=(409, 422),
        handle=list_open_runs,
    ),
    Operation(
        method="GET",
        path="/v1/runs/{runId}",
        name="getRun",
        browsers=True,
        summary="One run: its request, its progress and its result.",
        scopes=("build", "chat", "read", "admin"),
        body=NoneType,
        query=schemas.PastQuery,
        answer=runs_schemas.RunAnswer,
        reads=_WHOLE,
        problems=(404, 409, 422),
        handle=read_run,
    ),
    Operation(
        method="DELETE",
        path="/v1/runs/{runId}",
        name="eraseRun",
        browsers=True,
        summary="Erase a run, and the texts about the run in sessions.",
        scopes=("chat", "admin"),
        body=NoneType,
        query=schemas.ActingQuery,
        answer=runs_schemas.RunErased,
        problems=(404, 409, 422),
        handle=delete_run,
    ),
    Operation(
        method="POST",
        path="/v1/runs/{runId}/claim",
        name="claimRun",
        summary="Take a run. Of many engines one has it, and may claim it again.",
        scopes=("build",),
        body=runs_schemas.RunClaimRequest,
        query=NoneType,
        answer=runs_schemas.RunAnswer,
        reads=_WHOLE,
        problems=(400, 404, 409, 413, 415, 422),
        handle=claim_run,
    ),
    Operation(
        method="POST",
        path="/v1/runs/{runId}/events",
        name="reportRun",
        summary="Report one to 500 things of a run, each once, in any order.",
        scopes=("build",),
        body=runs_schemas.RunReportsRequest,
        query=NoneType,
        answer=runs_schemas.RunReportsAnswer,
        problems=(400, 404, 409, 413, 415, 422),
        handle=report_run,
    ),
    Operation(
        method="GET",
        path="/v1/runs/{runId}/steps",
        name="listRunSteps",
        browsers=True,
        summary="The steps of a run with their prompts and outputs.",
        scopes=("build", "chat", "read", "admin"),
        body=NoneType,
        query=runs_schemas.RunPartsQuery,
        answer=runs_schemas.RunSteps,
        reads=(RUN_STEPS,),
        problems=(404, 409, 422),
        handle=list_steps,
    ),
    Operation(
        method="GET",
        path="/v1/runs/{runId}/candidates",
        name="listRunCandidates",
        browsers=True,
        summary="The candidates of a run with their scores.",
        scopes=("build", "chat", "read", "admin"),
        body=NoneType,
        query=runs_schemas.RunPartsQuery,
        answer=runs_schemas.RunCandidates,
        reads=(RUN_CANDIDATES,),
        problems=(404, 409, 422),
        handle=list_candidates,
    ),
    Operation(
        method="POST",
        path="/v1/runs/{runId}/cancel",
        name="cancelRun",
        browsers=True,
        summary="End a run. Again, or after its end, it is harmless.",
        scopes=("chat", "admin"),
        body=NoneType,
        query=schemas.ActingQuery,
        answer=runs_schemas.RunAnswer,
        reads=_WHOLE,
        problems=(403, 404, 422),
        handle=cancel_run,
    ),
    Operation(
        method="POST",
        path="/v1/runs/{runId}/discuss",
        name="discussRun",
        browsers=True,
        summary="Open or find the session about a run. The session gets the results.",
        scopes=("chat",),
        body=runs_schemas.DiscussRequest,
        query=NoneType,
        answer=runs_schemas.Discussed,
        status=201,
        others={200: Success("This session was there before.", runs_schemas.Discussed)},
        reads=_WHOLE,
        problems=(400, 403, 404, 409, 413, 415, 422),
        handle=discuss_run,
    ),
    Operation(
        method="GET",
        path="/v1/projects/{projectId}/runs",
        name="listRuns",
        browsers=True,
        summary="The runs of a project, newest first.",
        scopes=("build", "chat", "read", "admin"),
        body=NoneType,
        query=runs_schemas.ProjectRunsQuery,
        answer=runs_schemas.Runs,
        reads=_WHOLE,
        problems=(404, 409, 422),
        handle=list_project_runs,
    ),
    Operation(
        method="GET",
        path="/v1/projects/{projectId}/runs/summary",
        name="summariseRuns",
        browsers=True,
        summary="The runs of a project at a glance: numbers, the newest, the best scores.",
        scopes=("chat", "read", "admin"),
        body=NoneType,
        query=runs_schemas.RunSummaryQuery,
        answer=runs_schemas.RunSummary,
        reads=_WHOLE,
        problems=(404, 409, 422),
        handle=summarise_runs,
    ),
)
