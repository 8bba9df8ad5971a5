"""A place belongs to one session: to the session that got the place last."""

from itertools import combinations
from typing import Any

from domain.deciders import place
from domain.events import SessionPlaced

ASKED: dict[str, Any] = {"project_id": "p1", "user_id": "u1", "mode": "idea", "context": {}}


def test_a_place_is_given_once_to_the_same_session() -> None:
    given = place.give(place.INITIAL, session_id="s1")
    assert given == (SessionPlaced(session_id="s1"),)
    state = place.fold(given)
    assert place.give(state, session_id="s1") == ()
    assert place.fold(place.give(state, session_id="s2"), state).session_id == "s2"


def test_a_place_is_named_by_user_project_mode_and_context_in_any_order() -> None:
    one = {"runId": "r", "promptId": "x"}
    names = [
        place.key(**ASKED | changed)
        for changed in (
            {},
            {"project_id": "p2"},
            {"user_id": "u2"},
            {"mode": "setup"},
            {"context": one},
            {"context": {"runId": "x", "promptId": "r"}},
            {"project_id": "u1", "user_id": "p1"},
        )
    ]
    assert all(a != b for a, b in combinations(names, 2))
    turned = dict(reversed(one.items()))
    assert place.key(**ASKED | {"context": turned}) == place.key(**ASKED | {"context": one})
