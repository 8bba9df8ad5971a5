"""Decisions: load streams, decide on their states, append what was decided, remember the states.

A remembered state is not read again: the append itself checks the stream's version. A decision on a
state that is out of date meets WrongVersion, or refuses, or decides on no event for one of its
streams. In each case the decision is made again, on what the log has now.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar, cast
from uuid import UUID

import orjson
import structlog

from domain.deciders import idempotency
from domain.errors import NotAMember, Refused
from domain.events import ERASURES, Event, Json
from domain.stored_events import from_stored, to_stored
from projections.read import SLICE, Read
from service.concurrency.lru import SizedLRU
from service.eventlog.errors import DATABASE_AWAY, Contended, committing
from service.eventlog.store import EventStore, NewEvent, Recorded, Snapshot, WrongVersion
from service.eventlog.stream_ids import AnyStream, StreamId, request_stream
from service.eventlog.writer import PATIENCE, Appended, Writer
from service.ops import metrics, tracing

MEMORY: Final = 10_000
MEMORY_BYTES: Final = 64 * 1024 * 1024
"""What is remembered at the most: streams, and bytes of their states as JSON."""

SNAPSHOT_EVERY: Final = 1_000
"""How many events of a stream there are, at most, after its newest snapshot."""

CONTENTION_SECONDS: Final = 10.0
"""How long a decision is made again and again while others keep changing its streams."""

_BUILDS: Final = {"BuildQueued": "queued", "BuildSucceeded": "succeeded", "BuildFailed": "failed"}
_ERASURES: Final = frozenset(kind.__name__ for kind in ERASURES)

_log = structlog.stdlib.get_logger(__name__)

S = TypeVar("S")
E = TypeVar("E", bound=Event)
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencyKey:
    """The name that a client gave to a request; `fingerprint` is a digest of what it asks for."""

    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestContext:
    """What brings a decision about: the metadata of its events, and the request's own name."""

    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    named: IdempotencyKey | None = None


BY_ITSELF: Final = RequestContext()
"""The service decides without a request."""


_UNMEASURED_BYTES: Final = 4_096
"""A state that has grown by less is not measured."""


@dataclass(slots=True)
class _Known:
    """A stream's state and version. A fresh one was read from the log in this transaction."""

    stream: AnyStream
    state: Any
    version: int
    is_fresh: bool
    text_version: int = 0
    """The version of the event that has the state's texts, which a snapshot leaves out; 0 where no
    event has any."""
    measured: int = 0
    grown: int = 0
    """The bytes of the state as JSON when it was measured last, and of its events since then."""

    def note(self, kind: str, version: int, size: int) -> None:
        """Note an event of the stream: its type, version and bytes."""
        self.version = version
        self.grown += size
        snapshots = self.stream.decider.snapshots
        if snapshots is not None and kind in snapshots.texts:
            self.text_version = version

    def size(self) -> int:
        """At least the bytes of the state as JSON, roughly.

        A state is measured again only after events of its own size: so the cost of measuring stays
        in proportion to the cost of the events, however large the state is.
        """
        if self.grown > max(self.measured, _UNMEASURED_BYTES):
            self.measured, self.grown = len(orjson.dumps(self.state, default=list)), 0
        return self.measured + self.grown


