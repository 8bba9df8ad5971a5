"""The `eventsourcing` library's recorders on one tenant's part of the log."""

from collections.abc import AsyncGenerator, Generator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID

import orjson
import psycopg
from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    DatabaseError,
    IntegrityError,
    Notification,
    OperationalError,
    ProcessRecorder,
    StoredEvent,
    Subscription,
    Tracking,
    TrackingRecorder,
)

import sql
from service.eventlog.errors import OutcomeUnknown, Unavailable
from service.eventlog.store import END, NewEvent, Recorded, WrongVersion
from service.postgres.connections import service_transaction, tenant_transaction
from service.recorder.threaded_log import LogStopped, ThreadedLog

SQL: Final = sql.statements("eventsourcing.sql")
TRACKED: Final = "NotificationTracked"
_NO_LIMIT: Final = 2**31 - 1


@contextmanager
def library_errors() -> Generator[None]:
    """Raise the log's errors as the library's. An unknown outcome is never an IntegrityError, which
    would say that nothing was recorded."""
    try:
        yield
    except (WrongVersion, ValueError, psycopg.errors.UniqueViolation) as error:
        raise IntegrityError(str(error)) from error
    except (Unavailable, LogStopped, psycopg.OperationalError, TimeoutError) as error:
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
        with library_errors():
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
        with library_errors():
            rows = self._log.call(self._rows(query, parameters))
        return [StoredEvent(originator_id, *row[1:]) for row in rows]

    async def _rows(self, query: bytes, parameters: dict[str, Any]) -> list[Any]:
        async with tenant_transaction(self._log.pool, self._tenant_id) as connection:
            cursor = await connection.execute(query, parameters, binary=True)
            return await cursor.fetchall()


class LogSnapshotRecorder(LogAggregateRecorder):
    """Snapshots of one tenant's aggregates, in a table beside the log."""

    def insert_events(
        self,
        stored_events: Sequence[StoredEvent],
        **kwargs: Any,  # noqa: ARG002 - the library's signature
    ) -> Sequence[int] | None:
        """Store snapshots. Raises IntegrityError where a snapshot of a version exists already."""
        with library_errors():
            self._log.call(self._store(stored_events))
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

    async def _store(self, snapshots: Sequence[StoredEvent]) -> None:
        async with service_transaction(self._log.pool) as connection:
            for snapshot in snapshots:
                row = self._new(snapshot)._asdict()
                await connection.execute(SQL["store_snapshot"], row)


class LogApplicationRecorder(LogAggregateRecorder, ApplicationRecorder):
    """One tenant's events in their order. Notification ids are positions: they rise, and leave gaps
    where other tenants append."""

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
        with library_errors():
            return [self.notification(recorded) for recorded in self._log.call(reading)]

    def max_notification_id(self) -> int | None:
        """The position of the tenant's last event."""
        with library_errors():
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
        """The log that the recorder reads and writes."""
        return self._log


class LogSubscription(Subscription[LogApplicationRecorder]):
    """Follows the live log, which also polls the table: a lost NOTIFY only delays an event."""

    def __init__(
        self, recorder: LogApplicationRecorder, gt: int | None, topics: Sequence[str]
    ) -> None:
        super().__init__(recorder, gt, topics)
        self._pages = recorder.log.live_log.follow(gt or 0)
        self._waiting: Future[list[Recorded]] | None = None
        self._page: list[Notification] = []

    def __next__(self) -> Notification:
        """Wait for the next event. Raises StopIteration once the subscription is stopped, and
        OperationalError once the log has stopped."""
        while not self._page and not self._has_been_stopped:
            self._page = self._next_page()[::-1]
        if self._has_been_stopped:
            raise StopIteration
        return self._page.pop()

    def stop(self) -> None:
        """End the subscription, and the wait of a thread in `__next__`."""
        super().stop()
        if self._waiting is not None:
            self._waiting.cancel()

    def _next_page(self) -> list[Notification]:
        with library_errors():
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
    """How far an application has processed the notifications of other applications.

    Each of those has a stream of tracking events. So a tracking is in the same append as the events
    that it caused, or in none, and the stream's version decides races. The streams belong to a
    tenant of their own, so that they are no notifications of the application.
    """

    def __init__(self, log: ThreadedLog, tenant_id: str, **_: Any) -> None:
        self._log = log
        self._trackings = f"{tenant_id}/tracking"

    def insert_tracking(self, tracking: Tracking) -> None:
        """Record a tracking. Raises IntegrityError unless it is further than the last one."""
        with library_errors():
            self._log.call(self._track([], tracking))

    def max_tracking_id(self, application_name: str) -> int | None:
        """The furthest notification that was tracked, or None."""
        with library_errors():
            return self._log.call(self._last(application_name))[1]

    def close(self) -> None:
        """Close the log. A projection runner leaves its view open: the view's user closes it."""
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
        with library_errors():
            first = self._log.call(self._track(events, tracking))
        return list(range(first, first + len(events)))
