"""What the clients were told: the histories that the checks hold against the database."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

Json = Any


@dataclass(frozen=True, slots=True)
class Event:
    """A server-sent event as it was received; `n` is its number in the reply, 0 for none."""

    name: str
    n: int
    raw: bytes

    @property
    def data(self) -> Json:
        """What it says."""
        return orjson.loads(self.raw.partition(b"\ndata: ")[2])


@dataclass(slots=True, kw_only=True)
class Reading:
    """What one reader saw of a reply, over all of its connections."""

    tenant: str
    reply_id: str = ""
    events: list[Event] = field(default_factory=list[Event])

    @property
    def last(self) -> int:
        """The number of the last event that was seen."""
        return next((each.n for each in reversed(self.events) if each.n), 0)

    @property
    def is_done(self) -> bool:
        """It has the final event."""
        return bool(self.events) and self.events[-1].name == "final"


@dataclass(slots=True, kw_only=True)
class Message:
    """A message under its Idempotency-Key: `replies` are the replies that any try was told of,
    `positions` where it was said to be; `refusal` is the code of what ended it otherwise, where no
    earlier try could still come to something."""

    tenant: str
    user_id: str
    project_id: str
    key: str
    text: str
    replies: set[str] = field(default_factory=set[str])
    positions: set[int] = field(default_factory=set[int])
    refusal: str | None = None
    is_answered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Final:
    """A final envelope, wherever it was seen."""

    tenant: str
    reply_id: str
    envelope: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Credit:
    """Seconds that were given, with their reason of which there is no other."""

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
    """A worker's report that was taken."""

    tenant: str
    build_id: str
    event_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """An account as it was told, for a position or a later one."""

    tenant: str
    user_id: str
    position: int
    account: dict[str, int]


@dataclass(frozen=True, slots=True)
class Link:
    """An event of a tenant's feed, by its own cursor and that of the one before it."""

    position: int
    cursor: str
    prev: str | None


@dataclass(slots=True, kw_only=True)
class Feed:
    """A watcher of a tenant's log, over all of its connections."""

    tenant: str
    links: list[Link] = field(default_factory=list[Link])


@dataclass(slots=True, kw_only=True)
class Observed:
    """Everything. `received` are files with every byte that a tenant's clients were sent."""

    messages: list[Message] = field(default_factory=list[Message])
    readings: list[Reading] = field(default_factory=list[Reading])
    finals: list[Final] = field(default_factory=list[Final])
    states: list[Final] = field(default_factory=list[Final])
    credits: list[Credit] = field(default_factory=list[Credit])
    builds: list[Built] = field(default_factory=list[Built])
    reports: list[Reported] = field(default_factory=list[Reported])
    balances: list[Balance] = field(default_factory=list[Balance])
    feeds: list[Feed] = field(default_factory=list[Feed])
    items: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Tenant and id of each item of the timelines, as they were read in the end."""
    answers: Counter[tuple[str, int, str]] = field(default_factory=Counter[tuple[str, int, str]])
    """How often each operation answered with a status and a code."""
    canaries: dict[str, str] = field(default_factory=dict[str, str])
    received: dict[str, list[Path]] = field(default_factory=dict[str, list[Path]])
    counts: Counter[str] = field(default_factory=Counter[str])
