"""What was begun in a project, or made of a prompt, after the project or the prompt was closed.

A command reads the project, and may append only after another command has closed it and has looked
for all that there is to erase. The events tell the order of the two appends.
"""

from collections.abc import Iterable
from typing import Final

from domain.events import (
    ProjectErasureRequested,
    PromptCreated,
    PromptErasureRequested,
    RunQueued,
    SessionInstructed,
    SessionOpened,
)
from service.concurrency.lru import LRU
from service.eventlog.store import Recorded
from service.eventlog.transactions import decode

MOST_CLOSED: Final = 10_000
"""Closed projects and prompts that are remembered. A command does not take as long as closing so
many others."""

Closed = tuple[str, str, str | None]
"""What is closed: a tenant, its project, and a prompt; None for the whole project."""

_CLOSINGS: Final = (ProjectErasureRequested, PromptErasureRequested)
_OPENINGS: Final = (SessionOpened, SessionInstructed, RunQueued, PromptCreated)
_TYPES: Final = frozenset(kind.__name__ for kind in (*_CLOSINGS, *_OPENINGS))


class LateOpenings:
    """Owned by the service's loop. Each process sees all appends, so any of them may erase what
    came late."""

    def __init__(self) -> None:
        self._closed: LRU[Closed, int] = LRU(MOST_CLOSED)
        self._late: dict[Closed, int] = {}

    def on_events(self, events: Iterable[Recorded]) -> None:
        """Note what is closed, and what comes after that."""
        for event in events:
            if event.type in _TYPES and event.project_id is not None:
                whole: Closed = (event.tenant_id, event.project_id, None)
                decoded = decode(event.type, event.state)
                match decoded:
                    case ProjectErasureRequested():
                        self._closed.put(whole, event.position)
                    case PromptErasureRequested():
                        self._closed.put((*whole[:2], decoded.prompt_id), event.position)
                    case SessionInstructed():
                        self._note((*whole[:2], decoded.prompt_id), event.position)
                    case _:
                        self._note(whole, event.position)

    def _note(self, closed: Closed, position: int) -> None:
        if closed in self._closed:
            self._late.setdefault(closed, position)

    @property
    def late(self) -> list[Closed]:
        """The closed projects and prompts that something came late for."""
        return list(self._late)

    def claim(self, closed: Closed) -> int | None:
        """The position of the first thing that came late for it, which is to be erased now; None
        where another caller has taken it."""
        return self._late.pop(closed, None)

    def put_back(self, closed: Closed, position: int) -> None:
        """State that not all that came late is erased."""
        self._late[closed] = position
