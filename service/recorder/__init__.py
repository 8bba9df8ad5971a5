"""The log as a persistence module of the `eventsourcing` library.

With `PERSISTENCE_MODULE=service.recorder` and `THROUGHLINE_DATABASE_URL`, its aggregates,
applications, notification logs and projection runners work on the same table, through the same
writer, in the same order as everything else. Each application is a tenant of its own, named by it
unless `THROUGHLINE_TENANT` says otherwise, so applications see each other's events only on purpose.

Its words at this seam: an originator id is a stream, an originator version a version, a
notification id a position, a topic a type.
"""

from collections.abc import AsyncGenerator, Generator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import orjson
import psycopg
from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    DatabaseError,
    InfrastructureFactory,
    IntegrityError,
    Mapper,
    Notification,
    OperationalError,
    ProcessRecorder,
    StoredEvent,
    Subscription,
    Tracking,
    TrackingRecorder,
)
from eventsourcing.utils import Environment, EnvType, resolve_topic, strtobool

import sql
from domain.events import EVENT_TYPES, Event
from service.eventlog.store import (
    END,
    NewEvent,
    OutcomeUnknown,
    Recorded,
    Unavailable,
    WrongVersion,
)
from service.eventlog.transactions import decode, encode
from service.postgres.connections import service_transaction, tenant_transaction
from service.recorder.threaded_log import ThreadedLog

SQL: Final = sql.statements("eventsourcing.sql")
TRACKED: Final = "NotificationTracked"
_NO_LIMIT: Final = 2**31 - 1


@contextmanager
def _their_errors() -> Generator[None]:
    """Ours in the library's words; an unknown outcome is never told as a conflict."""
    try:
        yield
    except (WrongVersion, ValueError, psycopg.errors.UniqueViolation) as error:
        raise IntegrityError(str(error)) from error
    except (Unavailable, psycopg.OperationalError, TimeoutError) as error:
        raise OperationalError(str(error)) from error
    except OutcomeUnknown as error:
        raise OperationalError(f"it may be recorded or not: {error.__doc__}") from error
    except psycopg.Error as error:
        raise DatabaseError(str(error)) from error


class LogAggregateRecorder(AggregateRecorder):
    """Streams of one tenant, appended and read."""

    def __init__(self, log: ThreadedLog, tenant_id: str, *, uuids: bool) -> None:
        self._log = log
        self._tenant_id = tenant_id
        self._uuids = uuids

    def insert_events(
        self,
        stored_events: Sequence[StoredEvent],
        **kwargs: Any,  # noqa: ARG002 - the library's signature
    ) -> Sequence[int] | None:
        """Append all or none. Raises IntegrityError when a version is taken."""
        self._append(stored_events)
        return None

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """A stream's events between two versions."""
        return self._select("slice", originator_id, gt, lte, desc, limit)

    def _append(self, stored_events: Sequence[StoredEvent]) -> list[int]:
        if not stored_events:
            return []
        events = [self._new(stored) for stored in stored_events]
        with _their_errors():
            appended = self._log.call(self._log.writer.append(events))
        return list(range(appended.first_position, appended.first_position + len(events)))

    def _new(self, stored: StoredEvent) -> NewEvent:
        return NewEvent(
            self._tenant_id,
            str(stored.originator_id),
            stored.originator_version,
            stored.topic,
            stored.state,
        )

    def _select(
        self,
        statement: str,
        originator_id: UUID | str,
        gt: int | None,
        lte: int | None,
        desc: bool,
        limit: int | None,
    ) -> list[StoredEvent]:
        parameters = {
            "tenant_id": self._tenant_id,
            "stream_id": str(originator_id),
            "gt": -1 if gt is None else gt,
            "lte": _NO_LIMIT if lte is None else lte,
            "limit": _NO_LIMIT if limit is None else limit,
        }
        query = SQL[f"{statement}_desc" if desc else statement]
        with _their_errors():
            rows = self._log.call(self._rows(query, parameters))
        return [StoredEvent(originator_id, *row[1:]) for row in rows]

    async def _rows(self, query: bytes, parameters: dict[str, Any]) -> list[Any]:
        async with tenant_transaction(self._log.pool, self._tenant_id) as connection:
            cursor = await connection.execute(query, parameters, binary=True)
            return await cursor.fetchall()


