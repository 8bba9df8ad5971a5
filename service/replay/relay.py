"""The relay: publishes the log to a stream of NATS JetStream, each event once and in order.

The stream itself says how far it has come: its last message has the position of its event. So a
relay that was killed goes on behind it, whatever its checkpoint says. The checkpoint is for a
stream that drops messages, and no longer has its last one.
"""

from collections.abc import Callable
from typing import Final

import structlog

from service.concurrency.retry import retrying
from service.eventlog.live import LiveLog
from service.eventlog.tenant_feed import chained
from service.replay.delivery import CheckpointFile
from service.replay.jetstream import Address, Feed, Reached, StreamAway, StreamRefused, connected
from service.replay.reading import EventFilter

WINDOW: Final = 100
"""Events that wait for their acks at the same time, at most."""
_PAUSES: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)

_log = structlog.stdlib.get_logger(__name__)


class Relay:
    """Publishes the chosen events of a log to a stream."""

    def __init__(
        self,
        live_log: LiveLog,
        chosen: EventFilter,
        at: Address,
        feed: Feed,
        checkpoint: CheckpointFile,
        on_reached: Callable[[int], None] = lambda _: None,
    ) -> None:
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
            kept = self._checkpoint.position()
            async with connected(self._at, self._feed) as stream:
                reached = self._resumed(await stream.open(), kept)
                self._on_reached(reached or 0)
                async for page in self._live_log.follow(reached or 0):
                    events = [event for event in page if self._chosen.takes(event)]
                    for begin in range(0, len(events), WINDOW):
                        window = events[begin : begin + WINDOW]
                        await stream.publish(list(chained(window, reached)))
                        reached = window[-1].position
                        self._checkpoint.reach(reached)
                        self._on_reached(reached)
        except StreamAway as error:
            # What NATS says has no event in it.
            _log.warning("stream_away", stream=self._at.stream, said=str(error))
            raise

    def _resumed(self, found: Reached, kept: int | None) -> int | None:
        """The position of the last event that the stream got; None for a stream without events."""
        if found.is_new:
            return None
        if found.position is not None:
            return found.position
        if kept is None:
            raise StreamRefused(
                f"{self._at.described} no longer has its last message, and there is no checkpoint"
                " that says how far it came. Name the checkpoint of the relay that filled it, or"
                " delete the stream to publish the log anew."
            )
        return kept
