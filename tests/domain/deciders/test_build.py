"""The decisions of a build: claims, reports, and its one end."""

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given as generated
from hypothesis import strategies as st

from domain.deciders import account, build
from domain.deciders.build import INITIAL, Build
from domain.deciders.reports import MAX_REPORTS, Seen
from domain.errors import BuildEnded, BuildFull, BuildInProgress, BuildTaken, BuildUnknown
from domain.events import (
    AccountEvent,
    BuildClaimed,
    BuildErased,
    BuildEvent,
    BuildFailed,
    BuildProgressed,
    BuildQueued,
    BuildReferenced,
    BuildSucceeded,
    Report,
    ReservationReleased,
    TimeConsumed,
    TimeCredited,
    TimeReserved,
    VersionDeployed,
)
from domain.metering import PRICES

AT = "2026-01-01T00:00:00+00:00"
QUEUED = BuildQueued(
    build_id="b1",
    project_id="p1",
    session_id="s1",
    message_id="m1",
    user_id="u1",
    prompt="Build it",
    locale="fr",
    operation="update",
    reservation_id="h1",
)
RESERVED = TimeReserved(
    user_id="u1", reservation_id="h1", session_id="s1", reply_id="m1", build_id="b1", seconds=300
)
CREDITED = TimeCredited(user_id="u1", credit_id="c1", seconds=400, kind="paid")
FUNDS = account.fold([CREDITED, RESERVED])


def given(*events: BuildEvent) -> Build:
    return build.fold(events)


def told(event_id: str, phase: Any, kind: Any, **more: Any) -> Report:
    return Report(event_id=event_id, phase=phase, type=kind, title=f"{phase} {kind}", at=AT, **more)


def report(state: Build, *reports: Report) -> build.Decided:
    return build.report(state, reports, reference_id="y1")


def kinds(decided: build.Decided) -> list[str]:
    return [type(event).__name__ for event in decided]


DEVELOPING = told("e1", "development", "progress")
DEPLOYED = told("e2", "deploy", "completed", version_id="v1", preview_url="https://v1.example")
FAILED = told("e3", "build", "failed", error="No space left")


def test_a_build_is_queued_once() -> None:
    asked: dict[str, Any] = {
        "build_id": "b1",
        "project_id": "p1",
        "session_id": "s1",
        "message_id": "m1",
        "user_id": "u1",
        "prompt": "Build it",
        "locale": "fr",
        "operation": "update",
        "reservation_id": "h1",
    }
    assert build.queue(INITIAL, **asked) == (QUEUED,)
    with pytest.raises(BuildEnded):
        build.queue(given(QUEUED), **asked)


def test_a_worker_may_claim_its_build_again() -> None:
    (claimed,) = build.claim(given(QUEUED), worker_id="w1")
    assert claimed == BuildClaimed(build_id="b1", worker_id="w1")
    assert build.claim(given(QUEUED, claimed), worker_id="w1") == ()
    with pytest.raises(BuildTaken):
        build.claim(given(QUEUED, claimed), worker_id="w2")


def test_an_unknown_or_ended_build_cannot_be_claimed() -> None:
    with pytest.raises(BuildUnknown):
        build.claim(INITIAL, worker_id="w1")
    with pytest.raises(BuildEnded):
        build.claim(build.fold(report(given(QUEUED), FAILED), given(QUEUED)), worker_id="w1")


def test_the_first_progress_of_development_makes_the_reference_once() -> None:
    first = report(given(QUEUED), told("e0", "setup", "progress"), DEVELOPING)
    assert kinds(first) == ["BuildProgressed", "BuildProgressed", "BuildReferenced"]
    assert first[-1] == BuildReferenced(
        build_id="b1", session_id="s1", message_id="y1", title="development progress"
    )
    more = report(given(QUEUED, *first), told("e9", "development", "progress"))
    assert kinds(more) == ["BuildProgressed"]


@pytest.mark.parametrize(
    "other",
    [
        told("e1", "development", "started"),
        told("e1", "development", "completed"),
        told("e1", "build", "progress"),
    ],
)
def test_nothing_else_makes_a_reference(other: Report) -> None:
    assert kinds(report(given(QUEUED), other)) == ["BuildProgressed"]