class Transaction:
    """One attempt at a decision: the streams that it loaded and the events that it decided on."""

    def __init__(
        self,
        transactions: "Transactions",
        tenant_id: str,
        context: RequestContext,
        *,
        is_fresh: bool,
    ) -> None:
        self._transactions = transactions
        self._tenant_id = tenant_id
        self._metadata = orjson.dumps(context.metadata).decode()
        self._named = context.named
        self._reads_memory = not is_fresh
        self._request: list[Recorded] | None = None
        self.known: dict[str, _Known] = {}
        self.events: list[NewEvent] = []
        self.written: set[str] = set()
        """The streams that the transaction has events for."""

    async def load(self, stream: StreamId[S, E]) -> S:
        """The stream's state, with what this transaction has decided on it."""
        name = str(stream)
        known = self.known.get(name) or self._remembered(name, stream)
        if known is None:
            await self._read([stream])
            known = self.known[name]
        return cast(S, known.state)

    async def recall(self, *streams: AnyStream, beside: Sequence[Read[Any]] = ()) -> None:
        """Load several streams in one round trip, and send the reads `beside` in the same trip.

        The reads see at least all events that the states of the streams have. A remembered stream
        may be out of date, and then the append fails.
        """
        missing = [
            each
            for name, each in ((str(each), each) for each in streams)
            if name not in self.known and self._remembered(name, each) is None
        ]
        if missing or beside:
            await self._read(missing, beside)

    def _remembered(self, name: str, stream: AnyStream) -> _Known | None:
        """Take up a stream as it is remembered, unless all is to come from the log itself."""
        if not self._reads_memory:
            return None
        known = self._transactions.remembered(self._tenant_id, stream)
        if known is not None:
            self.known[name] = known
        return known

    async def _read(self, streams: Sequence[AnyStream], beside: Sequence[Read[Any]] = ()) -> None:
        """Read the streams; the first read takes the named request's stream along."""
        request = None
        if self._named is not None and self._request is None:
            request = request_stream(self._named.key)
            streams = (*streams, request)
        read = await self._transactions.read(self._tenant_id, streams, beside)
        if request is not None:
            self._request = read.pop(str(request)).events
        for name, stream in read.items():
            self.known[name] = stream.known

    def begin(self, stream: AnyStream) -> None:
        """Begin a stream whose id was made in this process just now: the log cannot have it."""
        self.known[str(stream)] = _Known(stream, stream.decider.initial, 0, is_fresh=True)

    async def decide(
        self, stream: StreamId[S, E], decision: Callable[[S], Sequence[E]]
    ) -> Sequence[E]:
        """Load the stream, decide on its state, take up the events; returns them.

        Raises what the decision refuses.
        """
        decided = decision(await self.load(stream))
        self.append(stream, decided)
        return decided

    def append(self, stream: StreamId[Any, E], decided: Sequence[E]) -> None:
        """Take up events that were decided on a stream that is loaded."""
        if stream.decider.is_of_project and stream.project_id is None:
            raise ValueError(f"events of a {stream.decider.kind} belong to a project")
        name = str(stream)
        known = self.known[name]
        if decided:
            self.written.add(name)
        for event in decided:
            kind, encoded = type(event), encode(event)
            known.note(kind.__name__, known.version + 1, len(encoded))
            self.events.append(
                NewEvent(
                    self._tenant_id,
                    name,
                    known.version,
                    kind.__name__,
                    encoded,
                    stream.project_id,
                    kind.schema_version,
                    self._metadata,
                )
            )
        known.state = stream.decider.fold(decided, known.state)

    async def finish(self, named: IdempotencyKey, result: Json) -> None:
        """Note the result of a named request, beside all that was decided for it."""
        stream = request_stream(named.key)
        self.begin(stream)
        offset = len(self.events)
        await self.decide(
            stream,
            lambda request: idempotency.finish(
                request, key=named.key, fingerprint=named.fingerprint, result=result, offset=offset
            ),
        )

    async def done_before(
        self, named: IdempotencyKey, *, is_refused: bool = False
    ) -> tuple[Json, Appended] | None:
        """The result of a named request that was done before, and where. Raises KeyReused.

        What refuses a request may be the same request, done by somebody else since it was read: so
        a refused request is read again.
        """
        if self._request is None or (is_refused and not self._request):
            self._request = None
            await self._read(())
        found = self._request or []
        events = [decode(each.type, each.state) for each in found]
        if not idempotency.is_done(idempotency.fold(events), fingerprint=named.fingerprint):
            return None
        last = found[0].position
        place = Appended(last - events[0].offset, last, found[0].recorded_at)
        return events[0].result, place

    @property
    def is_fresh(self) -> bool:
        """Everything that was loaded came from the log itself."""
        return all(known.is_fresh for known in self.known.values())

    @property
    def is_founded(self) -> bool:
        """The append checks each stream that did not come from the log itself: the decision has
        events for all of them."""
        return all(known.is_fresh or name in self.written for name, known in self.known.items())


@dataclass(frozen=True, slots=True)
class _ReadStream:
    """A stream as it was read, and its events that were not known before."""

    known: _Known
    events: list[Recorded]