class LogSnapshotRecorder(LogAggregateRecorder):
    """Snapshots of one tenant's aggregates. They are kept beside the log, not in it."""

    def insert_events(
        self,
        stored_events: Sequence[StoredEvent],
        **kwargs: Any,  # noqa: ARG002 - the library's signature
    ) -> Sequence[int] | None:
        """Keep snapshots. Raises IntegrityError when there is one of the version."""
        with _their_errors():
            self._log.call(self._take(stored_events))
        return None

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """An aggregate's snapshots between two versions."""
        return self._select("snapshots", originator_id, gt, lte, desc, limit)

    async def _take(self, snapshots: Sequence[StoredEvent]) -> None:
        async with service_transaction(self._log.pool) as connection:
            for snapshot in snapshots:
                row = self._new(snapshot)._asdict()
                await connection.execute(SQL["take_snapshot"], row)


class LogApplicationRecorder(LogAggregateRecorder, ApplicationRecorder):
    """One tenant's events in their order. Notification ids are positions: they rise, and where
    others append to the log too, they leave out theirs."""

    def insert_events(
        self,
        stored_events: Sequence[StoredEvent],
        **kwargs: Any,  # noqa: ARG002 - the library's signature
    ) -> Sequence[int] | None:
        """Append all or none; returns their positions. Raises IntegrityError."""
        return self._append(stored_events)

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """A page of the tenant's events from or after a position."""
        after = 0 if start is None else start - inclusive_of_start
        reading = self._log.store.range(
            after=after,
            upto=END if stop is None else stop,
            limit=limit,
            tenant_id=self._tenant_id,
            types=topics or None,
        )
        with _their_errors():
            return [self.notification(recorded) for recorded in self._log.call(reading)]

    def max_notification_id(self) -> int | None:
        """The position of the tenant's last event."""
        with _their_errors():
            rows = self._log.call(self._rows(SQL["last_position"], {"tenant_id": self._tenant_id}))
        return rows[0][0] if rows else None

    def subscribe(
        self, gt: int | None = None, topics: Sequence[str] = ()
    ) -> "Subscription[ApplicationRecorder]":
        """The tenant's events after a position, without end."""
        return LogSubscription(self, gt, topics)

    def notification(self, recorded: Recorded) -> Notification:
        """A recorded event in the library's form."""
        stream_id = recorded.stream_id
        return Notification(
            originator_id=UUID(stream_id) if self._uuids else stream_id,
            originator_version=recorded.version,
            topic=recorded.type,
            state=recorded.state,
            id=recorded.position,
        )

    def is_own(self, recorded: Recorded) -> bool:
        """Whether the event is the tenant's."""
        return recorded.tenant_id == self._tenant_id

    @property
    def log(self) -> ThreadedLog:
        """What the recorder works on."""
        return self._log


class LogSubscription(Subscription[LogApplicationRecorder]):
    """Follows the live tail, which reads the table wherever it has to: no wake-up can be lost."""

    def __init__(
        self, recorder: LogApplicationRecorder, gt: int | None, topics: Sequence[str]
    ) -> None:
        super().__init__(recorder, gt, topics)
        self._pages = recorder.log.live_log.follow(gt or 0)
        self._waiting: Future[list[Recorded]] | None = None
        self._page: list[Notification] = []

    def __next__(self) -> Notification:
        """The next event; waits for it. Ends when the subscription is stopped."""
        while not self._page and not self._has_been_stopped:
            self._page = self._next_page()[::-1]
        if self._has_been_stopped:
            raise StopIteration
        return self._page.pop()

    def stop(self) -> None:
        """End the subscription, also for who waits in it."""
        super().stop()
        if self._waiting is not None:
            self._waiting.cancel()

    def _next_page(self) -> list[Notification]:
        self._waiting = self._recorder.log.submit(_advanced(self._pages))
        try:
            page = self._waiting.result()
        except CancelledError:
            return []
        return [
            self._recorder.notification(recorded)
            for recorded in page
            if self._recorder.is_own(recorded)
            and (not self._topics or recorded.type in self._topics)
        ]


