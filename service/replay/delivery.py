"""A replay to another system: signed batches of CloudEvents over HTTP, each sent until it is taken.

A receiver gets every event at least once and in order: a batch is sent again when its answer was
lost. `source` and `id` name an event, so a receiver knows what it has. The checkpoint is written
after each batch that was taken. A replay that was cut goes on from there.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import httpx2
import structlog
from pydantic import ValidationError

from service.access import signatures
from service.concurrency.retry import retry_after
from service.eventlog.cloudevents import cloud_event
from service.eventlog.store import Recorded, is_lost
from service.eventlog.tenant_feed import chained
from service.postgres.connections import Connection
from service.wire import Wire, position_of

BATCH_EVENTS: Final = 100
BATCH_BYTES: Final = 1024 * 1024
"""The events and bytes of a batch, at most, unless an event alone is larger."""

MEDIA_TYPE: Final = "application/cloudevents-batch+json"
_PAUSES: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 30.0)
_LONGEST_PAUSE: Final = 60.0
_TIMEOUT_SECONDS: Final = 30.0
_WORTH_A_RETRY: Final = frozenset({408, 425, 429, 500, 502, 503, 504})

Read = Callable[[int], Awaitable[Sequence[Recorded]]]
"""The next events after a position; none at the end."""

_log = structlog.stdlib.get_logger(__name__)


class NotDelivered(RuntimeError):
    """A batch was refused, or not taken after all tries. The message says what to do."""


class CheckpointRefused(RuntimeError):
    """A checkpoint file belongs to another replay, or is no checkpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where batches go, and the key that signs them."""

    url: str
    key_id: str
    secret: str


class Checkpoint(Wire):
    """How far a replay has come: the cursor of the last event that the receiver took.

    `selection` says which events are sent. A replay of others does not go on from here.
    """

    format: Literal["throughline-replay/1"] = "throughline-replay/1"
    url: str
    selection: str
    cursor: str


class CheckpointFile:
    """The checkpoint of a replay in a file. It is replaced as a whole, so it is never half."""

    def __init__(self, path: Path, *, url: str, selection: str) -> None:
        self._path = path
        self._url = url
        self._selection = selection

    def cursor(self) -> str | None:
        """The cursor of the last event that was taken; None where there is no file yet.

        Raises CheckpointRefused.
        """
        if not self._path.exists():
            return None
        try:
            found = Checkpoint.model_validate_json(self._path.read_bytes())
            position_of(found.cursor)
        except (ValidationError, ValueError):
            raise CheckpointRefused(f"{self._path} is no checkpoint of a replay.") from None
        for name, theirs, ours in (
            ("to another URL", found.url, self._url),
            ("of other events", found.selection, self._selection),
        ):
            if theirs != ours:
                raise CheckpointRefused(
                    f"{self._path} is the checkpoint of a replay {name}. Name another file."
                )
        return found.cursor

    async def require_in(self, connection: Connection) -> str | None:
        """The same, where the event is in the log of this connection. Raises CheckpointRefused."""
        cursor = self.cursor()
        if cursor is not None and await is_lost(connection, cursor):
            raise CheckpointRefused(
                f"{self._path} is the checkpoint of another log, or of this log before it lost its"
                f" last events: the log does not have the event {cursor}. Name another file."
            )
        return cursor

    def reach(self, cursor: str) -> None:
        """Write that everything up to an event was taken."""
        written = Checkpoint(url=self._url, selection=self._selection, cursor=cursor)
        beside = self._path.with_name(f"{self._path.name}.new")
        with beside.open("wb") as file:
            file.write(written.model_dump_json(by_alias=True).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)


class Delivery:
    """Sends batches of events to a target, in order, one after the other."""

    def __init__(
        self,
        client: httpx2.AsyncClient,
        target: Target,
        *,
        pauses: Sequence[float] = _PAUSES,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._target = target
        self._pauses = pauses
        self._sleep = sleep

    async def send_all(
        self, read: Read, after: int, prev: str | None, on_taken: Callable[[str, int], None]
    ) -> int:
        """Send all events after a position; returns how many.

        `prev` is the cursor of the event before the first. `on_taken` is called after each batch
        with the cursor of its last event, and the number of its events. Each try reads its events
        anew, because an erasure may have taken texts meanwhile. Raises NotDelivered.
        """
        total, pauses = 0, iter(self._pauses)
        while events := await read(after):
            batch = _batch(events, prev)
            last = events[len(batch) - 1]
            wait, said = await self._post(b"[" + b",".join(batch) + b"]")
            if said is not None:
                await self._pause(last.position, wait, next(pauses, None), said)
                continue
            after, prev, pauses = last.position, last.cursor, iter(self._pauses)
            total += len(batch)
            on_taken(prev, len(batch))
        return total

    async def _pause(
        self, position: int, wait: float | None, pause: float | None, said: str
    ) -> None:
        """Wait before the next try. Raises NotDelivered where there is none."""
        if wait is None or pause is None:
            raise NotDelivered(
                f"The receiver did not take the events up to position {position}: {said}."
                " The same command with its checkpoint file goes on there."
            )
        _log.warning("batch_not_taken", position=position, answer=said)
        await self._sleep(min(max(wait, pause), _LONGEST_PAUSE))

    async def _post(self, body: bytes) -> tuple[float | None, str | None]:
        """Send a batch once. Returns the least pause before the next try in seconds, and the error.

        The error is None where the batch was taken. The pause is None where another try would not
        help.
        """
        target = self._target
        url = httpx2.URL(target.url)
        signed = signatures.header(
            target.secret,
            method="POST",
            path=url.raw_path.partition(b"?")[0],
            query=url.query,
            key_id=target.key_id,
            body=body,
        )
        headers = {"Content-Type": MEDIA_TYPE, signatures.HEADER: signed}
        try:
            answer = await self._client.post(url, content=body, headers=headers)
        except httpx2.TransportError as error:
            return 0.0, f"{type(error).__name__}"
        if answer.is_success:
            return None, None
        said = f"it answered {answer.status_code}"
        if answer.status_code not in _WORTH_A_RETRY:
            return None, said
        return retry_after(answer.headers.get("Retry-After"), _LONGEST_PAUSE) or 0.0, said


def _batch(events: Sequence[Recorded], prev: str | None) -> list[bytes]:
    """The first events, as many as a batch has, as CloudEvents."""
    batch: list[bytes] = []
    size = 0
    for event, before in chained(events[:BATCH_EVENTS], prev):
        encoded = cloud_event(event, before)
        size += len(encoded)
        if batch and size > BATCH_BYTES:
            break
        batch.append(encoded)
    return batch


def client() -> httpx2.AsyncClient:
    """An HTTP client that follows no redirects: a signature is of one address alone."""
    return httpx2.AsyncClient(
        timeout=_TIMEOUT_SECONDS, follow_redirects=False, verify=httpx2.create_ssl_context()
    )
