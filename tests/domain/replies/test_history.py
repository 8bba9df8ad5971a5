"""The history that the model is given: whole exchanges, the newest that fit."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from domain.events import (
    AssistantMessageAdded,
    MaterialAdded,
    ReplyCompleted,
    ReplyFailed,
    ReplyStarted,
    SessionEvent,
    SessionOpened,
    SystemMessagePosted,
    UserMessagePosted,
)
from domain.replies.history import CHARACTERS_PER_TOKEN, History

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


def rendered(template: str, variables: Mapping[str, str]) -> str:
    return f"{template} {variables['version_id']}"


def told(
    *events: SessionEvent, upto: str = "m9", tokens: int = 1_000, is_prose: bool = False
) -> list[tuple[str, str]]:
    history = History(upto=upto, budget_tokens=tokens, said=rendered, is_prose=is_prose)
    history.extend(reversed((OPENED, *events)))
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


def spoken(variables: Mapping[str, str], **how: Any) -> SystemMessagePosted:
    return SystemMessagePosted(
        session_id="s1", message_id="y1", template="deployed", variables=variables, **how
    )


def test_a_message_of_the_service_is_a_note_before_the_next_message() -> None:
    note = spoken({"version_id": "v7"})
    (_, _, (role, text), _) = told(*exchange(1), note, *exchange(2), asked(9))
    assert (role, text) == ("user", "(Note: deployed v7)\n\nquestion 2")


def test_a_greeting_and_a_message_without_facts_are_left_out() -> None:
    greeting = spoken({"version_id": "v7"}, type="greeting")
    assert told(*exchange(1), greeting, spoken({}), asked(9)) == pair(1)


def test_material_is_told_also_where_it_came_after_the_message() -> None:
    material = MaterialAdded(session_id="s1", message_id="y1", kind="run_summary", text="Scores")
    given = ("user", "run_summary:\nScores")
    assert told(material, asked(9)) == [given]
    assert told(asked(9), material) == [given]
    assert told(*exchange(1), material, asked(9)) == [*pair(1), given]


def appended(number: int, text: str, *, by_user: bool) -> SessionEvent:
    said = {"session_id": "s1", "message_id": f"m{number}", "user_id": "u1", "locale": "en"}
    if by_user:
        return UserMessagePosted(**said, text=text, source="client")  # type: ignore[arg-type]
    return AssistantMessageAdded(**said, text=text)


def test_what_a_client_appended_is_told_as_it_was_said() -> None:
    asked_there = appended(2, "How?", by_user=True)
    said_there = appended(3, "So.", by_user=False)
    told_here = told(*exchange(1), asked_there, said_there, *exchange(4), asked(9))
    assert told_here == [*pair(1), ("user", "How?"), ("assistant", "So."), *pair(4)]


def test_turns_of_one_side_in_a_row_become_one_turn_and_the_first_is_the_user_s() -> None:
    events = [appended(n, text, by_user=by_user) for n, text, by_user in (
        (1, "Hello", False), (2, "a", True), (3, "b", True), (4, "c", False), (5, "d", False),
    )]  # fmt: skip
    assert told(*events, asked(9)) == [("user", "a\n\nb"), ("assistant", "c\n\nd")]


def test_a_session_without_a_contract_has_its_answers_as_they_were_written() -> None:
    answer = answered(1, '{"json": true}')
    assert told(asked(1, "?"), answer, asked(9), is_prose=True) == [
        ("user", "?"),
        ("assistant", '{"json": true}'),
    ]


def test_erased_texts_are_left_out() -> None:
    erased = (asked(1, ""), answered(1, data=None), appended(2, "", by_user=False))
    material = MaterialAdded(session_id="s1", message_id="y1", kind="run_summary", text="")
    assert told(*erased, material, spoken({}), asked(9)) == []


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
