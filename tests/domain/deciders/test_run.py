"""The decisions of a run: claims, reports once each and in any order, and its one end."""

from itertools import permutations
from typing import Any

import pytest

from domain.deciders import run
from domain.deciders.reports import MAX_REPORTS
from domain.deciders.run import INITIAL, Report, Run
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
    RunCandidateReported,
    RunClaimed,
    RunDiscussed,
    RunErased,
    RunEvent,
    RunFailed,
    RunProgressed,
    RunQueued,
    RunStepReported,
    RunSucceeded,
)

AT = "2026-01-01T00:00:00+00:00"
QUEUED = RunQueued(run_id="r1", project_id="p1", user_id="u1", title="Compare", session_id="s1")


def given(*events: RunEvent) -> Run:
    return run.fold(events)


def told(event_id: str, kind: Any, **more: Any) -> Report:
    return Report(event_id=event_id, type=kind, title=f"{kind} {event_id}", at=AT, **more)


STEP = told("e1", "step", step_id="s1", prompt="Find it", output="Found")
CANDIDATE = told("e2", "candidate", candidate_id="c1", scores={"overall": 0.5}, data={"n": 1})
PROGRESS = told("e3", "progress")
DONE = told("e4", "succeeded", summary="All good", findings=("One",), seconds=3, tokens=9)
FAILED = told("e5", "failed", error="No space left")


def ended(*reports: Report) -> Run:
    return run.fold(run.report(given(QUEUED), reports), given(QUEUED))


def test_a_run_is_queued_once() -> None:
    asked: dict[str, Any] = {"run_id": "r1", "project_id": "p1", "user_id": "u1"}
    asked |= {"title": "Compare", "session_id": "s1"}
    assert run.queue(INITIAL, **asked) == (QUEUED,)
    with pytest.raises(RunEnded):
        run.queue(given(QUEUED), **asked)


def test_one_engine_gets_a_run_and_may_claim_it_again() -> None:
    (claimed,) = run.claim(given(QUEUED), worker_id="w1")
    assert claimed == RunClaimed(run_id="r1", worker_id="w1")
    assert run.claim(given(QUEUED, claimed), worker_id="w1") == ()
    with pytest.raises(RunTaken):
        run.claim(given(QUEUED, claimed), worker_id="w2")
    with pytest.raises(RunEnded):
        run.claim(ended(DONE), worker_id="w1")
    with pytest.raises(RunUnknown):
        run.claim(INITIAL, worker_id="w1")


def test_each_kind_of_report_is_an_event_with_its_own_fields() -> None:
    assert run.report(given(QUEUED), [STEP, CANDIDATE, PROGRESS, DONE]) == (
        RunStepReported(
            run_id="r1",
            event_id="e1",
            step_id="s1",
            title="step e1",
            at=AT,
            prompt="Find it",
            output="Found",
        ),
        RunCandidateReported(
            run_id="r1",
            event_id="e2",
            candidate_id="c1",
            title="candidate e2",
            at=AT,
            scores={"overall": 0.5},
            data={"n": 1},
        ),
        RunProgressed(run_id="r1", event_id="e3", type="progress", title="progress e3", at=AT),
        RunSucceeded(
            run_id="r1",
            event_id="e4",
            title="succeeded e4",
            at=AT,
            summary="All good",
            findings=("One",),
            seconds=3,
            tokens=9,
        ),
    )


def test_a_report_without_a_claim_makes_the_run_a_running_one() -> None:
    assert ended(PROGRESS).status == "running"


@pytest.mark.parametrize("order", [*permutations((STEP, CANDIDATE, PROGRESS, DONE))])
def test_reports_count_once_each_in_any_order(order: tuple[Report, ...]) -> None:
    state = ended(*order)
    assert (state.status, len(state.seen)) == ("succeeded", 4)
    assert ("s1" in state.steps, "c1" in state.candidates) == (True, True)
    assert run.report(state, order) == ()


