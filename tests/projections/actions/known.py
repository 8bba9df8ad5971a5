"""What has happened so far in a generated log, for the actions that come next."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Any, TypeAlias, TypeVar

from domain.deciders import session
from domain.events import ChatMode, SessionMode
from domain.modes import session_id
from service.eventlog.stream_ids import session_stream
from tests.projections.actions.append import Append
from tests.projections.actions.values import PROJECTS, TENANTS, USERS

T = TypeVar("T")
Actions: TypeAlias = dict[Callable[[Append], None], int]
"""Actions, each with its weight: how often it is chosen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """Where a session is found: its tenant, project and user."""

    tenant_id: str
    project_id: str
    user_id: str
    session_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A reply that runs."""

    talk: Talk
    reply_id: str
    in_reply_to: str
    reservation_id: str
    model: str
    mode: ChatMode


class Known:
    """What has happened so far, by a seeded choice."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._streams: dict[tuple[str, str], tuple[Any, int]] = {}
        self._numbers = {tenant: count(1) for tenant in TENANTS}
        self._talks: list[Talk] = []
        self._running: list[Reply] = []
        self._builds: list[tuple[str, str, str]] = []
        self._runs: list[tuple[str, str, str]] = []
        self._prompts: list[tuple[str, str, str]] = []

    def _one(self, values: Sequence[T]) -> T:
        return self._random.choice(values)

    def _id(self, prefix: str, append: Append) -> str:
        return f"{prefix}{next(self._numbers[append.tenant_id])}"

    def _new_talk(self, append: Append, mode: SessionMode) -> Talk:
        return Talk(
            tenant_id=append.tenant_id,
            project_id=self._one(PROJECTS),
            user_id=self._one(USERS),
            session_id=session_id(mode, self._id("s", append)),
        )

    def _in_session(
        self, append: Append, decision: Callable[[session.Session], session.Decided]
    ) -> None:
        mine = [talk for talk in self._talks if talk.tenant_id == append.tenant_id]
        if mine:
            talk = self._one(mine)
            append.decide(session_stream(talk.session_id, talk.project_id), decision)

    def _of(self, append: Append, replies: Iterable[Reply]) -> Reply | None:
        mine = [reply for reply in replies if reply.talk.tenant_id == append.tenant_id]
        return self._one(mine) if mine else None
