"""Our vocabulary for the `eventsourcing` library's mapper."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from eventsourcing.persistence import Mapper, StoredEvent

from domain.events import EVENT_TYPES, Event
from service.eventlog.transactions import decode, encode


@dataclass(frozen=True, slots=True)
class Envelope:
    """An event of our vocabulary in the form that the library's mapper expects."""

    originator_id: UUID | str
    originator_version: int
    event: Event


class LogMapper(Mapper[Any]):
    """The library's mapper, which also reads and writes the events of our vocabulary."""

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
        """The stored event as its own type. An event of our vocabulary comes in an Envelope."""
        if stored_event.topic not in EVENT_TYPES:
            return super().to_domain_event(stored_event)
        return Envelope(
            stored_event.originator_id,
            stored_event.originator_version,
            decode(stored_event.topic, stored_event.state),
        )
