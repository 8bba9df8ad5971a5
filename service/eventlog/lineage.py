"""What a fork shares with the sessions that it comes from: parts of their streams, by reference."""

from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from domain.deciders import session
from domain.deciders.session import Session
from domain.events import (
    SessionDeleted,
    SessionEvent,
    SessionInstructed,
    SessionModeChanged,
    SessionOpened,
)
from service.eventlog.store import BACKWARDS_BYTES, LONGEST_BACKWARDS_PAGE, EventStore
from service.eventlog.stream_ids import session_stream
from service.eventlog.transactions import decode

_KINDS: Final = (SessionOpened, SessionModeChanged, SessionInstructed, SessionDeleted)
_TYPES: Final = tuple(kind.__name__ for kind in _KINDS)
_SPOKEN: Final = (
    "UserMessagePosted",
    "AssistantMessageAdded",
    "SystemMessagePosted",
    "MaterialAdded",
    "ReplyCompleted",
    "ReplyFailed",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A session's stream up to the event with this version; None is the whole stream.

    `state` knows where the session comes from and how its replies were made there. It does not know
    what was said.
    """

    session_id: str
    version: int | None
    state: Session


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkPoint:
    """Where a fork can leave a session: after the event with this version."""

    session_id: str
    version: int


async def lineage(
    store: EventStore, tenant_id: str, session_id: str, version: int | None = None
) -> list[Part]:
    """The parts of a session: first its own stream up to a version, then the stream of its
    parent, and so on. An erased session has no part, and shares nothing of its own parent any more.

    Empty for an erased or unknown session. One small read a part.
    """
    parts: list[Part] = []
    while True:
        stream_id = str(session_stream(session_id))
        found = await store.of_types(tenant_id, stream_id, _TYPES)
        state = session.fold(
            decode(each.type, each.state)
            for each in found
            if version is None or each.version <= version or each.type == SessionDeleted.__name__
        )
        if state.status in ("new", "deleted"):
            return parts
        parts.append(Part(session_id=session_id, version=version, state=state))
        if state.fork is None:
            return parts
        session_id, version = state.fork.session_id, state.fork.version


async def fork_point(
    store: EventStore, tenant_id: str, parts: Iterable[Part], message_id: str
) -> ForkPoint | None:
    """Where a fork at this message leaves the parts, read backwards; None if no part has the
    message."""
    for part in parts:
        async with aclosing(backwards(store, tenant_id, part)) as pages:
            async for page in pages:
                for version, event in page:
                    if session.says(event, message_id):
                        return ForkPoint(session_id=part.session_id, version=version)
    return None


async def backwards(
    store: EventStore, tenant_id: str, part: Part, *, most_bytes: int = BACKWARDS_BYTES
) -> AsyncGenerator[Iterator[tuple[int, SessionEvent]]]:
    """What was said in a part: pages of events with their versions, the newest first.

    An event is decoded when it is taken from its page. A page has about `most_bytes` of states at
    most.
    """
    stream = store.backwards(
        tenant_id,
        str(session_stream(part.session_id)),
        _SPOKEN,
        version=part.version,
        first=LONGEST_BACKWARDS_PAGE,
        most_bytes=most_bytes,
    )
    async with aclosing(stream) as pages:
        async for page in pages:
            yield ((each.version, decode(each.type, each.state)) for each in page)
