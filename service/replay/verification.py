"""The faults of a log: gaps, wrong versions, unreadable events, read models that differ."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Final

import orjson

from domain.events import EVENT_TYPES
from projections import PROJECTIONS
from projections.projection import head, verify
from service.eventlog.store import Recorded
from service.eventlog.stream_ids import DECIDERS, Decider
from service.eventlog.transactions import decode
from service.postgres.connections import Connection
from service.replay.archive import PROGRESS_EVERY, Progress
from service.replay.importing import Rebuilding
from service.replay.reading import SQL, EventFilter, whole

FIRST: Final = 10
"""How many faults of a kind are named."""

STEP: Final = 10_000
"""How many events of a stream are read and folded at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A check with the first faults that it found. `count` is the number of events that it read."""

    name: str
    count: int
    faults: tuple[str, ...]


async def checks(connection: Connection, reading: Rebuilding) -> AsyncGenerator[Check]:
    """Check the log and every read model, one after the other.

    `reading` is called with the name of a check that takes long. It returns what is called with the
    progress of the check.
    """
    async for check in log_checks(connection, reading):
        yield check
    upto = await head(connection)
    for projection in PROJECTIONS:
        rows = await verify(connection, projection, reading(projection.name))
        faults = () if rows == 0 else (f"{rows} rows differ from the log",)
        yield Check(name=f"read model {projection.name}", count=upto, faults=faults)


async def log_checks(connection: Connection, reading: Rebuilding) -> AsyncGenerator[Check]:
    """Check the log alone."""
    upto = await head(connection)
    for name, statement, text in _STATEMENTS:
        found = await connection.execute(SQL[statement], {"most": FIRST})
        faults = tuple(text.format(*row) for row in await found.fetchall())
        yield Check(name=name, count=upto, faults=faults)
    yield await _readable(connection, upto, reading("events"))
    yield await _snapshots(connection)


_STATEMENTS: Final = (
    ("positions", "missing_positions", "position {0} follows {1}: positions between are missing"),
    ("versions", "wrong_versions", "position {0}: version {2} of {1} follows version {3}"),
    ("appends", "split_appends", "positions {0} to {1} are not one append"),
    ("erasures", "unmasked", "position {0}: has texts that the event at {1} erases"),
)
"""The checks that the database does: name, statement, and the text for each row."""


async def _readable(connection: Connection, upto: int, progress: Progress) -> Check:
    """Read every event of a known type as the service reads it."""
    faults: list[str] = []
    count = 0
    async for _, event in whole(connection, EventFilter(), upto=upto):
        count += 1
        if count % PROGRESS_EVERY == 0:
            progress(count, upto)
        if event.type in EVENT_TYPES and len(faults) < FIRST and (fault := fault_of(event)):
            faults.append(f"position {event.position}: {fault}")
    return Check(name="events", count=count, faults=tuple(faults))


@dataclass(slots=True)
class _Folded:
    """A stream that has snapshots, folded from its first event on, a step at a time."""

    tenant_id: str
    stream_id: str
    decider: Decider[Any, Any]
    state: Any
    version: int = 0
    text_version: int | None = None

    async def go_to(self, connection: Connection, version: int) -> None:
        """Fold the events up to a version. A long stream is never in memory as a whole."""
        assert self.decider.snapshots is not None
        while self.version < version:
            upto = min(version, self.version + STEP)
            asked: dict[str, Any] = {"tenant_id": self.tenant_id, "stream_id": self.stream_id}
            asked |= {"after": self.version, "upto": upto}
            found = await connection.execute(SQL["events_between"], asked)
            rows = await found.fetchall()
            for at, kind, _ in rows:
                if kind in self.decider.snapshots.texts:
                    self.text_version = at
            events = [decode(kind, state) for _, kind, state in rows]
            self.state = self.decider.fold(events, self.state)
            self.version = upto

    def is_kept_as(self, state: bytes, text_version: int | None) -> bool:
        """Whether a snapshot has the state of the stream, without its texts."""
        snapshots = self.decider.snapshots
        assert snapshots is not None
        is_same = snapshots.read(orjson.loads(state)) == snapshots.bare(self.state)
        return is_same and text_version == self.text_version


async def _snapshots(connection: Connection) -> Check:
    """Fold each stream that has snapshots anew, and compare its state with each snapshot."""
    forms = {each.snapshots.form: each for each in DECIDERS.values() if each.snapshots}
    found = await connection.execute(SQL["snapshots"], {"forms": [*forms]})
    faults: list[str] = []
    rows = await found.fetchall()
    folded: _Folded | None = None
    for tenant_id, stream_id, version, form, kept, text_version in rows:
        if folded is None or (folded.tenant_id, folded.stream_id) != (tenant_id, stream_id):
            folded = _Folded(tenant_id, stream_id, forms[form], forms[form].initial)
        try:
            await folded.go_to(connection, version)
            is_same = folded.is_kept_as(kept, text_version)
        except (TypeError, ValueError, KeyError, ArithmeticError):
            is_same = False
        if not is_same:
            faults.append(f"{stream_id}: the snapshot at version {version} differs from the log")
    return Check(name="snapshots", count=len(rows), faults=tuple(faults[:FIRST]))


def fault_of(event: Recorded) -> str | None:
    """The fault of an event of a known type; None where the event has no fault."""
    stream = DECIDERS[event.type]
    if not event.stream_id.startswith(f"{stream.kind}-"):
        return f"{event.type} does not belong to the stream {event.stream_id}"
    if not 1 <= event.schema_version <= EVENT_TYPES[event.type].schema_version:
        return f"{event.type} has the schema version {event.schema_version}, unknown here"
    try:
        decoded = decode(event.type, event.state)
    except (TypeError, ValueError, KeyError, ArithmeticError) as error:
        return f"{event.type} cannot be read ({type(error).__name__})"
    if not stream.is_of_project:
        return None
    named = getattr(decoded, "project_id", event.project_id)
    if event.project_id is None or named != event.project_id:
        return f"{event.type} is of project {named}, and stored with {event.project_id}"
    return None