def test_a_completed_deployment_is_the_good_end() -> None:
    progressed, *ends = report(given(QUEUED), DEPLOYED)
    assert isinstance(progressed, BuildProgressed)
    assert ends == [
        BuildSucceeded(build_id="b1", version_id="v1"),
        VersionDeployed(
            build_id="b1",
            project_id="p1",
            session_id="s1",
            version_id="v1",
            preview_url="https://v1.example",
        ),
    ]


def test_a_failure_is_the_end_with_its_error() -> None:
    assert report(given(QUEUED), FAILED)[-1] == BuildFailed(
        build_id="b1", code="failed", error="No space left"
    )
    untold = told("e3", "build", "failed")
    assert report(given(QUEUED), untold)[-1] == BuildFailed(
        build_id="b1", code="failed", error="build failed"
    )


def test_the_first_end_stays_the_end() -> None:
    for first, second in ((FAILED, DEPLOYED), (DEPLOYED, FAILED)):
        state = build.fold(report(given(QUEUED), first), given(QUEUED))
        assert kinds(report(state, second)) == ["BuildProgressed"]
        assert build.time_out(state, error="Silence") == ()


def test_silence_ends_what_waits_and_what_goes_on() -> None:
    for state in (given(QUEUED), given(QUEUED, BuildClaimed(build_id="b1", worker_id="w1"))):
        assert build.time_out(state, error="Silence") == (
            BuildFailed(build_id="b1", code="timed_out", error="Silence"),
        )
    assert build.time_out(INITIAL, error="Silence") == ()


def test_a_build_that_waits_or_runs_is_cancelled() -> None:
    cancelled = BuildFailed(build_id="b1", code="cancelled", error="Cancelled.")
    for state in (given(QUEUED), given(QUEUED, BuildClaimed(build_id="b1", worker_id="w1"))):
        assert build.cancel(state) == (cancelled,)
    ended = given(QUEUED, cancelled)
    assert (ended.status, ended.code) == ("failed", "cancelled")
    assert build.cancel(ended) == ()
    assert kinds(report(ended, DEPLOYED)) == ["BuildProgressed"], "the first end stays"
    with pytest.raises(BuildUnknown):
        build.cancel(INITIAL)


# the bill ----------------------------------------------------------------------------------------


def billed(*reports: Report) -> AccountEvent:
    """How the reservation ends when a build ends with these reports."""
    ended = given(QUEUED, *report(given(QUEUED), *reports))
    (end,) = build.bill(FUNDS, ended=ended)
    return end


@pytest.mark.parametrize("end", [DEPLOYED, FAILED])
def test_the_report_of_the_end_is_billed(end: Report) -> None:
    early = told("e7", "build", "progress", seconds=1, tokens=1)
    late = replace(DEPLOYED, event_id="e8", seconds=2, tokens=2)
    assert billed(early, replace(end, seconds=41, tokens=9_000), late) == TimeConsumed(
        user_id="u1",
        reservation_id="h1",
        project_id="p1",
        session_id="s1",
        reply_id="m1",
        build_id="b1",
        operation="update",
        seconds=41,
        reserved_seconds=300,
        model="worker",
        input_tokens=0,
        output_tokens=9_000,
        prices=PRICES,
        bonus_seconds=0,
    )


def test_a_build_is_billed_at_most_what_was_reserved() -> None:
    consumed = billed(replace(DEPLOYED, seconds=301))
    assert isinstance(consumed, TimeConsumed)
    assert (consumed.seconds, consumed.output_tokens) == (300, None)


@pytest.mark.parametrize(("end", "reason"), [(DEPLOYED, "not_reported"), (FAILED, "failed")])
def test_nothing_is_billed_without_a_report(end: Report, reason: str) -> None:
    assert billed(end) == ReservationReleased(
        user_id="u1", reservation_id="h1", reserved_seconds=300, reason=reason
    )


