"""A run: what an engine outside does and reports. A run locks nothing and bills nothing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, assert_never

from domain.deciders import reports
from domain.deciders.reports import Seen, Status
from domain.errors import (
    CandidateUnknown,
    RunEnded,
    RunFull,
    RunNotEnded,
    RunTaken,
    RunUnknown,
    StepUnknown,
)
from domain.events import (
    Json,
    RunCandidateReported,
    RunClaimed,
    RunDiscussed,
    RunErased,
    RunEvent,
    RunFailed,
    RunFault,
    RunProgressed,
    RunQueued,
    RunReportType,
    RunStepReported,
    RunSucceeded,
)

Decided = tuple[RunEvent, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A report of an engine. Reports with the same `event_id` are the same report.

    `step_id`, `prompt`, `prompt_version_id` and `output` are of a step; `candidate_id`, `scores`
    and `data` of a candidate; `summary`, `findings`, `error`, `seconds` and `tokens` of an end.
    """

    event_id: str
    type: RunReportType
    title: str
    at: str
    step_id: str | None = None
    prompt: str | None = None
    prompt_version_id: str | None = None
    output: str | None = None
    candidate_id: str | None = None
    scores: Json = None
    data: Json = None
    summary: str | None = None
    findings: tuple[str, ...] = ()
    error: str | None = None
    seconds: int | None = None
    tokens: int | None = None

    @property
    def ends(self) -> bool:
        """Whether the report ends the run."""
        return self.type in ("succeeded", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What a session was reported of the run: the material `message_id` of this kind."""

    session_id: str
    message_id: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What decisions need to know. `seen` are the ids of the reports, `steps` and `candidates` the
    ids of what they reported. `code` says why the run failed."""

    run_id: str = ""
    project_id: str = ""
    user_id: str = ""
    status: Status = "new"
    code: RunFault | None = None
    worker_id: str | None = None
    seen: Seen = reports.NONE
    steps: Seen = reports.NONE
    candidates: Seen = reports.NONE
    materials: tuple[Material, ...] = ()


INITIAL: Final = Run()


def evolve(state: Run, event: RunEvent) -> Run:
    """The run after one more event."""
    match event:
        case RunQueued():
            return Run(
                run_id=event.run_id,
                project_id=event.project_id,
                user_id=event.user_id,
                status="queued",
            )
        case RunClaimed():
            return replace(state, status="running", worker_id=event.worker_id)
        case RunProgressed():
            return _reported(state, event.event_id)
        case RunStepReported():
            steps = state.steps.with_id(event.step_id)
            return replace(_reported(state, event.event_id), steps=steps)
        case RunCandidateReported():
            candidates = state.candidates.with_id(event.candidate_id)
            return replace(_reported(state, event.event_id), candidates=candidates)
        case RunSucceeded():
            return replace(_reported(state, event.event_id), status="succeeded")
        case RunFailed():
            return replace(_reported(state, event.event_id), status="failed", code=event.code)
        case RunDiscussed():
            return replace(state, materials=(*state.materials, _material(event)))
        case RunErased():
            return Run(run_id=state.run_id, project_id=state.project_id, status="erased")
        case _:
            assert_never(event)


def fold(events: Iterable[RunEvent], state: Run = INITIAL) -> Run:
    """The run after all of `events`."""
    for event in events:
        state = evolve(state, event)
    return state


def queue(
    state: Run,
    *,
    run_id: str,
    project_id: str,
    user_id: str,
    title: str,
    session_id: str | None = None,
    prompt_version_id: str | None = None,
    answers: Json = None,
    settings: Json = None,
    given: Json = None,
) -> Decided:
    """Queue a run for an engine; `given` is its input.

    Raises RunEnded when the id was used before.
    """
    if state.status != "new":
        raise RunEnded(status=state.status)
    return (
        RunQueued(
            run_id=run_id,
            project_id=project_id,
            user_id=user_id,
            title=title,
            session_id=session_id,
            prompt_version_id=prompt_version_id,
            answers=answers,
            settings=settings,
            input=given,
        ),
    )


def claim(state: Run, *, worker_id: str) -> Decided:
    """Give the run to an engine. A second claim of the same engine changes nothing.

    Raises RunUnknown, RunTaken, RunEnded.
    """
    require_known(state)
    if not reports.is_new_claim(state, worker_id, taken=RunTaken, ended=RunEnded):
        return ()
    return (RunClaimed(run_id=state.run_id, worker_id=worker_id),)


def report(state: Run, reported: Sequence[Report]) -> Decided:
    """Store what an engine reports, each report once, in any order.

    The first end stays the end. Raises RunUnknown, RunFull.
    """
    require_known(state)
    return reports.each_once(state, reported, decide=_decided, fold=fold, full=RunFull)


def time_out(state: Run, *, error: str) -> Decided:
    """End a run whose engine is silent for too long. A run that has ended does not change."""
    if not reports.is_open(state):
        return ()
    return (RunFailed(run_id=state.run_id, code="timed_out", error=error),)


def cancel(state: Run) -> Decided:
    """End a run because a member wants it to end. A run that has ended does not change.

    Raises RunUnknown.
    """
    require_known(state)
    if reports.has_ended(state):
        return ()
    return (RunFailed(run_id=state.run_id, code="cancelled", error="Cancelled."),)


def give_material(state: Run, *, session_id: str, message_id: str, kind: str) -> Decided:
    """Note that a session gets the material `message_id` about the run: once for each kind.

    Raises RunUnknown.
    """
    require_known(state)
    if any((each.session_id, each.kind) == (session_id, kind) for each in state.materials):
        return ()
    return (
        RunDiscussed(run_id=state.run_id, session_id=session_id, message_id=message_id, kind=kind),
    )


def require_over(state: Run) -> None:
    """Raises RunNotEnded while the run has no results."""
    if reports.is_open(state):
        raise RunNotEnded(status=state.status)


def require_parts(state: Run, *, step_id: str | None, candidate_id: str | None) -> None:
    """Raises RunUnknown, StepUnknown, CandidateUnknown unless the run has what is named."""
    require_known(state)
    if step_id is not None and step_id not in state.steps:
        raise StepUnknown
    if candidate_id is not None and candidate_id not in state.candidates:
        raise CandidateUnknown


def erase(state: Run) -> Decided:
    """Erase the run's texts, once. A run that has not ended is over with that: the engine's next
    report is refused."""
    return (RunErased(run_id=state.run_id),) if reports.is_known(state) else ()


def require_known(state: Run) -> None:
    """Raises RunUnknown for a run that is not there, or is erased."""
    if not reports.is_known(state):
        raise RunUnknown


def _reported(state: Run, event_id: str | None) -> Run:
    """The run after a report. The service ends a run without a report."""
    status: Status = "running" if state.status == "queued" else state.status
    seen = state.seen if event_id is None else state.seen.with_id(event_id)
    return replace(state, status=status, seen=seen)


def _material(event: RunDiscussed) -> Material:
    return Material(session_id=event.session_id, message_id=event.message_id, kind=event.kind)


def _decided(state: Run, reported: Report) -> Decided:
    """The event of one new report."""
    if reported.type == "step" and reported.step_id is not None:
        return (
            RunStepReported(
                run_id=state.run_id,
                event_id=reported.event_id,
                step_id=reported.step_id,
                title=reported.title,
                at=reported.at,
                prompt=reported.prompt,
                prompt_version_id=reported.prompt_version_id,
                output=reported.output,
            ),
        )
    if reported.type == "candidate" and reported.candidate_id is not None:
        return (
            RunCandidateReported(
                run_id=state.run_id,
                event_id=reported.event_id,
                candidate_id=reported.candidate_id,
                title=reported.title,
                at=reported.at,
                scores=reported.scores,
                data=reported.data,
            ),
        )
    if reported.ends and not reports.has_ended(state):
        return (_end(state, reported),)
    return (
        RunProgressed(
            run_id=state.run_id,
            event_id=reported.event_id,
            type=reported.type,
            title=reported.title,
            at=reported.at,
        ),
    )


def _end(state: Run, reported: Report) -> RunSucceeded | RunFailed:
    if reported.type == "succeeded":
        return RunSucceeded(
            run_id=state.run_id,
            event_id=reported.event_id,
            title=reported.title,
            at=reported.at,
            summary=reported.summary,
            findings=reported.findings,
            seconds=reported.seconds,
            tokens=reported.tokens,
        )
    return RunFailed(
        run_id=state.run_id,
        code="failed",
        error=reported.error or reported.title,
        event_id=reported.event_id,
        title=reported.title,
        at=reported.at,
        summary=reported.summary,
        findings=reported.findings,
        seconds=reported.seconds,
        tokens=reported.tokens,
    )
