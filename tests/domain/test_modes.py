"""What the mode of a session decides."""

from collections.abc import Mapping
from typing import Any, get_args

import pytest

import sql
from domain.events import OperationType, ReplyMode, SessionMode
from domain.metering import ESTIMATES, OPERATIONS
from domain.modes import EXPIRING, MODES, PLANNER, estimate, operation, session_id
from domain.replies.contracts import CONTRACTS, MAIN_TEXT
from domain.replies.questions import _SESSION_RULES, HINTS  # pyright: ignore[reportPrivateUsage]
from projections.replies import REPLIES
from projections.sessions import SESSIONS
from projections.timeline import TIMELINE


@pytest.mark.parametrize("whole", [MODES, _SESSION_RULES], ids=["modes", "rules"])
def test_every_map_over_the_modes_of_sessions_is_whole(whole: Mapping[str, Any]) -> None:
    assert set(whole) == set(get_args(SessionMode))


@pytest.mark.parametrize("whole", [CONTRACTS, MAIN_TEXT, ESTIMATES, OPERATIONS])
def test_every_map_over_the_contracts_is_whole(whole: Mapping[str, Any]) -> None:
    assert set(whole) == set(get_args(ReplyMode))


def test_every_contract_belongs_to_a_mode_and_each_hint_to_the_planner() -> None:
    assert {each for mode in MODES.values() for each in mode.contracts} == set(CONTRACTS)
    assert set(HINTS) == set(PLANNER)


def test_a_session_costs_by_its_mode_or_else_by_the_mode_of_the_message() -> None:
    assert estimate("prompt", "analysis") == estimate("prompt", None) == 60
    assert estimate("plan", "analysis") == estimate("what_if", "analysis") == ESTIMATES["analysis"]
    assert estimate("plan", None) == ESTIMATES["general"]


def test_a_session_ends_by_the_number_of_its_messages_and_its_tokens() -> None:
    limits = {name: (mode.most_messages, mode.most_tokens) for name, mode in MODES.items()}
    discussion, short = (200, 400_000), (50, 100_000)
    assert limits == {
        **dict.fromkeys(("plan", "build", "idea", "run_feedback"), short),
        **dict.fromkeys(("setup", "analysis", "what_if"), discussion),
        "prompt": (2_000, None),
    }


def test_every_mode_bills_as_an_operation_that_there_is() -> None:
    billed = {operation(mode, reply) for mode in MODES for reply in CONTRACTS}
    assert {operation("prompt", "general"), operation("run_feedback", "improvement")} == {
        "prompt_run",
        "run_feedback",
    }
    assert billed <= set(get_args(OperationType))


def test_the_database_knows_private_sessions_by_their_ids() -> None:
    assert [mode for mode in MODES if session_id(mode, "7") != "7"] == ["prompt"]
    texts = [each.text for each in sql.functions() if each.name == "private_to"]
    texts += [each.statements["apply"] for each in (TIMELINE, SESSIONS, REPLIES)]
    for text in texts:
        assert f"like 'session-{session_id('prompt', '')}%'" in text.decode()


def test_plans_and_builds_alone_expire() -> None:
    assert set(EXPIRING) == {"plan", "build"}
