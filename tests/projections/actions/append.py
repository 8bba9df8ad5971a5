"""One append in the making."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from domain.events import Event
from service.eventlog.store import NewEvent
from service.eventlog.stream_ids import AnyStream, StreamId
from service.eventlog.transactions import encode

S = TypeVar("S")
E = TypeVar("E", bound=Event)


class Append:
    """One append in the making; what was refused is thrown away whole."""

    def __init__(self, streams: dict[tuple[str, str], tuple[Any, int]], tenant_id: str) -> None:
        self.tenant_id = tenant_id
        self.streams: dict[tuple[str, str], tuple[Any, int]] = {}
        self.events: list[NewEvent] = []
        self._known = streams

    def state(self, stream: AnyStream) -> Any:
        """The state of a stream that was decided on."""
        return self.streams[self.tenant_id, str(stream)][0]

    def decide(self, stream: StreamId[S, E], decision: Callable[[S], tuple[E, ...]]) -> None:
        """Decide on the stream as it stands in this append."""
        key, decider = (self.tenant_id, str(stream)), stream.decider
        state, version = self.streams.get(key) or self._known.get(key) or (decider.initial, 0)
        decided = decision(state)
        self.events += new_events(self.tenant_id, str(stream), version, decided, stream.project_id)
        self.streams[key] = (decider.fold(decided, state), version + len(decided))


def new_events(
    tenant_id: str,
    stream_id: str,
    version: int,
    decided: Sequence[Event],
    project_id: str | None = None,
) -> list[NewEvent]:
    """Events as they are handed to the writer, after a version of their stream."""
    return [
        NewEvent(tenant_id, stream_id, n, type(event).__name__, encode(event), project_id)
        for n, event in enumerate(decided, version + 1)
    ]