class Transactions:
    """Decides and appends; remembers the states of the streams that were written last.

    Owned by the service's loop. `on_events` gets what is committed, here or elsewhere.
    """

    def __init__(self, store: EventStore, writer: Writer) -> None:
        self._store = store
        self._writer = writer
        self._memory: SizedLRU[tuple[str, str], _Known] = SizedLRU(
            MEMORY, most_bytes=MEMORY_BYTES, size=_Known.size
        )

    async def transact(
        self,
        tenant_id: str,
        work: Callable[[Transaction], Awaitable[T]],
        *,
        cause: RequestContext = BY_ITSELF,
        append_id: UUID | None = None,
        patience: float = PATIENCE,
    ) -> tuple[T, Appended | None]:
        """Do `work` and append all that it decided, atomically; both again on an outdated state.

        Returns the result of `work` and where its events are; None where it decided on no event.
        Raises what the work refuses, and Unavailable, OutcomeUnknown.

        The work of a `named` request returns JSON and is done once: the same request later, on any
        server, gets the same result and place. Its work may be tried again, but nothing of that is
        kept. Raises KeyReused.
        """
        named = cause.named
        is_fresh = False
        time = asyncio.get_running_loop().time
        deadline = time() + CONTENTION_SECONDS
        while time() < deadline:
            transaction = Transaction(self, tenant_id, cause, is_fresh=is_fresh)
            try:
                result = await work(transaction)
            except NotAMember:  # a user who was removed does not get what they got before
                if transaction.is_fresh:
                    raise
            except Refused:
                if named is not None:
                    done = await transaction.done_before(named, is_refused=True)
                    if done is not None:
                        return cast(T, done[0]), await self._kept(done[1])
                if transaction.is_fresh:
                    raise
            else:
                if named is not None:
                    if done := await transaction.done_before(named):
                        return cast(T, done[0]), await self._kept(done[1])
                    await transaction.finish(named, result)
                if not transaction.events and transaction.is_fresh:
                    return result, None
                try:
                    if transaction.events and transaction.is_founded:
                        appended = await self._append(transaction.events, append_id, patience)
                        await self._remember(tenant_id, transaction)
                        _count(transaction.events)
                        return result, appended
                except WrongVersion:
                    pass
            is_fresh = True
        raise Contended("others kept changing the same streams")

    async def _append(
        self, events: list[NewEvent], append_id: UUID | None, patience: float
    ) -> Appended:
        with tracing.span("append") as span:
            appended = await self._writer.append(events, append_id=append_id, patience=patience)
            span.set(
                {"throughline.events": len(events), "throughline.position": appended.last_position}
            )
            return appended

    async def _kept(self, found: Appended) -> Appended:
        """Wait until a standby has an append that was found in the log; returns the append.

        Raises OutcomeUnknown where the connection is lost in this wait.
        """
        if found.last_position > self._writer.kept:
            with committing():
                await self._store.confirm()
        return found

    async def rehearse(
        self, tenant_id: str, work: Callable[[Transaction], Awaitable[object]]
    ) -> None:
        """Do `work` on what the log has now, and append nothing. Raises what the work refuses."""
        await work(Transaction(self, tenant_id, BY_ITSELF, is_fresh=True))

    async def current(self, tenant_id: str, stream: StreamId[S, E]) -> S:
        """The stream's state as the log has it now."""
        read = await self.read(tenant_id, [stream])
        return cast(S, read[str(stream)].known.state)

    def remembered(self, tenant_id: str, stream: AnyStream) -> _Known | None:
        """A copy of what is remembered of a stream, which may be out of date."""
        known = self._memory.get((tenant_id, str(stream)))
        if known is None:
            return None
        # Not `dataclasses.replace`, which is slower: every command passes here.
        return _Known(
            stream,
            known.state,
            known.version,
            False,
            known.text_version,
            known.measured,
            known.grown,
        )

    async def read(
        self, tenant_id: str, streams: Sequence[AnyStream], beside: Sequence[Read[Any]] = ()
    ) -> dict[str, _ReadStream]:
        """The streams by name, each read from where it is remembered."""
        known = {
            str(each): self.remembered(tenant_id, each)
            or _Known(each, each.decider.initial, 0, is_fresh=False)
            for each in streams
        }
        after = {name: each.version for name, each in known.items()}
        forms = {str(each): _form(each) for each in streams}
        events = await self._store.streams(tenant_id, after, beside, forms=forms)
        read: dict[str, _ReadStream] = {}
        for name, each in known.items():
            start, newer = await _from_snapshot(each, events.get(name, []))
            fresh = replace(start, state=await _folded(start, newer), is_fresh=True)
            for event in newer:
                fresh.note(event.type, event.version, len(event.state))
            read[name] = _ReadStream(fresh, newer)
            await self._keep(tenant_id, fresh, after=start.version)
        return read

    async def _remember(self, tenant_id: str, transaction: Transaction) -> None:
        # Only what was written: the append has checked that it was not erased meanwhile.
        firsts = {event.stream_id: event.version for event in reversed(transaction.events)}
        for name in transaction.written:
            known = transaction.known[name]
            if not known.stream.decider.is_read_once:
                self._memory.put((tenant_id, name), known)
                await self._keep(tenant_id, known, after=firsts[name] - 1)

    async def _keep(self, tenant_id: str, known: _Known, *, after: int) -> None:
        """Keep a snapshot where the stream has passed a multiple of SNAPSHOT_EVERY since `after`.

        Without the snapshot nothing is wrong: the next process reads more events.
        """
        snapshots = known.stream.decider.snapshots
        if snapshots is None or known.version // SNAPSHOT_EVERY == after // SNAPSHOT_EVERY:
            return
        kept = Snapshot(
            snapshots.form,
            known.version,
            orjson.dumps(snapshots.bare(known.state)),
            known.text_version or None,
        )
        try:
            await self._store.keep_snapshot(tenant_id, str(known.stream), kept)
        except DATABASE_AWAY as error:
            _log.warning("snapshot_not_kept", error=type(error).__name__)

    def on_events(self, events: Iterable[Recorded]) -> None:
        """Forget the states of the streams that were erased, wherever that was done."""
        for event in events:
            if event.type in _ERASURES:
                self._memory.pop((event.tenant_id, event.stream_id))


