"""A stream of NATS JetStream, to which a relay publishes: how far it has come, and how it grows.

Two rules of JetStream keep each event there once and in order (docs.nats.io, "Headers"). A message
with `Nats-Expected-Last-Sequence` is stored only directly behind the message with that sequence. So
a message is never stored behind a gap, and of two relays one is refused. A message whose
`Nats-Msg-Id` the stream has seen within its duplicate window is acknowledged and not stored again.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import quote

import orjson

from service.eventlog.cloudevents import cloud_event
from service.eventlog.store import Recorded
from service.wire import position_of

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

MEDIA_TYPE: Final = "application/cloudevents+json"
CURSOR: Final = "Throughline-Cursor"
SELECTION: Final = "Throughline-Selection"
MSG_ID: Final = "Nats-Msg-Id"
EXPECTED: Final = "Nats-Expected-Last-Sequence"
EXPECTED_STREAM: Final = "Nats-Expected-Stream"

_BAD_REQUEST: Final = 400
_FOR_EVER: Final = frozenset({10054, 10060})
"""Errors of JetStream that stay at every try: the message is too large for the stream, or the
subject belongs to another stream."""
_HEADER_BYTES: Final = 2_048
"""More than the headers of a message have."""
_ACK_SECONDS: Final = 10.0
_NAMES: Final = re.compile(r"\{(\w+)\}")
_STREAM: Final = re.compile(r"[A-Za-z0-9_-]{1,255}")


class NatsMissing(RuntimeError):
    """The library that a relay to NATS needs is not installed."""


class StreamRefused(RuntimeError):
    """A stream cannot take the events, now or later. The message says what to do."""


class StreamAway(Exception):
    """NATS did not take the events: it is away, or another publisher was faster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subjects:
    """How the subject of an event is made: a text with `{tenant}` and `{type}`."""

    template: str

    def __post_init__(self) -> None:
        unknown = {*_NAMES.findall(self.template)} - {"tenant", "type"}
        tokens = _NAMES.sub("x", self.template).split(".")
        if unknown or not all(re.fullmatch(r"[A-Za-z0-9_-]+", token) for token in tokens):
            raise ValueError(
                f"{self.template} is no subject. Use words of letters, digits, _ and - with dots"
                " between them, and {tenant} and {type}, such as throughline.{tenant}.{type}"
            )

    def of(self, event: Recorded) -> str:
        """The subject of an event. What a subject may not have is written as in a URL."""
        parts = {"tenant": event.tenant_id, "type": event.type}
        return _NAMES.sub(lambda found: _token(parts[found[1]]), self.template)

    @property
    def pattern(self) -> str:
        """The subject with wildcards that matches all of these subjects."""
        tokens = self.template.split(".")
        return ".".join("*" if _NAMES.search(token) else token for token in tokens)


