"""The question to the model: the constant parts first, then the history, then the message."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from domain.events import (
    ChatMode,
    ReplyCompleted,
    ReplyFailed,
    ReplyStarted,
    SessionEvent,
    SessionOpened,
    SystemMessagePosted,
    UserMessagePosted,
)
from domain.questions import (
    CHARACTERS_PER_TOKEN,
    HINTS,
    RULES,
    History,
    Project,
    Question,
    Turn,
    language,
    prompt,
)
from domain.reply_contracts import CONTRACTS
from domain.tools import MOST_CHARACTERS, ROUNDS, SOURCE, ToolCall, ToolUse

OPENED = SessionOpened(session_id="s1", project_id="p1", user_id="u1")


def asked(number: int, text: str = "?") -> UserMessagePosted:
    return UserMessagePosted(
        session_id="s1", message_id=f"m{number}", user_id="u1", text=text, locale="en"
    )


def started(number: int) -> ReplyStarted:
    return ReplyStarted(
        session_id="s1",
        reply_id=f"r{number}",
        in_reply_to=f"m{number}",
        model="offline",
        reservation_id=f"x{number}",
    )


def answered(number: int, text: str = "!", **how: Any) -> ReplyCompleted:
    reply: dict[str, Any] = {
        "session_id": "s1",
        "reply_id": f"r{number}",
        "in_reply_to": f"m{number}",
        "subtype": "success",
        "mode": "general",
        "data": {"markdown": text},
        "duration_ms": 1,
        "billed_seconds": 1,
        "model": "offline",
    }
    return ReplyCompleted(**reply | how)


def failed(number: int) -> ReplyFailed:
    return ReplyFailed(
        session_id="s1",
        reply_id=f"r{number}",
        in_reply_to=f"m{number}",
        code="refused",
        duration_ms=1,
    )


def told(*events: SessionEvent, upto: str = "m9", tokens: int = 1_000) -> list[tuple[str, str]]:
    history = History(upto=upto, budget_tokens=tokens)
    for event in reversed((OPENED, *events)):
        history.add(event)
    return [(turn.role, turn.text) for turn in history.turns]


def pair(number: int) -> list[tuple[str, str]]:
    """The two turns of a message that was asked and answered with its number."""
    reply = {"intent": "general", "response": {"markdown": f"answer {number}"}}
    return [("user", f"question {number}"), ("assistant", json.dumps(reply))]


def exchange(number: int) -> tuple[SessionEvent, ...]:
    return (
        asked(number, f"question {number}"),
        started(number),
        answered(number, f"answer {number}"),
    )


# the history -------------------------------------------------------------------------------------


def test_a_new_session_has_no_history() -> None:
    assert told(asked(9), started(9)) == []


def test_the_history_has_each_message_with_its_reply_in_order() -> None:
    assert told(*exchange(1), *exchange(2), asked(9)) == pair(1) + pair(2)


def test_a_reply_is_in_the_history_as_the_model_gave_it() -> None:
    data = {"answer": "Là, في الملف", "references": []}
    ((_, text),) = told(asked(1), answered(1, mode="question", data=data), asked(9))[1:]
    assert json.loads(text) == {"intent": "question", "response": data}
    assert "Là, في الملف" in text


def test_the_message_itself_and_what_comes_after_it_are_no_history() -> None:
    assert told(*exchange(1), asked(9, "now"), started(9), *exchange(3)) == pair(1)


def test_answers_in_another_order_than_their_questions_stay_with_them() -> None:
    one, two = exchange(1), exchange(2)
    assert told(one[0], two[0], two[2], one[2], asked(9)) == pair(2) + pair(1)


@pytest.mark.parametrize("end", [(), (started(2),), (started(2), failed(2))])
def test_a_message_without_a_reply_is_left_out(end: tuple[SessionEvent, ...]) -> None:
    assert told(*exchange(1), asked(2), *end, *exchange(3), asked(9)) == pair(1) + pair(3)


def test_a_partial_answer_is_an_answer() -> None:
    cut = answered(1, "answ", subtype="partial", reason="provider_broke_off")
    assert [role for role, _ in told(asked(1), cut, asked(9))] == ["user", "assistant"]


def test_a_message_of_the_service_is_left_out() -> None:
    said = SystemMessagePosted(session_id="s1", message_id="y1", template="hello", variables={})
    assert told(*exchange(1), said, asked(9)) == pair(1)


def test_the_two_sides_alternate_whatever_happened() -> None:
    events = (asked(1), *exchange(2), asked(3), failed(3), *exchange(4), asked(5), asked(9))
    roles = [role for role, _ in told(*events)]
    assert roles == ["user", "assistant"] * (len(roles) // 2)


# its budget --------------------------------------------------------------------------------------


def size(*numbers: int) -> int:
    """The fewest tokens that hold these exchanges."""
    characters = sum(len(text) for number in numbers for _, text in pair(number))
    return -(-characters // CHARACTERS_PER_TOKEN)


ALL = (*exchange(1), *exchange(2), *exchange(3), asked(9))


def test_the_oldest_are_dropped_first() -> None:
    assert told(*ALL, tokens=size(1, 2, 3)) == pair(1) + pair(2) + pair(3)
    assert told(*ALL, tokens=size(1, 2, 3) - 1) == pair(2) + pair(3)
    assert told(*ALL, tokens=size(2, 3) - 1) == pair(3)
    assert told(*ALL, tokens=size(3) - 1) == []
    assert told(*ALL, tokens=0) == []


def test_an_exchange_is_dropped_whole_and_leaves_no_gap() -> None:
    long = (asked(2, "q" * 1_000), answered(2))
    events = (*exchange(1), *long, *exchange(3), asked(9))
    # The first pair would fit, but the history would have a hole.
    assert told(*events, tokens=size(1, 3)) == pair(3)


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
    return prompt(**usual | parts)


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


@pytest.mark.parametrize("mode", CONTRACTS)
def test_a_hint_stands_before_the_message_it_belongs_to(mode: ChatMode) -> None:
    assert made(chat_mode=mode).turns[-1].text == f"{HINTS[mode]}\n\nGood morning"


def test_every_kind_of_answer_is_explained() -> None:
    assert all(f"\n- {mode}: " in RULES for mode in CONTRACTS)


@pytest.mark.parametrize(
    ("locale", "expected"),
    [("en", "en"), ("AR", "ar"), ("ar-EG", "ar"), ("pt_BR", "pt"), ("zh-Hant-TW", "zh")],
)
def test_a_locale_is_of_a_language(locale: str, expected: str) -> None:
    assert language(locale) == expected
    assert made(locale=locale).project.endswith(f"\nReply in {expected}.")


# looks -------------------------------------------------------------------------------------------


def offered() -> Question:
    return prompt(
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