def _form(stream: AnyStream) -> str | None:
    snapshots = stream.decider.snapshots
    return None if snapshots is None else snapshots.form


async def _from_snapshot(known: _Known, rows: list[Recorded]) -> tuple[_Known, list[Recorded]]:
    """The stream at the snapshot that the rows begin with, and the events after it.

    The event with the state's texts follows its snapshot. The event may have been erased since.
    """
    snapshots = known.stream.decider.snapshots
    if not rows or snapshots is None or rows[0].type != snapshots.form:
        return known, rows
    kept = rows[0]
    state = snapshots.read(orjson.loads(kept.state))
    at = _Known(known.stream, state, kept.version, is_fresh=True, measured=len(kept.state))
    texts = [each for each in rows[1:2] if each.version <= kept.version]
    if texts:
        at.state = await _folded(at, texts)
        at.text_version = texts[0].version
        at.grown = len(texts[0].state)
    return at, rows[1 + len(texts) :]


def _count(events: Iterable[NewEvent]) -> None:
    """Count the builds that were queued and that ended, for the metrics."""
    for event in events:
        if event.type in _BUILDS:
            metrics.BUILDS.labels(_BUILDS[event.type]).inc()


async def _folded(known: _Known, events: Sequence[Recorded]) -> Any:
    """The state after the events. Other tasks run between the slices of a long stream."""
    state = known.state
    for n in range(0, len(events), SLICE):
        if n:
            await asyncio.sleep(0)
        state = known.stream.decider.fold(_decoded(events[n : n + SLICE]), state)
    return state


def _decoded(events: Iterable[Recorded]) -> Iterable[Any]:
    return (decode(each.type, each.state) for each in events)


def encode(event: Event) -> bytes:
    """The event as it is stored."""
    return orjson.dumps(to_stored(event), default=str)


def decode(name: str, state: bytes) -> Any:
    """The event that was stored, as its own type."""
    return from_stored(name, orjson.loads(state))