def _token(text: str) -> str:
    """A text as a part of a subject. Dots, blanks and wildcards have a meaning there."""
    return quote(text, safe="").replace(".", "%2E").replace("~", "%7E")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A stream of a NATS server. The URL may have a password."""

    url: str
    stream: str

    def __post_init__(self) -> None:
        if not _STREAM.fullmatch(self.stream):
            raise ValueError(f"{self.stream} is no name of a stream. Use letters, digits, _ and -")

    @property
    def described(self) -> str:
        """The address without user and password."""
        scheme, _, rest = self.url.partition("://")
        return f"{scheme}://{rest.rpartition('@')[2]}/{self.stream}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """What a relay publishes: the chosen events of one log, and the subjects of these events."""

    selection: str
    subjects: Subjects


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """How far a stream has come. `cursor` is None where the last message is gone."""

    is_new: bool
    cursor: str | None


class Stream:
    """A connection to the stream. Owned by one task.

    `_sequence` is the stream's last sequence. `_is_certain` is whether the next event cannot be
    there already.
    """

    def __init__(self, client: "Client", at: Address, feed: Feed) -> None:
        self._client = client
        self._context = client.jetstream()  # pyright: ignore[reportUnknownMemberType]
        self._at = at
        self._feed = feed
        self._inbox = client.new_inbox()
        self._acks: dict[str, asyncio.Future[bool]] = {}
        self._sequence = 0
        self._is_certain = False

    async def open(self) -> Reached:
        """Find the stream, or create it. Raises StreamRefused and StreamAway."""
        from nats.js.errors import NotFoundError

        with _translated():
            await self._client.subscribe(f"{self._inbox}.*", cb=self._on_ack)  # pyright: ignore[reportUnknownMemberType]
            try:
                found = await self._context.stream_info(self._at.stream)
            except NotFoundError:
                found = await self._context.add_stream(  # pyright: ignore[reportUnknownMemberType]
                    name=self._at.stream,
                    subjects=[self._feed.subjects.pattern],
                    description="The log of Throughline: each event once, in order.",
                )
            self._sequence = found.state.last_seq
            last = await self._last() if self._sequence else None
        self._is_certain = last is not None or self._sequence == 0
        return Reached(is_new=self._sequence == 0, cursor=last)

    async def _last(self) -> str | None:
        """The cursor in the last message, where the stream has kept that message."""
        from nats.js.errors import NotFoundError

        try:
            last = await self._context.get_msg(self._at.stream, seq=self._sequence)
        except NotFoundError:
            return None
        headers = cast(dict[str, str], last.headers or {})  # pyright: ignore[reportUnknownMemberType]
        cursor = headers.get(CURSOR, "")
        try:
            position_of(cursor)
        except ValueError:
            raise StreamRefused(
                f"The last message of {self._at.described} is not of a relay of this version. Name"
                " another stream."
            ) from None
        if headers.get(SELECTION) != self._feed.selection:
            raise StreamRefused(
                f"{self._at.described} has other events: {headers.get(SELECTION)}. Name another"
                " stream, or relay the same events."
            )
        return cursor

    async def publish(self, events: Sequence[tuple[Recorded, str | None]]) -> None:
        """Publish events, each with the cursor of the event before it, and wait for the acks.

        Raises StreamRefused and StreamAway. Then the stream may have the first of the events.
        """
        with _translated():
            while events and not self._is_certain:
                # Where the stream knows the event, the sequence stays as it is.
                self._is_certain = await self._exchange(events[:1]) == 0
                events = events[1:]
            await self._exchange(events)

    async def _exchange(self, events: Sequence[tuple[Recorded, str | None]]) -> int:
        """Send events and wait for all acks. Returns how many of them the stream had already."""
        try:
            async with asyncio.timeout(_ACK_SECONDS):
                for number, (event, prev) in enumerate(events):
                    await self._send(event, prev, self._sequence + number)
                had = sum(await asyncio.gather(*self._acks.values()))
        finally:
            for waiting in self._acks.values():
                # A failure that nobody waited for must not be reported as forgotten.
                if not waiting.cancel() and not waiting.cancelled():
                    waiting.exception()
            self._acks.clear()
        self._sequence += len(events) - had
        return had

    async def _send(self, event: Recorded, prev: str | None, sequence: int) -> None:
        body = cloud_event(event, prev)
        if len(body) + _HEADER_BYTES > self._client.max_payload:
            raise StreamRefused(
                f"The event at position {event.position} has {len(body)} bytes. The NATS server"
                f" takes {self._client.max_payload} bytes with the headers. Raise its max_payload."
            )
        headers = {
            MSG_ID: event.cursor,
            EXPECTED: str(sequence),
            EXPECTED_STREAM: self._at.stream,
            "Content-Type": MEDIA_TYPE,
            CURSOR: event.cursor,
            SELECTION: self._feed.selection,
        }
        token = str(event.position)
        self._acks[token] = asyncio.get_running_loop().create_future()
        subject, reply = self._feed.subjects.of(event), f"{self._inbox}.{token}"
        await self._client.publish(subject, body, reply=reply, headers=headers)

    async def _on_ack(self, message: "Msg") -> None:
        """An ack, or the reason why the message was not stored."""
        waiting = self._acks.get(message.subject.rpartition(".")[2])
        if waiting is None or waiting.done():
            return
        if not message.data:
            waiting.set_exception(StreamAway("no stream has the subject"))
            return
        said = orjson.loads(message.data)
        if "error" not in said:
            waiting.set_result(bool(said.get("duplicate")))
        elif said["error"].get("err_code") in _FOR_EVER:
            waiting.set_exception(_refused(said["error"].get("description")))
        else:
            waiting.set_exception(StreamAway(said["error"].get("description")))

    def fail(self, said: str) -> None:
        """No acks will come, because the connection is gone or the server refuses the subject."""
        for waiting in self._acks.values():
            if not waiting.done():
                waiting.set_exception(StreamAway(said))


@asynccontextmanager
async def connected(at: Address, feed: Feed) -> AsyncGenerator[Stream]:
    """A connection to the stream. A lost connection is not made again: what the stream has must be
    asked first. Raises NatsMissing, StreamRefused and StreamAway."""
    try:
        from nats.aio.client import Client
    except ImportError:
        raise NatsMissing(
            "A relay to NATS needs the library nats-py: pip install nats-py"
        ) from None
    streams: list[Stream] = []

    async def on_closed() -> None:
        for stream in streams:
            stream.fail("the connection was lost")

    async def on_error(error: Exception) -> None:
        for stream in streams:
            stream.fail(str(error) or type(error).__name__)

    client = Client()
    try:
        with _translated():
            await client.connect(  # pyright: ignore[reportUnknownMemberType]
                at.url,
                name="throughline relay",
                allow_reconnect=False,
                closed_cb=on_closed,
                error_cb=on_error,
            )
        streams.append(Stream(client, at, feed))
        yield streams[0]
    finally:
        await client.close()


@contextmanager
def _translated() -> Generator[None]:
    """Raise StreamRefused for errors of the library that stay at every try, and else StreamAway."""
    from nats import errors
    from nats.js.errors import APIError

    try:
        yield
    except APIError as error:
        if error.code == _BAD_REQUEST:
            raise _refused(error.description) from None
        raise StreamAway(error.description or type(error).__name__) from None
    except (errors.Error, OSError, TimeoutError) as error:
        # The library has no class of its own for this answer to a connection.
        if "authorization violation" in str(error).lower():
            raise StreamRefused(
                "The NATS server refuses the relay: check the user and the password in the URL."
            ) from None
        raise StreamAway(type(error).__name__) from None


def _refused(description: str | None) -> StreamRefused:
    return StreamRefused(f"The NATS server says: {description}. See docs/relay.md.")
