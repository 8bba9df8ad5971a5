"""The question to the model: the constant parts first, then the history, then the message."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, get_args

import pytest

from domain.events import ChatMode, SessionMode
from domain.modes import PLANNER
from domain.replies.questions import (
    HINTS,
    RULES,
    Project,
    Question,
    Turn,
    language,
    question,
    rules,
)
from domain.replies.tools import MOST_CHARACTERS, ROUNDS, SOURCE, ToolCall, ToolUse

# the prompt --------------------------------------------------------------------------------------


SHOP = Project(name="Shop", framework="Django")


def made(**parts: Any) -> Question:
    usual: dict[str, Any] = {
        "project": SHOP,
        "locale": "en",
        "history": [],
        "message": "Good morning",
        "chat_mode": None,
    }
    return question(**usual | parts)


def test_the_part_that_all_questions_share_comes_first_and_names_no_project() -> None:
    one, other = (
        made(),
        made(
            project=Project(name="Other", framework=None), locale="ar", message="x", chat_mode="fix"
        ),
    )
    assert one.rules == other.rules == RULES


def test_the_project_and_the_language_stand_together() -> None:
    assert made().project.splitlines() == [
        "Project: Shop.",
        "Framework: Django.",
        "Current version: none, nothing was deployed yet.",
        "Last build: none.",
        "Reply in en.",
    ]
    unknown = Project(name="Shop", framework=None)
    assert made(project=unknown).project.splitlines()[1] == "Framework: unknown."


def test_the_current_version_and_the_last_build_are_told() -> None:
    at = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    built = replace(
        SHOP, version_id="v7", deployed_at=at, build_id="b8", build_status="failed", built_at=at
    )
    assert made(project=built).project.splitlines()[2:4] == [
        "Current version: v7, deployed 2026-01-02 03:04 UTC.",
        "Last build: b8, failed, since 2026-01-02 03:04 UTC.",
    ]


def test_what_the_user_looks_at_stands_before_the_message() -> None:
    asked = made(viewed=("version v1", "build b1"), chat_mode="fix")
    assert asked.turns[-1].text.split("\n\n") == [
        "The user looks at the version v1.",
        "The user looks at the build b1.",
        HINTS["fix"],
        "Good morning",
    ]


def test_the_message_is_the_last_turn() -> None:
    before = [Turn(role="user", text="a"), Turn(role="assistant", text="b")]
    assert made(history=before).turns == (*before, Turn(role="user", text="Good morning"))


@pytest.mark.parametrize("mode", PLANNER)
def test_a_hint_stands_before_the_message_it_belongs_to(mode: ChatMode) -> None:
    assert made(chat_mode=mode).turns[-1].text == f"{HINTS[mode]}\n\nGood morning"


def test_every_mode_of_a_session_has_its_rules_and_instructions_replace_them() -> None:
    for mode in get_args(SessionMode):
        assert rules(mode)
        assert rules(mode, "Speak like a pirate.") == "Speak like a pirate."
    assert rules("plan") == RULES
    assert len({rules(mode) for mode in get_args(SessionMode)}) == len(get_args(SessionMode)) - 1


def test_a_question_without_a_contract_has_no_project_no_language_and_no_hint() -> None:
    alone = made(contracts=(), chat_mode="fix")
    assert (alone.project, alone.turns[-1].text) == ("", "Good morning")


def test_every_kind_of_answer_is_explained() -> None:
    assert all(f"\n- {mode}: " in RULES for mode in PLANNER)


@pytest.mark.parametrize(
    ("locale", "expected"),
    [("en", "en"), ("AR", "ar"), ("ar-EG", "ar"), ("pt_BR", "pt"), ("zh-Hant-TW", "zh")],
)
def test_a_locale_is_of_a_language(locale: str, expected: str) -> None:
    assert language(locale) == expected
    assert made(locale=locale).project.endswith(f"\nReply in {expected}.")


# looks -------------------------------------------------------------------------------------------


def offered() -> Question:
    return question(
        project=SHOP,
        locale="ar",
        history=(),
        message="Why?",
        chat_mode=None,
        known=("Project structure:\na.py",),
        tools=SOURCE,
    )


def look(text: str) -> ToolCall:
    return ToolCall(use=ToolUse(id="1", name="list_files", input={}), text=text)


def test_known_facts_come_before_the_message_in_paragraphs_of_their_own() -> None:
    assert offered().turns[-1].text == "Project structure:\na.py\n\nWhy?"


def test_looking_ends_after_some_rounds_or_when_enough_was_shown() -> None:
    looking = offered()
    for n in range(ROUNDS):
        assert looking.may_call_tools, n
        looking = looking.with_tool_calls((look("x"),))
    assert not looking.may_call_tools
    assert not offered().with_tool_calls((look("x" * MOST_CHARACTERS),)).may_call_tools


def test_a_reminder_goes_before_the_message_and_begins_anew() -> None:
    reminded = offered().with_tool_calls((look("x"),)).reminded("In Arabic!")
    assert reminded.turns[-1].text.startswith("In Arabic!\n\n")
    assert reminded.turns[-1].text.endswith("Why?")
    assert (reminded.rounds, reminded.may_call_tools) == ((), True)