@pytest.mark.parametrize("code", ["timed_out", "cancelled"])
def test_the_seconds_of_a_build_without_a_worker_s_end_are_free_again(code: Any) -> None:
    state = given(QUEUED, BuildFailed(build_id="b1", code=code, error="No"))
    decided = build.bill(FUNDS, ended=state)
    assert account.fold(decided, FUNDS).available == 400
    assert build.bill(FUNDS, ended=given(replace(QUEUED, reservation_id=None))) == ()


def test_the_same_report_again_is_nothing_new_within_a_batch_or_later() -> None:
    once = report(given(QUEUED), DEVELOPING, DEVELOPING)
    assert kinds(once) == ["BuildProgressed", "BuildReferenced"]
    assert report(given(QUEUED, *once), DEVELOPING) == ()


@pytest.mark.parametrize("order", list(permutations((DEVELOPING, DEPLOYED, FAILED))))
def test_reports_in_any_order_make_one_reference_and_one_end(order: tuple[Report, ...]) -> None:
    together = kinds(report(given(QUEUED), *order))
    state, apart = given(QUEUED), list[str]()
    for each in order:
        decided = report(state, each)
        state = build.fold(decided, state)
        apart += kinds(decided)
    assert apart == together
    assert together.count("BuildReferenced") == 1
    assert together.count("BuildSucceeded") + together.count("BuildFailed") == 1


def test_reports_of_an_unknown_build_are_refused() -> None:
    with pytest.raises(BuildUnknown):
        report(INITIAL, DEVELOPING)


def test_a_full_build_stores_its_end_alone() -> None:
    full = build.fold(
        [
            event
            for n in range(MAX_REPORTS)
            for event in report(given(QUEUED), told(f"f{n}", "build", "progress"))
        ],
        given(QUEUED),
    )
    with pytest.raises(BuildFull):
        report(full, DEVELOPING)
    assert "BuildSucceeded" in kinds(report(full, DEPLOYED))


@generated(st.lists(st.text(max_size=3)))
def test_the_ids_of_reports_are_a_set_of_few_parts(ids: list[str]) -> None:
    seen = Seen()
    for n, each in enumerate(ids):
        if each not in seen:
            seen = seen.with_id(each)
        assert len(seen) == len(set(ids[: n + 1]))
    assert all(each in seen for each in ids)
    assert "none of them" not in seen
    assert 2 ** len(seen.parts) <= 2 * len(seen) + 1


def test_a_summary_is_the_idea_s_first_sentence_on_one_line() -> None:
    assert build.summary("A shop for tea. With a blog!") == "A shop for tea"
    assert build.summary("متجر للشاي؟ مع مدونة") == "متجر للشاي"
    assert build.summary("v1.2 of\ta tool\nand more") == "v1.2 of a tool"


@generated(st.text(max_size=2_000))
def test_a_summary_is_short_and_never_empty(idea: str) -> None:
    summary = build.summary(idea)
    assert 0 < len(summary) <= build.SUMMARY_CHARACTERS
    assert "\n" not in summary


def test_an_order_is_the_plan_s_own_or_what_it_says_of_itself() -> None:
    assert build.order({"buildPrompt": "Do it", "summary": "x"}) == "Do it"
    assert build.order({"summary": "A login", "plan": {"overview": "So"}}) == "A login\n\nSo"
    fix = {"issue": {"description": "Broken"}, "solution": {"approach": "Mend"}}
    assert build.order(fix) == "Broken\n\nMend"


def test_a_build_is_erased_once_when_it_has_ended() -> None:
    assert build.erase(INITIAL) == ()
    with pytest.raises(BuildInProgress):
        build.erase(given(QUEUED))
    ended = given(QUEUED, BuildFailed(build_id="b1", code="failed", error="No"))
    assert build.erase(ended) == (BuildErased(build_id="b1"),)
    erased = build.fold([BuildErased(build_id="b1")], ended)
    assert build.erase(erased) == ()
    late: list[Callable[[], object]] = [
        lambda: report(erased, told("1", "build", "progress")),
        lambda: build.claim(erased, worker_id="w1"),
    ]
    for each in late:
        with pytest.raises(BuildUnknown):
            each()