async def _advanced(pages: AsyncGenerator[list[Recorded], None]) -> list[Recorded]:
    return await anext(pages)


class LogTrackingRecorder(TrackingRecorder):
    """How far an application has come in others' notifications: events on a stream for each.

    So a tracking is in the same append as the events that it brought about, or in none, and the
    stream's version decides races. The streams belong to a tenant of their own: they are no
    notifications of the application.
    """

    def __init__(self, log: ThreadedLog, tenant_id: str, **_: Any) -> None:
        self._log = log
        self._trackings = f"{tenant_id}/tracking"

    def insert_tracking(self, tracking: Tracking) -> None:
        """Record a tracking. Raises IntegrityError unless it is further than the last one."""
        with _their_errors():
            self._log.call(self._track([], tracking))

    def max_tracking_id(self, application_name: str) -> int | None:
        """The furthest notification that was tracked, or None."""
        with _their_errors():
            return self._log.call(self._last(application_name))[1]

    def close(self) -> None:
        """Let go of the log. A projection runner leaves its view open; its user closes it."""
        self._log.close()

    async def _track(self, events: list[NewEvent], tracking: Tracking) -> int:
        """Append the events and the tracking together; returns the first one's position."""
        while True:
            version, last = await self._last(tracking.application_name)
            if last is not None and tracking.notification_id <= last:
                raise IntegrityError(f"{tracking} is not further than {last}")
            tracked = NewEvent(
                self._trackings,
                tracking.application_name,
                version + 1,
                TRACKED,
                orjson.dumps({"notification_id": tracking.notification_id}),
            )
            try:
                return (await self._log.writer.append([*events, tracked])).first_position
            except WrongVersion as error:
                if error.stream_id != tracking.application_name:
                    raise

    async def _last(self, application_name: str) -> tuple[int, int | None]:
        parameters = {
            "tenant_id": self._trackings,
            "stream_id": application_name,
            "gt": -1,
            "lte": _NO_LIMIT,
            "limit": 1,
        }
        async with tenant_transaction(self._log.pool, self._trackings) as connection:
            cursor = await connection.execute(SQL["slice_desc"], parameters, binary=True)
            row = await cursor.fetchone()
        return (row[1], orjson.loads(row[3])["notification_id"]) if row else (0, None)


class LogProcessRecorder(LogTrackingRecorder, LogApplicationRecorder, ProcessRecorder):
    """Events and tracking in one append."""

    def __init__(self, log: ThreadedLog, tenant_id: str, *, uuids: bool) -> None:
        LogApplicationRecorder.__init__(self, log, tenant_id, uuids=uuids)
        LogTrackingRecorder.__init__(self, log, tenant_id)

    def insert_events(
        self, stored_events: Sequence[StoredEvent], **kwargs: Any
    ) -> Sequence[int] | None:
        """Append all or none, `tracking` included; returns the events' positions."""
        tracking: Tracking | None = kwargs.get("tracking")
        if tracking is None:
            return self._append(stored_events)
        events = [self._new(stored) for stored in stored_events]
        with _their_errors():
            first = self._log.call(self._track(events, tracking))
        return list(range(first, first + len(events)))


@dataclass(frozen=True, slots=True)
class Envelope:
    """One of our own events as the library takes it."""

    originator_id: UUID | str
    originator_version: int
    event: Event


