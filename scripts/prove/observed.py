"""What the clients observed: the histories that the checks compare with the database."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import orjson

Json = Any


@dataclass(frozen=True, slots=True)
class Event:
    """A server-sent event; `n` is its number in the reply, 0 without a number."""

    name: str
    n: int
    raw: bytes

    @property
    def data(self) -> Json:
        """The JSON value of the event's data."""
        return orjson.loads(self.raw.partition(b"\ndata: ")[2])


@dataclass(slots=True, kw_only=True)
class Reading:
    """The events of a reply that one reader received, over all its connections."""

    tenant: str
    reply_id: str = ""
    events: list[Event] = field(default_factory=list[Event])

    @property
    def last(self) -> int:
        """The number of the last event that was received."""
        return next((each.n for each in reversed(self.events) if each.n), 0)

    @property
    def is_done(self) -> bool:
        """Whether the final event was received."""
        return bool(self.events) and self.events[-1].name == "final"


@dataclass(slots=True, kw_only=True)
class Message:
    """A message under its Idempotency-Key, which is posted to `path`. `replies` and `positions` are
    those that the answers to its tries named. `refusal` is the code of a refusal, where no try
    could still be done."""

    tenant: str
    user_id: str
    project_id: str
    path: str
    key: str
    text: str
    replies: set[str] = field(default_factory=set[str])
    positions: set[int] = field(default_factory=set[int])
    refusal: str | None = None
    is_answered: bool = False

    def body(self, asked: Json) -> Json:
        """What is sent to the path: a session's own path names the project."""
        if self.path == "/v1/chat-plan":
            return asked
        return {name: value for name, value in asked.items() if name != "projectId"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A stream of a reply on one connection. An act, such as an erasure, must end the stream. `end`
    says how the stream ended: None when it hangs."""

    reply: str
    act: str
    end: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Final:
    """A final envelope that a client received."""

    tenant: str
    reply_id: str
    envelope: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Credit:
    """A credit of seconds, with a unique reason."""

    tenant: str
    user_id: str
    reason: str
    seconds: int
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A build that was accepted for a session's plan."""

    tenant: str
    session_id: str
    build_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """A worker's report on a build, or an engine's report on a run, that was accepted."""

    tenant: str
    work: Literal["build", "run"]
    work_id: str
    event_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """An answer with an account's balances, valid for a position or a later one."""

    tenant: str
    user_id: str
    position: int
    account: dict[str, int]


@dataclass(frozen=True, slots=True)
class Link:
    """An event of a tenant's feed: its cursor, and the cursor of the event before it."""

    position: int
    cursor: str
    prev: str | None


@dataclass(slots=True, kw_only=True)
class Feed:
    """The events that a watcher of a tenant's log received, over all its connections."""

    tenant: str
    links: list[Link] = field(default_factory=list[Link])


@dataclass(slots=True, kw_only=True)
class Observed:
    """All histories. `received` are files with every byte that a tenant's clients received."""

    messages: list[Message] = field(default_factory=list[Message])
    readings: list[Reading] = field(default_factory=list[Reading])
    finals: list[Final] = field(default_factory=list[Final])
    states: list[Final] = field(default_factory=list[Final])
    credits: list[Credit] = field(default_factory=list[Credit])
    builds: list[Built] = field(default_factory=list[Built])
    reports: list[Reported] = field(default_factory=list[Reported])
    balances: list[Balance] = field(default_factory=list[Balance])
    watched: list[Watched] = field(default_factory=list[Watched])
    feeds: list[Feed] = field(default_factory=list[Feed])
    items: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """The tenant and id of each item of the timelines at the end."""
    answers: Counter[tuple[str, int, str]] = field(default_factory=Counter[tuple[str, int, str]])
    """The number of answers by operation, status and code."""
    canaries: dict[str, str] = field(default_factory=dict[str, str])
    received: dict[str, list[Path]] = field(default_factory=dict[str, list[Path]])
    counts: Counter[str] = field(default_factory=Counter[str])
