"""A place: the one session of a user, a project, a mode and a context, however many ask for it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from json import dumps
from typing import Final, assert_never

from domain.events import PlaceEvent, SessionMode, SessionPlaced

Decided = tuple[PlaceEvent, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPlace:
    """`session_id` is the session that has the place, None before there was any."""

    session_id: str | None = None


INITIAL: Final = SessionPlace()


def evolve(state: SessionPlace, event: PlaceEvent) -> SessionPlace:  # noqa: ARG001 - the last session counts
    """The place after one more event."""
    match event:
        case SessionPlaced():
            return SessionPlace(session_id=event.session_id)
        case _:
            assert_never(event)


def fold(events: Iterable[PlaceEvent], state: SessionPlace = INITIAL) -> SessionPlace:
    """The place after all of `events`."""
    for event in events:
        state = evolve(state, event)
    return state


def key(*, project_id: str, user_id: str, mode: SessionMode, context: Mapping[str, str]) -> str:
    """The name of a place: the same for the same user, project, mode and context."""
    return dumps([project_id, user_id, mode, sorted(context.items())])


def give(state: SessionPlace, *, session_id: str) -> Decided:
    """Give the place to a session. The same session again changes nothing."""
    if state.session_id == session_id:
        return ()
    return (SessionPlaced(session_id=session_id),)