class LogMapper(Mapper[Any]):
    """The library's mapper, which also reads and writes our own vocabulary."""

    def to_stored_event(self, domain_event: Any) -> StoredEvent:
        """The event as it is stored."""
        if not isinstance(domain_event, Envelope):
            return super().to_stored_event(domain_event)
        return StoredEvent(
            originator_id=domain_event.originator_id,
            originator_version=domain_event.originator_version,
            topic=type(domain_event.event).__name__,
            state=encode(domain_event.event),
        )

    def to_domain_event(self, stored_event: StoredEvent) -> Any:
        """The stored event as its own type; ours in an Envelope."""
        if stored_event.topic not in EVENT_TYPES:
            return super().to_domain_event(stored_event)
        return Envelope(
            stored_event.originator_id,
            stored_event.originator_version,
            decode(stored_event.topic, stored_event.state),
        )


class Factory(InfrastructureFactory[TrackingRecorder]):
    """Makes recorders on one log. `close` ends its thread and connections."""

    DATABASE_URL: Final = "THROUGHLINE_DATABASE_URL"
    TENANT: Final = "THROUGHLINE_TENANT"
    ORIGINATOR_ID_TYPE: Final = "ORIGINATOR_ID_TYPE"
    CREATE_TABLE: Final = "CREATE_TABLE"

    def __init__(self, env: Environment | EnvType | None) -> None:
        super().__init__(env)
        url = self.env.get(self.DATABASE_URL)
        if not url:
            raise OSError(f"{self.DATABASE_URL} is missing: the URL of Throughline's database")
        migrate = strtobool(self.env.get(self.CREATE_TABLE) or "yes")
        with _their_errors():
            self._log = ThreadedLog(url, migrate=migrate)
        self._tenant_id = self.env.get(self.TENANT) or self.env.name.lower() or "eventsourcing"
        self._uuids = (self.env.get(self.ORIGINATOR_ID_TYPE) or "uuid") == "uuid"

    def mapper(self, transcoder: Any = None, mapper_class: Any = None) -> Any:
        """The log's mapper, unless another one is asked for."""
        chosen = mapper_class or (None if self.env.get(self.MAPPER_TOPIC) else LogMapper)
        return super().mapper(transcoder, chosen)

    def aggregate_recorder(self, purpose: str = "events") -> AggregateRecorder:
        """Streams of the log, or the snapshots beside it."""
        kind = LogSnapshotRecorder if purpose == "snapshots" else LogAggregateRecorder
        return kind(self._log, self._tenant_id, uuids=self._uuids)

    def application_recorder(self) -> ApplicationRecorder:
        """The application's events in their order."""
        chosen: ApplicationRecorder = self._chosen(
            self.APPLICATION_RECORDER_TOPIC, LogApplicationRecorder
        )
        return chosen

    def tracking_recorder(self, tracking_recorder_class: Any = None) -> Any:
        """Trackings; of the given class, which is a LogTrackingRecorder."""
        default = tracking_recorder_class or LogTrackingRecorder
        return self._chosen(
            "" if tracking_recorder_class else self.TRACKING_RECORDER_TOPIC, default
        )

    def process_recorder(self) -> ProcessRecorder:
        """Events and trackings."""
        chosen: ProcessRecorder = self._chosen(self.PROCESS_RECORDER_TOPIC, LogProcessRecorder)
        return chosen

    def _chosen(self, setting: str, default: Any) -> Any:
        topic = self.env.get(setting) if setting else None
        kind: Any = resolve_topic(topic) if topic else default
        return kind(self._log, self._tenant_id, uuids=self._uuids)

    def __exit__(self, *args: Any) -> None:
        """Leaving the factory closes it: projection runners do nothing else."""
        super().__exit__(*args)
        self.close()

    def close(self) -> None:
        """Write what waits and let go of everything."""
        self._log.close()
