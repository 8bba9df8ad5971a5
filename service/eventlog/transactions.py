"""Deciding on streams: load what is known, decide, append, and remember.

What a stream had come to is remembered and not read again: the append itself checks it. A decision
on a memory that has been overtaken meets WrongVersion, or says no, or finds nothing to do, be it in
one of several streams; in each case it is made again on what the log says now.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, Generic, TypeVar, cast
from uuid import UUID

import orjson

from domain import account, build, idempotency, project, session
from domain.account import Account
from domain.build import Build
from domain.errors import Refused
from domain.events import (
    AccountEvent,
    BuildEvent,
    Event,
    Json,
    ProjectEvent,
    RequestEvent,
    SessionEvent,
    from_stored,
    to_stored,
)
from domain.project import Project
from domain.session import Session
from service.eventlog.store import EventStore, NewEvent, Unavailable, WrongVersion
from service.eventlog.writer import PATIENCE, Appended, Writer

MEMORY: Final = 10_000
CONTENTION_SECONDS: Final = 10.0
"""How long a decision is made again and again while others keep changing its streams."""

S = TypeVar("S")
E = TypeVar("E")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Decider(Generic[S, E]):
    """How a kind of stream becomes a state."""

    initial: S
    fold: Callable[[Iterable[E], S], S]


SESSION: Final[Decider[Session, SessionEvent]] = Decider(session.INITIAL, session.fold)
ACCOUNT: Final[Decider[Account, AccountEvent]] = Decider(account.INITIAL, account.fold)
BUILD: Final[Decider[Build, BuildEvent]] = Decider(build.INITIAL, build.fold)
REQUEST: Final[Decider[idempotency.Request, RequestEvent]] = Decider(
    idempotency.INITIAL, idempotency.fold
)
PROJECT: Final[Decider[Project, ProjectEvent]] = Decider(project.INITIAL, project.fold)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencyKey:
    """A request that its client has named: `key` is its own, `fingerprint` tells what it asks."""

    key: str
    fingerprint: str

    @property
    def stream_id(self) -> str:
        """The stream of the request."""
        return f"request-{sha256(self.key.encode()).hexdigest()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestContext:
    """What brings a decision about: what is stored beside its events, and the request's name."""

    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    named: IdempotencyKey | None = None


BY_ITSELF: Final = RequestContext()
"""The service decides something that nobody asked for."""


@dataclass(slots=True)
class _Known:
    decider: Decider[Any, Any]
    state: Any
    version: int
    is_fresh: bool


class Transaction:
    """One try of a decision: the streams that it loaded and the events that it decided on."""

    def __init__(
        self, streams: "Transactions", tenant_id: str, metadata: str, *, fresh: bool
    ) -> None:
        self._transactions = streams
        self._tenant_id = tenant_id
        self._metadata = metadata
        self._fresh = fresh
        self.known: dict[str, _Known] = {}
        self.events: list[NewEvent] = []

    async def load(self, decider: Decider[S, E], stream_id: str) -> S:
        """What the stream has come to."""
        known = await self._transactions.recall(self._tenant_id, stream_id, decider, self._fresh)
        self.known[stream_id] = known
        return cast(S, known.state)

    def append(self, stream_id: str, decided: Sequence[Event], project_id: str | None) -> None:
        """Take up what was decided on a loaded stream."""
        known = self.known[stream_id]
        for event in decided:
            known.version += 1
            self.events.append(
                NewEvent(
                    self._tenant_id,
                    stream_id,
                    known.version,
                    type(event).__name__,
                    encode(event),
                    project_id,
                    event.schema_version,
                    self._metadata,
                )
            )
        known.state = known.decider.fold(decided, known.state)

    async def finish(self, named: IdempotencyKey, result: Json) -> None:
        """Note what a named request came to, beside all that it decided."""
        done = idempotency.finish(
            await self.load(REQUEST, named.stream_id),
            key=named.key,
            fingerprint=named.fingerprint,
            result=result,
            place=len(self.events),
        )
        self.append(named.stream_id, done, None)

    @property
    def is_fresh(self) -> bool:
        """Everything that was loaded came from the log itself."""
        return all(known.is_fresh for known in self.known.values())

    @property
    def is_founded(self) -> bool:
        """The append checks every stream that did not come from the log itself: none of those was
        found to need nothing."""
        written = {event.stream_id for event in self.events}
        return all(known.is_fresh or stream in written for stream, known in self.known.items())


