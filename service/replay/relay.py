"""The relay: publishes the log to a stream of NATS JetStream, each event once and in order.

The stream itself says how far it has come: its last message has the cursor of its event. So a
relay that was killed goes on behind it, whatever its checkpoint says. The checkpoint is for a
stream that drops messages, and no longer has its last one.
"""

from collections.abc import Callable
from typing import Final

import structlog

from service.concurrency.retry import retrying
from service.eventlog.live import LiveLog
from service.eventlog.store import EventStore
from service.eventlog.tenant_feed import chained
from service.replay.delivery import CheckpointFile
from service.replay.jetstream import Address, Feed, Reached, StreamAway, StreamRefused, connected
from service.replay.reading import EventFilter
from service.wire import position_of

WINDOW: Final = 100
"""Events that wait for their acks at the same time, at most."""
_PAUSES: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)

_log = structlog.stdlib.get_logger(__name__)


class Relay:
    """Publishes the chosen events of a log to a stream."""

    def __init__(
        self,
        store: EventStore,
        live_log: LiveLog,
        chosen: EventFilter,
        at: Address,
        feed: Feed,
        checkpoint: CheckpointFile,
        on_reached: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._live_log = live_log
        self._chosen = chosen
        self._at = at
        self._feed = feed
        self._checkpoint = checkpoint
        self._on_reached = on_reached

    async def run(self) -> None:
        """Publish for ever. A lost connection is made again.

        `on_reached` is called with the position after which the relay begins or goes on, and with
        the position of the last event of each window that was acknowledged. Raises StreamRefused,
        CheckpointRefused and NatsMissing.
        """
        await retrying(self._publish, (StreamAway,), event="relay_waits", pauses=_PAUSES)

    async def _publish(self) -> None:
        try:
            kept = self._checkpoint.cursor()
            async with connected(self._at, self._feed) as stream:
                reached = self._resumed(await stream.open(), kept)
                await self._require_shared(reached)
                begin_after = 0 if reached is None else position_of(reached)
                self._on_reached(begin_after)
                async for page in self._live_log.follow(begin_after):
                    events = [event for event in page if self._chosen.takes(event)]
                    for begin in range(0, len(events), WINDOW):
                        window = events[begin : begin + WINDOW]
                        await stream.publish(list(chained(window, reached)))
                        reached = window[-1].cursor
                        self._checkpoint.reach(reached)
                        self._on_reached(window[-1].position)
        except StreamAway as error:
            # What NATS says has no event in it.
            _log.warning("stream_away", stream=self._at.stream, said=str(error))
            raise

    async def _require_shared(self, reached: str | None) -> None:
        """Raises StreamRefused where the log does not have the last event that the stream got."""
        if reached is not None and await self._store.is_lost(reached):
            raise StreamRefused(
                f"{self._at.described} has the events of another log, or of this log before it lost"
                f" its last events: the log does not have the event {reached}. Name another stream."
            )

    def _resumed(self, found: Reached, kept: str | None) -> str | None:
        """The cursor of the last event that the stream got; None where it got none."""
        if found.is_new:
            return None
        if found.cursor is not None:
            return found.cursor
        if kept is None:
            raise StreamRefused(
                f"{self._at.described} no longer has its last message, and there is no checkpoint"
                " that says how far it came. Name the checkpoint of the relay that filled it, or"
                " delete the stream to publish the log anew."
            )
        return kept