def test_the_first_end_stays_the_end() -> None:
    state = ended(DONE)
    (late,) = run.report(state, [FAILED])
    assert late == RunProgressed(
        run_id="r1", event_id="e5", type="failed", title="failed e5", at=AT
    )
    assert run.fold([late], state).status == "succeeded"
    assert run.cancel(state) == ()
    assert run.time_out(state, error="Silence") == ()


def test_a_failure_has_the_error_of_its_report_or_else_the_title() -> None:
    (failed,) = run.report(given(QUEUED), [FAILED])
    assert isinstance(failed, RunFailed)
    assert (failed.code, failed.error, failed.event_id) == ("failed", "No space left", "e5")
    (bare,) = run.report(given(QUEUED), [told("e6", "failed")])
    assert isinstance(bare, RunFailed)
    assert bare.error == "failed e6"


def test_the_service_ends_a_run_that_is_cancelled_or_silent() -> None:
    cancelled = RunFailed(run_id="r1", code="cancelled", error="Cancelled.")
    assert run.cancel(given(QUEUED)) == (cancelled,)
    silent = RunFailed(run_id="r1", code="timed_out", error="Silence")
    assert run.time_out(given(QUEUED), error="Silence") == (silent,)
    assert run.time_out(INITIAL, error="Silence") == ()
    state = given(QUEUED, silent)
    assert (state.status, state.code, len(state.seen)) == ("failed", "timed_out", 0)
    assert [type(each) for each in run.report(state, [STEP, DONE])] == [
        RunStepReported,
        RunProgressed,
    ], "what the engine found stays, and the end stays"


def test_a_full_run_takes_its_end_alone() -> None:
    many = [told(f"n{n}", "progress") for n in range(MAX_REPORTS)]
    state = ended(*many)
    with pytest.raises(RunFull):
        run.report(state, [STEP])
    assert run.report(state, many) == ()
    assert isinstance(run.report(state, [DONE])[0], RunSucceeded)


def test_a_session_is_told_each_kind_once() -> None:
    state = ended(CANDIDATE, STEP, DONE)
    asked = {"session_id": "s9", "message_id": "y1", "kind": "run_results"}
    (noted,) = run.give_material(state, **asked)
    assert noted == RunDiscussed(run_id="r1", **asked)
    state = run.fold([noted], state)
    assert run.give_material(state, **asked | {"message_id": "y2"}) == ()
    assert run.give_material(state, **asked | {"kind": "run_step"}) != ()
    assert run.give_material(state, **asked | {"session_id": "s8"}) != ()


def test_a_run_without_results_is_not_over() -> None:
    with pytest.raises(RunNotEnded):
        run.require_over(ended(STEP))
    run.require_over(ended(FAILED))


def test_unknown_parts_of_a_run_are_refused() -> None:
    state = ended(STEP, CANDIDATE)
    run.require_parts(state, step_id="s1", candidate_id="c1")
    run.require_parts(state, step_id=None, candidate_id=None)
    with pytest.raises(StepUnknown):
        run.require_parts(state, step_id="c1", candidate_id=None)
    with pytest.raises(CandidateUnknown):
        run.require_parts(state, step_id=None, candidate_id="s1")
    with pytest.raises(RunUnknown):
        run.require_parts(INITIAL, step_id=None, candidate_id=None)


def test_an_erased_run_takes_nothing_more() -> None:
    (erased,) = run.erase(given(QUEUED))
    assert erased == RunErased(run_id="r1")
    state = given(QUEUED, erased)
    assert run.erase(state) == ()
    with pytest.raises(RunUnknown):
        run.report(state, [DONE])
    with pytest.raises(RunUnknown):
        run.cancel(state)
    with pytest.raises(RunUnknown):
        run.claim(state, worker_id="w1")
    with pytest.raises(RunUnknown):
        run.give_material(state, session_id="s", message_id="m", kind="k")
