"""What the service says by itself: one message for what happened, and none twice."""

from collections.abc import Mapping
from itertools import count
from typing import Any

import pytest

from domain.deciders.session import INITIAL, Session, evolve, fold
from domain.events import (
    BuildFailed,
    BuildQueued,
    BuildSucceeded,
    Event,
    ReplyCompleted,
    ReplyFailed,
    SessionConverted,
    SessionDeleted,
    SessionExpired,
    SessionOpened,
    SystemMessagePosted,
    VersionDeployed,
)
from domain.texts.announcements import announced

OPENED = SessionOpened(session_id="s1", project_id="p1", user_id="u1")
QUEUED = BuildQueued(
    build_id="b1", project_id="p1", session_id="s1", message_id="m1", user_id="u1", prompt="Tea"
)
SUCCEEDED = BuildSucceeded(build_id="b1", version_id="v1")
CONVERTED = SessionConverted(session_id="s1", build_id="b1", prompt="Build it")


def deployed(preview_url: str | None) -> VersionDeployed:
    return VersionDeployed(
        build_id="b1", project_id="p1", session_id="s1", version_id="v1", preview_url=preview_url
    )


def ended(
    subtype: Any, reason: str | None, mode: Any = "general", data: Any = None
) -> ReplyCompleted:
    return ReplyCompleted(
        session_id="s1",
        reply_id="r1",
        in_reply_to="m1",
        subtype=subtype,
        mode=mode,
        data=data or {},
        duration_ms=1,
        billed_seconds=1,
        model="offline",
        reason=reason,
    )


def failed(code: Any) -> BuildFailed:
    return BuildFailed(build_id="b1", code=code, error="No space left")


IN_PROGRESS = fold((OPENED,))
FACTS = {"project_name": "Shop", "minutes": "30"}


def said(
    *events: Event, state: Session = IN_PROGRESS, facts: Mapping[str, str] | None = None
) -> list[Any]:
    """The messages as (mode, type, template, variables)."""
    numbers = count(1)
    known = {**FACTS, **(facts or {})}
    found = announced(state, events, new_id=lambda: f"y{next(numbers)}", facts=known)
    assert all(isinstance(each, SystemMessagePosted) for each in found)
    return [
        (each.mode, each.type, each.template, dict(each.variables))
        for each in found
        if isinstance(each, SystemMessagePosted)
    ]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ((OPENED,), ("plan", "greeting", "plan_greeting", {"project_name": "Shop"})),
        ((QUEUED,), ("build", "message", "build_queued", {"build_id": "b1"})),
        ((CONVERTED, QUEUED), ("plan", "message", "session_converted", {"build_id": "b1"})),
        ((SUCCEEDED,), ("build", "message", "build_succeeded", {"version_id": "v1"})),
        (
            (SUCCEEDED, deployed(None)),
            ("build", "message", "build_succeeded", {"version_id": "v1"}),
        ),
        (
            (SUCCEEDED, deployed("https://v1")),
            (
                *("build", "message", "version_deployed"),
                {"version_id": "v1", "preview_url": "https://v1"},
            ),
        ),
        ((failed("failed"),), ("build", "message", "build_failed", {"error": "No space left"})),
        ((failed("timed_out"),), ("build", "message", "build_timed_out", {"minutes": "30"})),
        ((ended("partial", "balance"),), ("plan", "message", "reply_balance", {})),
        ((ended("partial", "time_limit"),), ("plan", "message", "reply_time_limit", {})),
    ],
    ids=lambda value: value[2] if isinstance(value[-1], dict) else "",
)
def test_what_happened_is_said_once(events: tuple[Event, ...], expected: Any) -> None:
    assert said(*events) == [expected]


def general(markdown: str, subtype: Any = "success") -> ReplyCompleted:
    return ended(subtype, None, "general", {"markdown": markdown})


def analysis(*recommendations: str) -> ReplyCompleted:
    finding = {"category": "c", "title": "t", "description": "d"}
    more = finding | {"recommendations": list(recommendations)} if recommendations else finding
    return ended("success", None, "analysis", {"overview": "o", "findings": [finding, more]})


@pytest.mark.parametrize(
    ("markdown", "question"),
    [
        ("I can do that. Who signs in: staff or customers?", "staff or customers?"),
        ("Tell me more.\n\n**Which page do you mean?**\n", "Which page do you mean?"),
        ("أحتاج إلى شيء. أي صفحة تقصد؟", "أي صفحة تقصد؟"),
        ("# Which one?", "Which one?"),
    ],
)
def test_the_question_with_which_the_planner_ends_is_said(markdown: str, question: str) -> None:
    expected = ("plan", "message", "plan_clarification", {"question": question})
    assert said(general(markdown)) == [expected]


def test_the_first_recommendation_of_an_analysis_is_said() -> None:
    expected = ("plan", "message", "plan_suggestion", {"suggestion": "Add tests"})
    assert said(analysis("Add tests", "Split it")) == [expected]


@pytest.mark.parametrize(
    "event",
    [
        general("Why? Because it is so."),
        general("?" * 501),
        general(""),
        general("Which page?", "partial"),
        analysis(),
        analysis("x" * 501),
        ended("success", None, "question", {"answer": "Which page?"}),
    ],
)
def test_a_reply_that_neither_asks_nor_recommends_is_not_followed_by_a_message(
    event: ReplyCompleted,
) -> None:
    assert said(event) == []


@pytest.mark.parametrize("mode", ["idea", "run_feedback", "prompt"])
def test_only_the_planner_asks_and_suggests(mode: Any) -> None:
    opened = SessionOpened(session_id="s1", project_id="p1", user_id="u1", mode=mode)
    assert said(general("Which page?"), state=fold((opened,))) == []


def test_the_first_build_of_a_project_begins_with_a_greeting() -> None:
    summary = {"business_idea_summary": "A shop for tea"}
    expected = ("build", "greeting", "initial_build_greeting", summary)
    assert said(QUEUED, facts=summary) == [expected]


@pytest.mark.parametrize(
    "event",
    [
        SessionOpened(session_id="s1", project_id="p1", user_id="u1", mode="build"),
        ended("success", None),
        ended("partial", "cancelled"),
        ReplyFailed(
            session_id="s1", reply_id="r1", in_reply_to="m1", code="balance", duration_ms=1
        ),
        SessionExpired(session_id="s1"),
    ],
)
def test_what_an_item_says_already_is_not_said_again(event: Event) -> None:
    assert said(event) == []


def test_a_message_has_the_session_and_the_build_that_it_is_about() -> None:
    (event,) = announced(fold((OPENED,)), (QUEUED,), new_id=lambda: "y1")
    assert event == SystemMessagePosted(
        session_id="s1",
        message_id="y1",
        template="build_queued",
        variables={"build_id": "b1"},
        mode="build",
        build_id="b1",
    )


def test_the_end_of_a_build_is_said_in_a_session_that_has_ended() -> None:
    state = fold((OPENED, CONVERTED))
    assert [each[2] for each in said(SUCCEEDED, state=state)] == ["build_succeeded"]
    assert evolve(state, *announced(state, (SUCCEEDED,), new_id=lambda: "y1")) == state


@pytest.mark.parametrize("state", [INITIAL, fold((OPENED, SessionDeleted(session_id="s1")))])
def test_nothing_is_said_in_an_erased_session(state: Session) -> None:
    assert said(SUCCEEDED, state=state) == []