class Transactions:
    """The states of streams that were used last. Owned by the service's loop."""

    def __init__(self, store: EventStore, writer: Writer) -> None:
        self._store = store
        self._writer = writer
        self._memory: OrderedDict[tuple[str, str], _Known] = OrderedDict()

    async def transact(
        self,
        tenant_id: str,
        work: Callable[[Transaction], Awaitable[T]],
        *,
        cause: RequestContext = BY_ITSELF,
        append_id: UUID | None = None,
        patience: float = PATIENCE,
    ) -> tuple[T, Appended | None]:
        """Do `work` and append all that it decided, atomically; both again where it was overtaken.

        Returns what the work returned and where its events are, None when it decided on none.
        Raises what the work refuses, and Unavailable, Overloaded, OutcomeUnknown. Work for a
        request that is `named` is done once: it returns JSON, and when the request comes again,
        wherever and whenever, that is returned again. Raises KeyReused.
        """
        encoded, named = orjson.dumps(cause.metadata).decode(), cause.named
        fresh = False
        deadline = asyncio.get_running_loop().time() + CONTENTION_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            if named is not None and (done := await self._done(tenant_id, named)):
                return cast(T, done[0]), done[1]
            transaction = Transaction(self, tenant_id, encoded, fresh=fresh)
            try:
                result = await work(transaction)
                if named is not None:
                    await transaction.finish(named, result)
                if transaction.events and transaction.is_founded:
                    appended = await self._writer.append(
                        transaction.events, append_id=append_id, patience=patience
                    )
                    self._remember(tenant_id, transaction)
                    return result, appended
                if not transaction.events and transaction.is_fresh:
                    return result, None
            except Refused:
                # What refuses it may be its own twin, which was faster.
                if named is not None and (done := await self._done(tenant_id, named)):
                    return cast(T, done[0]), done[1]
                if transaction.is_fresh:
                    raise
            except WrongVersion:
                pass
            fresh = True
        raise Unavailable("others kept changing the same streams")

    async def _done(self, tenant_id: str, named: IdempotencyKey) -> tuple[Json, Appended] | None:
        """What the request came to, and where, if it was done before."""
        found = await self._store.stream(tenant_id, named.stream_id)
        events = [decode(each.type, each.state) for each in found]
        if not idempotency.is_done(idempotency.fold(events), fingerprint=named.fingerprint):
            return None
        first = found[0].position - events[0].place
        return events[0].result, Appended(first, found[0].recorded_at)

    async def recall(
        self, tenant_id: str, stream_id: str, decider: Decider[Any, Any], fresh: bool
    ) -> _Known:
        """The stream's state: as remembered, or with what the log has after that."""
        known = self._memory.get((tenant_id, stream_id))
        if known is not None and not fresh:
            return _Known(decider, known.state, known.version, is_fresh=False)
        state, version = (known.state, known.version) if known else (decider.initial, 0)
        newer = await self._store.stream(tenant_id, stream_id, after=version)
        if newer:
            state, version = (
                decider.fold((decode(each.type, each.state) for each in newer), state),
                newer[-1].version,
            )
        return _Known(decider, state, version, is_fresh=True)

    def _remember(self, tenant_id: str, transaction: Transaction) -> None:
        for stream_id, known in transaction.known.items():
            self._memory[tenant_id, stream_id] = known
            self._memory.move_to_end((tenant_id, stream_id))
        while len(self._memory) > MEMORY:
            self._memory.popitem(last=False)


def encode(event: Event) -> bytes:
    """The event as it is stored."""
    return orjson.dumps(to_stored(event), default=str)


def decode(name: str, state: bytes) -> Any:
    """The event that was stored, as its own type."""
    return from_stored(name, orjson.loads(state))


def account_stream(tenant_id: str, user_id: str) -> str:
    """The stream of a user's AI seconds."""
    return f"account-{tenant_id}-{user_id}"


def session_stream(session_id: str) -> str:
    """The stream of a session."""
    return f"session-{session_id}"


def project_stream(project_id: str) -> str:
    """The stream of a project."""
    return f"project-{project_id}"


def build_stream(build_id: str) -> str:
    """The stream of a build."""
    return f"build-{build_id}"
