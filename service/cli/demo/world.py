"""A world with a clock of its own: processes decide, and their events become a log of that time.

A process is a generator. It decides on streams, yields for how many seconds it waits, and goes on.
The deciders are the service's own, so the log keeps all laws of the service's log.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any, Final, TypeAlias, TypeVar
from uuid import UUID

import orjson

from domain.events import Event
from service.eventlog.store import Recorded
from service.eventlog.stream_ids import StreamId
from service.eventlog.transactions import encode
from service.ids import id_at
from service.replay.reading import Entry
from service.wire import cursor

S = TypeVar("S")
E = TypeVar("E", bound=Event)
Process: TypeAlias = Generator[float]
"""Yields for how many seconds it waits."""

_METADATA: Final = orjson.dumps({"actor": "demo"}).decode()


class World:
    """What has happened so far in a tenant, and what waits for its time."""

    def __init__(self, tenant_id: str, begin: datetime, *, seed: int) -> None:
        self.tenant_id = tenant_id
        self.random = Random(seed)  # noqa: S311 - no secret is made of it
        self._ids = Random(seed)  # noqa: S311 - of its own: what happens does not depend on ids
        self.now = begin
        self._streams: dict[str, tuple[Any, int]] = {}
        self._waiting: list[tuple[datetime, int, Process]] = []
        self._numbers = count()
        self._position = 0
        self._made: list[Entry] = []

    def start(self, process: Process, at: datetime | None = None) -> None:
        """Let a process begin, now or at a time."""
        heappush(self._waiting, (at or self.now, next(self._numbers), process))

    def run(self) -> Iterator[Entry]:
        """Run all processes to their end, in the order of their times; yields the events."""
        while self._waiting:
            at, _, process = heappop(self._waiting)
            self.now = max(self.now, at)
            for seconds in process:
                self.start(process, self.now + timedelta(seconds=seconds))
                break
            yield from self._made
            self._made.clear()

    def new_id(self) -> str:
        """An id of this time."""
        return id_at(self.now.timestamp(), self._ids.getrandbits(80))

    def state(self, stream: StreamId[S, E]) -> S:
        """The state of a stream."""
        return self.load(stream)[0]

    def load(self, stream: StreamId[S, E]) -> tuple[S, int]:
        """The state and the version of a stream."""
        return self._streams.get(str(stream)) or (stream.decider.initial, 0)

    @contextmanager
    def append(self) -> "Generator[Append]":
        """Make one append of what is decided in it. A refusal leaves nothing of the append."""
        append = Append(self)
        yield append
        append_id = UUID(int=self._ids.getrandbits(128), version=4)
        for stream, version, event in append.events:
            self._position += 1
            recorded = Recorded(
                position=self._position,
                tenant_id=self.tenant_id,
                stream_id=str(stream),
                version=version,
                type=type(event).__name__,
                schema_version=event.schema_version,
                project_id=stream.project_id,
                state=encode(event),
                metadata=_METADATA,
                recorded_at=self.now,
                cursor=cursor(self._position, append_id.bytes),
            )
            self._made.append(Entry(append_id, recorded))
        self._streams |= append.streams


class Append:
    """One append in the making."""

    def __init__(self, world: World) -> None:
        self.events: list[tuple[StreamId[Any, Any], int, Event]] = []
        self.streams: dict[str, tuple[Any, int]] = {}
        self._world = world

    def state(self, stream: StreamId[S, E]) -> S:
        """The state of a stream, with what this append has decided."""
        return self._load(stream)[0]

    def decide(self, stream: StreamId[S, E], decision: Callable[[S], Sequence[E]]) -> Sequence[E]:
        """Decide on a stream. Returns the events."""
        state, version = self._load(stream)
        decided = decision(state)
        for n, event in enumerate(decided, version + 1):
            self.events.append((stream, n, event))
        after = stream.decider.fold(decided, state)
        self.streams[str(stream)] = (after, version + len(decided))
        return decided

    def _load(self, stream: StreamId[S, E]) -> tuple[S, int]:
        return self.streams.get(str(stream)) or self._world.load(stream)
